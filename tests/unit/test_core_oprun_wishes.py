"""An OpRun: what wishes make of it, and what a reader sees of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders import SETTINGS, at
from maze_crds.oprun import MAX_ATTEMPTS, OpState
from maze_crds.run import RunPhase
from maze_operator.core.values import (
    AttemptId,
    CreatePod,
    DeletePod,
    DeleteRun,
    ReplacePod,
    Waiting,
)
from op_stage import Op, outputs


def test_cancelled_by_wish_and_by_event() -> None:
    by_wish, by_event = Op(), Op()
    for op in (by_wish, by_event):
        op.runs()
    by_wish.wish(desiredState="Cancelled")
    by_wish.step()
    by_event.step(by_event.post("CANCELLED", "stop"))
    for op in (by_wish, by_event):
        assert op.op.state is OpState.CANCELLED
        assert op.view.status.phase is RunPhase.CANCELLED
        assert op.types() == ["STARTED", "CANCELLED"]
        assert [type(action) for action in op.last.actions] == [DeletePod]
    assert by_wish.op.events[-1].msg == "Cancelled by user"


def test_a_cancel_that_was_written_first_counts() -> None:
    op = Op()
    op.runs()
    op.wish(desiredState="Cancelled")
    op.exits(0, result=outputs(a=1))
    assert op.op.state is OpState.CANCELLED
    assert op.types() == ["STARTED", "CANCELLED"]


@pytest.mark.parametrize("end", ["COMPLETED", "FAILED", "CANCELLED"])
def test_retry_of_an_ended_run(end: str) -> None:
    op = Op()
    op.runs()
    if end == "CANCELLED":
        op.wish(desiredState="Cancelled")
        op.step()
    else:
        op.exits(0 if end == "COMPLETED" else 1, result=outputs(a=1) if end == "COMPLETED" else None)
    assert op.op.state.value == end
    op.wish(desiredState="Running", retries=1)
    op.step()
    assert op.op.state is OpState.PENDING
    assert op.op.attempt == 2
    assert op.op.outputs is None
    assert op.view.status.phase is RunPhase.RUNNING
    assert op.view.status.completion_time is None
    assert (op.types()[-1], op.op.events[-1].msg, op.op.events[-1].payload) == (
        "RETRIED",
        "Manual retry",
        {"force": True},
    )
    assert CreatePod(AttemptId("op", 2)) in op.last.actions
    op.runs(2)
    op.exits(0, 2, outputs(b=2))
    assert op.op.outputs == {"b": 2}
    assert [event.id for event in op.op.events] == list(range(len(op.op.events)))
    op.step()
    assert op.op.attempt == 2


def test_retry_of_a_run_that_never_came_to_a_pod() -> None:
    op = Op(desiredState="Cancelled")
    op.step()
    assert op.types() == ["CANCELLED"]
    op.wish(desiredState="Running", retries=1)
    op.step()
    assert CreatePod(AttemptId("op", 2)) in op.last.actions
    op.runs(2)
    op.exits(0, 2, outputs())
    assert op.op.state is OpState.COMPLETED


def test_a_forced_retried_event_opens_an_ended_run() -> None:
    op = Op()
    op.runs()
    op.exits(1)
    assert op.step(op.post("RETRIED")).replies[0].detail == "Run is already in terminal state FAILED"
    made = op.step(op.post("RETRIED", force=True, payload={"force": True}))
    assert made.replies[0].status == 200
    assert op.op.state is OpState.PENDING
    assert op.op.attempt == 2


def test_retried_gives_the_attempt_up() -> None:
    op = Op(maxAttempts=2)
    op.runs()
    made = op.step(op.post("RETRIED", "elsewhere"))
    assert [type(action) for action in made.actions if isinstance(action, DeletePod)] == [DeletePod]
    assert op.types() == ["STARTED", "RETRIED"]
    assert (op.op.attempt, op.op.attempts[0].reason) == (2, "GivenUp")
    op.runs(2)
    assert op.step(op.post("RETRIED")).replies[0].status == 400
    assert op.step(op.post("RETRIED", force=True)).replies[0].status == 200
    assert op.op.attempt == 3


def test_the_number_of_attempts_is_bounded() -> None:
    op = Op()
    op.runs()
    op.exits(1)
    for retry in range(1, MAX_ATTEMPTS + 5):
        op.wish(retries=retry)
        op.step()
        if op.op.state is OpState.PENDING:
            op.step(op.post("FAILED"))
    assert op.op.attempt == MAX_ATTEMPTS
    assert op.op.state is OpState.FAILED


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CANCELLED"])
@pytest.mark.parametrize("ended", [True, False])
def test_an_override_ends_without_an_event(state: str, ended: bool) -> None:
    op = Op()
    op.runs()
    if ended:
        op.exits(1)
    before = op.types()
    op.wish(override={"state": {"number": 1, "state": state}})
    op.step()
    assert op.op.state.value == state
    assert op.types() == before
    assert op.view.status.phase is {
        "COMPLETED": RunPhase.SUCCEEDED,
        "FAILED": RunPhase.FAILED,
        "CANCELLED": RunPhase.CANCELLED,
    }.get(state)
    assert op.view.status.counts.total == 1
    op.step(seconds=10)
    assert ended or [type(action) for action in op.last.actions] == [DeletePod]
    assert op.op.state_override == 1


@pytest.mark.parametrize("ended", [True, False])
def test_an_override_to_pending_makes_a_new_attempt_without_an_event(ended: bool) -> None:
    op = Op()
    op.runs()
    if ended:
        op.exits(1)
    before = op.types()
    op.wish(override={"state": {"number": 1, "state": "PENDING"}})
    op.step()
    assert (op.op.state, op.op.attempt, op.types()) == (OpState.PENDING, 2, before)
    op.runs(2)
    assert op.op.state is OpState.RUNNING


def test_an_override_to_running_needs_an_attempt() -> None:
    op = Op()
    op.step()
    op.wish(override={"state": {"number": 1, "state": "RUNNING"}})
    op.step()
    assert (op.op.state, op.types()) == (OpState.RUNNING, [])
    op.runs()
    op.exits(1)
    op.wish(override={"state": {"number": 2, "state": "RUNNING"}})
    op.step()
    assert op.op.state is OpState.FAILED


def test_outputs_are_replaced_once() -> None:
    op = Op()
    op.runs()
    op.wish(override={"outputs": {"number": 1, "outputs": {"mine": None}}})
    op.step()
    assert op.op.outputs == {"mine": None}
    op.exits(0, result=outputs(a=1))
    assert op.op.outputs == {"a": 1}


def test_an_ended_run_settles_down() -> None:
    op = Op()
    op.runs()
    op.exits(0, result=outputs())
    op.wish(priority=5)
    op.step()
    quiet = op.step()
    assert quiet.status == op.step().status
    assert op.view.status.observed_generation == op.view.generation


def test_every_change_is_seen_in_updated_time() -> None:
    op = Op()
    op.runs()
    before = op.op.updated_time
    op.step(delivered=1)
    assert (op.op.delivered, op.op.updated_time) == (1, before)
    op.wish(priority=5)
    op.step()
    assert op.op.updated_time is not None
    assert before is not None
    assert op.op.updated_time > before


def test_a_run_with_undelivered_events_is_kept_for_a_while() -> None:
    op = Op(ttlSecondsAfterFinished=10, opRun={"eventDelivery": {"topic": "t"}})
    op.settings = replace(SETTINGS, event_sink="http://sink", undelivered_retention=100)
    op.runs()
    op.exits(0, result=outputs())
    op.pods.clear()
    op.step(seconds=50)
    assert not op.last.actions
    gone = replace(op.view)
    op.step(seconds=70)
    assert op.last.actions == (DeleteRun(),)
    op.view = gone
    op.step(delivered=2, seconds=0)
    op.step()
    assert op.last.actions == (DeleteRun(),)


def test_another_priority_takes_another_pod_while_it_waits() -> None:
    op = Op()
    op.settings = replace(SETTINGS, priority_classes=((0, "low"), (5, "high")))
    op.step()
    waiting = {"unschedulable": Waiting("Unschedulable", "0/1 nodes"), "resource_version": "7"}
    op.pod_is(**waiting, priority_class="low")
    op.step()
    assert not op.last.actions
    op.wish(priority=9)
    op.step()
    assert op.last.actions == (ReplacePod(AttemptId("op", 1), "op-1", "op-1-uid", "7"),)
    op.pod_is(running_since=at(1), priority_class="low")
    op.step()
    assert not op.last.actions
