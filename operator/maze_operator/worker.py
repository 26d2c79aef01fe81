"""One Run at a time: snapshot → plan → one guarded status write → actions. See core/plan.py for why any step may die."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from maze_crds.names import EXTERNAL_TASK
from maze_crds.protocol import Result
from maze_crds.run import TERMINAL_RUNS, DesiredState, RunPhase, RunStatus, TaskStatus
from maze_io.kube import KubeError, runs_path
from maze_io.store import StoreError
from maze_operator.core.admission import ACTIVE
from maze_operator.core.deadline import deadline
from maze_operator.core.plan import plan
from maze_operator.core.slicing import is_sliced
from maze_operator.core.values import (
    AttemptId,
    CreateSlot,
    Facts,
    Plan,
    Posted,
    Refused,
    Reply,
    RunView,
    Started,
)
from maze_operator.gather import adopt_results, gather
from maze_operator.inbox import Inbox
from maze_operator.own_pods import OwnPods
from maze_operator.pages import keep_events, store_pages
from maze_operator.run_reader import Gone, RunReader, status_body
from maze_operator.slots import RunSlots

if TYPE_CHECKING:
    from maze_operator.engine import Engine

log = logging.getLogger(__name__)
Json = dict[str, Any]

FAST, SLOW = 0.2, 10.0
"""Seconds before a failed step is tried again: first, and at most."""
PAUSE = 0.5
"""Seconds in which changes that can wait are collected before the status is written."""
PODS_PAUSE, REFILL_PAUSE = 1.0, 2.0
"""The same for changes of pods: what can wait of these is news of a large Run. Longer while more pods are to be made: the status
that is written before these has the news, too."""
WRITING = 12.0
"""The pause is at least so many times what the last write took, so that large Runs don't keep the API server busy."""
CLOCKS_DIFFER = timedelta(minutes=1)
"""Of the operator and the API server, at most."""
QUICK, REST = 0.005, 4.0
"""Seconds of CPU that a plan takes at most without consequences; after a longer one its Run is left alone for so many times
what it took, so that a large Run leaves time to the others."""
PAGES_AGAIN = 5.0
"""Seconds before events that the object store did not take are offered to it again."""


