"""Writes the status of Workers: state and counters. Writes are guarded, so an operator that leads no more undoes nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import islice, zip_longest
from typing import Any

from maze_crds import names
from maze_crds.run import Assignment, AssignmentEnd, RunStatus
from maze_crds.worker import WorkerState
from maze_io.cache import Cache, Key
from maze_io.kube import Kube, KubeError, workers_path
from maze_operator import metrics

log = logging.getLogger(__name__)
Json = dict[str, Any]

PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds between two writes: what changes meanwhile goes out together. Longer, at most so long, while nothing can be written."""
ROUND = 100
"""Writes before what was marked meanwhile is looked at."""
MEMORY = 60.0
"""Seconds that we wait to see a Worker that has ended a task, and that we know of one that it is gone."""
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

    def __init__(
        self,
        kube: Kube,
        workers: Cache,
        state_of: Callable[[str, Json], WorkerState],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube, self._workers, self._state_of, self._clock = kube, workers, state_of, clock
        self._marked: set[Key] = set()
        self._ended: dict[Key, Counter[str]] = {}
        self._unseen: dict[Key, float] = {}
        """Workers that have ended something and are not here (yet), and when that was noticed."""
        self._gone: dict[Key, float] = {}
        """Workers that have been deleted, and when: what ends now was not done by a later one of that name."""
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
            key = (namespace, names.worker_name(one.worker))
            if field is not None and self._may_be_of(key, one):
                self._ended.setdefault(key, Counter())[field] += 1
        for assigned in after.assignments[-1:]:
            self.mark(namespace, assigned.worker)

    def _may_be_of(self, key: Key, ended: Assignment) -> bool:
        """False: the Worker that had the Run is gone, though there may be one of its name and another kind by now."""
        found = self._workers.get(*key)
        return key not in self._gone if found is None else bool(found["spec"].get("internal")) == ended.internal

    async def keep(self) -> None:
        """Write for ever; what is left when this is cancelled is written by `flush`."""
        pause = PAUSE
        while True:
            await self._wake.wait()
            self._wake.clear()
            pause = PAUSE if await self.flush(ROUND) else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    def forget(self, key: Key) -> None:
        """The Worker is gone; another one of its name starts from zero."""
        self._marked.discard(key)
        self._ended.pop(key, None)
        self._unseen.pop(key, None)
        self._gone[key] = self._clock()

    async def flush(self, limit: int | None = None) -> bool:
        """Write what is marked, each once; what does not succeed stays marked. False: nothing can be written right now."""
        self._clear()
        for key in list(islice(self._in_turn(), limit)):
            self._marked.discard(key)
            try:
                await self._write(key)
            except KubeError as error:
                if error.not_found:
                    self.forget(key)
                elif error.conflict or error.temporary:
                    self._mark_again(key)
                    if error.temporary:
                        log.warning("the status of workers is not written yet: %s", error)
                        return False
                else:
                    log.error("the status of worker %s is not written: %s", key[1], error)
            except Exception:
                log.exception("the status of worker %s is not written", key[1])
            except BaseException:
                self._marked.add(key)
                raise
        if self._marked:
            self._wake.set()
        return True

    def _in_turn(self) -> Iterator[Key]:
        """What is marked, counters first, of every namespace something: a large pool does not hold up the others."""
        by_namespace: defaultdict[str, list[Key]] = defaultdict(list)
        for key in sorted(self._marked, key=lambda one: one not in self._ended):
            by_namespace[key[0]].append(key)
        return (key for turn in zip_longest(*by_namespace.values()) for key in turn if key is not None)

    def _mark_again(self, key: Key) -> None:
        self._marked.add(key)
        self._wake.set()

    def _clear(self) -> None:
        """Forget what nobody will ask for any more."""
        long_ago = self._clock() - MEMORY
        for key in [one for one, since in self._unseen.items() if since <= long_ago]:
            del self._unseen[key]
            self._ended.pop(key, None)
        for key in [one for one, since in self._gone.items() if since <= long_ago]:
            del self._gone[key]

    async def _write(self, key: Key) -> None:
        worker = self._workers.get(*key)
        if worker is None:
            if key in self._ended:
                self._unseen.setdefault(key, self._clock())
            return
        self._unseen.pop(key, None)
        self._gone.pop(key, None)
        ended = self._ended.pop(key, Counter())
        status = worker.get("status") or {}
        wanted = {"state": self._state_of(key[0], worker).value, "observedGeneration": worker["metadata"]["generation"]}
        wanted |= {field: int(status.get(field) or 0) + more for field, more in ended.items()}
        if all(status.get(field) == value for field, value in wanted.items()):
            return
        body = {"metadata": {"resourceVersion": worker["metadata"]["resourceVersion"]}, "status": wanted}
        try:
            self._workers.put(await self._kube.patch(workers_path(*key, "status"), body))
        except BaseException as error:
            self._ended.setdefault(key, Counter()).update(ended)
            if isinstance(error, KubeError) and error.conflict:  # somebody has written it: with theirs in the next turn
                found = await self._kube.get(workers_path(*key))
                if found["metadata"]["uid"] != worker["metadata"]["uid"]:  # another one of this name: it ended nothing
                    self._ended.pop(key, None)
                self._workers.put(found)
            raise
