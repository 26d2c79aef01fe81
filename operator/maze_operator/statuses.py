"""Writes the status of Workers: state and counters. The only writer, so nothing it writes can undo something newer."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from maze_crds import names
from maze_crds.run import Assignment, AssignmentEnd, RunStatus
from maze_crds.worker import WorkerState
from maze_io.cache import Cache, Key
from maze_io.kube import Kube, KubeError, workers_path
from maze_operator import metrics

log = logging.getLogger(__name__)
Json = dict[str, Any]

PAUSE = 0.5
"""Seconds between two writes: what changes meanwhile goes out together."""
COUNTED = {
    AssignmentEnd.COMPLETED: "tasksCompleted",
    AssignmentEnd.FAILED: "tasksFailed",
    AssignmentEnd.TIMED_OUT: "tasksFailed",
    AssignmentEnd.LOST: "tasksLost",
}


def closed_by(before: RunStatus, after: RunStatus) -> list[Assignment]:
    """Assignments that have ended in `after` and had not in `before`. Pure."""
    ended = {one.number for one in before.assignments if one.end is not None}
    return [one for one in after.assignments if one.end is not None and one.number not in ended]


class Statuses:
    """`state_of(namespace, worker object)`: what a Worker is now; asked whenever it is marked."""

    def __init__(self, kube: Kube, workers: Cache, state_of: Callable[[str, Json], WorkerState]) -> None:
        self._kube, self._workers, self._state_of = kube, workers, state_of
        self._marked: set[Key] = set()
        self._ended: dict[Key, Counter[str]] = {}
        self._wake = asyncio.Event()

    def mark(self, namespace: str, worker: str) -> None:
        """Something about this worker (by id) may have changed."""
        self._marked.add((namespace, names.worker_name(worker)))
        self._wake.set()

    def count(self, namespace: str, before: RunStatus, after: RunStatus) -> None:
        """A Run's status has been written: count what ended with it."""
        for one in closed_by(before, after):
            assert one.end is not None
            metrics.ASSIGNMENTS.labels("internal" if one.internal else "external", one.end.value).inc()
            field = COUNTED.get(one.end)
            if field is not None:
                self._ended.setdefault((namespace, names.worker_name(one.worker)), Counter())[field] += 1
        for assigned in after.assignments[-1:]:
            self.mark(namespace, assigned.worker)

    async def keep(self) -> None:
        """Write for ever; what is left when this is cancelled is written by `flush`."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()
            await asyncio.sleep(PAUSE)

    def forget(self, key: Key) -> None:
        """The Worker is gone; another one of its name starts from zero."""
        self._marked.discard(key)
        self._ended.pop(key, None)

    async def flush(self) -> None:
        """Write what is marked, each once; what does not succeed stays marked."""
        for key in list(self._marked):
            self._marked.discard(key)
            try:
                await self._write(key)
            except KubeError as error:
                if error.not_found:
                    self.forget(key)
                    continue
                log.warning("the status of worker %s is not written yet: %s", key[1], error)
                self._marked.add(key)
                self._wake.set()
            except BaseException:
                self._marked.add(key)
                raise

    async def _write(self, key: Key) -> None:
        worker = self._workers.get(*key)
        if worker is None:
            return
        ended = self._ended.pop(key, Counter())
        status = worker.get("status") or {}
        wanted = {"state": self._state_of(key[0], worker).value, "observedGeneration": worker["metadata"]["generation"]}
        wanted |= {field: int(status.get(field) or 0) + more for field, more in ended.items()}
        if all(status.get(field) == value for field, value in wanted.items()):
            return
        try:
            self._workers.put(await self._kube.patch(workers_path(*key, "status"), {"status": wanted}))
        except BaseException:
            self._ended.setdefault(key, Counter()).update(ended)
            raise
