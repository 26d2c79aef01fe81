"""How many slot pods the waiting tasks of one shape get, and what the state of those pods means for them.

A pod costs about a second until it works, so one is made only while there is at least WORTH seconds of work for it: the tasks
that wait, times what tasks take lately; and, for short tasks, only while the pods do not slow each other down. Nothing is known
of that at first: then spares go first, and new pods wait a moment for what the spares make of it. Not all pods start at once
either, because those that start slow each other down.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from maze_crds.protocol import Failure
from maze_crds.run import Cause
from maze_operator.core.diagnosis import Wait, diagnose_ended, diagnose_refused, diagnose_waiting
from maze_operator.core.values import Action, CreateSlot, DeletePod, Settings, Shape, SlotPod, Slots

WORTH = 1.0
"""Seconds of work that a pod must have before it is made."""
SLOWED = 1.5
"""Short tasks that take so many times what they took at best are short of CPU: more pods would slow them down further."""
MOMENT = 0.25
"""Seconds after which the need is looked at again, while it is not clear yet."""
REFUSED_RETRY = 5.0
"""Seconds between two tries to create a pod that the API server did not take."""


@dataclass(frozen=True)
class Supply:
    """The living pods of one shape."""

    busy: Sequence[SlotPod]
    idle: Sequence[SlotPod]
    starting: Sequence[SlotPod]

    @property
    def total(self) -> int:
        return len(self.busy) + len(self.idle) + len(self.starting)


@dataclass(frozen=True)
class ShapePlan:
    """What to do for the tasks of one shape that wait for a pod.

    wait: why they wait, for people; None: nothing is wrong. Its bound counts for each task (`dated`), or has been counted.
    failure: they fail with it, all of them or (`only_first`) the first.
    wake: seconds until this is to be looked at again; None: when something changes.
    wants_pods: see Plan.
    """

    actions: tuple[Action, ...] = ()
    wait: Wait | None = None
    dated: bool = False
    failure: Failure | None = None
    only_first: bool = False
    wake: float | None = None
    wants_pods: bool = False


def supply_of(shape: str, slots: Slots) -> Supply:
    alive = [pod for pod in slots.pods if pod.shape == shape and pod.alive and pod.uid not in slots.leaving]
    return Supply(
        [pod for pod in alive if slots.says.get(pod.uid) is not None],
        [pod for pod in alive if pod.uid in slots.says and slots.says[pod.uid] is None],
        [pod for pod in alive if pod.uid not in slots.says],
    )


def plan_shape(
    shape: Shape, waiting: int, slots: Slots, room: int, taken: Iterable[int], now: datetime, settings: Settings
) -> ShapePlan:
    """waiting: how many tasks do. room: pods that the Run may still get. taken: slot numbers in use."""
    supply = supply_of(shape.key, slots)
    if not (supply.busy or supply.idle):
        crashed = _crashed(shape.key, slots)
        if crashed is not None:
            failure = diagnose_ended(crashed, crashed.ended)
            return ShapePlan(failure=failure, only_first=failure["cause"] == Cause.INFRASTRUCTURE)
        stuck = _stuck(supply.starting, now, settings)
        if stuck is not None:
            return stuck
    refused = slots.refused.get(shape.key)
    if refused is not None:
        left = REFUSED_RETRY - (now - refused.time).total_seconds()
        wait = None if supply.busy or supply.idle else diagnose_refused(refused, settings)
        if left > 0:
            return ShapePlan(wait=wait, dated=True, wake=left)
        return replace(_grow(shape, waiting, supply, slots, room, taken, settings), wait=wait, dated=True)
    return _grow(shape, waiting, supply, slots, room, taken, settings)


def _crashed(shape: str, slots: Slots) -> SlotPod | None:
    """A pod that ended before it ever asked for work."""
    for pod in slots.pods:
        fresh = pod.uid not in slots.accounted and pod.uid not in slots.says and not pod.deleting
        if pod.shape == shape and fresh and pod.ended is not None and not pod.ended.succeeded:
            return pod
    return None


def _stuck(starting: Sequence[SlotPod], now: datetime, settings: Settings) -> ShapePlan | None:
    for pod in starting:
        wait = diagnose_waiting(pod, settings)
        if wait is None:
            continue
        if wait.bound is None:
            return ShapePlan(wait=wait)
        left = wait.bound - (now - pod.created).total_seconds()
        if left <= 0:
            failure: Failure = {"cause": Cause.USER_ERROR, "reason": wait.reason, "message": wait.message}
            return ShapePlan((DeletePod(pod.name, pod.uid),), failure=failure)
        return ShapePlan(wait=wait, wake=left)
    return None


def _grow(
    shape: Shape,
    waiting: int,
    supply: Supply,
    slots: Slots,
    room: int,
    taken: Iterable[int],
    settings: Settings,
) -> ShapePlan:
    lacking = min(waiting - len(supply.idle) - len(supply.starting), room)
    if lacking <= 0:
        return ShapePlan()
    pace = slots.paces.get(shape.key)
    if supply.total and pace is not None and pace.best * SLOWED < pace.now < WORTH:
        return ShapePlan(wake=WORTH)
    claimed = min(lacking, slots.spares.get(shape.key, 0))
    actions = [CreateSlot(shape, 0)] * claimed
    made = min(lacking - claimed, settings.pods_starting - len(supply.starting))
    if pace is not None:
        made = min(made, max(1, math.ceil(waiting * pace.now / WORTH)) - supply.total - claimed)
    elif claimed or supply.total:
        made = 0
    wanted = max(0, made)
    made = min(wanted, slots.may_start)
    numbers = set(taken)
    for _ in range(made):
        number = next(number for number in range(1, len(numbers) + 2) if number not in numbers)
        numbers.add(number)
        actions.append(CreateSlot(shape, number))
    if wanted > made:  # it is told when it may
        return ShapePlan(tuple(actions), wants_pods=True)
    short = lacking > claimed + made
    return ShapePlan(tuple(actions), wake=(MOMENT if pace is None else WORTH) if short else None)
