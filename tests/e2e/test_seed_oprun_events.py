"""The OpRun reference's `POST /runs/{id}/events` on the running system: the special types, what they end, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from cluster import awaited
from oprun_http import OVER, OpRuns, await_no_process, await_process, held, marker, processes, waiting
from task_http import require_error


def test_started_and_progress_from_outside_show_in_run_and_attempt(runs: OpRuns) -> None:
    run_id = waiting(runs)
    started = runs.said(run_id, "STARTED", "on its way", {"worker_id": "worker-7", "gpu_id": 1})
    assert (started["state"], started["progress"]) == ("RUNNING", 0)
    assert started["started_at"] is not None
    assert runs.said(run_id, "PROGRESS", 40)["progress"] == 40
    assert runs.said(run_id, "PROGRESS", "55")["progress"] == 55
    assert runs.said(run_id, "PROGRESS", 0)["progress"] == 0
    assert runs.said(run_id, "PROGRESS", 100)["state"] == "RUNNING", "progress ends nothing"
    assert runs.said(run_id, "loss.log", "epoch 1", {"loss": 0.25})["state"] == "RUNNING"
    (attempt,) = runs.attempts(run_id)
    assert (attempt["worker_id"], attempt["gpu_id"], attempt["progress"]) == ("worker-7", 1, 100)
    events = runs.events(run_id)
    assert [event["id"] for event in events] == list(range(6))
    assert [(event["type"], event["msg"]) for event in events[:2]] == [("STARTED", "on its way"), ("PROGRESS", 40)]
    assert events[0]["payload"] == {"worker_id": "worker-7", "gpu_id": 1}
    assert (events[5]["type"], events[5]["msg"], events[5]["payload"]) == ("loss.log", "epoch 1", {"loss": 0.25})


def test_completed_from_outside_ends_the_run_and_the_container(runs: OpRuns) -> None:
    text = marker()
    run_id = held(runs, {"stubborn": True, "marker": text})
    await_process(text)
    done = runs.said(run_id, "COMPLETED", "enough", {"outputs": {"found": [1, 2]}})
    assert (done["state"], done["outputs"]) == ("COMPLETED", {"found": [1, 2]})
    assert done["completed_at"] is not None
    await_no_process(text)
    events = runs.events(run_id)
    assert [event["type"] for event in events] == ["STARTED", "COMPLETED"]
    assert (events[1]["msg"], events[1]["payload"]) == ("enough", {"outputs": {"found": [1, 2]}})
    assert [one["state"] for one in runs.attempts(run_id)] == ["COMPLETED"]
    assert runs.get(run_id)["outputs"] == {"found": [1, 2]}, (
        "what the container leaves when it is stopped changes nothing"
    )


def test_completed_may_come_without_outputs_and_before_any_start(runs: OpRuns) -> None:
    run_id = waiting(runs)
    done = runs.said(run_id, "COMPLETED")
    assert (done["state"], done["outputs"]) == ("COMPLETED", {})
    assert runs.types(run_id) == ["COMPLETED"]


def test_failed_is_tried_again_while_attempts_remain(runs: OpRuns) -> None:
    text = marker()
    run_id = held(runs, {"marker": text}, retry_policy={"max_attempts": 2})
    first = set(await_process(text))
    after = runs.said(run_id, "FAILED", "too hot", {"error_message": "the sensor says 90"})
    assert (after["current_attempt"], after["completed_at"]) == (2, None)
    now = runs.until(run_id, "RUNNING")
    assert (now["current_attempt"], now["progress"]) == (2, 0)
    awaited(lambda: processes(text), lambda found: found and first.isdisjoint(found))
    assert [event["type"] for event in runs.events(run_id)] == ["STARTED", "FAILED", "RETRIED", "STARTED"]
    assert runs.events(run_id)[2]["payload"] == {"force": False}

    last = runs.said(run_id, "FAILED", "still too hot")
    assert (last["state"], last["current_attempt"]) == ("FAILED", 2)
    await_no_process(text)
    attempts = runs.attempts(run_id)
    assert [one["state"] for one in attempts] == ["FAILED", "FAILED"]
    assert [one["error_message"] for one in attempts] == ["the sensor says 90", "still too hot"]
    assert runs.types(run_id)[4:] == ["FAILED"]


def test_cancelled_from_outside_cancels(runs: OpRuns) -> None:
    text = marker()
    run_id = held(runs, {"marker": text}, retry_policy={"max_attempts": 5})
    assert runs.said(run_id, "CANCELLED", "not wanted any more")["state"] == "CANCELLED"
    await_no_process(text)
    assert runs.types(run_id) == ["STARTED", "CANCELLED"]
    assert runs.events(run_id)[1]["msg"] == "not wanted any more"


def test_retried_gives_the_attempt_up_while_attempts_remain(runs: OpRuns) -> None:
    run_id = waiting(runs, retry_policy={"max_attempts": 2})
    again = runs.said(run_id, "RETRIED", "another node")
    assert (again["state"], again["current_attempt"]) == ("PENDING", 2)
    require_error(runs.post(run_id, "RETRIED"), 400, "bad_request", "Cannot retry")
    assert runs.said(run_id, "RETRIED", "", {"force": True})["current_attempt"] == 3
    assert runs.said(run_id, "FAILED")["state"] == "FAILED"
    require_error(runs.post(run_id, "RETRIED"), 400, "bad_request", f"{OVER} FAILED")
    assert runs.said(run_id, "RETRIED", "once more", {"force": True})["state"] == "PENDING"
    assert runs.get(run_id)["current_attempt"] == 4


@pytest.mark.parametrize("end", ["COMPLETED", "FAILED", "CANCELLED"])
def test_an_ended_run_is_locked(runs: OpRuns, end: str) -> None:
    run_id = waiting(runs)
    ended = runs.said(run_id, end)
    before = runs.events(run_id)
    for kind, msg in [
        ("STARTED", ""),
        ("PROGRESS", 1),
        ("COMPLETED", ""),
        ("FAILED", ""),
        ("CANCELLED", ""),
        ("x", ""),
    ]:
        require_error(runs.post(run_id, kind, msg), 400, "bad_request", f"{OVER} {end}")
    assert runs.events(run_id) == before
    assert runs.get(run_id) == ended


@pytest.mark.parametrize(
    ("kind", "msg", "payload"),
    [
        ("", "", None),
        ("two words", "", None),
        ("completed", "", None),
        ("Progress", 1, None),
        ("PROGRESS", 101, None),
        ("PROGRESS", -1, None),
        ("PROGRESS", "half", None),
        ("PROGRESS", True, None),
        ("PROGRESS", 1.5, None),
        ("STARTED", "", {"worker_id": 7}),
        ("STARTED", "", {"worker_id": "w", "gpu_id": "one"}),
        ("COMPLETED", "", {"outputs": [1]}),
        ("FAILED", "", {"error_message": 5}),
        ("note", "", [1]),
    ],
)
def test_a_wrong_event_is_refused_and_leaves_nothing(runs: OpRuns, kind: str, msg: Any, payload: Any) -> None:
    run_id = waiting(runs)
    answer = runs.post(run_id, kind, msg, payload)
    assert answer.status_code in (400, 422), answer.text
    assert set(answer.json()) == {"detail", "type", "request_id"}
    assert runs.events(run_id) == []
    assert runs.get(run_id)["state"] == "PENDING"


def test_a_long_timeline_stays_whole(runs: OpRuns) -> None:
    """Longer than what is kept in the Run itself, with events too large for it."""
    run_id = waiting(runs)
    large = "x" * 5000
    for number in range(100):
        runs.said(run_id, "note", f"{number} {large}" if number % 40 == 0 else number, {"n": number})
    events = runs.events(run_id)
    assert [event["id"] for event in events] == list(range(100))
    assert [event["payload"] for event in events] == [{"n": number} for number in range(100)]
    assert [events[number]["msg"] for number in (0, 1, 40, 99)] == [f"0 {large}", 1, f"40 {large}", 99]
    assert runs.events(run_id, after=30) == events[31:]
    assert runs.events(run_id, after=98) == events[99:]