class RunWorker:
    """Everything this process remembers of one Run. Nothing here is needed after a restart."""

    def __init__(self, engine: Engine, namespace: str, name: str, uid: str) -> None:
        self.engine = engine
        self.namespace, self.name, self.uid = namespace, name, uid
        self.dirty = asyncio.Event()
        self.dirty.set()
        self.started: dict[AttemptId, Started] = {}
        self.refused: dict[AttemptId, Refused] = {}
        self.reports: dict[AttemptId, tuple[Result, list[asyncio.Future[None]]]] = {}
        self.reporting = asyncio.Lock()
        """Held while the report of an external worker is weighed and stored: the first one stands. So for the end of an
        attempt that is posted to an OpRun."""
        self.inbox = Inbox()
        self.delivered: int | None = None
        """How many events of an OpRun the sink has taken; None: not known yet."""
        self.delivery_problem: str | None = None
        self.cold = True
        self.ended = False
        self.pods = OwnPods(lambda at_once: self._wake(at_once, self._pods_pause))
        self.slots = RunSlots(engine.core.idle_seconds, self._slots_changed)
        self.being_stored: AttemptId | None = None
        self._written_version = ""
        """resourceVersion of our newest write."""
        self._shown: set[str] | None = None
        """While a write of ours is under way: versions of the Run that have been shown. Ours may be one of them."""
        self._visitors = 0
        self._reader = RunReader(engine, namespace, name, uid)
        self._later: asyncio.TimerHandle | None = None
        self._write_seconds = 0.0
        self._plan_seconds = 0.0

    @property
    def _pods_pause(self) -> float:
        return REFILL_PAUSE if self.pods.more_to_come else PODS_PAUSE

    def _slots_changed(self, at_once: bool) -> None:
        self.count_pods()
        self._wake(at_once)

    def _wake(self, at_once: bool, pause: float = PAUSE) -> None:
        if at_once:
            self.dirty.set()
        else:
            self.soon(pause)

    def soon(self, pause: float = PAUSE) -> None:
        """Plan again after a pause: what happens meanwhile is written together."""
        if self.dirty.is_set():
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + max(pause, WRITING * self._write_seconds)
        if self._later is not None and self._later.when() > when:
            self._later.cancel()
            self._later = None
        if self._later is None:
            self._later = loop.call_at(when, self.dirty.set)

    def saw_run(self, version: str) -> None:
        """The Run is there as of this resourceVersion: what we have written ourselves is not news."""
        if version == self._written_version:
            self.soon(self._pods_pause if self._reader.is_sliced else PAUSE)
        elif self._shown is not None:
            self._shown.add(version)
        else:
            self.dirty.set()

    async def work(self) -> None:
        """Until the Run is gone, or has ended and nothing is left to do."""
        delay = FAST
        wait: float | None = None
        while True:
            try:
                async with asyncio.timeout(wait):
                    await self.dirty.wait()
            except TimeoutError:
                pass
            if self._plan_seconds > QUICK:
                await asyncio.sleep(REST * self._plan_seconds)
            self.dirty.clear()
            if self._later is not None:
                self._later.cancel()
                self._later = None
            try:
                wait = await self.step()
                delay = FAST
                if wait is None and self.ended and not self._visitors and not self.dirty.is_set():
                    return
            except Gone:
                self._abandon()
                return
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt | SystemExit):
                    raise
                expected = isinstance(error, StoreError) or (
                    isinstance(error, KubeError) and (error.temporary or error.conflict)
                )
                log.log(
                    logging.WARNING if expected else logging.ERROR,
                    "run %s: %s",
                    self.name,
                    error,
                    exc_info=not expected,
                )
                wait, delay = delay, min(delay * 2, SLOW)

    def _abandon(self) -> None:
        """Nobody will ever write what is still waited for."""
        for _, waiting in self.reports.values():
            for done in waiting:
                if not done.done():
                    done.set_exception(Gone())
                    done.exception()  # who does not wait for it need not be told
        self.reports.clear()
        self.inbox.close(Gone())
        self.slots.close()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """It goes on, though the Run may have ended."""
        self._visitors += 1
        try:
            yield
        finally:
            self._visitors -= 1
            if self.ended:
                self.dirty.set()

    @contextmanager
    def storing(self, attempt: AttemptId) -> Iterator[None]:
        """What is being stored as the result of this attempt counts only once it is posted, right after this."""
        self.being_stored = attempt
        try:
            yield
        finally:
            self.being_stored = None
            self.dirty.set()

    async def post(self, posted: Posted) -> Reply:
        """What became of an event of an OpRun, once that is in the status. Raises Gone."""
        self.dirty.set()
        return await self.inbox.post(posted)

    def report(self, attempt: AttemptId, result: Result) -> asyncio.Future[None]:
        """Take in a result; the future is done once it is in the status."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        _, waiting = self.reports.setdefault(attempt, (result, []))
        waiting.append(done)
        self.dirty.set()
        return done

    def task_status(self, task: str) -> TaskStatus | None:
        """As of our newest write; None also before the Run was looked at."""
        return self._reader.task_status(task)

    async def view(self) -> RunView:
        """The Run as it is now, with its workflow. Raises Gone."""
        return await self._reader.view()

    async def step(self) -> float | None:
        """One reconcile; seconds until the next one is due without a change."""
        view = await self.view()
        opens = self.slots.all_heard and not self.slots.opened
        if opens:
            if view.status.phase != RunPhase.PENDING or self.slots.pods or self._may_be_older(view):
                await adopt_results(self, view)
            self.slots.complete(view.workflow)
        facts = await gather(self, view)
        began = time.thread_time()
        decided = plan(view, self.pods.views, facts, datetime.now(UTC), self.engine.core)
        self._plan_seconds = time.thread_time() - began
        self.pods.planned(view.workflow, decided)
        status, wait = await self._page_out(decided)
        self.slots.opened |= opens
        if view.workflow is not None:
            self.slots.planned(view, status, _may_lease(view, status))
        quick = [action for action in decided.actions if isinstance(action, CreateSlot)]
        making = sum(action.slot > 0 for action in quick)
        self.engine.starts.planned(self.uid, self.namespace, making, decided.wants_pods)
        executing = asyncio.create_task(self.engine.executor.execute(self, view, quick))
        try:  # a pod for several tasks needs no intent in the status
            written = status == view.status or await self._write(view, status)
        finally:
            try:
                await executing
            finally:
                self.count_pods()
        if not written:
            return 0.0
        if status != view.status:
            self.engine.dispatch.count(self.namespace, view.status, status)
        self.slots.written(facts.slots)
        if facts.slots.happened:  # what the status says now is judged with the pods as they are
            self.soon()
        self.cold = False
        self.ended = status.phase in TERMINAL_RUNS
        self._settle(status, facts)
        self.inbox.answer(zip(facts.posted, decided.replies, strict=False))
        slow = [action for action in decided.actions if not isinstance(action, CreateSlot)]
        await self.engine.executor.execute(self, view, slow)
        return min((each for each in (wait, self.slots.silence_ends) if each is not None), default=None)

    def count_pods(self) -> None:
        """Those that are starting, for other Runs that want to start some."""
        self.engine.starts.count(self.uid, self.namespace, self.slots.living, self.slots.starting)

    def _may_be_older(self, view: RunView) -> bool:
        """Whether a former operator may have begun with the Run."""
        return view.created <= self.engine.began + CLOCKS_DIFFER

    async def _page_out(self, decided: Plan) -> tuple[RunStatus, float | None]:
        """The status that may be written, and when to come back. What the object store does not take stays for a while."""
        if not decided.pages:
            return decided.status, decided.requeue_after
        try:
            await store_pages(self.engine.store, self.uid, decided.pages)
        except StoreError as error:
            status = keep_events(decided.status, decided.pages)
            if status is None:
                raise
            log.warning("run %s: its oldest events stay in its status: %s", self.name, error)
            wait = decided.requeue_after
            return status, PAGES_AGAIN if wait is None else min(PAGES_AGAIN, wait)
        return decided.status, decided.requeue_after

    async def _write(self, view: RunView, status: RunStatus) -> bool:
        """Guarded by resourceVersion. False: somebody else wrote first; the cache has their version now."""
        began = time.monotonic()
        if is_sliced(len(status.tasks)):
            revisions = await self._reader.slices.write(status.tasks)
            status = status.model_copy(update={"task_slices": revisions})
        try:
            written = await self._put(status_body(view, status))
        except KubeError as error:
            if error.not_found:
                raise Gone from error
            if not error.conflict:
                raise
            try:
                self.engine.runs.put(await self.engine.kube.get(runs_path(self.namespace, self.name)))
            except KubeError as missing:
                if missing.not_found:
                    raise Gone from missing
                raise
            return False
        self._write_seconds = time.monotonic() - began
        self._reader.slices.held(status.task_slices)
        self._reader.wrote(written, view, status)
        self.engine.runs.put(written)
        return True

    async def _put(self, body: Json) -> Json:
        shown = self._shown = set()
        try:
            written = await self.engine.kube.put(runs_path(self.namespace, self.name, "status"), body)
            self._written_version = written["metadata"]["resourceVersion"]
        finally:
            self._shown = None
            if shown - {self._written_version}:
                self.dirty.set()
        return written

    def _settle(self, status: RunStatus, facts: Facts) -> None:
        """Forget what the status now holds, and tell the reporters that it does."""
        active = {AttemptId(task.name, task.attempt) for task in status.tasks if task.phase in ACTIVE}
        if status.phase not in TERMINAL_RUNS:
            # A report may be here before the claim that it rests on was seen.
            closed = len(status.assignments) - (status.assignment is not None)
            active |= {a for a in self.reports if a.task == EXTERNAL_TASK and a.attempt > closed}
        for attempt in [a for a in self.reports if a in facts.results and a not in active]:
            _, waiting = self.reports.pop(attempt)
            for done in waiting:
                if not done.done():
                    done.set_result(None)
        if not active:
            self.pods.settled()
        for memory in (self.pods.created, self.started, self.refused):
            for attempt in memory.keys() - active:
                del memory[attempt]


def _may_lease(view: RunView, status: RunStatus) -> bool:
    if status.phase in TERMINAL_RUNS or view.spec.desired_state != DesiredState.RUNNING:
        return False
    end = deadline(view.spec, status)
    if end is not None and datetime.now(UTC) >= end:
        return False
    return view.spec.problem_id is None or (status.assignment is not None and status.assignment.internal)
