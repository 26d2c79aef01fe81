"""The requests of the runners of one Run's slot pods: they wait for work, and are told to end where none comes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

import stand_ins
from builders import SETTINGS, at, run_view, shared_task, slot_pod, status_of, succeeded, workflow
from maze_crds.run import RunStatus, TaskPhase, TaskStatus
from maze_crds.workflow import WorkflowSpec
from maze_operator.core.shapes import Shapes
from maze_operator.core.values import AttemptId, Ended, Reported, SlotPod, Workflow
from maze_operator.slots import GoAway, RunSlots

pytestmark = pytest.mark.anyio

CHAIN = workflow(shared_task("a"), shared_task("b", "a"))
ONE = workflow(shared_task("a"))
LONG = stand_ins.SECONDS
A, B = AttemptId("a", 1), AttemptId("b", 1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Place:
    """Two pods of a Run that leases. `plans`: whether it is to be planned at once, for each time it is to be planned."""

    def __init__(self, spec: WorkflowSpec, idle_seconds: float = LONG, opened: bool = True) -> None:
        self.spec, self.shapes = spec, Shapes(spec, 0, SETTINGS)
        self.plans: list[bool] = []
        self.slots = RunSlots(idle_seconds, self.plans.append)
        shape = self.shapes.of(spec.tasks[0], 1.0)
        assert shape is not None
        self.one, self.two = slot_pod(1, shape.key), slot_pod(2, shape.key)
        for pod in (self.one, self.two):
            self.slots.add(pod)
        self.slots.begin()
        self.slots.opened = opened
        if opened:
            self.slots.complete(Workflow.of(spec))
        self.plan()

    def plan(self, leases: bool = True, **tasks: dict[str, Any]) -> None:
        self.written(status_of(self.spec, **tasks), leases)

    def written(self, status: RunStatus, leases: bool = True) -> None:
        self.slots.planned(replace(run_view(self.spec), shapes=self.shapes), status, leases)

    async def ask(self, pod: SlotPod, seconds: float = LONG) -> AttemptId | None:
        async with asyncio.timeout(2 * LONG):
            return await self.slots.next(pod, seconds)

    async def get(self, pod: SlotPod) -> AttemptId:
        """Asked for and leased."""
        attempt = await self.ask(pod)
        assert attempt is not None
        self.slots.leased(attempt)
        return attempt

    async def waits(self, pod: SlotPod) -> asyncio.Task[AttemptId | None]:
        """The request of a pod that there is nothing for yet."""
        request = asyncio.create_task(self.ask(pod))
        await asyncio.sleep(0)  # up to where it waits
        assert not request.done()
        return request


DONE = {"phase": TaskPhase.SUCCEEDED}


# work


async def test_a_pod_that_asks_gets_what_is_ready_and_nobody_else_does() -> None:
    place = Place(ONE)
    assert await place.ask(place.one) == A
    with pytest.raises(GoAway):
        await place.ask(place.two)


async def test_a_pod_that_asks_again_gets_the_same_again() -> None:
    """The answer may have been lost."""
    place = Place(workflow(shared_task("a"), shared_task("c")))
    assert await place.ask(place.one) == A
    assert await place.ask(place.one) == A
    assert await place.ask(place.two) == AttemptId("c", 1)


async def test_a_pod_that_waits_gets_what_an_end_frees() -> None:
    place = Place(CHAIN)
    await place.get(place.one)
    request = await place.waits(place.two)
    place.slots.report(A, succeeded())
    assert await request == B


async def test_a_pod_that_waits_gets_what_a_plan_frees() -> None:
    place = Place(ONE)
    place.plan(leases=False)
    request = await place.waits(place.one)
    place.plan(leases=False)
    await asyncio.sleep(0)
    assert not request.done()
    place.plan()
    assert await request == A


async def test_a_plan_with_less_work_than_pods_that_wait_leaves_one_waiting() -> None:
    spec = workflow(shared_task("a"), shared_task("b"), parallelism=1)
    place = Place(spec)
    place.plan(leases=False)
    requests = {await place.waits(place.one), await place.waits(place.two)}
    place.plan()
    done, waiting = await asyncio.wait(requests, timeout=LONG, return_when=asyncio.FIRST_COMPLETED)
    assert {request.result() for request in done} == {A}
    place.slots.leased(A)
    place.slots.report(A, succeeded())
    assert await waiting.pop() == B


async def test_after_its_time_a_request_is_answered_with_nothing_and_the_pod_stays() -> None:
    place = Place(CHAIN)
    await place.get(place.one)
    assert await place.ask(place.two, 0.0) is None
    assert await place.ask(place.two, 0.01) is None
    place.slots.report(A, succeeded())
    assert await place.ask(place.two) == B


async def test_a_pod_that_asks_again_ends_its_earlier_request() -> None:
    """They must not wake each other either."""
    place = Place(CHAIN)
    await place.get(place.one)
    earlier = await place.waits(place.two)
    later = asyncio.create_task(place.ask(place.two))
    async with asyncio.timeout(LONG):
        assert await earlier is None
    assert not later.done()
    place.slots.report(A, succeeded())
    assert await later == B


# when to go


async def test_a_pod_without_work_goes_after_a_while_and_not_before() -> None:
    place = Place(CHAIN, idle_seconds=0.05)
    await place.get(place.one)
    began = time.monotonic()
    with pytest.raises(GoAway):
        await place.ask(place.two)
    assert time.monotonic() - began >= 0.05


async def test_its_patience_counts_over_all_its_requests() -> None:
    place = Place(CHAIN, idle_seconds=0.05)
    await place.get(place.one)

    async def ask_on() -> None:
        while await place.ask(place.two, 0.01) is None:
            pass

    with pytest.raises(GoAway):
        await ask_on()
    place.slots.report(A, succeeded())
    assert await place.ask(place.one) == B


async def test_a_pod_goes_at_once_when_nothing_can_come_any_more() -> None:
    place = Place(CHAIN)
    await place.get(place.one)
    request = await place.waits(place.two)
    place.plan(a=DONE, b=DONE)
    with pytest.raises(GoAway):
        await request


async def test_a_pod_of_a_shape_that_no_task_has_goes_at_once() -> None:
    place = Place(ONE)
    other = replace(place.two, shape="other")
    place.slots.add(other)
    with pytest.raises(GoAway):
        await place.ask(other)


async def test_nobody_goes_before_it_is_known_who_has_what() -> None:
    place = Place(ONE, idle_seconds=0.0, opened=False)
    place.plan(a=DONE)
    assert await place.ask(place.one, 0.01) is None
    place.slots.opened = True
    with pytest.raises(GoAway):
        await place.ask(place.one, 0.01)


async def test_who_was_told_to_go_is_told_so_again_and_gets_nothing_more() -> None:
    place = Place(CHAIN, idle_seconds=0.0)
    await place.get(place.one)
    for _ in range(2):
        with pytest.raises(GoAway):
            await place.ask(place.two)
    place.slots.report(A, succeeded())
    assert place.slots.take(place.two) is None
    assert place.slots.facts({}, at(0)).leaving == {"pod-2"}
    assert place.slots.take(place.one) == B


@pytest.mark.parametrize("change", [{"deleting": True}, {"ended": Ended(succeeded=False)}], ids=["deleted", "ended"])
async def test_the_request_of_a_pod_that_is_gone_ends(change: dict[str, Any]) -> None:
    place = Place(CHAIN)
    await place.get(place.one)
    request = await place.waits(place.two)
    place.slots.add(replace(place.two, **change))
    with pytest.raises(GoAway):
        await request


async def test_the_request_of_a_pod_that_has_vanished_ends() -> None:
    place = Place(CHAIN)
    await place.get(place.one)
    request = await place.waits(place.two)
    place.slots.remove("pod-2")
    with pytest.raises(GoAway):
        await request


async def test_all_go_when_the_run_is_deleted() -> None:
    place = Place(CHAIN)
    await place.get(place.one)
    request = await place.waits(place.two)
    place.slots.close()
    with pytest.raises(GoAway):
        await request


async def test_a_pod_whose_attempt_the_run_has_ended_must_go() -> None:
    place = Place(CHAIN)
    await place.get(place.one)
    assert place.slots.owns(place.one, A)
    place.plan(a={"phase": TaskPhase.PENDING, "attempt": 1, "retry_time": at(9)})
    assert not place.slots.owns(place.one, A)
    assert place.slots.facts({}, at(0)).doomed == {"pod-1"}
    assert place.slots.last_attempt("pod-1") == A
    with pytest.raises(GoAway):
        await place.ask(place.one)


# what plans are told


async def test_the_word_of_each_pod_is_awaited_before_leasing_begins() -> None:
    place = Place(CHAIN, opened=False)
    running = {"phase": TaskPhase.RUNNING, "pod": "slot-1", "start_time": at(0)}
    place.plan(a=running)
    assert not place.slots.all_heard
    assert place.slots.silence_ends is not None
    assert place.slots.adopt(place.one, A, TaskStatus(name="a", attempt=1, **running))
    assert place.slots.facts({}, at(0)).silent == {"pod-2"}
    assert await place.ask(place.two, 0.0) is None
    assert place.slots.all_heard
    assert place.slots.silence_ends is None
    assert place.slots.facts({}, at(0)).says == {"pod-1": A, "pod-2": None}


async def test_a_pod_that_has_ended_is_not_awaited() -> None:
    place = Place(CHAIN, opened=False)
    for pod in (place.one, place.two):
        place.slots.add(replace(pod, ended=Ended(succeeded=True)))
    assert place.slots.all_heard


async def test_what_happens_is_told_to_plans_until_it_is_written() -> None:
    place = Place(CHAIN)
    assert await place.ask(place.one) == A
    assert place.slots.facts({}, at(0)).taken == (A,)
    place.slots.leased(A)
    place.slots.report(A, succeeded())
    facts = place.slots.facts({}, at(0))
    assert [each.attempt_id for each in facts.happened] == [A, A]
    assert await place.get(place.one) == B
    place.slots.written(facts)
    [told] = place.slots.facts({}, at(0)).happened
    assert told.attempt_id == B
    assert not isinstance(told, Reported)


async def test_until_all_is_known_plans_are_told_only_who_has_what_and_then_in_the_order_of_the_graph() -> None:
    place = Place(CHAIN, opened=False)
    assert place.slots.adopt(place.one, B, TaskStatus(name="b"))
    place.slots.desk.learn(A, succeeded(), at(0))
    early = place.slots.facts({}, at(0))
    assert (early.happened, early.taken) == ((), (B,))
    place.slots.complete(Workflow.of(CHAIN))
    assert [each.attempt_id for each in place.slots.facts({}, at(0)).happened] == [A, B]


async def test_what_can_wait_is_planned_later_and_the_last_end_at_once() -> None:
    place = Place(CHAIN)
    await place.get(place.one)
    place.slots.report(A, succeeded())
    await place.get(place.one)
    assert not any(place.plans)
    place.slots.report(B, succeeded())
    assert place.plans[-1]
