"""If these fail, who follows a task misses what happens, or is told it twice; or its log is out of order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze_api.task_bodies import TaskEvent
from maze_api.task_events import end_event, event_json, events_after
from maze_api.task_journal import assemble, deeds, printed, read_tail
from maze_crds.run import (
    Assignment,
    AssignmentEnd,
    Cause,
    FailedAttempt,
    RunPhase,
    RunStatus,
    TaskPhase,
    TaskStatus,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def assignment(
    number: int, start: int, end: AssignmentEnd | None = None, last: int | None = None, **more: Any
) -> Assignment:
    fields = {"number": number, "worker": f"w{number}", "start_time": at(start), "start_event": start, **more}
    return Assignment(**fields, end=end, end_event=last, end_time=at(last) if last else None)


def retried(start: int | None, end: int, attempt: int = 1) -> FailedAttempt:
    return FailedAttempt(
        attempt=attempt,
        cause=Cause.USER_ERROR,
        reason="UserException",
        message="boom",
        start_time=at(start) if start is not None else None,
        completion_time=at(end),
        start_event=start,
        end_event=end,
    )


LOST_THEN_DONE = RunStatus(
    phase=RunPhase.SUCCEEDED,
    reason="AllTasksSucceeded",
    completion_time=at(10),
    last_event=10,
    end_event=10,
    assignments=[
        assignment(1, 1, AssignmentEnd.LOST, 2, message="silent for 60 s"),
        assignment(2, 3, AssignmentEnd.COMPLETED, 10, internal=True),
    ],
    tasks=[
        TaskStatus(
            name="a",
            phase=TaskPhase.SUCCEEDED,
            attempt=2,
            start_time=at(6),
            completion_time=at(7),
            start_event=6,
            end_event=7,
            failed_attempts=[retried(4, 5)],
        ),
        TaskStatus(name="b", phase=TaskPhase.SUCCEEDED, attempt=1, start_event=8, end_event=9, start_time=at(8)),
    ],
)


def test_every_number_is_told_once_in_order() -> None:
    events = [event_json(event, "t") for event in events_after(LOST_THEN_DONE, 0)]
    assert [(e["id"], e["type"], e["status"], e["worker_id"], e.get("step")) for e in events] == [
        (1, "task_started", "running", "w1", None),
        (2, "task_requeued", "pending", "w1", None),
        (3, "task_started", "running", "w2", None),
        (4, "step_started", "running", "w2", "a"),
        (5, "step_retried", "running", "w2", "a"),
        (6, "step_started", "running", "w2", "a"),
        (7, "step_completed", "running", "w2", "a"),
        (8, "step_started", "running", "w2", "b"),
        (9, "step_completed", "running", "w2", "b"),
        (10, "task_completed", "completed", "w2", None),
    ]
    assert events[0] == {
        "id": 1,
        "type": "task_started",
        "task_id": "t",
        "status": "running",
        "worker_id": "w1",
        "timestamp": "2026-01-01T00:00:01.000000Z",
        "attempt": 1,
    }
    assert events[1]["message"] == "silent for 60 s"
    for event in events:
        TaskEvent.model_validate(event)


@given(st.integers(0, 12))
def test_reading_in_two_parts_gives_the_same_as_reading_at_once(cut: int) -> None:
    whole = events_after(LOST_THEN_DONE, 0)
    assert whole[:cut] + events_after(LOST_THEN_DONE, cut) == whole


@pytest.mark.parametrize(
    ("phase", "reason", "kind"),
    [
        (RunPhase.SUCCEEDED, "AllTasksSucceeded", "task_completed"),
        (RunPhase.FAILED, "UserException", "task_failed"),
        (RunPhase.FAILED, "TimedOut", "task_timeout"),
        (RunPhase.CANCELLED, "Cancelled", "task_cancelled"),
    ],
)
def test_the_end_is_told_by_its_state(phase: RunPhase, reason: str, kind: str) -> None:
    status = RunStatus(phase=phase, reason=reason, message="why", end_event=1, last_event=1)
    (event,) = events_after(status, 0)
    assert (event.type, event.reason, event.message, event.worker) == (kind, reason, "why", None)
    assert events_after(status, 1) == []


def test_a_task_that_has_not_ended_has_no_last_event() -> None:
    assert end_event(RunStatus()) is None
    assert end_event(RunStatus(phase=RunPhase.RUNNING)) is None
    assert events_after(RunStatus(), 0) == []


def test_a_task_that_failed_because_its_workers_were_lost_is_told_to_have_failed_once() -> None:
    lost = RunStatus(
        phase=RunPhase.FAILED,
        reason="WorkerLost",
        end_event=2,
        last_event=2,
        assignments=[assignment(1, 1, AssignmentEnd.LOST, 2)],
    )
    assert [(event.number, event.type) for event in events_after(lost, 0)] == [(1, "task_started"), (2, "task_failed")]


def test_attempts_are_read_in_the_order_of_their_starts() -> None:
    assert [(one.step.name, one.attempt) for one in printed(LOST_THEN_DONE, T0)] == [("a", 1), ("a", 2), ("b", 1)]
    waiting = RunStatus(tasks=[TaskStatus(name="a", attempt=1, failed_attempts=[retried(1, 2)]), TaskStatus(name="b")])
    assert [(one.step.name, one.attempt) for one in printed(waiting, T0)] == [("a", 1)]
    unstarted = RunStatus(tasks=[TaskStatus(name="a", attempt=2, failed_attempts=[retried(None, 2)])])
    assert [(one.attempt, one.start) for one in printed(unstarted, T0)] == [(2, T0)]


def test_what_was_printed_is_between_what_workers_did() -> None:
    entries = assemble(LOST_THEN_DONE, printed(LOST_THEN_DONE, T0), [b"one", b"two\nthree", b"INFO:x:four"])
    assert [(entry.message, entry.context) for entry in entries] == [
        ("claimed by worker 'w1'", {"worker_id": "w1", "attempt": 1}),
        ("lost: the worker went silent, the task waits for another one", {"worker_id": "w1", "attempt": 1}),
        ("one", {"task": "a", "attempt": 1}),
        ("two", {"task": "a", "attempt": 2}),
        ("three", {"task": "a", "attempt": 2}),
        ("four", {"task": "b", "attempt": 1, "logger": "x"}),
    ]
    assert entries[2].timestamp == at(4)


def test_one_step_says_nothing_of_itself() -> None:
    task = TaskStatus(name="a", phase=TaskPhase.RUNNING, attempt=1, start_time=at(1))
    status = RunStatus(assignments=[assignment(1, 1, internal=True)], tasks=[task])
    (entry,) = assemble(status, printed(status, T0), [b"caf\xc3\xa9 \xff"])
    assert (entry.message, entry.context) == ("café \ufffd", {})


@pytest.mark.parametrize(
    ("end", "level"),
    [("Completed", "info"), ("Failed", "error"), ("TimedOut", "error"), ("Cancelled", "warning"), ("Lost", "warning")],
)
def test_what_an_external_worker_did(end: str, level: str) -> None:
    started, ended = deeds(assignment(1, 1, AssignmentEnd(end), 2, message="said"))
    assert (started.level.value, started.timestamp) == ("info", at(1))
    assert (ended.level.value, ended.timestamp) == (level, at(2))
    assert ("said" in ended.message) == (end != "Lost")
    assert len(deeds(assignment(1, 1))) == 1


@given(st.lists(st.binary(max_size=7), max_size=10), st.integers(1, 20))
def test_the_tail_of_a_log_is_its_last_bytes(chunks: list[bytes], most: int) -> None:
    async def stream() -> AsyncGenerator[bytes, None]:
        for chunk in chunks:
            yield chunk

    whole = b"".join(chunks)
    assert asyncio.run(read_tail(stream(), most)) == (whole[-most:], len(whole) > most)
