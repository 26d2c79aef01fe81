"""The clock of a node is minutes off. Limits of time, waits and the order of events are as ever; only the times differ.

7 minutes: an object store refuses signatures that are 15 minutes off, and then there is nothing that Maze could do.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from clock import clock_off
from invariants import broken, end_of, living_pods, told_events
from kubernetes import client
from stage import Stage

from cluster import Cluster, awaited, python, task_of
from test_runs import runner_image
from test_zz_standby import leader, process_of
from test_zz_warm_operator import OPERATOR, operator_pods

Json = dict[str, Any]
TOLERANCE = 60
"""Seconds by which what is measured may differ from the skew: so long may a test take."""
LIMIT = 60
"""Seconds that a task and a Run may take: more than these take, and less than the clocks are off."""
END_SECONDS = 30
"""In which that Run has ended."""
OFF = pytest.mark.parametrize("seconds", [420, -420], ids=["ahead", "behind"])


def timed(stage: Stage) -> Json:
    """A Run, from its start to its end, in which each limit of time has its part; its status."""
    box = {"container": {"image": runner_image(stage.cluster), "command": ["true"]}, "timeoutSeconds": LIMIT}
    slow = python("slow", "import time\ndef f(p):\n    time.sleep(600)", timeoutSeconds=1)
    name = stage.cluster.run(
        {"name": "box", **box},
        python("after", "def f(p):\n    return {}", dependsOn=["box"], timeoutSeconds=LIMIT),
        {**slow, "retry": {"timeout": 1, "backoffSeconds": 0.5}},
        timeoutSeconds=LIMIT,
    )
    run = end_of(stage.cluster, name, END_SECONDS)
    awaited(lambda: living_pods(stage.cluster, name), lambda left: not left, 40)
    assert not (wrong := broken(run, None, (), told_events(name))), wrong
    status: Json = run["status"]
    assert {task["name"]: task["phase"] for task in status["tasks"]} == {
        "box": "Succeeded",
        "after": "Succeeded",
        "slow": "Failed",
    }, status
    assert {task["name"]: task["attempt"] for task in status["tasks"]} == {"box": 1, "after": 1, "slow": 2}
    assert task_of(status, "slow")["cause"] == "Timeout"
    pods = {pod.metadata.name: pod for pod in stage.cluster.pods_of(name)}
    return {**status, "box": pods[task_of(status, "box")["pod"]]}


def skew(time: datetime) -> float:
    """By how many seconds it is ahead of now."""
    return (time - datetime.now(UTC)).total_seconds()


@OFF
def test_operator(stage: Stage, seconds: int) -> None:
    name = stage.work()
    with clock_off([stage.machine.running("operator")], seconds):
        status = timed(stage)
        assert skew(datetime.fromisoformat(status["completionTime"])) == pytest.approx(seconds, abs=TOLERANCE)
        stage.recorder.open()
        stage.require_undisturbed(name)


@OFF
def test_runners(stage: Stage, seconds: int) -> None:
    """Spare pods, shared pods that work, and the tasks in them."""
    name = stage.work()
    held = set(stage.recorder.waiting()) - {"box"}
    with clock_off(stage.machine.runners(), seconds):
        timed(stage)
        stage.recorder.open()
        stage.require_undisturbed(name)
    skews = stage.recorder.skews()
    assert {task: skews[task] for task in held} == pytest.approx(dict.fromkeys(held, seconds), abs=TOLERANCE)


@OFF
def test_kubelet(stage: Stage, seconds: int) -> None:
    """And containerd, whose times the kubelet passes on."""
    name = stage.work()
    with clock_off([stage.machine.record(part).pid for part in ("kubelet", "containerd")], seconds):
        box = timed(stage)["box"]
        assert skew(box.status.start_time) == pytest.approx(seconds, abs=TOLERANCE)
        began = box.status.container_statuses[0].state.terminated.started_at
        assert skew(began) == pytest.approx(seconds, abs=TOLERANCE)
        stage.recorder.open()
        stage.require_undisturbed(name)


def test_standby(stage: Stage, two: None) -> None:
    """One whose clock is ahead takes every renewal of the Lease for one of long ago: it must not lead as well."""
    former = leader(stage.cluster)
    (standby,) = {process_of(pod) for pod in operator_pods(stage.cluster) if pod != former}
    assert standby is not None
    name = stage.work()
    seen: set[datetime] = set()

    def renewals() -> int:
        seen.add(renewal(stage.cluster))
        return len(seen)

    with clock_off([standby], 420):
        # It looks several times between two renewals.
        awaited(renewals, lambda count: count == 3, 30)
        assert leader(stage.cluster) == former
        stage.recorder.open()
        stage.require_undisturbed(name)
    assert leader(stage.cluster) == former


def renewal(cluster: Cluster) -> datetime:
    """When the operator's Lease was renewed, by the clock of the one that did it."""
    leases = client.CoordinationV1Api(cluster.core.api_client)
    time: datetime = leases.read_namespaced_lease(OPERATOR, "maze-system").spec.renew_time
    return time
