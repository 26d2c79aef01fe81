"""What a pod printed, kept before the pod goes: runners store their tasks' logs themselves, containers and the killed can't."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

from maze_crds import names
from maze_crds.podlog import cut
from maze_io.kube import Kube, KubeError, pods_path
from maze_io.store import AsyncStore, StoreError
from maze_operator.core.values import AttemptId

log = logging.getLogger(__name__)
Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]

KEPT_BYTES = 16 * 1024 * 1024
"""The last ones: what a task said at its end explains its end."""
PATIENCE = 3.0
"""Seconds that the end of a pod waits for its log; a pod that is told to end can still be read for a while."""
LONGEST = 60.0
AT_ONCE = 16
"""Logs that are read at once: each may take KEPT_BYTES and SPARE_BYTES of memory, and once more while it is stored."""
SPARE_BYTES = 4 * 1024 * 1024
BURST, BURST_SECONDS = 20, 10.0
"""So many are read as they come in so many seconds. More that can wait are read one after the other, so that the API server,
which asks the kubelets for them, has time for the pods of a large Run."""
REST = 30.0
"""Times what each of these took, the pause after it."""


class PodLogs:
    """`spawn` runs what takes longer than its caller waits."""

    def __init__(self, kube: Kube, store: AsyncStore, spawn: Spawn) -> None:
        self._kube, self._store, self._spawn = kube, store, spawn
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._later: dict[str, asyncio.Event] = {}
        """Those that can wait, and what begins them."""
        self._pacer: asyncio.Task[None] | None = None
        self._begun: deque[float] = deque(maxlen=BURST)

    async def keep(
        self,
        run_uid: str,
        attempt: AttemptId,
        namespace: str,
        pod: str,
        *,
        shared: bool = False,
        anew: bool = False,
        pod_stays: bool = False,
    ) -> None:
        """Store what the pod printed for the attempt, unless that is stored already. shared: it served others, too.
        anew: it is not stored yet. pod_stays: it can be read for a while, and this is called again before it is deleted.

        Returns after PATIENCE at the latest, and goes on behind. Never raises: what can't be had is told in our log.
        """
        key = names.log_key(run_uid, attempt.task, attempt.attempt)
        if key not in self._reading:
            marker = names.log_marker(attempt.task, attempt.attempt) if shared else None
            begin = asyncio.Event()
            if pod_stays and not self._may_begin():
                self._later[key] = begin
                if self._pacer is None:
                    self._pacer = self._spawn(self._pace())
            else:
                begin.set()
            self._reading[key] = self._spawn(self._keep(begin, key, namespace, pod, marker, anew))
            self._reading[key].add_done_callback(lambda _: self._reading.pop(key, None))
        if key in self._later:
            if pod_stays:
                return
            self._later.pop(key).set()
        await asyncio.wait({self._reading[key]}, timeout=PATIENCE)

    def _may_begin(self) -> bool:
        now = time.monotonic()
        if len(self._begun) == BURST and now - self._begun[0] < BURST_SECONDS:
            return False
        self._begun.append(now)
        return True

    async def _pace(self) -> None:
        try:
            while self._later:
                key = next(iter(self._later))
                began = time.monotonic()
                self._later.pop(key).set()
                await asyncio.wait({self._reading[key]})
                await asyncio.sleep(REST * (time.monotonic() - began))
        finally:
            self._pacer = None

    async def _keep(
        self, begin: asyncio.Event, key: str, namespace: str, pod: str, marker: str | None, anew: bool
    ) -> None:
        await begin.wait()
        try:
            async with self._slots, asyncio.timeout(LONGEST):
                if anew or not await self._store.exists(key):
                    printed = await self._read(namespace, pod)
                    await self._store.put(key, printed if marker is None else cut(printed, marker))
        except KubeError as error:
            # 400: nothing has started in it yet
            level = logging.DEBUG if error.status == 400 or error.not_found else logging.WARNING
            log.log(level, "the log of pod %s is not kept: %s", pod, error)
        except (StoreError, TimeoutError) as error:
            log.warning("the log of pod %s is not kept: %s", pod, error or "it took too long to read")

    async def _read(self, namespace: str, pod: str) -> bytes:
        kept = bytearray()
        async with aclosing(self._kube.stream(pods_path(namespace, pod, "log"))) as stream:
            async for chunk in stream:
                kept += chunk
                if len(kept) > KEPT_BYTES + SPARE_BYTES:
                    del kept[:-KEPT_BYTES]
        del kept[:-KEPT_BYTES]
        return bytes(kept)
