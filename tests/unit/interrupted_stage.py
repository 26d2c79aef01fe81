"""One Run from its creation to its end, by the real operator, on a cluster of values in a time that only jumps.

Every call of the operator to the API server and the object store has a number. At one of them a fault strikes. What happens
outside, which is what a kubelet and the watches do, depends on the time alone; so the same fault at the same number is the
same story each time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from typing import Any, cast
from unittest.mock import patch

from builders import SETTINGS
from interrupted_cluster import RUN, Cluster, Story
from jumping_time import Loop, seconds
from maze_crds.run import SLICED
from maze_io.cache import Changed, Replaced
from maze_io.kube import Kube, KubeError, runs_path
from maze_io.store import AsyncStore, StoreError
from maze_operator.core import slicing
from maze_operator.engine import Engine
from maze_operator.settings import ShellSettings
from stand_ins import API_TOKEN, KEY, Json

THERE = BACK = 0.004
"""Seconds that a request and its answer travel."""
NO_ANSWER = 30.0
"""Seconds after which the client gives up a call."""
OUTAGE = 3.0
ELECTION = 0.25
"""Seconds that an operator is away at least before its successor leads."""
LATE_SUCCESSOR = 5.0
LIMIT = 600.0
"""Seconds within which every story ends: many times of what the slowest needs."""
LOOK = 5.0
QUIET = 15.0
"""Seconds after the end of everything in which nothing happens any more: more than an operator's longest back-off."""
SHELL = ShellSettings(KEY, "me", "s", 0, "127.0.0.1", "INFO", API_TOKEN, relist_seconds=10 * LIMIT)
CORE = replace(SETTINGS, exit_grace=1.0, pod_retention=NO_ANSWER + 15, priority_classes=((0, "low"), (5, "high")))
"""Pods stay for longer than a request can be on its way."""


class Fault(Enum):
    REFUSED = "the call fails before it does anything"
    UNHEARD = "it does its work, and the answer is lost"
    LATE = "there is no answer until the client gives up, and after that it does its work"
    AWAY = "from here on all calls are refused for a while"
    NOTED = "somebody has written the Run's metadata just before"
    EDITED = "somebody has written the Run's spec just before"
    CANCELLED = "the user has cancelled the Run just before"
    EVICTED = "all living pods are gone just before"
    STOPPED = "the operator is told to end while the call is under way"
    KILLED_BEFORE = "the operator dies before the call does anything"
    KILLED_AFTER = "the operator dies after the call has done its work"
    COLLECTED = "the same, and pods whose results are stored are gone when its successor comes"
    LONG_DEAD = "the operator dies like that, and its successor comes when all pods have ended"


class Scene:
    """The Run of a story, where `fault` strikes at the call with the number `at`."""

    def __init__(self, story: Story, fault: Fault | None = None, at: int = 0) -> None:
        self.cluster = Cluster(story)
        self.fault, self.at = fault, at
        self.calls: list[str] = []
        self.away_until = 0.0
        self.late = 0
        """Calls that have yet to do their work after their clients gave up."""
        self.over = asyncio.Event()
        """The operator has died, or is told to end."""
        self.audience = asyncio.current_task()
        self._handovers = list(story.handovers)

    async def play(self) -> None:
        """Until the Run has ended and its pods are gone, and for a while after that."""
        async with asyncio.timeout(LIMIT):
            while not await self._lead():
                dead_long = self.fault is Fault.LONG_DEAD and len(self.calls) >= self.at
                await asyncio.sleep(LATE_SUCCESSOR if dead_long else ELECTION)

    async def _lead(self) -> bool:
        """One operator's life. True: everything has come to its end."""
        client = Client(self)
        self.over.clear()
        engine = Engine(cast(Kube, client), cast(AsyncStore, client), CORE, SHELL, b"")
        leading = asyncio.create_task(self._serve(engine))
        leading.add_done_callback(lambda _: self.over.set())
        try:
            if self._handovers:
                asyncio.get_running_loop().call_at(self._handovers.pop(0), self.over.set)
            while not await self._is_over():
                if self.cluster.ended and not self.cluster.pods and not self.late:
                    return await self._quiet()
            if not client.dead:
                await engine.stop()
            return False
        finally:
            client.dead = True
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await engine.deliveries.stop()

    async def _is_over(self) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK):
                await self.over.wait()
        return self.over.is_set()

    async def _quiet(self) -> bool:
        """Whether nothing happens any more."""
        calls = len(self.calls)
        await asyncio.sleep(QUIET)
        return not self.over.is_set() and calls == len(self.calls)

    async def _serve(self, engine: Engine) -> None:
        """As `python -m maze_operator` does when it leads: it ends where it can't begin, and is started again."""
        with suppress(KubeError, StoreError):
            await engine.start()
            async for event in self.cluster.watch(runs_path()):
                if RUN not in self.cluster.objects:
                    self.cluster.create()
                if isinstance(event, Changed):
                    engine.saw_run(event.type, event.object)
                else:
                    for run in event.items:
                        engine.saw_run(None, run)

    def strike_outside(self) -> None:
        """What somebody else does just before the call."""
        if self.fault is Fault.EVICTED:
            self.cluster.evict()
        elif RUN in self.cluster.objects:
            if self.fault is Fault.NOTED:
                self.cluster.annotate()
            elif self.fault is Fault.EDITED:
                self.cluster.edit({"parallelism": 50})
            elif self.fault is Fault.CANCELLED:
                self.cluster.edit({"desiredState": "Cancelled"})


