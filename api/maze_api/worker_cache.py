"""Workers, their heartbeats and the WorkerPool as the api sees them: watch caches, and waiting for what they will show."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from maze_api.errors import Unavailable
from maze_crds import names
from maze_crds.base import API_VERSION
from maze_crds.problems import supports
from maze_crds.queue import read_time
from maze_crds.worker import POOL_NAME, WorkerState
from maze_io.cache import Key
from maze_io.kube import Cache, Kube, KubeError, Object, resource_path, workers_path

LEASES_API = "coordination.k8s.io/v1"
EPOCH = datetime.fromtimestamp(0, UTC)
"""renewTime of a Lease whose worker has said that it is offline."""


def lease_path(namespace: str, name: str | None = None) -> str:
    return resource_path(LEASES_API, "leases", namespace, name)


def pool_path(namespace: str, name: str | None = None) -> str:
    return resource_path(API_VERSION, "workerpools", namespace, name)


@dataclass(frozen=True, slots=True)
class Said:
    """What the last heartbeat said the worker does."""

    status: str = WorkerState.IDLE
    task_id: str | None = None
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One state of a Worker with its heartbeat.

    Attributes:
        name: of the Kubernetes object; `id` is what the worker calls itself.
        noted_offline: the operator has noted that it is silent.
        heartbeat: when it was last heard of, EPOCH: it has said that it is offline; None: internal, or its Lease is not
            there (yet).
        patience: how long it may be silent.
        obj: the Worker, as Kubernetes has it. Shared: treat it as frozen.
    """

    id: str
    name: str
    uid: str
    backend_type: str
    internal: bool
    max_parallel_tasks: int
    supported_problems: tuple[str, ...]
    metadata: dict[str, Any]
    registered_at: datetime
    noted_offline: bool
    tasks_completed: int
    tasks_failed: int
    tasks_lost: int
    heartbeat: datetime | None
    patience: timedelta
    said: Said
    obj: Object = field(repr=False)

    @property
    def heard(self) -> datetime | None:
        """The last sign of life, saying that it leaves included."""
        return self.said.time if self.heartbeat == EPOCH else self.heartbeat

    def takes(self, problem_id: str) -> bool:
        """Whether it takes tasks of this problem."""
        return supports(self.supported_problems, problem_id)

    def offline(self, now: datetime) -> bool:
        """Whether it is away: it has said so, or the operator has noted it and nothing was heard since."""
        if self.internal:
            return self.noted_offline
        if self.heartbeat == EPOCH:
            return True
        return self.noted_offline and (self.heartbeat is None or now - self.heartbeat > self.patience)


def view_worker(obj: Object, lease: Object | None) -> WorkerView:
    """The worker that a Worker and its Lease describe."""
    metadata, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    capabilities = spec.get("capabilities") or {}
    renewing = (lease or {}).get("spec") or {}
    return WorkerView(
        id=spec["workerId"],
        name=metadata["name"],
        uid=metadata["uid"],
        backend_type=spec["backendType"],
        internal=bool(spec.get("internal")),
        max_parallel_tasks=int(capabilities.get("maxParallelTasks") or 1),
        supported_problems=tuple(capabilities.get("supportedProblems") or ()),
        metadata=spec.get("metadata") or {},
        registered_at=read_time(spec.get("registeredTime") or metadata.get("creationTimestamp")) or EPOCH,
        noted_offline=status.get("state") == WorkerState.OFFLINE,
        tasks_completed=int(status.get("tasksCompleted") or 0),
        tasks_failed=int(status.get("tasksFailed") or 0),
        tasks_lost=int(status.get("tasksLost") or 0),
        heartbeat=read_time(renewing.get("renewTime")),
        patience=timedelta(seconds=renewing.get("leaseDurationSeconds") or 0),
        said=_said(lease),
        obj=obj,
    )


def _said(lease: Object | None) -> Said:
    text = (((lease or {}).get("metadata") or {}).get("annotations") or {}).get(names.ANNOTATION_SAID, "")
    with contextlib.suppress(ValueError, TypeError, AttributeError):  # anybody may write an annotation
        said = json.loads(text)
        return Said(str(said.get("status")), said.get("current_task_id"), read_time(said.get("time")))
    return Said()


class Workers:
    """The Workers of one namespace. `pool` is its WorkerPool."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace
        self._workers = Cache(self._changed)
        self._leases = Cache(self._changed)
        self._pools = Cache(self._changed)
        self._waiting: set[asyncio.Event] = set()

    @property
    def synced(self) -> bool:
        return self._workers.synced and self._leases.synced and self._pools.synced

    async def follow(self) -> None:
        """Keep the caches; ends only by cancel."""
        heartbeats = {"labelSelector": f"{names.LABEL_HEARTBEAT}=true"}
        watch = self.kube.list_and_watch
        async with asyncio.TaskGroup() as group:
            group.create_task(self._workers.follow(watch(workers_path(self.namespace))))
            group.create_task(self._leases.follow(watch(lease_path(self.namespace), heartbeats)))
            group.create_task(self._pools.follow(watch(pool_path(self.namespace))))

    def require(self) -> None:
        """Raises Unavailable while the Workers could not be listed yet."""
        if not self.synced:
            raise Unavailable("the workers could not be listed yet; try again")

    def all(self) -> list[WorkerView]:
        """Every worker, by id."""
        found = [self._view(obj) for obj in self._workers]
        return sorted(found, key=lambda worker: worker.id)

    def external(self) -> list[WorkerView]:
        """Those that have registered, offline ones too, by id."""
        return [worker for worker in self.all() if not worker.internal]

    def get(self, worker_id: str) -> WorkerView | None:
        """The worker as the cache has it."""
        found = self._workers.get(self.namespace, names.worker_name(worker_id))
        return self._view(found) if found is not None and found["spec"]["workerId"] == worker_id else None

    async def find(self, worker_id: str) -> WorkerView | None:
        """The worker from the cache, or from the API server where the cache does not have it (yet).

        Raises:
            KubeError: Kubernetes is out of reach.
        """
        known = self.get(worker_id)
        if known is not None:
            return known
        try:
            self._workers.put(await self.kube.get(workers_path(self.namespace, names.worker_name(worker_id))))
        except KubeError as error:
            if not error.not_found:
                raise
        return self.get(worker_id)

    @property
    def pool(self) -> Object | None:
        """The WorkerPool. Shared: treat it as frozen."""
        return self._pools.get(self.namespace, POOL_NAME)

    def put_worker(self, obj: Object) -> None:
        self._workers.put(obj)

    def put_lease(self, obj: Object) -> None:
        self._leases.put(obj)

    def put_pool(self, obj: Object) -> None:
        self._pools.put(obj)

    def lease(self, worker: WorkerView) -> Object | None:
        """Its heartbeat. Shared: treat it as frozen."""
        return self._leases.get(self.namespace, worker.name)

    async def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait until something holds of the caches. False: it does not, after this time."""
        changed = asyncio.Event()
        self._waiting.add(changed)
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            return holds()
        finally:
            self._waiting.discard(changed)
        return True

    def _view(self, obj: Object) -> WorkerView:
        return view_worker(obj, self._leases.get(self.namespace, obj["metadata"]["name"]))

    def _changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        for event in self._waiting:
            event.set()
