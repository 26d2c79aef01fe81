"""Which external workers are offline: their Leases are watched, and timed by our own clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from maze_crds import names
from maze_io.cache import Cache, Key, Object
from maze_operator.core.silence import DEFAULT_PATIENCE, STRANGER_PATIENCE, Pulse, hear

Json = dict[str, Any]
Told = Callable[[str, str], None]

LONGEST_SLEEP = 5.0
MEMORY = 600.0
"""Seconds that a deleted worker is known as such. Later it is a stranger again, and lost for that a little later."""


class Heartbeats:
    """`changed(namespace, worker id)` is called when a worker goes offline, comes back or is gone.

    `leases` and `workers` are filled by the caller; Leases have the names of their Workers.
    """

    def __init__(self, changed: Told, clock: Callable[[], float] = time.monotonic) -> None:
        self._changed, self._clock = changed, clock
        self.leases = Cache(self._lease_changed)
        self.workers = Cache(self._worker_changed)
        self._pulses: dict[Key, Pulse] = {}
        self._known: dict[Key, str] = {}
        """External workers that there are: name → id."""
        self._offline: set[Key] = set()
        self._deleted: dict[Key, float] = {}
        """When that was seen."""
        self._strangers: dict[Key, tuple[str, float]] = {}
        self._wake = asyncio.Event()

    def is_lost(self, namespace: str, worker: str) -> bool:
        """Whether the external worker with this id is offline, deleted, or unknown for long."""
        key = (namespace, names.worker_name(worker))
        if key in self._known:
            return key in self._offline
        if key in self._deleted:
            return True
        if key not in self._strangers:
            self._strangers[key] = (worker, self._clock() + STRANGER_PATIENCE)
            self._wake.set()
        return self._clock() >= self._strangers[key][1]

    def is_offline(self, namespace: str, name: str) -> bool:
        """The same for a Worker object that is there."""
        return (namespace, name) in self._offline

    async def keep(self) -> None:
        """Note for ever who has gone silent."""
        while True:
            due = self.look()
            self._wake.clear()
            try:
                async with asyncio.timeout(min(due, LONGEST_SLEEP)):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def look(self) -> float:
        """Note who has gone silent; seconds until the next one may have."""
        now, due = self._clock(), LONGEST_SLEEP
        for key, worker in list(self._known.items()):
            left = self._pulses[key].offline_at() - now
            if (left <= 0) != (key in self._offline):
                (self._offline.add if left <= 0 else self._offline.discard)(key)
                self._changed(key[0], worker)
            if left > 0:
                due = min(due, left)
        for key, (worker, end) in list(self._strangers.items()):
            if end > now:
                due = min(due, end - now)
            elif key not in self._known:
                del self._strangers[key]
                self._deleted[key] = now
                self._changed(key[0], worker)
        for key in [one for one, since in self._deleted.items() if since + MEMORY <= now]:
            del self._deleted[key]
        return due + 0.01

    def _lease_changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._pulses[key] = hear(self._pulses.get(key), new, self._clock())
            self._wake.set()
        elif key not in self._known:
            self._pulses.pop(key, None)

    def _note_pulse(self, key: Key) -> None:
        """A new Worker is given its time from now, also where its Lease was seen before the end of an earlier one."""
        if key not in self._pulses:
            now, lease = self._clock(), self.leases.get(*key)
            self._pulses[key] = hear(None, lease, now) if lease else Pulse("", DEFAULT_PATIENCE, now)

    def _worker_changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        worker: str = (new or old or {})["spec"]["workerId"]
        if new is not None and not new["spec"].get("internal"):
            self._note_pulse(key)
            self._deleted.pop(key, None)
            self._strangers.pop(key, None)
            if key not in self._known:
                self._known[key] = worker
                self._changed(key[0], worker)
            self._wake.set()
        elif self._known.pop(key, None) is not None:
            self._deleted[key] = self._clock()
            self._offline.discard(key)
            self._pulses.pop(key, None)
            self._changed(key[0], worker)
