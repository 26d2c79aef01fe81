"""How many pods the waiting tasks of one shape get, and what the state of those pods means for the tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import SETTINGS, T0, at, shared_task, slot_pod, workflow
from maze_crds.run import Cause
from maze_operator.core.shapes import Shapes
from maze_operator.core.slots import MOMENT, REFUSED_RETRY, SLOWED, WORTH, ShapePlan, plan_shape, supply_of
from maze_operator.core.values import (
    STORE_UNAVAILABLE,
    AttemptId,
    CreateSlot,
    DeletePod,
    Ended,
    Pace,
    Refused,
    Settings,
    Shape,
    SlotPod,
    Slots,
    Waiting,
)

ROOM = 100
WORK = AttemptId("t", 1)
CRASHED = Ended(succeeded=False, exit_code=1)
QUOTA = "exceeded quota: pods"
NO_IMAGE = Waiting("ImagePullBackOff", "no such image")
NO_NODE = Waiting("Unschedulable", "0/1 nodes are available")


def make_shape() -> Shape:
    spec = workflow(shared_task("t"))
    found = Shapes(spec, 0, SETTINGS).of(spec.tasks[0], 1.0)
    assert found is not None
    return found


SHAPE = make_shape()


def living(number: int, **state: Any) -> SlotPod:
    return slot_pod(number, SHAPE.key, **{"running_since": T0, **state})


def seen(busy: int = 0, idle: int = 0, starting: int = 0, **facts: Any) -> Slots:
    """Pods of the shape, numbered in this order."""
    pods = tuple(living(number + 1) for number in range(busy + idle + starting))
    says = {pod.uid: WORK for pod in pods[:busy]} | {pod.uid: None for pod in pods[busy : busy + idle]}
    for name in ("spares", "paces", "refused"):
        if name in facts:
            facts[name] = {SHAPE.key: facts[name]}
    return Slots(pods, says, **facts)


def planned(
    waiting: int, slots: Slots, seconds: float = 0.0, room: int = ROOM, settings: Settings = SETTINGS
) -> ShapePlan:
    taken = {pod.slot for pod in slots.pods}
    return plan_shape(SHAPE, waiting, slots, room, taken, at(seconds), settings)


def made(plan: ShapePlan) -> list[int]:
    """Slot numbers; 0 is a spare."""
    assert all(isinstance(each, CreateSlot) and each.shape is SHAPE for each in plan.actions)
    return [each.slot for each in plan.actions if isinstance(each, CreateSlot)]


def paced(now: float, best: float | None = None) -> Pace:
    return Pace(now, now if best is None else best)


# how many


@pytest.mark.parametrize(
    ("waiting", "slots", "numbers", "wake"),
    [
        (3, seen(), [1, 2, 3], None),
        (0, seen(), [], None),
        (3, seen(spares=2), [0, 0], MOMENT),
        (2, seen(spares=5), [0, 0], None),
        (3, seen(busy=1), [], MOMENT),
        (3, seen(starting=1), [], MOMENT),
        (3, seen(busy=1, spares=1), [0], MOMENT),
        (2, seen(idle=1, starting=1, spares=9), [], None),
    ],
    ids=[
        "one each",
        "nothing waits",
        "spares first, new ones a moment later",
        "no more spares than tasks",
        "what the first one makes of it is awaited",
        "also while it starts",
        "spares are not awaited",
        "pods that are free or coming will take them",
    ],
)
def test_while_nothing_is_known_of_the_tasks(
    waiting: int, slots: Slots, numbers: list[int], wake: float | None
) -> None:
    plan = planned(waiting, slots)
    assert made(plan) == numbers
    assert plan.wake == wake


@pytest.mark.parametrize(
    ("waiting", "pace", "pods", "numbers"),
    [
        (100, 0.01, 1, 0),
        (100, 0.02, 1, 1),
        (100, 0.05, 1, 4),
        (100, 0.05, 5, 0),
        (3, 60.0, 1, 3),
        (3, WORTH, 2, 1),
        (3, 60.0, 3, 3),
        (1, 0.0, 0, 1),
    ],
)
def test_a_pod_is_made_only_where_a_second_of_work_waits_for_it(
    waiting: int, pace: float, pods: int, numbers: int
) -> None:
    plan = planned(waiting, seen(busy=pods, paces=paced(pace)))
    assert len(made(plan)) == numbers
    assert plan.wake == (WORTH if numbers < waiting else None)


def test_spares_count_among_the_pods_that_are_worth_it() -> None:
    assert made(planned(100, seen(busy=1, spares=2, paces=paced(0.05)))) == [0, 0, 2, 3]


@pytest.mark.parametrize(
    ("now", "best", "grows"),
    [
        (0.10, 0.10 / SLOWED, True),
        (0.11, 0.10 / SLOWED, False),
        (0.9, 0.1, False),
        (WORTH, 0.1, True),
        (60.0, 1.0, True),
    ],
    ids=["as fast as ever", "slower", "much slower", "long ones", "very long ones"],
)
def test_short_tasks_that_slow_each_other_down_get_no_more_pods_not_even_spares(
    now: float, best: float, grows: bool
) -> None:
    plan = planned(100, seen(busy=1, spares=1, paces=Pace(now, best)))
    assert bool(plan.actions) == grows
    assert plan.wake == WORTH


def test_slow_tasks_get_their_first_pod_all_the_same() -> None:
    assert made(planned(1, seen(paces=Pace(0.9, 0.1)))) == [1]


def test_not_all_pods_start_at_once() -> None:
    some = replace(SETTINGS, pods_starting=2)
    first = planned(5, seen(), settings=some)
    assert made(first) == [1, 2]
    assert first.wake == MOMENT
    assert made(planned(5, seen(busy=2, starting=1, paces=paced(60.0)), settings=some)) == [4]
    assert made(planned(5, seen(starting=2, paces=paced(60.0)), settings=some)) == []


def test_a_run_gets_no_more_pods_than_it_may_have_spares_included() -> None:
    assert made(planned(5, seen(), room=2)) == [1, 2]
    assert made(planned(5, seen(spares=9), room=2)) == [0, 0]
    full = planned(5, seen(busy=2), room=0)
    assert made(full) == []
    assert full.wake is None


def test_numbers_in_use_are_left_out() -> None:
    slots = Slots((living(2), living(4)), {"pod-2": WORK, "pod-4": WORK}, paces={SHAPE.key: paced(60.0)})
    assert made(planned(3, slots)) == [1, 3, 5]


def test_pods_of_another_shape_pods_that_leave_and_pods_that_ended_are_no_supply() -> None:
    pods = (
        slot_pod(1, "other"),
        living(2),
        living(3, deleting=True),
        living(4, ended=Ended(succeeded=True)),
        living(5),
        living(6),
        living(7),
    )
    says = {"pod-5": WORK, "pod-6": None}
    supply = supply_of(SHAPE.key, Slots(pods, says, leaving=frozenset({"pod-2"})))
    assert [[pod.slot for pod in kind] for kind in (supply.busy, supply.idle, supply.starting)] == [[5], [6], [7]]


# refused


def refused(status: int, message: str) -> Refused:
    return Refused(status, message, T0)


@pytest.mark.parametrize(
    ("why", "reason", "bound"),
    [
        (refused(403, QUOTA), "QuotaExceeded", None),
        (refused(403, "not allowed"), "PodRejected", 0.0),
        (refused(500, "later"), "PodNotCreated", SETTINGS.container_start_timeout),
        (refused(STORE_UNAVAILABLE, "away"), "StorageUnavailable", None),
    ],
)
def test_a_refused_pod_is_tried_again_after_a_pause_and_says_why(
    why: Refused, reason: str, bound: float | None
) -> None:
    early = planned(1, seen(refused=why), 1.0)
    assert made(early) == []
    assert early.wake == pytest.approx(REFUSED_RETRY - 1.0)
    late = planned(1, seen(refused=why), REFUSED_RETRY)
    assert made(late) == [1]
    for plan in (early, late):
        assert plan.wait is not None
        assert (plan.wait.reason, plan.wait.message, plan.wait.bound) == (reason, why.message, bound)
        assert plan.dated, "the bound counts from when the task began to wait"
        assert plan.failure is None


@pytest.mark.parametrize("there", [{"busy": 1}, {"idle": 1}])
def test_nothing_is_wrong_with_tasks_that_other_pods_will_take(there: dict[str, int]) -> None:
    plan = planned(3, seen(**there, refused=refused(403, QUOTA)), 1.0)
    assert plan.wait is None
    assert made(plan) == []


# pods that do not come to life


def dead(number: int = 1, **state: Any) -> SlotPod:
    return living(number, **{"ended": CRASHED, **state})


@pytest.mark.parametrize(
    ("ended", "reason", "only_first"),
    [(CRASHED, "Exited", False), (Ended(succeeded=False, reason="Evicted"), "Evicted", True)],
    ids=["its own fault", "the node's"],
)
def test_a_pod_that_dies_before_its_first_word_fails_those_that_wait(
    ended: Ended, reason: str, only_first: bool
) -> None:
    plan = planned(3, Slots((dead(ended=ended),)))
    assert plan.failure is not None
    assert plan.failure["reason"] == reason
    assert plan.only_first == only_first
    assert not plan.actions


@pytest.mark.parametrize(
    "slots",
    [
        Slots((dead(),), accounted=frozenset({"pod-1"})),
        Slots((dead(),), {"pod-1": None}),
        Slots((dead(deleting=True),)),
        Slots((dead(ended=Ended(succeeded=True)),)),
        Slots((slot_pod(1, "other", ended=CRASHED),)),
    ],
    ids=["seen before", "had asked", "somebody deletes it", "ended well", "another shape"],
)
def test_the_end_of_another_pod_means_nothing_for_those_that_wait(slots: Slots) -> None:
    plan = planned(1, slots)
    assert plan.failure is None
    assert len(made(plan)) == 1


@pytest.mark.parametrize("word", [WORK, None])
def test_while_others_work_a_pod_that_dies_fails_nothing(word: AttemptId | None) -> None:
    assert planned(3, Slots((dead(1), living(2)), {"pod-2": word})).failure is None


@pytest.mark.parametrize(
    ("state", "reason", "bound"),
    [
        ({"waiting": NO_IMAGE}, "ImagePullFailed", SETTINGS.image_pull_timeout),
        ({"unschedulable": NO_NODE}, "Unschedulable", SETTINGS.unschedulable_timeout),
    ],
)
def test_a_pod_that_can_not_start_is_waited_for_up_to_a_bound(state: dict[str, Any], reason: str, bound: float) -> None:
    slots = Slots((living(1), living(2, running_since=None, **state)), spares={SHAPE.key: 1})
    early = planned(5, slots, bound - 1)
    assert early.actions == (), "one more would wait too"
    assert early.wait is not None
    assert early.wait.reason == reason
    assert not early.dated, "it is the pod's age that counts"
    assert early.wake == pytest.approx(1.0)
    late = planned(5, slots, bound)
    assert late.actions == (DeletePod("slot-2", "pod-2"),)
    assert late.failure is not None
    assert (late.failure["cause"], late.failure["reason"]) == (Cause.USER_ERROR, reason)
    assert not late.only_first


def test_an_image_name_that_can_not_be_used_fails_at_once() -> None:
    stuck = living(1, running_since=None, waiting=Waiting("InvalidImageName"))
    plan = planned(1, Slots((stuck,)))
    assert plan.failure is not None
    assert plan.failure["reason"] == "InvalidImageName"


@pytest.mark.parametrize("word", [WORK, None])
def test_while_others_work_a_pod_that_can_not_start_stands_in_nobodys_way(word: AttemptId | None) -> None:
    stuck = living(1, running_since=None, unschedulable=NO_NODE)
    plan = planned(2, Slots((stuck, living(2)), {"pod-2": word}), SETTINGS.unschedulable_timeout)
    assert plan.wait is None
    assert plan.failure is None
