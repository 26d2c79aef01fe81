"""Running pods get another size in place (pods/NAME/resize, Kubernetes 1.33 and later).

The API server takes a new size at once; whether the node has room for it is known when the kubelet has written its verdict
into the pod's status, 30 to 60 ms later on an idle node. The limits are in force at about the same time.
"""

from __future__ import annotations

import asyncio
import logging
import time

from maze_io.cache import Object
from maze_io.kube import JSON_PATCH, Kube, KubeError, pods_path
from maze_operator.core import spares as core
from maze_operator.core.spares import Json

log = logging.getLogger(__name__)

REFUSED_SECONDS = 600.0
"""For so long nothing is resized after the API server has refused it for reasons that hold for all pods."""
NO_ROOM_SECONDS = 60.0
"""The same, after a node had no room for a pod's new size."""
VERDICT_SECONDS = 2.0
"""A kubelet that takes longer to decide is slower than a new pod."""


class NotResized(Exception):
    """The pod has its old size, and may get the new one later: it is of no use."""


class Resizing:
    """Whether resizing can be had, and the verdicts that are waited for."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._from = 0.0
        self._verdicts: dict[str, tuple[Json, asyncio.Future[bool]]] = {}

    @property
    def possible(self) -> bool:
        return time.monotonic() >= self._from

    def see(self, uid: str, pod: Object | None) -> None:
        """A pod has changed, or is gone."""
        target, verdict = self._verdicts.get(uid, ({}, None))
        found = False if pod is None else core.resize_verdict(pod, target)
        if verdict is not None and not verdict.done() and found is not None:
            verdict.set_result(found)

    def failed(self, what: str) -> None:
        """A node has no room."""
        log.warning("pod %s can't take the size of its task: its node has no room, or does not say", what)
        self._from = max(self._from, time.monotonic() + NO_ROOM_SECONDS)

    async def resize(self, pod: Object, target: Json) -> None:
        """When this returns, the node has agreed.

        Raises:
            NotResized: it has not.
            KubeError: nothing has changed, as far as is known.
        """
        uid = pod["metadata"]["uid"]
        verdict: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._verdicts[uid] = target, verdict
        try:
            await self.ask(pod, target)
            async with asyncio.timeout(VERDICT_SECONDS):
                agreed = await verdict
        except TimeoutError:
            agreed = False
        finally:
            del self._verdicts[uid]
        if not agreed:
            self.failed(pod["metadata"]["name"])
            raise NotResized

    async def ask(self, pod: Object, target: Json) -> None:
        """Raises KubeError."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        try:
            await self._kube.patch(pods_path(namespace, name, "resize"), core.resize_patch(pod, target), JSON_PATCH)
        except KubeError as error:
            if core.never_resizable(error.status, error.message, name):
                self._from = time.monotonic() + REFUSED_SECONDS
                log.warning("pods can't be resized here, only spares of the right size are used: %s", error.message)
            raise
