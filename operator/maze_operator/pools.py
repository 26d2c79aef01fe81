"""Keeps the internal Workers of every namespace as its WorkerPool says."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from maze_crds import names
from maze_crds.base import API_VERSION, format_time
from maze_crds.worker import INTERNAL_BACKEND, POOL_NAME
from maze_io.cache import Cache, Key, Object
from maze_io.kube import Kube, KubeError, resource_path, workers_path
from maze_operator.core.pool import plan_pool

log = logging.getLogger(__name__)
Json = dict[str, Any]

ROUND, AT_ONCE = 100, 16
"""Workers that are made or deleted before their pool is looked at again; calls under way at once, over all namespaces."""
SETTLE = 0.05
"""Seconds between two looks at one namespace: a large pool changes often."""
RETRY, LONGEST_RETRY = 1.0, 30.0
"""Seconds before a namespace that could not be brought in order is tried again: first, and at most. The others go on."""


def pools_path(namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    return resource_path(API_VERSION, "workerpools", namespace, name, subresource)


class Pools:
    """`open(namespace, members)` is told who may take Runs; `is_busy(namespace, worker)` says who has one.

    Each namespace is served by itself, in rounds, so that nobody waits for the thousands of Workers of somebody else.
    """

    def __init__(
        self,
        kube: Kube,
        workers: Cache,
        open_: Callable[[str, Iterable[str]], None],
        is_busy: Callable[[str, str], bool],
    ) -> None:
        self._kube, self._workers, self._open, self._is_busy = kube, workers, open_, is_busy
        self.pools = Cache(self._changed)
        self._workers_of: defaultdict[str, dict[str, bool]] = defaultdict(dict)
        """Namespace → worker id → whether it is internal."""
        workers.subscribe(self._worker_changed)
        self._marked: set[str] = set()
        self._served: set[str] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._delays: dict[str, float] = {}
        """Of namespaces that could not be brought in order: seconds of the last wait."""
        self._wake = asyncio.Event()

    def mark(self, namespace: str) -> None:
        """Look at this namespace again: somebody may have become idle."""
        if self.pools.get(namespace, POOL_NAME) is not None:
            self._marked.add(namespace)
            self._wake.set()

    async def keep(self) -> None:
        self._served.clear()
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for namespace in self._marked - self._served:
                    self._served.add(namespace)
                    group.create_task(self._serve(namespace))

    async def _serve(self, namespace: str) -> None:
        """Until there is nothing to do for this namespace."""
        while namespace in self._marked:
            self._marked.discard(namespace)
            try:
                await self._reconcile(namespace)
            except KubeError as error:
                if not goes_away(error):
                    level = logging.INFO if error.conflict else logging.WARNING
                    log.log(level, "worker pool of %s: %s", namespace, error)
                    self._retry(namespace, conflict=error.conflict)
            except Exception:
                log.exception("worker pool of %s", namespace)
                self._retry(namespace)
            else:
                self._delays.pop(namespace, None)
            await asyncio.sleep(SETTLE)
        self._served.discard(namespace)

    def _retry(self, namespace: str, *, conflict: bool = False) -> None:
        """Later, and ever later; somebody else's write is a matter of a moment."""
        delay = RETRY if conflict else min(2 * self._delays.get(namespace, RETRY / 2), LONGEST_RETRY)
        self._delays[namespace] = delay
        asyncio.get_running_loop().call_later(delay, self.mark, namespace)

    def _changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        self._marked.add(key[0])
        self._wake.set()

    def _worker_changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        """What is in a Worker's status matters to nobody here."""
        worker: str = (new or old or {})["spec"]["workerId"]
        found = self._workers_of[key[0]]
        before = found.pop(worker, None)
        if new is not None:
            found[worker] = bool(new["spec"].get("internal"))
        if not found:
            del self._workers_of[key[0]]
        if before != found.get(worker):
            self._changed(key, old, new)

    async def _reconcile(self, namespace: str) -> None:
        """One round; marks the namespace where there is more to do."""
        pool = self.pools.get(namespace, POOL_NAME)
        if pool is None or "deletionTimestamp" in pool["metadata"]:
            self._open(namespace, ())
            self._delays.pop(namespace, None)
            return
        found = dict(self._workers_of.get(namespace, {}))
        spec = pool["spec"]
        plan = plan_pool(int(spec.get("replicas", 3)), found, lambda one: self._is_busy(namespace, one))
        members = plan.members if spec.get("running", True) else ()
        self._open(namespace, [one for one in members if found.get(one)])
        calls = [self._create(pool, worker) for worker in plan.create[:ROUND]]
        calls += [self._delete(namespace, worker) for worker in plan.delete[:ROUND]]
        outcomes = await asyncio.gather(*(self._in_turn(call) for call in calls), return_exceptions=True)
        now = self._workers_of.get(namespace, {})
        if plan.create:  # nobody takes a Run before its object is there: until then the id may become somebody else's
            self._open(namespace, [one for one in members if now.get(one)])
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        more = (plan.create[ROUND:], plan.delete[ROUND:])
        if any(more):
            self._changed((namespace, ""), None, None)
        await self._write(pool, plan.members, plan.replicas - len(more[0]) + len(more[1]))

    async def _in_turn(self, call: Coroutine[Any, Any, None]) -> None:
        async with self._slots:
            await call

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
            try:
                self._workers.put(await self._kube.get(workers_path(namespace, names.worker_name(worker))))
            except KubeError as missing:
                raise error if missing.not_found else missing from None

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

    async def _write(self, pool: Object, members: Sequence[str], replicas: int) -> None:
        metadata = pool["metadata"]
        status = {
            "observedGeneration": metadata["generation"],
            "replicas": replicas,
            "members": list(members),
        }
        if pool.get("status") != status:
            path = pools_path(metadata["namespace"], POOL_NAME, "status")
            body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": status}
            self.pools.put(await self._kube.patch(path, body))


def goes_away(error: KubeError) -> bool:
    """The namespace or the pool is being deleted: their end is seen by the watch, so nothing is tried again."""
    causes = ((error.body or {}).get("details") or {}).get("causes") or ()
    return error.not_found or any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
