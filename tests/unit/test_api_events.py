"""If these fail, a Maze client waits for ever, or is told things twice or in the wrong order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from maze_api.events import Kind, failure_text, message, messages_after, shown, wanted
from maze_crds.protocol import Output, Result
from maze_crds.run import Cause, FailedAttempt, RunPhase, RunStatus, TaskPhase, TaskStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def kinds(status: RunStatus, after: int = 0) -> list[tuple[int, str, str | None]]:
    return [
        (stub.number, stub.kind.value, stub.task.name if stub.task else None) for stub in messages_after(status, after)
    ]


def succeeded(name: str, start: int, end: int, **more: Any) -> TaskStatus:
    return TaskStatus(name=name, phase=TaskPhase.SUCCEEDED, attempt=1, start_event=start, end_event=end, **more)


def retried(number_start: int | None, number_end: int) -> FailedAttempt:
    return FailedAttempt(
        attempt=1,
        cause=Cause.USER_ERROR,
        reason="UserException",
        completion_time=NOW,
        start_event=number_start,
        end_event=number_end,
    )


def test_messages_come_in_the_order_of_events_and_finish_workflow_is_last() -> None:
    status = RunStatus(
        phase=RunPhase.SUCCEEDED,
        last_event=5,
        end_event=5,
        tasks=[succeeded("b", 2, 3), succeeded("a", 1, 4)],
    )
    assert kinds(status) == [
        (1, "start_task", "a"),
        (2, "start_task", "b"),
        (3, "finish_task", "b"),
        (4, "finish_task", "a"),
        (5, "finish_workflow", None),
    ]
    assert kinds(status, 3) == [(4, "finish_task", "a"), (5, "finish_workflow", None)]
    assert kinds(status, 5) == []


def test_a_retried_task_starts_once_and_fails_once() -> None:
    failed = TaskStatus(
        name="a",
        phase=TaskPhase.FAILED,
        attempt=2,
        start_event=3,
        end_event=4,
        failed_attempts=[retried(1, 2)],
    )
    assert kinds(RunStatus(tasks=[failed])) == [(1, "start_task", "a"), (4, "task_exception", "a")]


def test_a_task_that_waits_for_its_second_attempt_says_nothing_more() -> None:
    waiting = TaskStatus(name="a", phase=TaskPhase.PENDING, attempt=1, failed_attempts=[retried(1, 2)])
    assert kinds(RunStatus(tasks=[waiting])) == [(1, "start_task", "a")]


def test_an_attempt_that_never_started_does_not_count_as_the_start() -> None:
    task = succeeded("a", 5, 6, failed_attempts=[retried(None, 2)])
    assert kinds(RunStatus(tasks=[task])) == [(5, "start_task", "a"), (6, "finish_task", "a")]


def test_a_task_that_could_not_start_is_an_exception_without_a_start() -> None:
    task = TaskStatus(name="a", phase=TaskPhase.FAILED, attempt=1, reason="ImagePullFailed", end_event=1)
    assert kinds(RunStatus(tasks=[task])) == [(1, "task_exception", "a")]


def test_skipped_and_cancelled_tasks_are_silent_and_the_stream_still_ends() -> None:
    tasks = [
        TaskStatus(name="a", phase=TaskPhase.SKIPPED, end_event=3),
        TaskStatus(name="b", phase=TaskPhase.CANCELLED, end_event=4),
    ]
    status = RunStatus(phase=RunPhase.CANCELLED, last_event=5, end_event=5, tasks=tasks)
    assert kinds(status) == [(5, "finish_workflow", None)]


def test_a_run_that_failed_before_any_event_still_ends_the_stream() -> None:
    assert kinds(RunStatus(phase=RunPhase.FAILED)) == [(1, "finish_workflow", None)]


@given(st.permutations(range(1, 9)), st.integers(0, 10))
def test_reading_in_two_parts_gives_the_same_as_reading_at_once(numbers: list[int], cut: int) -> None:
    pairs = [sorted(numbers[at : at + 2]) for at in range(0, 8, 2)]
    tasks = [succeeded(f"t{at}", *pair) for at, pair in enumerate(pairs)]
    status = RunStatus(phase=RunPhase.SUCCEEDED, last_event=9, end_event=9, tasks=tasks)
    whole = kinds(status)
    assert [number for number, _, _ in whole] == list(range(1, 10))
    assert whole[:cut] + kinds(status, cut) == whole


def test_message_data_is_what_the_protocol_says() -> None:
    task = succeeded("t", 1, 2, node="10.1.2.3")
    status = RunStatus(phase=RunPhase.FAILED, last_event=3, end_event=3, tasks=[task])
    start, finish, end = messages_after(status, 0)
    ids = {"workflow_id": "w", "run_id": "r"}
    assert message(start, "w", "r") == {
        "type": "start_task",
        "data": {**ids, "task_id": "t", "node_ip": "10.1.2.3", "node_id": "10.1.2.3", "gpu_id": None},
    }
    assert message(finish, "w", "r", {"y": 1}) == {
        "type": "finish_task",
        "data": {**ids, "task_id": "t", "result": {"y": 1}},
    }
    assert message(end, "w", "r") == {"type": "finish_workflow", "data": {**ids, "status": "Failed"}}
    assert end.kind is Kind.FINISH_WORKFLOW


def test_a_failure_shows_its_traceback_else_reason_and_message() -> None:
    task = TaskStatus(name="t", phase=TaskPhase.FAILED, reason="Killed", message="by signal 9")
    result: Result = {"startTime": "", "completionTime": "", "outputs": {}}
    assert failure_text(task, None) == "Killed: by signal 9"
    assert failure_text(task, result) == "Killed: by signal 9"
    result["failure"] = {"cause": "UserError", "reason": "MissingOutput", "message": "no 'y'"}
    assert failure_text(task, result) == "MissingOutput: no 'y'"
    result["failure"]["traceback"] = "Traceback: …"
    assert failure_text(task, result) == "MissingOutput: no 'y'\n\nTraceback: …"
    result["failure"]["reason"] = "UserException"
    assert failure_text(task, result) == "Traceback: …"


def test_outputs_are_shown_in_full_or_have_a_stand_in() -> None:
    inline: Output = {"encoding": "json", "size": 4, "sha256": "", "value": None}
    stored: Output = {"encoding": "json", "size": 100_000, "sha256": "", "key": True}
    huge: Output = {"encoding": "json", "size": 2**30, "sha256": "", "key": True}
    pickled: Output = {"encoding": "pickle", "size": 9, "sha256": "", "data": "", "display": "<Point 1 2>"}
    assert [wanted(output) for output in (inline, stored, huge, pickled)] == [False, True, False, False]
    assert shown(inline) is None
    assert shown(stored, b'{"a": 1}') == {"a": 1}
    assert "1073741824 bytes" in shown(huge)
    assert shown(pickled) == "<Point 1 2>"
    assert shown({**pickled, "rendered": [["a", 1]]}) == [["a", 1]]
    named: Output = {"encoding": "file", "size": 7, "sha256": "", "key": True, "fileName": "a.csv"}
    assert shown(named) == "<file a.csv of 7 bytes>"
    assert not wanted(named)
    assert wanted(huge, limit=2**30)
