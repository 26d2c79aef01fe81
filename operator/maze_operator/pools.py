"""Keeps the internal Workers of every namespace as its WorkerPool says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from maze_crds import names
from maze_crds.base import API_VERSION, format_time
from maze_crds.worker import INTERNAL_BACKEND, POOL_NAME
from maze_io.cache import Cache, Key, Object
from maze_io.kube import Kube, KubeError, resource_path, workers_path
from maze_operator.core.pool import PoolPlan, plan_pool

log = logging.getLogger(__name__)
Json = dict[str, Any]

RETRY = 1.0
"""Seconds before a namespace that could not be brought in order is tried again; the others go on."""


def pools_path(namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    return resource_path(API_VERSION, "workerpools", namespace, name, subresource)


class Pools:
    """`open(namespace, members)` is told who may take Runs; `is_busy(namespace, worker)` says who has one."""

    def __init__(
        self,
        kube: Kube,
        workers: Cache,
        open_: Callable[[str, Iterable[str]], None],
        is_busy: Callable[[str, str], bool],
    ) -> None:
        self._kube, self._workers, self._open, self._is_busy = kube, workers, open_, is_busy
        self.pools = Cache(self._changed)
        workers.subscribe(self._changed)
        self._marked: set[str] = set()
        self._wake = asyncio.Event()

    def mark(self, namespace: str) -> None:
        """Look at this namespace again: somebody may have become idle."""
        if self.pools.get(namespace, POOL_NAME) is not None:
            self._marked.add(namespace)
            self._wake.set()

    async def keep(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            marked, self._marked = self._marked, set()
            for namespace in marked:
                try:
                    await self._reconcile(namespace)
                except KubeError as error:
                    if error.not_found:  # the namespace or the pool goes away
                        continue
                    log.log(
                        logging.INFO if error.conflict else logging.WARNING, "worker pool of %s: %s", namespace, error
                    )
                    asyncio.get_running_loop().call_later(RETRY, self.mark, namespace)

    def _changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        self._marked.add(key[0])
        self._wake.set()

    async def _reconcile(self, namespace: str) -> None:
        pool = self.pools.get(namespace, POOL_NAME)
        if pool is None or "deletionTimestamp" in pool["metadata"]:
            self._open(namespace, ())
            return
        found = {one["spec"]["workerId"]: bool(one["spec"].get("internal")) for one in self._of(namespace)}
        spec = pool["spec"]
        plan = plan_pool(int(spec.get("replicas", 3)), found, lambda one: self._is_busy(namespace, one))
        self._open(namespace, plan.members if spec.get("running", True) else ())
        for worker in plan.create:
            await self._create(pool, worker)
        for worker in plan.delete:
            await self._delete(namespace, worker)
        await self._write(pool, plan)

    def _of(self, namespace: str) -> list[Object]:
        return [one for one in self._workers if one["metadata"]["namespace"] == namespace]

    async def _create(self, pool: Object, worker: str) -> None:
        namespace = pool["metadata"]["namespace"]
        owner = {"apiVersion": API_VERSION, "kind": "WorkerPool", "name": POOL_NAME, "uid": pool["metadata"]["uid"]}
        body = {
            "apiVersion": API_VERSION,
            "kind": "Worker",
            "metadata": {
                "name": names.worker_name(worker),
                "namespace": namespace,
                "labels": {names.LABEL_INTERNAL: "true"},
                "ownerReferences": [owner],
            },
            "spec": {
                "workerId": worker,
                "backendType": INTERNAL_BACKEND,
                "internal": True,
                "capabilities": {"maxParallelTasks": 1, "supportedProblems": []},
                "registeredTime": format_time(datetime.now(UTC)),
            },
        }
        try:
            self._workers.put(await self._kube.post(workers_path(namespace), body))
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise
            self._workers.put(await self._kube.get(workers_path(namespace, names.worker_name(worker))))

    async def _delete(self, namespace: str, worker: str) -> None:
        """Only what this process has seen: it may have become somebody's own worker meanwhile."""
        name = names.worker_name(worker)
        found = self._workers.get(namespace, name)
        if found is None:
            return
        metadata = found["metadata"]
        preconditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        try:
            await self._kube.delete(workers_path(namespace, name), {"preconditions": preconditions})
        except KubeError as error:
            if not error.not_found:
                raise

    async def _write(self, pool: Object, plan: PoolPlan) -> None:
        metadata = pool["metadata"]
        status = {
            "observedGeneration": metadata["generation"],
            "replicas": plan.replicas,
            "members": list(plan.members),
        }
        if pool.get("status") != status:
            path = pools_path(metadata["namespace"], POOL_NAME, "status")
            body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": status}
            self.pools.put(await self._kube.patch(path, body))
