"""The sign of life of internal workers: they are slots of the operator, and live as long as it renews its Lease."""

from __future__ import annotations

import time
from datetime import datetime

from maze_api.worker_cache import lease_path
from maze_crds.queue import read_time
from maze_io.kube import Kube, KubeError

OPERATOR_LEASE = "maze-operator"
KEPT_SECONDS = 2.0
"""The operator renews it about this often."""


class OperatorLife:
    """When the operator was last heard of, asked at most every KEPT_SECONDS."""

    def __init__(self, kube: Kube, control_namespace: str) -> None:
        self._kube = kube
        self._path = lease_path(control_namespace, OPERATOR_LEASE)
        self._asked = float("-inf")
        self._renewed: datetime | None = None

    async def renewed(self) -> datetime | None:
        """None: it was never heard of, or Kubernetes does not tell."""
        if time.monotonic() - self._asked > KEPT_SECONDS:
            self._asked = time.monotonic()
            try:
                lease = await self._kube.get(self._path)
            except KubeError:
                return self._renewed
            self._renewed = read_time((lease.get("spec") or {}).get("renewTime"))
        return self._renewed
