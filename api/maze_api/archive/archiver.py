"""Puts every task that has ended into the archive, and then lets its Run go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import dataclass

from maze_api.archive.record import DONE, ArchiveDown, build_row, wants_archiving
from maze_api.archive.store import Archive
from maze_api.cache import Runs
from maze_api.errors import ApiError
from maze_api.task_index import TaskIndex
from maze_api.task_results import Results
from maze_api.task_view import TaskView
from maze_crds import names
from maze_io.cache import Key
from maze_io.kube import KubeError, Object, runs_path
from maze_io.store import StoreError

log = logging.getLogger(__name__)

AT_ONCE = 4
HEAD_START_SECONDS = 0.25
"""Replicas see an end at the same moment; who comes first usually does all the work."""
BACKOFF_SECONDS = (0.5, 30.0)


@dataclass(frozen=True, slots=True)
class Delay:
    """Of one task that could not be archived: `until` by the monotonic clock, and how long the next one is."""

    until: float
    next: float


def longer(delay: Delay | None, now: float) -> Delay:
    """After another failure."""
    seconds = BACKOFF_SECONDS[0] if delay is None else delay.next
    return Delay(now + seconds, min(2 * seconds, BACKOFF_SECONDS[1]))


class Archiver:
    """What this process still has to archive, kept as Runs change."""

    def __init__(self, archive: Archive, runs: Runs, tasks: TaskIndex, results: Results) -> None:
        self._archive, self._runs, self._tasks, self._results = archive, runs, tasks, results
        self._waiting: dict[str, Delay | None] = {}
        self._changed = asyncio.Event()
        runs.subscribe(self._see)

    def __len__(self) -> int:
        return len(self._waiting)

    async def follow(self) -> None:
        """Archive what ends; ends only by cancel."""
        await self._connect()
        while True:
            self._changed.clear()
            now = time.monotonic()
            due = [name for name, delay in self._waiting.items() if delay is None or delay.until <= now]
            if due:
                await asyncio.sleep(random.uniform(0, HEAD_START_SECONDS))
                await self._round(due)
                continue
            until = min((delay.until for delay in self._waiting.values() if delay is not None), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if until is None else max(0.0, until - now)):
                    await self._changed.wait()

    async def _connect(self) -> None:
        """Migrations run when the process starts, or as soon as the database is there."""
        delay: Delay | None = None
        while True:
            try:
                await self._archive.prepare()
            except ArchiveDown as error:
                delay = longer(delay, time.monotonic())
                log.warning("%s; trying again", error.detail)
                await asyncio.sleep(max(0.0, delay.until - time.monotonic()))
            else:
                return

    async def _round(self, due: list[str]) -> None:
        """Each of these once, a few at a time; while the database is down none of them is tried a second time."""
        queue = iter(due)
        down = False

        async def work() -> None:
            nonlocal down
            for name in queue:
                try:
                    if not down:
                        await self._archive_one(name)
                        self._waiting.pop(name, None)
                        continue
                except (ApiError, KubeError, StoreError) as error:
                    down = down or isinstance(error, ArchiveDown)
                    log.warning("task %s is not archived yet: %s; its Run stays", name, error)
                except Exception:  # a fault of ours must not stop the others
                    log.exception("task %s can't be archived; its Run stays", name)
                if name in self._waiting:
                    self._waiting[name] = longer(self._waiting[name], time.monotonic())

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))

    async def _archive_one(self, name: str) -> None:
        task = self._tasks.get(name)
        if task is None or not task.ended or not wants_archiving(task.obj):
            return  # gone, or another process was faster
        await self._archive.put(build_row(self._runs.namespace, task, await self._results.of(task)))
        await self._note(task)

    async def _note(self, task: TaskView) -> None:
        """Say that the Run may go. By its UID: another Run may have its name now."""
        wish = {"metadata": {"uid": task.uid, "annotations": {names.ANNOTATION_ARCHIVE: DONE}}}
        try:
            self._runs.put(await self._runs.kube.patch(runs_path(self._runs.namespace, task.id), wish))
        except KubeError as error:
            if not error.not_found:
                raise

    def _see(self, key: Key, old: Object | None, new: Object | None) -> None:
        name = key[1]
        task = self._tasks.get(name) if new is not None else None
        if task is None or not task.ended or not wants_archiving(task.obj):
            self._waiting.pop(name, None)
        elif name not in self._waiting:
            self._waiting[name] = None
            self._changed.set()
