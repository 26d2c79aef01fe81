"""Two operators: when the one that leads stops without a word, the other one goes on with its Runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from kubernetes import client

from cluster import Cluster, awaited, kubectl, python, stopped
from test_zz_operator_killed import operator_processes
from test_zz_warm_operator import HOP, OPERATOR, operator_pods, succeeded
from warm import chain, require_one_story

SECONDS = 15.0
"""In which a standby has taken over."""


def leader(cluster: Cluster) -> str:
    leases = client.CoordinationV1Api(cluster.core.api_client)
    holder: str = leases.read_namespaced_lease(OPERATOR, "maze-system").spec.holder_identity
    return holder


def process_of(pod: str) -> int | None:
    """The operator's process in this pod, where this machine is its node."""
    for process in operator_processes():
        with suppress(OSError):
            if f"POD_NAME={pod}".encode() in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
                return process
    return None


@pytest.fixture
def two(cluster: Cluster) -> Iterator[None]:
    kubectl("scale", "-n", "maze-system", f"deployment/{OPERATOR}", "--replicas=2")
    try:
        awaited(
            lambda: [process_of(pod) for pod in operator_pods(cluster)], lambda found: len(found) == 2 and all(found)
        )
        yield
    finally:
        kubectl("scale", "-n", "maze-system", f"deployment/{OPERATOR}", "--replicas=1")
        awaited(lambda: operator_pods(cluster), lambda left: len(left) == 1)
        kubectl("rollout", "status", "-n", "maze-system", f"deployment/{OPERATOR}", "--timeout=60s")


@pytest.mark.skipif(not Path("/proc/1/environ").exists(), reason="needs the processes of the node")
def test_a_standby_takes_over_from_a_leader_that_hangs(cluster: Cluster, two: None) -> None:
    name = cluster.run(*chain(*(python(f"t{n}", HOP) for n in range(60))))
    cluster.await_run(name, lambda run: succeeded(run) >= 5)
    former = leader(cluster)
    process = process_of(former)
    assert process is not None
    with stopped(process):
        since = time.monotonic()
        before = succeeded(cluster.get_run(name))
        cluster.await_run(name, lambda run: succeeded(run) > before + 1, 60)
        took = time.monotonic() - since
        assert leader(cluster) != former
    status = cluster.ended(name)
    assert took <= SECONDS, f"{took:.1f} s"
    assert status["phase"] == "Succeeded", status
    assert {task["attempt"] for task in status["tasks"]} == {1}
    require_one_story(status)
    assert leader(cluster) != former, "the former leader, which goes on now, leads no more"
