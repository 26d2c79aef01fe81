"""If these fail, tasks are shown in a wrong state, or workers are given the wrong task."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maze_api.cache import Runs
from maze_api.task_index import TaskIndex
from maze_api.task_view import TaskState, TaskView, view_task
from maze_crds.base import format_time
from maze_crds.queue import read_time
from maze_crds.run import RunSpec, RunStatus, valid_claim
from maze_io.cache import Changed
from maze_io.kube import Kube

T0 = datetime(2026, 1, 1, tzinfo=UTC)
Json = dict[str, Any]


def at(seconds: float) -> str:
    return format_time(T0 + timedelta(seconds=seconds))


def assignment(number: int, worker: str = "w", end: str | None = None, **more: Any) -> Json:
    made = {"number": number, "worker": worker, "startTime": at(10 * number), "startEvent": 2 * number - 1, **more}
    return {**made, "end": end, "endTime": at(10 * number + 5), "endEvent": 2 * number} if end else made


def run(name: str = "t", version: int = 1, status: Json | None = None, **spec: Any) -> Json:
    metadata = {"name": name, "uid": f"uid-{name}", "namespace": "maze", "resourceVersion": str(version)}
    return {
        "metadata": {**metadata, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"problemId": "test-1", "queuedTime": at(1), **spec},
        **({"status": status} if status is not None else {}),
    }


def claim(number: int, worker: str = "c") -> Json:
    return {"worker": worker, "number": number, "time": at(7)}


@pytest.mark.parametrize(
    ("spec", "status", "state", "worker"),
    [
        ({}, None, "pending", None),
        ({}, {"phase": "Pending", "reason": "WaitingForWorker"}, "pending", None),
        ({"claim": claim(1)}, None, "running", "c"),
        ({"claim": claim(1)}, {"phase": "Pending", "assignments": [assignment(1, end="Lost")]}, "pending", None),
        ({"claim": claim(2)}, {"phase": "Pending", "assignments": [assignment(1, end="Lost")]}, "running", "c"),
        ({}, {"phase": "Running", "assignments": [assignment(1)]}, "running", "w"),
        ({}, {"phase": "Succeeded", "assignments": [assignment(1, end="Completed")]}, "completed", "w"),
        ({}, {"phase": "Failed", "reason": "TaskFailed", "assignments": [assignment(1, end="Failed")]}, "failed", "w"),
        ({}, {"phase": "Failed", "reason": "TimedOut", "assignments": [assignment(1, end="TimedOut")]}, "timeout", "w"),
        ({}, {"phase": "Failed", "reason": "WorkerLost", "assignments": [assignment(1, end="Lost")]}, "failed", "w"),
        ({}, {"phase": "Cancelled", "assignments": [assignment(1, end="Cancelled")]}, "cancelled", "w"),
        ({}, {"phase": "Cancelled", "assignments": [assignment(1, end="Lost")]}, "cancelled", None),
        ({"claim": claim(1)}, {"phase": "Cancelled"}, "cancelled", None),
    ],
)
def test_the_state_of_a_task_and_who_has_it(spec: Json, status: Json | None, state: str, worker: str | None) -> None:
    task = view_task(run(status=status, **spec))
    assert (task.state.value, task.worker_id) == (state, worker)
    model_claim = valid_claim(RunSpec.model_validate(run(**spec)["spec"]), RunStatus.model_validate(status or {}))
    claimed = model_claim is not None and model_claim.worker == worker
    held = bool(status and status.get("assignments") and status["assignments"][-1]["worker"] == worker)
    assert (worker is not None) == (claimed or held)


def test_times_of_a_task() -> None:
    waiting = view_task(run())
    assert waiting.created_at == waiting.updated_at == T0 + timedelta(seconds=1)
    assert waiting.started_at is None
    assert waiting.completed_at is None
    ended = {"phase": "Succeeded", "completionTime": at(15), "assignments": [assignment(1, end="Completed")]}
    done = view_task(run(status=ended))
    assert done.started_at == T0 + timedelta(seconds=10)
    assert done.completed_at == done.updated_at == T0 + timedelta(seconds=15)
    claimed = view_task(run(claim=claim(1)))
    assert claimed.started_at == claimed.updated_at == T0 + timedelta(seconds=7)
    by_kubectl = view_task(run(queuedTime=None))
    assert by_kubectl.created_at == T0


def test_a_time_that_python_does_not_know_stops_nobody() -> None:
    assert read_time("2026-01-01T00:00:60Z") is None
    assert read_time("2026-01-01T02:00:00+02:00") == T0
    assert read_time("2026-01-01T00:00:00.123456789Z") == T0 + timedelta(microseconds=123456)
    assert read_time("2026-01-01T02:00:00+02:00").tzinfo is UTC  # type: ignore[union-attr]


def test_who_is_about_to_be_cancelled_or_suspended_is_not_given_away() -> None:
    assert view_task(run()).waits
    assert not view_task(run(desiredState="Cancelled")).waits
    assert not view_task(run(desiredState="Suspended")).waits
    assert view_task(run(desiredState="Cancelled")).state is TaskState.PENDING


def runs() -> Runs:
    return Runs(cast(Kube, None), "maze")


def test_the_queue_can_be_read_while_it_changes() -> None:
    cache = runs()
    index = TaskIndex(cache)
    for number in range(4):
        cache.put(run(f"t{number}", number + 1, queuedTime=at(number)))
    found = []
    for task in index.waiting():
        found.append(task.id)
        if task.id == "t0":
            cache.put(run("t0", 11, claim=claim(1), queuedTime=at(0)))
            cache.put(run("t2", 12, claim=claim(1), queuedTime=at(2)))
            cache.put(run("t9", 13, queuedTime=at(9)))
    assert found == ["t0", "t1", "t3", "t9"]


def test_runs_that_were_there_first_are_in_the_index_and_others_than_tasks_are_not() -> None:
    cache = runs()
    cache.put(run("t", 1))
    other = run("other", 2)
    del other["spec"]["problemId"]
    cache.put(other)
    index = TaskIndex(cache)
    assert [task.id for task in index.list()] == ["t"]
    assert index.get("other") is None
    assert len(index) == 1


STATUSES: list[Json | None] = [
    None,
    {"phase": "Pending", "assignments": [assignment(1, "w0", end="Lost")]},
    {"phase": "Running", "assignments": [assignment(1, "w0")]},
    {"phase": "Running", "assignments": [assignment(1, "w0", end="Lost"), assignment(2, "w1", internal=True)]},
    {"phase": "Succeeded", "assignments": [assignment(1, "w1", end="Completed")], "completionTime": at(30)},
    {"phase": "Failed", "reason": "TimedOut", "assignments": [assignment(1, "w1", end="TimedOut")]},
    {"phase": "Failed", "reason": "TaskFailed", "assignments": [assignment(1, "w1", end="Failed")]},
    {"phase": "Cancelled"},
]
CHANGES = st.tuples(
    st.integers(0, 5),
    st.sampled_from(STATUSES),
    st.fixed_dictionaries(
        {},
        optional={
            "priority": st.integers(-1, 1),
            "queuedTime": st.integers(0, 3).map(at),
            "claim": st.builds(claim, st.integers(1, 2), st.sampled_from(["w0", "w1"])),
            "desiredState": st.sampled_from(["Running", "Cancelled"]),
            "problemId": st.sampled_from(["a", "b", None]),
        },
    ),
    st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(CHANGES, max_size=25))
def test_after_any_changes_the_index_is_what_a_look_at_every_run_gives(
    changes: list[tuple[int, Json | None, Json, bool]],
) -> None:
    cache = runs()
    index = TaskIndex(cache)
    for version, (number, status, spec, deleted) in enumerate(changes, 1):
        obj = run(f"t{number}", version, status=status, **spec)
        cache._cache.apply(Changed("DELETED" if deleted else "MODIFIED", obj))
    all_tasks = [view_task(obj) for obj in cache.objects() if obj["spec"].get("problemId")]
    by_age = sorted(all_tasks, key=lambda task: (task.created_at, task.id), reverse=True)
    assert index.list() == by_age
    queue = sorted((task for task in all_tasks if task.waits), key=lambda task: task.order)
    assert list(index.waiting()) == queue
    for state in TaskState:
        assert index.list(state=state) == [task for task in by_age if task.state is state]
        assert index.counts()[state] == len(index.list(state=state))
    for worker in ("w0", "w1"):
        mine = [task for task in all_tasks if task.worker_id == worker]
        running = [task for task in mine if task.state is TaskState.RUNNING]
        assert by_id(index.of_worker(worker)) == by_id(running)
        assert by_id(index.list(worker_id=worker)) == by_id(mine)
    assert by_id(index.list(problem_id="b")) == by_id([task for task in all_tasks if task.problem_id == "b"])


def by_id(tasks: list[TaskView]) -> list[str]:
    return sorted(task.id for task in tasks)
