"""Api and operator are replaced while OpRuns run: attempts, events and their ids stay, and the containers run on."""

from __future__ import annotations

from cluster import Cluster, awaited, kubectl
from oprun_http import OpRuns, held, marker, must, processes

CONTROL = "maze-system"
PARTS = ("maze-operator", "maze-api")


def pods(cluster: Cluster) -> set[str]:
    """UIDs of the pods of both parts."""
    labels = f"app.kubernetes.io/name in ({', '.join(PARTS)})"
    return {pod.metadata.uid for pod in cluster.core.list_namespaced_pod(CONTROL, label_selector=labels).items}


def replace_parts(runs: OpRuns) -> None:
    """Returns once the old pods are gone, and the new api answers."""
    old = pods(runs.cluster)
    for part in PARTS:
        kubectl("rollout", "restart", "-n", CONTROL, f"deployment/{part}")
    for part in PARTS:
        kubectl("rollout", "status", "-n", CONTROL, f"deployment/{part}", "--timeout=100s")
    awaited(lambda: pods(runs.cluster) & old, lambda left: not left)
    runs.reconnect()
    awaited(lambda: runs.call("GET", "?limit=1"), lambda answer: answer.status_code == 200)


def test_a_restart_of_api_and_operator_changes_nothing_that_was_told(runs: OpRuns) -> None:
    text = marker()
    ended = runs.start({"fail_attempts": 1, "steps": 2}, retry_policy={"max_attempts": 2})
    assert runs.ended(ended)["state"] == "COMPLETED"
    busy = held(runs, {"marker": text})
    for number in range(70):
        runs.said(busy, "note", number)
    running = processes(text)
    before = {run_id: told(runs, run_id) for run_id in (ended, busy)}
    reporting = runs.start({"steps": 150, "seconds": 0.2})
    runs.until_event(reporting, "PROGRESS")

    replace_parts(runs)

    assert {run_id: told(runs, run_id) for run_id in (ended, busy)} == before
    assert processes(text) == running, "the container has not been started again"
    runs.said(busy, "note", "after")
    assert runs.events(busy)[-1]["id"] == 71
    assert must(runs.cancel(busy))["state"] == "CANCELLED"

    done = runs.ended(reporting, seconds=240)
    events = runs.events(reporting)
    assert done["state"] == "COMPLETED"
    assert [event["id"] for event in events] == list(range(152))
    assert [event["type"] for event in events] == ["STARTED", *["PROGRESS"] * 150, "COMPLETED"]


def told(runs: OpRuns, run_id: str) -> list[object]:
    """Everything that the api tells of a run, but for when it changed last."""
    run = runs.get(run_id)
    return [{key: run[key] for key in run if key != "updated_at"}, runs.events(run_id), runs.attempts(run_id)]
