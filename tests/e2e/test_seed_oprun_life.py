"""The OpRun reference on the running system, function by function: retry, cancel, events and attempts, real containers."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from cluster import Cluster, awaited
from oprun_http import FOREVER, OVER, TIME, OpRuns, await_no_process, await_process, held, marker, must, waiting
from task_http import require_error

Json = dict[str, Any]
FIELDS_OF_ATTEMPT = {
    *("attempt", "state", "worker_id", "gpu_id", "pod", "created_at", "started_at", "completed_at", "exit_code"),
    *("reason", "error_message", "progress"),
}


# POST /runs/{id}/retry


def test_retry_makes_a_new_attempt_of_an_ended_run_only(runs: OpRuns) -> None:
    run_id = runs.start({"fail_attempts": 1})
    failed = runs.ended(run_id)
    assert (failed["state"], failed["current_attempt"]) == ("FAILED", 1)
    assert must(runs.retry(run_id))["current_attempt"] == 2
    done = runs.ended(run_id)
    assert (done["state"], done["outputs"]["attempt"], done["current_attempt"]) == ("COMPLETED", 2, 2)
    events = runs.events(run_id)
    assert [event["type"] for event in events] == ["STARTED", "FAILED", "RETRIED", "STARTED", "COMPLETED"]
    assert (events[2]["msg"], events[2]["payload"]) == ("Manual retry", {"force": True})
    assert [event["id"] for event in events] == list(range(5))
    assert [one["state"] for one in runs.attempts(run_id)] == ["FAILED", "COMPLETED"]


def test_a_retried_run_is_pending_again_however_it_ended(runs: OpRuns) -> None:
    run_id = waiting(runs)
    for attempt, end in enumerate(("FAILED", "COMPLETED", "CANCELLED"), 2):
        assert runs.said(run_id, end)["completed_at"] is not None
        again = must(runs.retry(run_id))
        assert (again["state"], again["current_attempt"], again["completed_at"]) == ("PENDING", attempt, None)
        assert again["outputs"] == {}


def test_a_run_that_has_not_ended_is_not_retried(runs: OpRuns) -> None:
    run_id = held(runs, retry_policy={"max_attempts": 5})
    require_error(runs.retry(run_id), 400, "bad_request", "Cannot retry")
    must(runs.cancel(run_id))
    assert must(runs.retry(run_id))["current_attempt"] == 2, "a cancelled run can be retried"
    assert runs.until(run_id, "RUNNING")["current_attempt"] == 2


# POST /runs/{id}/cancel


def test_cancel_stops_a_container_that_does_not_want_to_end(runs: OpRuns, cluster: Cluster) -> None:
    text = marker()
    run_id = held(runs, {"stubborn": True, "marker": text})
    await_process(text)
    assert must(runs.cancel(run_id))["state"] == "CANCELLED"
    await_no_process(text)
    done = runs.get(run_id)
    assert (done["state"], done["current_attempt"]) == ("CANCELLED", 1)
    event = runs.events(run_id)[-1]
    assert (event["type"], event["msg"], event["payload"]) == ("CANCELLED", "Cancelled by user", {})
    (attempt,) = runs.attempts(run_id)
    assert attempt["state"] == "CANCELLED"
    awaited(lambda: cluster.pods_of(run_id), lambda pods: not pods)


def test_cancel_of_an_ended_run_says_how_it_ended(runs: OpRuns) -> None:
    completed, failed, cancelled = runs.start(), runs.start({"fail": "no"}), runs.start(FOREVER)
    must(runs.cancel(cancelled))
    for run_id, state in [(completed, "COMPLETED"), (failed, "FAILED"), (cancelled, "CANCELLED")]:
        assert runs.ended(run_id)["state"] == state
        require_error(runs.cancel(run_id), 400, "bad_request", f"{OVER} {state}")


# GET /runs/{id}/events


def test_polling_tells_each_event_once_with_contiguous_ids(runs: OpRuns) -> None:
    run_id = runs.start({"steps": 4, "seconds": 0.3})
    events = runs.polled(run_id)
    assert [event["id"] for event in events] == list(range(6))
    assert [event["type"] for event in events] == ["STARTED", *["PROGRESS"] * 4, "COMPLETED"]
    assert [event["msg"] for event in events if event["type"] == "PROGRESS"] == [25, 50, 75, 100]
    assert all(set(event) == {"id", "type", "t", "msg", "state", "payload"} for event in events)
    assert all(re.fullmatch(TIME, event["t"]) for event in events)
    assert [event["t"] for event in events] == sorted(event["t"] for event in events)
    assert events[-1]["payload"] == {"outputs": runs.get(run_id)["outputs"]}
    whole = runs.events(run_id)
    assert {event["state"] for event in whole} == {"COMPLETED"}, "the run's current state, as in the reference"
    assert [{**event, "state": ""} for event in whole] == [{**event, "state": ""} for event in events]
    assert runs.events(run_id, after=3) == whole[4:]
    assert runs.events(run_id, after=-1) == whole
    assert runs.events(run_id, after=5) == runs.events(run_id, after=500) == []
    assert runs.get(run_id)["progress"] == 100


# GET /runs/{id}/attempts


def test_attempts_are_the_whole_history(runs: OpRuns, cluster: Cluster) -> None:
    began = datetime.now(UTC)
    run_id = runs.start({"fail_attempts": 2}, retry_policy={"max_attempts": 3})
    done = runs.ended(run_id)
    assert (done["state"], done["current_attempt"]) == ("COMPLETED", 3)
    attempts = runs.attempts(run_id)
    assert all(set(one) == FIELDS_OF_ATTEMPT for one in attempts)
    assert [one["attempt"] for one in attempts] == [1, 2, 3]
    assert [one["state"] for one in attempts] == ["FAILED", "FAILED", "COMPLETED"]
    assert [one["exit_code"] for one in attempts] == [1, 1, 0]
    assert [one["error_message"] for one in attempts[:2]] == [
        f"the container ended with exit code 1: attempt {number} fails" for number in (1, 2)
    ]
    assert [one["reason"] for one in attempts] == ["Exited", "Exited", None]
    assert len({one["pod"] for one in attempts}) == 3
    (address,) = {pod.status.host_ip for pod in cluster.pods_of(run_id)}
    assert {one["worker_id"] for one in attempts} == {address}
    for one in attempts:
        created, started, ended = (
            datetime.fromisoformat(one[field]) for field in ("created_at", "started_at", "completed_at")
        )
        assert began <= created <= started <= ended
    assert [event["type"] for event in runs.events(run_id)] == [
        *["STARTED", "FAILED", "RETRIED"] * 2,
        *["STARTED", "COMPLETED"],
    ]
    retried = [event for event in runs.events(run_id) if event["type"] == "RETRIED"]
    assert [event["payload"] for event in retried] == [{"force": False}] * 2
