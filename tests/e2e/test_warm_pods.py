"""Which pods a Run gets, which of its tasks share them, and when they go."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from cluster import Cluster, awaited, python, task_of
from maze_crds import names
from maze_crds.quantity import parse_quantity
from warm import (
    QUICK,
    await_running,
    chain,
    held,
    living_pods,
    most_at_once,
    phases,
    pods_in,
    release,
    require_one_story,
)

SHORT = "import time\ndef f(p):\n    time.sleep(0.3)\n    return {}"


def quantities(resources: dict[str, str]) -> dict[str, Decimal]:
    return {kind: parse_quantity(amount) for kind, amount in resources.items()}


def test_a_chain_runs_in_one_pod_which_serves_no_other_run(cluster: Cluster) -> None:
    first, second = (cluster.run(*chain(*(python(f"t{n}", QUICK) for n in range(10)))) for _ in range(2))
    served = []
    for name in (first, second):
        status = cluster.ended(name)
        assert status["phase"] == "Succeeded"
        require_one_story(status)
        (pod,) = cluster.pods_of(name)
        assert pods_in(status) == {pod.metadata.name}
        assert pod.metadata.labels[names.LABEL_RUN_UID] == cluster.get_run(name)["metadata"]["uid"]
        served.append(pod.metadata.uid)
    assert served[0] != served[1]
    for name in (first, second):
        awaited(lambda name=name: living_pods(cluster, name), lambda pods: not pods)


def test_tasks_share_a_pod_only_if_they_want_the_same_one(cluster: Cluster) -> None:
    """They come one after the other, so each could have had the pod of the one before."""
    image = cluster.apps.read_namespaced_deployment("maze-api", "maze-system").spec.template.spec.containers[0].image
    wishes: dict[str, dict[str, Any]] = {
        "plain": {},
        "sized": {"resources": {"cpu": "300m", "memory": "160Mi"}},
        "larger": {"resources": {"cpu": "300m", "memory": "192Mi"}},
        "env": {"env": [{"name": "WHO", "value": "me"}]},
        "image": {"python": {"source": QUICK, "image": image}},
        "own": {"isolation": "task"},
    }
    tasks = [{**python(f"{kind}{n}", QUICK), **more} for kind, more in wishes.items() for n in (1, 2)]
    name = cluster.run(*chain(*tasks))
    status = cluster.ended(name, 180)
    assert status["phase"] == "Succeeded", status
    by_kind = {kind: pods_in(status, f"{kind}1", f"{kind}2") for kind in wishes}
    assert {kind: len(pods) for kind, pods in by_kind.items()} == {**dict.fromkeys(wishes, 1), "own": 2}
    assert len(set().union(*by_kind.values())) == len(wishes) + 1
    limits = {pod.metadata.name: pod.spec.containers[0].resources.limits for pod in cluster.pods_of(name)}
    for kind in ("sized", "larger"):
        (pod,) = by_kind[kind]
        assert quantities(limits[pod]) == quantities(wishes[kind]["resources"])


def test_pods_are_made_up_to_the_parallelism_and_go_when_they_are_not_needed(cluster: Cluster) -> None:
    name = cluster.run(
        *(held(f"held{n}") for n in range(3)), *(python(f"t{n}", SHORT) for n in range(9)), parallelism=3
    )
    status = await_running(cluster, name, "held0", "held1", "held2")
    pods = [task_of(status, f"held{n}")["pod"] for n in range(3)]
    assert len(set(pods)) == 3
    assert {task.get("phase", "Pending") for task in status["tasks"][3:]} == {"Pending"}
    awaited(lambda: living_pods(cluster, name), lambda living: living == set(pods))
    release(cluster, pods[0])
    release(cluster, pods[1])
    run = cluster.await_run(name, lambda run: list(phases(run).values()).count("Succeeded") == 11)
    assert pods_in(run["status"], *(f"t{n}" for n in range(9))) <= set(pods[:2])
    awaited(lambda: living_pods(cluster, name), lambda left: left == {pods[2]})
    release(cluster, pods[2])
    status = cluster.ended(name)
    assert (status["phase"], most_at_once(status)) == ("Succeeded", 3)
    require_one_story(status)
    awaited(lambda: living_pods(cluster, name), lambda left: not left)


def test_a_suspended_run_starts_nothing_more_until_it_is_resumed_and_a_cancelled_one_stops(cluster: Cluster) -> None:
    name = cluster.run(*(held(f"t{n}") for n in range(4)), parallelism=2)
    status = await_running(cluster, name, "t0", "t1")
    cluster.patch_run(name, {"desiredState": "Suspended"})
    cluster.await_run(name, lambda run: run["status"].get("reason") == "Suspended")
    for pod in pods_in(status, "t0", "t1"):
        release(cluster, pod)
    run = cluster.await_run(name, lambda run: [phases(run)[task] for task in ("t0", "t1")] == ["Succeeded"] * 2)
    assert [
        (task.get("phase", "Pending"), task.get("attempt", 0), task["reason"]) for task in run["status"]["tasks"][2:]
    ] == [("Pending", 0, "Suspended")] * 2
    cluster.patch_run(name, {"desiredState": "Running"})
    status = await_running(cluster, name, "t2", "t3")
    at_work = pods_in(status, "t2", "t3")
    cluster.patch_run(name, {"desiredState": "Cancelled"})
    status = cluster.ended(name)
    assert status["phase"] == "Cancelled"
    assert [task["phase"] for task in status["tasks"]] == ["Succeeded"] * 2 + ["Cancelled"] * 2
    require_one_story(status)
    # a pod is gone when its processes are
    awaited(lambda: {pod.metadata.name for pod in cluster.pods_of(name)}, lambda left: not at_work & left)
    awaited(lambda: living_pods(cluster, name), lambda left: not left)
