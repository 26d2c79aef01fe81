"""The slot pods of one Run, and the requests of their runners: core/desk.py decides, this waits and remembers."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

from maze_crds.protocol import LEASE_WAIT, Result
from maze_crds.run import RunStatus, TaskStatus
from maze_operator import metrics
from maze_operator.core.desk import Desk
from maze_operator.core.values import NOT_LIMITED, AttemptId, Refused, RunView, SlotPod, Slots, Workflow

PENDING_SILENCE = 3.0
"""Seconds that a restarted operator waits for the word of a pod that has not started yet as far as is known."""
STARTING = 20.0
"""Seconds after which a pod that has not asked for work does not count as starting any more."""
SILENCE = 20.0
"""Seconds after which a running pod that does not say what it does must go."""


class GoAway(Exception):
    """There is nothing for this pod any more."""


class RunSlots:
    """`changed(at_once)`: the Run is to be planned again, at once or soon."""

    def __init__(self, idle_seconds: float, changed: Callable[[bool], None]) -> None:
        self.desk = Desk()
        self.pods: dict[str, SlotPod] = {}
        self.refused: dict[str, Refused] = {}
        self.opened = False
        """Leasing has begun: what pods held and results said when this process began to look after the Run is known."""
        self._complete = False
        self._idle_seconds, self._changed = idle_seconds, changed
        self._silent: set[str] = set()
        self._heard: set[str] = set()
        self._leaving: set[str] = set()
        self._doomed: set[str] = set()
        self._accounted: set[str] = set()
        self._idle_since: dict[str, float] = {}
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._born = time.monotonic()
        self._closed = False
        self._made: dict[str, float] = {}
        """Uids of pods that this process has made, and when."""
        self._revoked: dict[str, AttemptId] = {}

    def begin(self) -> None:
        """All pods that there are when this process begins to look after the Run have been added."""
        self._silent = {uid for uid, pod in self.pods.items() if pod.alive}
        self._accounted = {uid for uid, pod in self.pods.items() if pod.ended is not None}

    def complete(self, workflow: Workflow | None) -> None:
        """What pods held and results said before this process is in the desk now; from now on plans are told."""
        if not self._complete and workflow is not None:
            self.desk.sort_unsaid(workflow)
        self._complete = True

    def created(self, uid: str, shape: str) -> None:
        """This process has made the pod."""
        self._made[uid] = time.monotonic()
        self.refused.pop(shape, None)

    def refuse(self, shape: str, refused: Refused) -> None:
        self.refused[shape] = refused
        self._changed(True)

    def last_attempt(self, uid: str) -> AttemptId | None:
        """What the pod works on, or did when it was told to go."""
        return self.desk.by_pod.get(uid) or self._revoked.get(uid)

    def add(self, pod: SlotPod) -> None:
        self.pods[pod.uid] = pod
        if not pod.alive:
            self._lose(pod.uid)
        else:
            self._changed(pod.unschedulable is not None or pod.waiting is not None)

    def remove(self, uid: str) -> None:
        if self.pods.pop(uid, None) is not None:
            self._lose(uid)
            for memory in (self._leaving, self._doomed, self._accounted, self._heard):
                memory.discard(uid)
            self._made.pop(uid, None)
            self._revoked.pop(uid, None)

    def _lose(self, uid: str) -> None:
        self._silent.discard(uid)
        self._idle_since.pop(uid, None)
        self._wake(uid)
        self._changed(True)

    @property
    def living(self) -> int:
        """Pods that have not ended."""
        return sum(pod.alive for pod in self.pods.values())

    @property
    def starting(self) -> int:
        """Pods that this process has made lately, and that nothing is known to be wrong with."""
        since = time.monotonic() - STARTING
        young = (self.pods.get(uid) for uid, made in self._made.items() if made >= since)
        return sum(p is not None and p.alive and p.unschedulable is None and p.waiting is None for p in young)

    def facts(self, spares: dict[str, int], now: datetime, may_start: int = NOT_LIMITED) -> Slots:
        """What the plan needs to know, and it alone: nothing in it changes any more."""
        waited = time.monotonic() - self._born
        if waited >= PENDING_SILENCE:
            self._silent -= {uid for uid in self._silent if self.pods[uid].running_since is None}
        mute = self._silent if waited >= SILENCE else set()
        return Slots(
            pods=tuple(self.pods.values()),
            says={uid: self.desk.by_pod.get(uid) for uid in self._heard},
            leaving=frozenset(self._leaving),
            silent=frozenset(self._silent),
            doomed=frozenset(self._doomed | mute),
            accounted=frozenset(self._accounted),
            spares=spares,
            paces=self.desk.paces_now(now),
            refused=dict(self.refused),
            happened=tuple(self.desk.unsaid) if self._complete else (),
            taken=self.desk.taken if self._complete else tuple(self.desk.holds),
            may_start=may_start,
        )

    @property
    def silence_ends(self) -> float | None:
        """Seconds until pods that say nothing are not waited for any more; None: all have been heard."""
        if not self._silent:
            return None
        waited = time.monotonic() - self._born
        return max(0.05, (PENDING_SILENCE if waited < PENDING_SILENCE else SILENCE) - waited)

    @property
    def all_heard(self) -> bool:
        return not self._silent

    def planned(self, view: RunView, status: RunStatus, open_: bool) -> None:
        """A plan has been made: go on from it, before it is written."""
        assert view.workflow is not None
        assert view.shapes is not None
        parallelism = view.spec.parallelism or view.workflow.spec.parallelism
        may = open_ and self.opened
        for hold in self.desk.rebuild(view.workflow, view.shapes, status, parallelism, may):
            self._doomed.add(hold.uid)
            self._revoked[hold.uid] = hold.attempt_id
        self.wake()

    def written(self, facts: Slots) -> None:
        """The plan that was made with these facts is in the status."""
        self.desk.said(len(facts.happened))
        self._accounted |= {pod.uid for pod in facts.pods if pod.ended is not None}

    def wake(self) -> None:
        """Whoever waits looks again."""
        for uid in list(self._waiting):
            pod = self.pods.get(uid)
            if pod is None or self.desk.has_work(pod.shape) or not self._is_needed(pod):
                self._wake(uid)

    def _wake(self, uid: str) -> None:
        waiting = self._waiting.get(uid)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def is_alive(self, uid: str) -> bool:
        pod = self.pods.get(uid)
        return pod is not None and pod.alive

    def _is_needed(self, pod: SlotPod) -> bool:
        return not self.opened or self.desk.needs(pod.shape)

    async def next(self, pod: SlotPod, seconds: float = LEASE_WAIT) -> AttemptId | None:
        """The attempt that the pod is to execute, which it holds from now on; None: nothing yet.

        Raises:
            GoAway: it is not needed any more.
        """
        self.hear(pod.uid)
        until = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            attempt = self.take(pod)
            if attempt is not None:
                return attempt
            idle = self._idle_since.setdefault(pod.uid, now)
            patience = idle + self._idle_seconds if self.opened else math.inf
            if now >= patience or not self._may_stay(pod):
                self._leave(pod.uid)
                raise GoAway
            if now >= until:
                return None
            if not await self._wait(pod.uid, min(until, patience) - now):
                return None

    def _may_stay(self, pod: SlotPod) -> bool:
        sent_off = pod.uid in self._doomed or pod.uid in self._leaving
        return not self._closed and self.is_alive(pod.uid) and not sent_off and self._is_needed(pod)

    def close(self) -> None:
        """The Run is gone."""
        self._closed = True
        for uid in list(self._waiting):
            self._wake(uid)

    def take(self, pod: SlotPod) -> AttemptId | None:
        """Without waiting. What it holds already, and has not got, comes first."""
        if pod.uid in self._doomed or pod.uid in self._leaving or not self.is_alive(pod.uid):
            return None
        held = self.desk.by_pod.get(pod.uid)
        if held is None:
            held = self.desk.take(pod.uid, pod.name, pod.node, pod.shape, datetime.now(UTC))
        if held is not None:
            self._idle_since.pop(pod.uid, None)
        return held

    def hear(self, uid: str) -> None:
        """Its runner asks, so it works on nothing."""
        if uid in self._made:
            metrics.POD_START.observe(time.monotonic() - self._made.pop(uid))
        if uid in self._silent or uid not in self._heard:
            self._silent.discard(uid)
            self._heard.add(uid)
            self._changed(not self.opened)

    def leased(self, attempt: AttemptId) -> None:
        """Its pod is about to get it."""
        self.desk.confirm(attempt)
        self._changed(False)

    def owns(self, pod: SlotPod, attempt: AttemptId) -> bool:
        """Whether the pod may go on with this."""
        hold = self.desk.holds.get(attempt)
        return hold is not None and hold.uid == pod.uid and pod.uid not in self._doomed

    def adopt(self, pod: SlotPod, attempt: AttemptId, task: TaskStatus) -> bool:
        """The pod says that it works on this since before this process knew. False: it must not."""
        adopted = self.desk.adopt(pod.uid, pod.name, pod.node, attempt, task, datetime.now(UTC))
        if adopted:
            self._silent.discard(pod.uid)
            self._heard.add(pod.uid)
            self._changed(True)
        return adopted

    def report(self, attempt: AttemptId, result: Result) -> None:
        """How an attempt ended that a pod holds."""
        at_once = self.desk.report(attempt, result, datetime.now(UTC))
        self._changed(at_once)
        self.wake()

    def _leave(self, uid: str) -> None:
        if uid in self.pods:
            self._leaving.add(uid)
            self._changed(False)

    async def _wait(self, uid: str, seconds: float) -> bool:
        """False: its runner has asked again meanwhile."""
        earlier = self._waiting.get(uid)
        if earlier is not None and not earlier.done():  # its runner has broken off that request
            earlier.set_result(None)
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[uid] = waiting
        try:
            async with asyncio.timeout(seconds):
                await waiting
        except TimeoutError:
            pass
        finally:
            newest = self._waiting.get(uid) is waiting
            if newest:
                del self._waiting[uid]
        return newest
