"""What `up` clears away. Wrong here, a crash costs the user a manual clean-up, or a foreign cluster its network."""

from __future__ import annotations

import pytest

from maze_cluster.errors import ClusterError
from maze_cluster.heal import EVERYTHING, Action, Found, plan_start
from maze_cluster.settle import find_stale

ME = "/checkout"
ALL = frozenset({"etcd", "containerd", "kube-apiserver", "kubelet"})


@pytest.mark.parametrize(
    ("found", "actions"),
    [
        pytest.param(Found(None, ME), (), id="a clean machine: nothing to say"),
        pytest.param(Found(ME, ME, alive=ALL, leftovers=9, shims=3, mounts=20, links=1), (), id="all runs: no-op"),
        pytest.param(
            Found(ME, ME, alive=frozenset({"etcd"}), stale=frozenset({"containerd"}), shims=2, leftovers=6, mounts=9),
            (Action.DROP_PID_FILES,),
            id="components died but shims live: pods are kept",
        ),
        pytest.param(
            Found(ME, ME, alive=frozenset({"containerd"}), stale=frozenset({"kubelet"}), mounts=9),
            (Action.DROP_PID_FILES,),
            id="only the kubelet died",
        ),
        pytest.param(
            Found(ME, ME, stale=ALL, mounts=9, links=1, cgroups=5),
            (Action.DROP_PID_FILES, Action.UNMOUNT, Action.DROP_RUNTIME_STATE, Action.DROP_CGROUPS),
            id="everything died: container state goes, data stays",
        ),
        pytest.param(
            Found(ME, ME, stale=ALL, leftovers=2),
            (Action.DROP_PID_FILES, Action.KILL_LEFTOVERS, Action.DROP_RUNTIME_STATE),
            id="containers without a shim are ended",
        ),
        pytest.param(
            Found(ME, ME, alive=frozenset({"kubelet"}), stale=frozenset({"containerd"}), mounts=3),
            (Action.DROP_PID_FILES, Action.KILL_LEFTOVERS, Action.UNMOUNT, Action.DROP_RUNTIME_STATE),
            id="the runtime died under a kubelet: that starts again too, or its volumes would be gone",
        ),
        pytest.param(Found("/other", ME, links=1), EVERYTHING, id="a dead cluster of another checkout: all of it goes"),
        pytest.param(
            Found(None, ME, links=1, cgroups=3, leftovers=4),
            (Action.KILL_LEFTOVERS, Action.DROP_LINKS, Action.DROP_CGROUPS),
            id="the record is lost: what is recognisably ours goes",
        ),
    ],
)
def test_what_is_cleared(found: Found, actions: tuple[Action, ...]) -> None:
    assert plan_start(found) == actions


def test_a_running_cluster_of_another_checkout_is_left_alone() -> None:
    with pytest.raises(ClusterError, match=r"make down` in /other"):
        plan_start(Found("/other", ME, leftovers=7))


def test_another_kubernetes_is_left_alone() -> None:
    with pytest.raises(ClusterError, match="MAZE_CLUSTER=existing"):
        plan_start(Found(None, ME, kube_chains=True))


@pytest.mark.parametrize(
    ("known", "running", "stale"),
    [
        (["uid"], ["c1"], ()),
        ([], ["c1"], ("pod",)),
        (["uid"], [], ("pod",)),
        (["uid"], ["c0"], ("pod",)),
    ],
)
def test_a_status_from_before_the_crash_is_not_believed(
    known: list[str], running: list[str], stale: tuple[str, ...]
) -> None:
    containers = [
        {"containerID": "containerd://c1", "state": {"running": {}}},
        {"containerID": "containerd://gone", "state": {"terminated": {}}},
    ]
    pod = {
        "metadata": {"name": "pod", "uid": "uid"},
        "spec": {"nodeName": "maze-node"},
        "status": {"containerStatuses": containers},
    }
    waiting = {"metadata": {"name": "unscheduled", "uid": "x"}, "spec": {}}
    assert find_stale([pod, waiting], known, running) == stale
