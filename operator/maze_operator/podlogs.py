"""What a pod printed, kept before the pod goes: runners store their tasks' logs themselves, containers and the killed can't."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from maze_crds import names
from maze_io.kube import Kube, KubeError, pods_path
from maze_io.store import AsyncStore, StoreError
from maze_operator.core.values import AttemptId

log = logging.getLogger(__name__)

KEPT_BYTES = 16 * 1024 * 1024
"""The last ones: what a task said at its end explains its end."""
PATIENCE = 3.0
"""Seconds; a log that takes longer is lost rather than keep its pod running."""


async def keep_log(kube: Kube, store: AsyncStore, run_uid: str, attempt: AttemptId, namespace: str, pod: str) -> None:
    """Store the log of the pod unless there is one already. Never raises: what can't be had is told in our log."""
    key = names.log_key(run_uid, attempt.task, attempt.attempt)
    try:
        async with asyncio.timeout(PATIENCE):
            if not await store.exists(key):
                await store.put(key, await _read(kube, namespace, pod))
    except (KubeError, StoreError, TimeoutError) as error:
        log.warning("the log of pod %s is not kept: %s", pod, error or "it took too long to read")


async def _read(kube: Kube, namespace: str, pod: str) -> bytes:
    kept = bytearray()
    async with aclosing(kube.stream(pods_path(namespace, pod, "log"))) as stream:
        async for chunk in stream:
            kept += chunk
            if len(kept) > 2 * KEPT_BYTES:
                del kept[:-KEPT_BYTES]
    return bytes(kept[-KEPT_BYTES:])
