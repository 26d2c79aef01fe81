"""The operator's worker of one Run on a cluster of values, stopped wherever it waits for something: see warm_stage.py."""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace, coroutine
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from builders import SETTINGS, at
from maze_crds import names
from maze_crds.graph import dependencies
from maze_crds.protocol import Result
from maze_crds.run import RunStatus, TaskStatus
from maze_io.kube import KubeError
from maze_io.store import StoreError
from maze_operator import gather, slot_calls, slots, worker
from maze_operator.core.outputs import ResultLost
from maze_operator.core.shapes import Shapes
from maze_operator.core.starts import Starts
from maze_operator.core.values import (
    Action,
    AttemptId,
    Reported,
    RunView,
    Shape,
)

if TYPE_CHECKING:
    from warm_stage import Stage

UID = "uid-1"
PAUSE = 0.5
"""Seconds that the operator collects changes."""


class Clock:
    """In place of the modules `time` and `datetime` where the operator asks them what time it is."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.jobs: list[Job] = []

    def monotonic(self) -> float:
        return self.seconds

    def thread_time(self) -> float:
        return 0.0

    def now(self, zone: object = None) -> Any:
        return at(self.seconds)


@coroutine
def pause() -> Generator[None, None, None]:
    yield


def advance(work: Coroutine[Any, Any, Any]) -> tuple[bool, Any]:
    """To its next pause: whether it has ended, and what it returned."""
    try:
        work.send(None)
    except StopIteration as stop:
        return True, stop.value
    return False, None


class Job:
    """In place of an asyncio.Task: it has not begun when it is made, and has ended once it was awaited."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._work: Coroutine[Any, Any, None] | None = work

    def finish(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            ended, _ = advance(work)
            assert ended, "the stage's executor waits for nothing"

    def __await__(self) -> Iterator[None]:
        self.finish()
        return iter(())


class Operator(worker.RunWorker):
    """The worker of one Run in one process, which is forgotten with it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        super().__init__(stage_engine(self), "maze", "r", UID)
        self.dead = False
        self.shapes = Shapes(stage.truth.spec, 0, SETTINGS)
        for task in stage.truth.spec.tasks:
            self.shapes.of(task, 1.0)
        self.due: float | None = None
        self.soon_at: float | None = None
        self.unsure_write = ""
        """What becomes of the next write: "fails" or "fails late"."""
        self.seen = stage.truth.view()
        for view in stage.truth.pods.values():
            self.pods.views[view.attempt_id] = view
            self.pods.known.add(view.attempt_id)
        for runner in stage.truth.runners.values():
            self.slots.add(runner.seen)
        self.slots.begin()
        self.running: Coroutine[Any, Any, Any] | None = None

    def soon(self, pause: float = PAUSE) -> None:
        if self.soon_at is None and not self.dirty.is_set():
            self.soon_at = self.stage.clock.seconds + pause

    async def view(self) -> RunView:
        return replace(self.seen, shapes=self.shapes)

    def task_status(self, task: str) -> TaskStatus | None:
        return next((found for found in self.seen.status.tasks if found.name == task), None)

    async def _write(self, view: RunView, status: RunStatus) -> bool:
        truth, fails = self.stage.truth, self.unsure_write
        self.unsure_write = ""
        await pause()
        if fails == "fails":
            raise KubeError(500, "InternalError", "not written")
        if view.version != str(truth.version):
            self.see()
            return False
        self.stage.write(status)
        written = truth.view()
        await pause()
        if fails:
            raise KubeError(500, "InternalError", "written, but nobody was told")
        if int(written.version) > int(self.seen.version):
            self.seen = written
        self.soon()
        return True

    def see(self) -> None:
        """The Run as it is now."""
        if self.seen.version != str(self.stage.truth.version):
            self.seen = self.stage.truth.view()
            self.dirty.set()

    def desk_ends(self) -> list[AttemptId]:
        """Attempts whose end this process knows of, and has not written yet."""
        return [each.attempt_id for each in self.slots.desk.unsaid if isinstance(each, Reported)]

    def is_due(self) -> bool:
        now = self.stage.clock.seconds
        times = [each for each in (self.due, self.soon_at) if each is not None]
        return self.running is not None or self.dirty.is_set() or any(each <= now for each in times)

    def step_on(self) -> None:
        """One pause further, as RunWorker.work goes on."""
        if self.running is None:
            self.dirty.clear()
            self.due = self.soon_at = None
            self.running = self.step()
        try:
            ended, wait = advance(self.running)
        except (StoreError, KubeError):
            ended, wait = True, worker.FAST
        if ended:
            self.running = None
            self.due = None if wait is None else self.stage.clock.seconds + wait

    # What the engine has for its workers.

    async def execute(self, _: object, view: RunView, actions: list[Action]) -> None:
        for action in actions:
            if not self.dead:
                self.stage.do(self, action)

    def available(self, namespace: str, shape: Shape) -> int:
        return self.stage.spares

    async def find_result(self, uid: str, task: object, attempt: AttemptId, *_: object, **__: object) -> Result | None:
        return await self.get_result(uid, attempt)

    async def get_result(self, uid: str, attempt: AttemptId) -> Result | None:
        await self._ask_store()
        return self.stage.truth.results.get(attempt)

    async def put_result(self, uid: str, attempt: AttemptId, result: Result) -> None:
        await self._ask_store()
        self.stage.truth.results[attempt] = result

    async def list_keys(self, prefix: str) -> list[str]:
        await self._ask_store()
        found = [names.result_key(UID, attempt.task, attempt.attempt) for attempt in self.stage.truth.results]
        await pause()
        return found

    async def _ask_store(self) -> None:
        await pause()
        if self.stage.store_broken:
            raise StoreError("get", "http://store/maze", "connection refused")


async def keep_no_log(*_: object, **__: object) -> None:
    return None


async def one_after_another(*works: Coroutine[Any, Any, Any]) -> list[Any]:
    """In place of asyncio.gather. Works that are not begun when one fails are given up."""
    found = []
    for number, work in enumerate(works):
        try:
            found.append(await work)
        except BaseException:
            for later in works[number + 1 :]:
                later.close()
            raise
    return found


def stage_engine(operator: Operator) -> Any:
    results = SimpleNamespace(
        find=operator.find_result,
        get=operator.get_result,
        put=operator.put_result,
        remember=lambda *_: None,
    )
    return SimpleNamespace(
        kube=None,
        starts=Starts(2, lambda _: operator.dirty.set()),
        core=SETTINGS,
        began=operator.stage.clock.now(),
        spares=SimpleNamespace(available=operator.available),
        results=results,
        store=SimpleNamespace(list_keys=operator.list_keys),
        logs=SimpleNamespace(keep=keep_no_log),
        pods=SimpleNamespace(get=lambda *_: None),
        executor=SimpleNamespace(execute=operator.execute),
        dispatch=SimpleNamespace(count=lambda *_: None),
    )


async def make_lease(engine: Any, view: RunView, attempt: AttemptId, attempts: dict[str, int]) -> Any:
    """As leases.make_lease, with nothing in it: what it reads must be there."""
    assert view.workflow is not None
    await pause()
    for name in sorted(dependencies(view.workflow.tasks[attempt.task])):
        result = await engine.results.get(UID, AttemptId(name, attempts.get(name, 0)))
        if result is None or "failure" in result:
            raise ResultLost(name)
    return {"task": attempt.task, "attempt": attempt.attempt}


@contextmanager
def stage_clock() -> Iterator[Clock]:
    """The operator's modules ask this clock, and wait for nothing."""
    clock = Clock()

    def create_task(work: Coroutine[Any, Any, None]) -> Job:
        clock.jobs.append(Job(work))
        return clock.jobs[-1]

    loop = SimpleNamespace(Event=worker.asyncio.Event, Lock=worker.asyncio.Lock, create_task=create_task)
    with (
        patch.object(slots, "time", clock),
        patch.object(slots, "datetime", clock),
        patch.object(gather, "datetime", clock),
        patch.object(gather, "asyncio", SimpleNamespace(gather=one_after_another)),
        patch.object(worker, "time", clock),
        patch.object(worker, "datetime", clock),
        patch.object(worker, "asyncio", loop),
        patch.object(slot_calls, "make_lease", make_lease),
    ):
        yield clock
