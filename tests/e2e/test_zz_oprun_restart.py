"""Api and operator are replaced while OpRuns run: attempts, events and their ids stay, and the containers run on."""

from __future__ import annotations

from cluster import awaited, kubectl
from oprun_http import OpRuns, held, marker, must, processes

CONTROL = "maze-system"


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

    for part in ("maze-operator", "maze-api"):
        kubectl("rollout", "restart", "-n", CONTROL, f"deployment/{part}")
    for part in ("maze-operator", "maze-api"):
        kubectl("rollout", "status", "-n", CONTROL, f"deployment/{part}", "--timeout=100s")
    awaited(lambda: runs.call("GET", "?limit=1"), lambda answer: answer.status_code == 200)

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
