"""Which internal worker takes which waiting Run. Pure: it is told what changes, and tells whom it handed something.

Theory of operation
-------------------
A Run is handed to a free member of its namespace's pool, in the order of the queue. That is a memory of this process only:
it counts once the Run's status has it as an assignment. Until then the worker is taken, so that no worker is handed two
Runs; a Run that turns out not to want it any more (claimed, cancelled, suspended, deleted) gives it back. A worker that is
no member any more, or whose pool is stopped, keeps what it was handed and gets nothing new: it drains.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from maze_crds.queue import Order
from maze_operator.core.queue import Entry


class Handed(NamedTuple):
    """A Run that an internal worker is to execute from now on."""

    uid: str
    namespace: str
    worker: str


@dataclass
class _Pool:
    members: tuple[str, ...] = ()
    waiting: list[tuple[Order, str]] = field(default_factory=list)
    busy: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Worker → Runs that it has or was handed."""


class Hands:
    """All namespaces. A change answers what has been handed because of it."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._pools: dict[str, _Pool] = defaultdict(_Pool)
        self._handed: dict[str, str] = {}
        self._external: dict[tuple[str, str], set[str]] = defaultdict(set)

    def slot_for(self, uid: str) -> str | None:
        """The worker that was handed this Run."""
        return self._handed.get(uid)

    def is_busy(self, namespace: str, worker: str) -> bool:
        """Whether the internal worker has a Run, or was handed one."""
        return namespace in self._pools and self._pools[namespace].busy.get(worker, 0) > 0

    def runs_of(self, namespace: str, worker: str) -> frozenset[str]:
        """UIDs of the Runs that the external worker has or claims."""
        return frozenset(self._external.get((namespace, worker), ()))

    def see(self, uid: str, entry: Entry | None) -> list[Handed]:
        """A Run as it is now; None: ended or gone."""
        before = self._entries.get(uid)
        if before == entry:
            return []
        if before is not None:
            self._leave(uid, before)
        if entry is None or not entry.wants_slot:
            self._give_back(uid)
        if entry is None:
            self._entries.pop(uid, None)
        else:
            self._entries[uid] = entry
            self._enter(uid, entry)
        touched = {one.namespace for one in (before, entry) if one is not None}
        return [handed for namespace in touched for handed in self._fill(namespace)]

    def open(self, namespace: str, members: Iterable[str]) -> list[Handed]:
        """The workers that may take Runs from now on; none where the pool is stopped."""
        self._pools[namespace].members = tuple(members)
        return self._fill(namespace)

    def _enter(self, uid: str, entry: Entry) -> None:
        pool = self._pools[entry.namespace]
        if entry.wants_slot and uid not in self._handed:
            insort(pool.waiting, (entry.order, uid))
        if entry.internal is not None:
            pool.busy[entry.internal] += 1
        if entry.external is not None:
            self._external[entry.namespace, entry.external].add(uid)

    def _leave(self, uid: str, entry: Entry) -> None:
        pool = self._pools[entry.namespace]
        if entry.wants_slot:
            place = bisect_left(pool.waiting, (entry.order, uid))
            if place < len(pool.waiting) and pool.waiting[place] == (entry.order, uid):
                del pool.waiting[place]
        if entry.internal is not None:
            self._free(pool, entry.internal)
        if entry.external is not None:
            held = self._external[entry.namespace, entry.external]
            held.discard(uid)
            if not held:
                del self._external[entry.namespace, entry.external]

    def _give_back(self, uid: str) -> None:
        worker, entry = self._handed.pop(uid, None), self._entries.get(uid)
        if worker is not None and entry is not None:
            self._free(self._pools[entry.namespace], worker)

    @staticmethod
    def _free(pool: _Pool, worker: str) -> None:
        pool.busy[worker] -= 1
        if pool.busy[worker] <= 0:
            del pool.busy[worker]

    def _fill(self, namespace: str) -> list[Handed]:
        pool = self._pools[namespace]
        free = [worker for worker in pool.members if not pool.busy.get(worker)] if pool.waiting else []
        chosen = pool.waiting[: len(free)]
        del pool.waiting[: len(free)]
        handed = [Handed(uid, namespace, worker) for worker, (_, uid) in zip(free, chosen, strict=False)]
        for one in handed:
            self._handed[one.uid] = one.worker
            pool.busy[one.worker] += 1
        if not (pool.members or pool.waiting or pool.busy):
            del self._pools[namespace]
        return handed
