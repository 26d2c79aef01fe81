"""Internal workers and who has which Run, put together: caches of Workers, WorkerPools and Leases around the pure parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from maze_crds import names
from maze_crds.run import RunStatus
from maze_crds.worker import WorkerState
from maze_io.cache import Key, Object
from maze_io.kube import Kube, KubeError, resource_path, workers_path
from maze_operator.core.hands import Handed, Hands
from maze_operator.core.queue import view_entry
from maze_operator.forever import forever
from maze_operator.heartbeats import Heartbeats
from maze_operator.pools import Pools, pools_path
from maze_operator.statuses import Statuses

Json = dict[str, Any]


class Dispatch:
    """`wake(uid)` marks the RunWorker of a Run dirty: what it asks here has another answer now."""

    def __init__(self, kube: Kube, wake: Callable[[str], None]) -> None:
        self._kube, self._wake = kube, wake
        self._hands = Hands()
        self._holders: dict[str, tuple[str, str]] = {}
        """Run → namespace and id of the worker that has it, claims it, or was handed it."""
        self._started = asyncio.Event()
        self.heartbeats = Heartbeats(self._worker_changed)
        self.workers = self.heartbeats.workers
        self.pools = Pools(kube, self.workers, self._open, self._hands.is_busy)
        self.statuses = Statuses(kube, self.workers, self._state_of)
        self.workers.subscribe(self._worker_seen)

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What has to run as long as this process leads."""
        watch = self._kube.list_and_watch
        leases = resource_path("coordination.k8s.io/v1", "leases")
        heartbeats = {"labelSelector": f"{names.LABEL_HEARTBEAT}=true"}
        return [
            forever("the watch of workers", lambda: self.workers.follow(watch(workers_path()))),
            forever("the watch of worker pools", lambda: self.pools.pools.follow(watch(pools_path()))),
            forever("the watch of heartbeats", lambda: self.heartbeats.leases.follow(watch(leases, heartbeats))),
            forever("looking for silent workers", self.heartbeats.keep),
            self._once_started("keeping worker pools", self.pools.keep),
            self._once_started("writing the status of workers", self.statuses.keep),
        ]

    async def wait_synced(self) -> None:
        """Nobody is handed anything, or found lost, before this."""
        caches = (self.workers, self.pools.pools, self.heartbeats.leases)
        await asyncio.gather(*(cache.wait_synced() for cache in caches))

    def start(self) -> None:
        """All Runs have been seen. Before this nobody knows who is busy or first in the queue, so no slot is opened."""
        self._started.set()

    async def _once_started(self, what: str, keep: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self._started.wait()
        await forever(what, keep)

    def slot_for(self, uid: str) -> str | None:
        """The internal worker that is to execute the waiting Run now."""
        return self._hands.slot_for(uid)

    async def is_lost(self, namespace: str, worker: str) -> bool:
        """Whether the external worker has gone silent.

        A worker that comes back and claims at once is seen to claim before it is seen to be back, as these are different
        watches; so both of its objects are read before it is found lost.

        Raises:
            KubeError: they can't be read.
        """
        if not self.heartbeats.is_lost(namespace, worker):
            return False
        name = names.worker_name(worker)
        lease = resource_path("coordination.k8s.io/v1", "leases", namespace, name)
        for cache, path in ((self.heartbeats.leases, lease), (self.workers, workers_path(namespace, name))):
            try:
                cache.put(await self._kube.get(path))
            except KubeError as error:
                if not error.not_found:
                    raise
        self.heartbeats.look()
        return self.heartbeats.is_lost(namespace, worker)

    def see_run(self, uid: str, run: Object | None) -> None:
        """A Run as it is now; None: gone."""
        entry = view_entry(run) if run is not None else None
        self._hand(self._hands.see(uid, entry))
        before = self._holders.pop(uid, None)
        worker = (entry.internal or entry.external or self.slot_for(uid)) if entry else None
        if entry is not None and worker is not None:
            self._holders[uid] = (entry.namespace, worker)
        after = self._holders.get(uid)
        for namespace, one in {pair for pair in (before, after) if pair is not None and before != after}:
            self.statuses.mark(namespace, one)
            self.pools.mark(namespace)

    def count(self, namespace: str, before: RunStatus, after: RunStatus) -> None:
        """A Run's status has been written by us."""
        if after.assignments:
            self.statuses.count(namespace, before, after)

    def _open(self, namespace: str, members: Iterable[str]) -> None:
        self._hand(self._hands.open(namespace, members))

    def _hand(self, handed: Iterable[Handed]) -> None:
        for uid, namespace, worker in handed:
            self._holders[uid] = (namespace, worker)
            self.statuses.mark(namespace, worker)
            self._wake(uid)

    def _worker_changed(self, namespace: str, worker: str) -> None:
        for uid in self._hands.runs_of(namespace, worker):
            self._wake(uid)
        self.statuses.mark(namespace, worker)

    def _worker_seen(self, key: Key, old: Object | None, new: Object | None) -> None:
        if new is None:
            self.statuses.forget(key)
        elif old is None:
            self.statuses.mark(key[0], new["spec"]["workerId"])

    def _state_of(self, namespace: str, worker: Json) -> WorkerState:
        one = worker["spec"]["workerId"]
        if worker["spec"].get("internal"):
            return WorkerState.BUSY if self._hands.is_busy(namespace, one) else WorkerState.IDLE
        if self.heartbeats.is_offline(namespace, worker["metadata"]["name"]):
            return WorkerState.OFFLINE
        return WorkerState.BUSY if self._hands.runs_of(namespace, one) else WorkerState.IDLE
