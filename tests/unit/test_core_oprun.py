"""An OpRun: what events and pods make of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders import SETTINGS, at
from maze_crds.oprun import PAGE, TAIL, OpState
from maze_crds.run import RunPhase
from maze_operator.core.optable import Effect, Refused, judge_event
from maze_operator.core.plan import plan
from maze_operator.core.podspec import build_pod
from maze_operator.core.values import (
    AttemptId,
    CreatePod,
    DeletePod,
    Ended,
    Facts,
    Reply,
    RunView,
    Waiting,
)
from maze_operator.core.values import (
    Refused as PodRefused,
)
from op_stage import Op, outputs

EVENTS = ["STARTED", "PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "RETRIED", "CHECKPOINT"]


def test_from_creation_to_outputs() -> None:
    op = Op()
    first = op.step()
    assert [type(action) for action in first.actions] == [CreatePod]
    assert op.op.state is OpState.PENDING
    assert op.op.image == "busybox"
    assert [(a.number, a.state) for a in op.op.attempts] == [(1, OpState.PENDING)]
    op.runs()
    assert op.op.state is OpState.RUNNING
    assert op.op.attempts[0].worker == "10.0.0.1"
    op.exits(0, result=outputs(answer=42))
    assert op.op.state is OpState.COMPLETED
    assert op.view.status.phase is RunPhase.SUCCEEDED
    assert op.op.outputs == {"answer": 42}
    started, completed = op.op.events
    assert (started.id, started.type, started.payload) == (0, "STARTED", {"worker_id": "10.0.0.1", "pod": "op-1"})
    assert (completed.id, completed.type, completed.payload) == (1, "COMPLETED", {"outputs": {"answer": 42}})
    attempt = op.op.attempts[0]
    assert (attempt.exit_code, attempt.pod, attempt.state) == (0, "op-1", OpState.COMPLETED)
    assert attempt.start_time is not None
    assert attempt.completion_time is not None


def test_outputs_too_large_for_an_event_stay_with_the_result() -> None:
    op = Op()
    op.runs()
    op.exits(0, result=outputs(text="x" * 2000))
    assert op.op.events[-1].outputs
    assert op.op.events[-1].payload is None
    assert op.op.outputs == {"text": "x" * 2000}
    large = Op()
    large.runs()
    large.exits(0, result=outputs(text="x" * 9000))
    assert (large.op.outputs, large.op.outputs_from) == (None, 1)


def test_a_container_that_was_never_seen_to_run_has_started_all_the_same() -> None:
    op = Op()
    op.step()
    op.exits(0, result=outputs())
    assert op.types() == ["STARTED", "COMPLETED"]


def test_such_a_container_started_when_it_did_not_when_its_pod_was_made() -> None:
    op = Op()
    op.step(seconds=5.5)
    op.pod_is(ended=Ended(succeeded=True, exit_code=0, started=at(60)))
    op.step(seconds=100, results={AttemptId("op", 1): outputs()})
    assert op.op.attempts[0].start_time == at(60)
    quick = Op()
    quick.step(seconds=5.5)
    quick.pod_is(ended=Ended(succeeded=True, exit_code=0, started=at(5)))
    quick.step(results={AttemptId("op", 1): outputs()})
    assert quick.op.attempts[0].start_time == at(5.5), "a container's times are whole seconds: never before its attempt"


def test_times_grow_with_the_ids_of_events() -> None:
    op = Op()
    op.step()
    op.pod_is()
    early = op.post("PROGRESS", 1, attempt=1)
    op.step(early, seconds=3)
    assert op.types() == ["STARTED", "PROGRESS"], "which is what the progress shows"
    assert op.op.events[0].time == op.op.events[1].time == at(op.clock)


def test_a_pod_that_fails_without_an_event_makes_the_events() -> None:
    op = Op(maxAttempts=2)
    op.runs()
    op.exits(3)
    assert op.op.state is OpState.PENDING
    assert op.types() == ["STARTED", "FAILED", "RETRIED"]
    assert op.op.events[1].payload is not None
    assert op.op.events[1].payload["exit_code"] == 3
    assert op.op.events[2].payload == {"force": False}
    assert [(a.number, a.state, a.exit_code) for a in op.op.attempts] == [
        (1, OpState.FAILED, 3),
        (2, OpState.PENDING, None),
    ]
    op.runs(2)
    op.exits(4, 2)
    assert op.op.state is OpState.FAILED
    assert op.view.status.phase is RunPhase.FAILED
    assert op.types()[3:] == ["STARTED", "FAILED"]
    assert [(a.exit_code, a.reason) for a in op.op.attempts] == [(3, "Exited"), (4, "Exited")]


def test_attempts_are_bounded_whatever_ends_them() -> None:
    op = Op(maxAttempts=2)
    op.runs()
    del op.pods[AttemptId("op", 1)]
    op.step(results={AttemptId("op", 1): None})
    assert op.op.attempt == 2
    op.runs(2)
    op.exits(1, 2)
    assert op.op.state is OpState.FAILED


def test_progress() -> None:
    op = Op()
    op.runs()
    made = op.step(op.post("PROGRESS", 40), op.post("PROGRESS", "70"), op.post("CHECKPOINT", "half", payload={"a": 1}))
    assert made.replies == (Reply(200, "", 1, "RUNNING"), Reply(200, "", 2, "RUNNING"), Reply(200, "", 3, "RUNNING"))
    assert op.op.progress == 70
    assert [event.msg for event in op.op.events] == ["", 40, "70", "half"]


def test_what_a_container_says_shows_that_it_runs_before_any_node_tells_of_its_pod() -> None:
    op = Op()
    op.step()
    op.step(op.post("COMPLETED", attempt=1, own=True, result=outputs(a=1)))
    assert op.types() == ["STARTED", "COMPLETED"]
    assert op.op.events[0].payload == {"worker_id": None, "pod": "op-1"}


def test_what_a_container_says_shows_that_it_runs() -> None:
    op = Op()
    op.step()
    op.pod_is()
    op.step(op.post("PROGRESS", 1, attempt=1))
    assert op.types() == ["STARTED", "PROGRESS"]
    assert op.op.state is OpState.RUNNING
    op.pod_is(running_since=at(0))
    op.step()
    assert op.types() == ["STARTED", "PROGRESS"]


def test_progress_from_outside_does_not_start_a_pod_that_waits() -> None:
    op = Op()
    op.step()
    op.step(op.post("PROGRESS", 1))
    assert op.op.state is OpState.PENDING


def test_started_by_an_event() -> None:
    op = Op()
    op.step()
    op.pod_is()
    op.step(op.post("STARTED", worker="w-7", gpu=1))
    op.pod_is(running_since=at(3))
    op.step()
    assert op.types() == ["STARTED"]
    attempt = op.op.attempts[0]
    assert (attempt.state, attempt.worker, attempt.gpu) == (OpState.RUNNING, "w-7", 1)


def test_completed_from_outside_ends_the_run_and_its_pod() -> None:
    op = Op()
    op.runs()
    made = op.step(op.post("COMPLETED", "done", attempt=1, result=outputs(a=1), payload={"outputs": {"a": 1}}))
    assert made.replies == (Reply(200, "", 1, "COMPLETED"),)
    assert op.view.status.phase is RunPhase.SUCCEEDED
    assert op.op.outputs == {"a": 1}
    assert op.types() == ["STARTED", "COMPLETED"]
    assert op.last.requeue_after is not None
    op.step(seconds=SETTINGS.op_exit_grace)
    assert [type(action) for action in op.last.actions] == [DeletePod]


@pytest.mark.parametrize("waits", ["no pod yet", "backoff"])
def test_completed_from_outside_before_any_pod(waits: str) -> None:
    op = Op(maxAttempts=3)
    if waits == "backoff":
        op.runs()
        op.exits(1)
    number = op.op.attempt if waits == "backoff" else 1
    op.step(op.post("COMPLETED", attempt=number, result=outputs(a=1)))
    assert op.op.state is OpState.COMPLETED
    assert op.op.attempt == number
    assert not [action for action in op.last.actions if isinstance(action, CreatePod)]
    assert op.types()[-1] == "COMPLETED"


def test_failed_from_outside_with_attempts_left() -> None:
    op = Op(maxAttempts=2)
    op.runs()
    made = op.step(op.post("FAILED", "broken", error="disk full"), op.post("PROGRESS", 5))
    assert made.replies == (Reply(200, "", 1, "PENDING"),)
    assert made.requeue_after == 0.0
    assert op.types() == ["STARTED", "FAILED", "RETRIED"]
    first = op.op.attempts[0]
    assert (first.state, first.reason, first.message) == (OpState.FAILED, "ReportedFailed", "disk full")
    assert op.op.attempt == 2
    op.runs(2)
    op.step(op.post("FAILED", "again"))
    assert op.view.status.phase is RunPhase.FAILED
    assert op.op.attempts[1].message == "again"


def test_the_container_of_a_failed_attempt_is_stopped_soon_though_the_next_one_runs() -> None:
    op = Op(maxAttempts=2)
    op.runs()
    op.step(op.post("FAILED", "no"))
    made = op.runs(2)
    assert op.op.state is OpState.RUNNING
    assert made.requeue_after is not None
    assert made.requeue_after <= SETTINGS.op_exit_grace
    made = op.step(seconds=SETTINGS.op_exit_grace)
    assert [action.name for action in made.actions if isinstance(action, DeletePod)] == ["op-1"]


def test_of_an_older_attempt_nothing_counts() -> None:
    op = Op(maxAttempts=2)
    op.runs()
    op.exits(1)
    made = op.step(op.post("COMPLETED", attempt=1, result=outputs(a=1)))
    assert made.replies[0].status == 409
    assert op.op.state is OpState.PENDING


def test_what_is_said_twice_is_kept_once() -> None:
    op = Op()
    op.runs()
    post = op.post("COMPLETED", attempt=1, result=outputs(a=1))
    op.step(post)
    made = op.step(post)
    assert made.replies == (Reply(200, "", 1, "COMPLETED"),)
    assert op.types() == ["STARTED", "COMPLETED"]


def test_pages_leave_the_status() -> None:
    op = Op()
    op.runs()
    kept: list[int] = []
    for _ in range(10):
        made = op.step(*(op.post("PROGRESS", 1) for _ in range(16)))
        for page in made.pages:
            assert [event.id for event in page.events] == list(range(page.number * PAGE, (page.number + 1) * PAGE))
            kept += [event.id for event in page.events]
        assert len(op.op.events) < TAIL
    assert kept + [event.id for event in op.op.events] == list(range(161))
    assert op.op.next_event == 161


def test_why_it_waits_is_with_the_attempt() -> None:
    op = Op()
    op.step()
    op.pod_is(unschedulable=Waiting("Unschedulable", "0/1 nodes"))
    op.step()
    assert (op.op.attempts[0].reason, op.op.attempts[0].message) == ("Unschedulable", "0/1 nodes")


def test_its_container_hears_sigterm_without_asking_for_it() -> None:
    op = Op()
    assert op.view.workflow is not None
    arguments = (op.view, op.view.workflow, AttemptId("op", 1), 1.0, [])
    assert build_pod(*arguments, SETTINGS)["spec"]["shareProcessNamespace"] is True
    assert (
        "shareProcessNamespace" not in build_pod(*arguments, replace(SETTINGS, share_process_namespace=False))["spec"]
    )


def test_a_workflow_that_is_not_there_fails_the_run() -> None:
    op = Op()
    op.view = replace(op.view, workflow=None, problem_reason="WorkflowNotFound", problem="there is none")
    op.step(op.post("PROGRESS", 3), op.post("COMPLETED", attempt=1, result=outputs()))
    assert [reply.status for reply in op.last.replies] == [200, 503]
    op.step(seconds=100)
    assert op.op.state is OpState.FAILED
    assert op.types() == ["PROGRESS", "FAILED"]
    assert op.op.attempts[0].reason == "WorkflowNotFound"


def test_a_pod_that_is_refused_fails_in_the_end() -> None:
    op = Op()
    op.view = replace(op.view)
    first = plan(op.view, {}, Facts(), at(1), SETTINGS)
    view: RunView = replace(op.view, status=first.status)
    refused = {AttemptId("op", 1): PodRefused(422, "bad", at(1))}
    made = plan(view, {}, Facts(refused=refused), at(500), SETTINGS)
    assert made.status.op is not None
    assert made.status.op.state is OpState.FAILED
    assert [event.type for event in made.status.op.events] == ["FAILED"]


@pytest.mark.parametrize("state", [OpState.PENDING, OpState.RUNNING])
def test_the_table_of_open_runs(state: OpState) -> None:
    found = [judge_event(kind, False, state, 1, 2) for kind in EVENTS]
    assert found == [
        Effect.START,
        Effect.PROGRESS,
        Effect.SUCCEED,
        Effect.FAIL,
        Effect.CANCEL,
        Effect.GIVE_UP,
        Effect.NOTE,
    ]


@pytest.mark.parametrize("state", [OpState.COMPLETED, OpState.FAILED, OpState.CANCELLED])
@pytest.mark.parametrize("kind", EVENTS)
def test_ended_runs_are_locked(state: OpState, kind: str) -> None:
    with pytest.raises(Refused, match=f"^Run is already in terminal state {state.value}$"):
        judge_event(kind, False, state, 1, 3)
