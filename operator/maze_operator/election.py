"""One active operator at a time, by a coordination Lease.

Status writes are guarded by resourceVersion anyway; the Lease keeps two operators from undoing each other's work. A holder
that can't renew ends its process, so that it never acts on a Lease that somebody else may hold.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

from maze_crds.base import format_time
from maze_io.kube import Kube, KubeError, pods_path, resource_path

log = logging.getLogger(__name__)
Json = dict[str, Any]


def may_take(spec: Json, identity: str, unchanged: float) -> bool:
    """Whether a Lease with this spec is ours, free, or expired. unchanged: seconds for which this process has seen it like this;
    the holder's clock may be another one, so its renewTime is not compared with ours (as in client-go)."""
    holder = spec.get("holderIdentity")
    if not holder or holder == identity or not spec.get("renewTime"):
        return True
    expired: bool = unchanged > spec.get("leaseDurationSeconds", 0)
    return expired


class Election:
    def __init__(self, kube: Kube, namespace: str, name: str, identity: str, seconds: float) -> None:
        self._kube, self._namespace, self._name, self._identity = kube, namespace, name, identity
        self._seconds = seconds
        self._path = resource_path("coordination.k8s.io/v1", "leases", namespace)
        self._seen: Json = {}
        self._seen_at = 0.0

    async def acquire(self) -> None:
        """Wait until this process holds the Lease."""
        told = False
        while True:
            try:
                if await self._try():
                    log.info("leading as %s", self._identity)
                    return
                if not told:
                    log.info("standing by: another operator leads")
                    told = True
            except KubeError as error:
                log.warning("lease %s: %s", self._name, error)
            await asyncio.sleep(0.5)

    async def hold(self) -> None:
        """Renew until that fails for as long as the Lease lasts; then return: the caller must end the process."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while loop.time() - renewed < self._seconds * 0.8:
            await asyncio.sleep(self._seconds / 5)
            try:
                if not await self._try():
                    return
                renewed = loop.time()
            except KubeError as error:
                log.warning("renewing lease %s: %s", self._name, error)

    async def release(self) -> None:
        """Let a standby take over at once."""
        try:
            lease = await self._kube.get(f"{self._path}/{self._name}")
            if lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"]["holderIdentity"] = ""
                await self._kube.put(f"{self._path}/{self._name}", lease)
        except KubeError as error:
            log.warning("releasing lease %s: %s", self._name, error)

    async def _try(self) -> bool:
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(self._seconds),
            "renewTime": format_time(datetime.now(UTC)),
        }
        try:
            lease = await self._kube.get(f"{self._path}/{self._name}")
        except KubeError as error:
            if not error.not_found:
                raise
            metadata = {"name": self._name, "namespace": self._namespace}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            return await self._write(self._kube.post(self._path, body))
        if not may_take(
            lease["spec"], self._identity, self._unchanged(lease["spec"])
        ) and not await self._holder_is_gone(lease["spec"]):
            return False
        lease["spec"] = {**lease["spec"], **spec}
        return await self._write(self._kube.put(f"{self._path}/{self._name}", lease))

    def _unchanged(self, spec: Json) -> float:
        now = asyncio.get_running_loop().time()
        if spec != self._seen:
            self._seen, self._seen_at = spec, now
        return now - self._seen_at

    async def _write(self, call: Any) -> bool:
        try:
            await call
        except KubeError as error:
            if error.conflict:
                return False
            raise
        return True

    async def _holder_is_gone(self, spec: Json) -> bool:
        """Holders are named by their pods: one that does not exist any more will not renew."""
        try:
            pod = await self._kube.get(pods_path(self._namespace, spec["holderIdentity"]))
        except KubeError as error:
            return error.not_found
        return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