class Client:
    """API server and object store as one operator reaches them."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._cluster = scene, scene.cluster
        self.dead = False
        self.store = self._cluster

    async def get(self, path: str, params: Any = None) -> Any:
        return await self._call("GET", path, lambda: self._cluster.get(path))

    async def post(self, path: str, body: Json) -> Json:
        return cast(Json, await self._call("POST", path, lambda: self._cluster.post(path, body)))

    async def put(self, path: str, body: Any) -> Any:
        return await self._call("PUT", path, lambda: self._cluster.put(path, body))

    async def delete(self, path: str, options: Json) -> Json:
        return cast(Json, await self._call("DELETE", path, lambda: self._cluster.delete(path, options)))

    async def list_all(self, path: str, params: Any = None) -> Replaced:
        async def listed() -> Replaced:
            return self._cluster.listed(path)

        return cast(Replaced, await self._call("LIST", path, listed))

    async def stream(self, path: str, params: Any = None) -> AsyncIterator[bytes]:
        async def read() -> list[bytes]:
            return [chunk async for chunk in self._cluster.stream(path)]

        for chunk in await self._call("GET", path, read):
            yield chunk

    def list_and_watch(self, path: str, params: Any = None) -> AsyncIterator[Replaced | Changed]:
        """What fails in here heals in here, so it is no call of a reconcile."""
        return self._cluster.watch(path)

    async def exists(self, key: str) -> bool:
        return cast(bool, await self._call("HEAD", key, lambda: self._cluster.exists(key)))

    async def list_keys(self, prefix: str) -> list[str]:
        return cast(list[str], await self._call("LIST", prefix, lambda: self._cluster.list_keys(prefix)))

    async def _call(self, verb: str, path: str, work: Callable[[], Any]) -> Any:
        if self.dead:
            raise asyncio.CancelledError
        scene = self._scene
        scene.calls.append(f"{verb} {path}")
        struck = len(scene.calls) == scene.at
        await asyncio.sleep(THERE)
        if struck:
            await self._strike_before(path, work)
        if seconds() < scene.away_until:
            raise _error(path, 503)
        answer = await work()
        if struck and scene.fault is Fault.COLLECTED:
            self._cluster.collect()
        if struck and scene.fault in (Fault.KILLED_AFTER, Fault.COLLECTED, Fault.LONG_DEAD):
            await self._killed()
        if struck and scene.fault is Fault.UNHEARD:
            raise _error(path, 0)
        await asyncio.sleep(BACK)
        return answer

    async def _strike_before(self, path: str, work: Callable[[], Any]) -> None:
        scene = self._scene
        scene.strike_outside()
        match scene.fault:
            case Fault.REFUSED:
                raise _error(path, 500)
            case Fault.AWAY:
                scene.away_until = seconds() + OUTAGE
            case Fault.LATE:
                scene.late += 1
                asyncio.get_running_loop().call_later(NO_ANSWER + 1, self._do_late, work)
                await asyncio.sleep(NO_ANSWER)
                raise _error(path, 0)
            case Fault.STOPPED:
                scene.over.set()
                await asyncio.sleep(NO_ANSWER)
            case Fault.KILLED_BEFORE:
                await self._killed()

    def _do_late(self, work: Callable[[], Any]) -> None:
        """Nobody hears what becomes of it. It waits for nothing, so it is over at its first step."""
        self._scene.late -= 1
        with suppress(KubeError, StopIteration):
            work().send(None)

    async def _killed(self) -> None:
        """No line of the operator is run any more, but what Python does to unwind it."""
        self.dead = True
        self._scene.over.set()
        for task in asyncio.all_tasks() - {asyncio.current_task(), self._scene.audience}:
            task.cancel()
        raise asyncio.CancelledError


def _error(path: str, status: int) -> Exception:
    if path.startswith("/"):
        return KubeError(status, "Unreachable" if status == 0 else "InternalError", "it is the test's will")
    return StoreError(path, "http://store/maze", "it is the test's will")


class _Errors(logging.Handler):
    """What the operator did not expect is wrong, though it goes on."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        why = f": {record.exc_info[1]!r}" if record.exc_info else ""
        self.told.append(f"the operator's log says: {record.getMessage()}{why}")


def play(story: Story, fault: Fault | None = None, at: int = 0) -> Scene:
    async def scene() -> Scene:
        made = Scene(story, fault, at)
        try:
            await made.play()
        except TimeoutError:
            made.cluster.wrong.append("not everything has come to its end")
        return made

    errors = _Errors()
    logging.getLogger().addHandler(errors)
    try:
        sliced = patch.object(slicing, "SLICED", story.slices or SLICED)
        with sliced, asyncio.Runner(loop_factory=Loop) as runner:
            played = runner.run(scene())
    finally:
        logging.getLogger().removeHandler(errors)
    played.cluster.wrong += errors.told
    return played
