"""When OpRuns wait for the same GPU, the one with the higher priority gets it first, also where that was said later."""

from __future__ import annotations

import time

from cluster import Cluster, awaited
from oprun_http import FOREVER, OpRuns, must
from place import gpus

BACK_OFF = 12.0
"""Seconds: the scheduler lets a pod that did not fit rest for up to 10 s. Whoever still rests when there is room may see a
lesser one go first, so room is made when nobody does: there is nothing to be asked that would tell it."""


def start(runs: OpRuns, priority: int) -> str:
    return runs.start(FOREVER, priority=priority, constraints={"vram_mb": 1024})


def pod_of(cluster: Cluster, run_id: str, priority: int) -> float:
    """Await that the scheduler has looked at a pod of this priority in vain; when that was."""

    def waits() -> bool:
        pods = [pod for pod in cluster.pods_of(run_id) if pod.spec.priority == priority]
        conditions = [one for pod in pods for one in pod.status.conditions or () if one.type == "PodScheduled"]
        return any(one.reason == "Unschedulable" for one in conditions)

    awaited(waits, bool)
    return time.monotonic()


def next_after(runs: OpRuns, run_id: str, waiting: list[str], since: float) -> str:
    """Cancel the one that has the GPU, once all others have rested; who has it next."""
    awaited(time.monotonic, lambda now: now > since + BACK_OFF)
    must(runs.cancel(run_id))
    return next_of(runs, waiting)


def next_of(runs: OpRuns, waiting: list[str]) -> str:
    states = awaited(
        lambda: {run_id: runs.get(run_id)["state"] for run_id in waiting}, lambda states: "RUNNING" in states.values()
    )
    (running,) = [run_id for run_id, state in states.items() if state == "RUNNING"]
    assert isinstance(running, str)
    return running


def test_the_higher_priority_goes_first_also_when_it_is_given_to_one_that_waits(runs: OpRuns, cluster: Cluster) -> None:
    with gpus(cluster, 1, 8192):
        first = start(runs, 0)
        runs.until(first, "RUNNING")
        low, high, middle = start(runs, 1), start(runs, 5), start(runs, 3)
        waiting = [low, high, middle]
        rested = max(pod_of(cluster, one, priority) for one, priority in zip(waiting, (1, 5, 3), strict=True))
        assert next_after(runs, first, waiting, rested) == high

        waiting.remove(high)
        assert must(runs.patch(low, priority=9))["priority"] == 9
        rested = max(pod_of(cluster, low, 9), pod_of(cluster, middle, 3))
        assert runs.types(low) == [], "it is a pod of the same attempt"
        assert next_after(runs, high, waiting, rested) == low
        assert runs.get(low)["current_attempt"] == 1
        must(runs.cancel(low))
        assert next_of(runs, [middle]) == middle
        must(runs.cancel(middle))
