"""External workers come, give signs of life, and go.

A worker is a Worker object, and a Lease of the same name that it renews, as nodes do it. Who is silent for too long is
noted as offline by the operator, which also gives its tasks to others.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from maze_api.errors import Conflict, NotFound, Unavailable
from maze_api.task_index import TaskIndex
from maze_api.worker_bodies import HeartbeatBody, RegisterBody
from maze_api.worker_cache import EPOCH, LEASES_API, Workers, WorkerView, lease_path, view_worker
from maze_crds import names
from maze_crds.base import API_VERSION, format_time
from maze_crds.worker import WorkerState
from maze_io.kube import KubeError, Object, workers_path

TRIES = 20
"""Of a guarded write: the operator writes Workers, too, and the pool may take an id at the same moment."""
FRESH = 0.1
"""A sign of life that is younger than this part of the worker's patience need not be renewed by a claim or report."""
BACK_SECONDS = 10.0
GONE_SECONDS = 5.0


def build_worker(body: RegisterBody, name: str, registered: str) -> Object:
    """The Worker that a registration asks for."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Worker",
        "metadata": {"name": name, "labels": {names.LABEL_INTERNAL: "false"}},
        "spec": {
            "workerId": body.worker_id,
            "backendType": body.backend_type,
            "internal": False,
            "capabilities": {
                "maxParallelTasks": body.capabilities.max_parallel_tasks,
                "supportedProblems": list(body.capabilities.supported_problems),
            },
            "metadata": body.metadata,
            "registeredTime": registered,
        },
    }


def build_lease(worker: WorkerView, seconds: int, renewed: datetime) -> Object:
    """The Lease that a worker renews; it goes with its Worker."""
    owner = {"apiVersion": API_VERSION, "kind": "Worker", "name": worker.name, "uid": worker.uid}
    return {
        "apiVersion": LEASES_API,
        "kind": "Lease",
        "metadata": {
            "name": worker.name,
            "labels": {names.LABEL_HEARTBEAT: "true", names.LABEL_INTERNAL: "false"},
            "ownerReferences": [owner],
        },
        "spec": {"holderIdentity": worker.id, "leaseDurationSeconds": seconds, "renewTime": format_time(renewed)},
    }


def needs_renewal(worker: WorkerView, now: datetime) -> bool:
    """Whether a sign of life must be written: not where one was written a moment ago (clocks may differ)."""
    if worker.noted_offline or worker.heartbeat is None:
        return True
    age = (now - worker.heartbeat).total_seconds()
    return not 0 <= age < FRESH * worker.patience.total_seconds()


class Registry:
    """Registration and heartbeats of one namespace.

    Args:
        seconds: how long a worker may be silent.
    """

    def __init__(self, workers: Workers, tasks: TaskIndex, seconds: int) -> None:
        self._workers = workers
        self._kube = workers.kube
        self._tasks = tasks
        self._seconds = seconds

    async def register(self, body: RegisterBody) -> WorkerView:
        """Make or update a worker, and count it as heard of.

        Raises:
            Conflict: an internal worker of this id is executing a task, or the id can't be told from another one.
            Unavailable: others keep writing it.
            KubeError: Kubernetes is out of reach.
        """
        name = names.worker_name(body.worker_id)
        for _ in range(TRIES):
            existing = await self._read(name)
            try:
                made = await self._write(body, name, existing)
            except KubeError as error:
                if error.conflict or error.not_found:
                    continue
                raise
            self._workers.put_worker(made)
            await self._start_lease(view_worker(made, None))
            worker = self._workers.get(body.worker_id)
            return worker or view_worker(made, None)
        raise Unavailable(f"worker '{body.worker_id}' changes too often to be registered right now; try again")

    async def heartbeat(self, worker: WorkerView, body: HeartbeatBody) -> datetime:
        """Note a sign of life, or with "offline" the end of them; when it was noted."""
        now = datetime.now(UTC)
        said = json.dumps({**body.model_dump(mode="json"), "time": format_time(now)})
        await self._renew(worker, EPOCH if body.status is WorkerState.OFFLINE else now, said)
        return now

    async def heard(self, worker: WorkerView) -> None:
        """A call of the worker is a sign of life, too."""
        now = datetime.now(UTC)
        if needs_renewal(worker, now):
            await self._renew(worker, now)

    async def back(self, worker: WorkerView) -> None:
        """A sign of life; one that was offline is back when the operator has noted it. Else it might lose at once what it gets.

        Raises:
            Unavailable: nobody has noted it.
        """
        await self.heard(worker)

        def noted() -> bool:
            now = self._workers.get(worker.id)
            return now is None or not now.noted_offline

        if not await self._workers.until(noted, BACK_SECONDS):
            raise Unavailable(f"worker '{worker.id}' was offline, and the operator has not noted yet that it is back")

    async def remove(self, worker: WorkerView) -> None:
        """Forget a worker; its tasks go back into the queue.

        Raises:
            Conflict: it is an internal one.
        """
        if worker.internal:
            raise Conflict(
                f"'{worker.id}' is an internal worker; POST /api/v1/workers/internal/scale changes their number"
            )
        namespace = self._workers.namespace
        for path, options in (
            (workers_path(namespace, worker.name), {"preconditions": {"uid": worker.uid}}),
            (lease_path(namespace, worker.name), None),
        ):
            try:
                await self._kube.delete(path, options)
            except KubeError as error:
                if not (error.not_found or error.conflict):
                    raise

        def gone() -> bool:
            now = self._workers.get(worker.id)
            return now is None or now.uid != worker.uid

        await self._workers.until(gone, GONE_SECONDS)

    async def _read(self, name: str) -> Object | None:
        try:
            return await self._kube.get(workers_path(self._workers.namespace, name))
        except KubeError as error:
            if error.not_found:
                return None
            raise

    async def _write(self, body: RegisterBody, name: str, existing: Object | None) -> Object:
        """One guarded try."""
        namespace = self._workers.namespace
        made = build_worker(body, name, format_time(datetime.now(UTC)))
        if existing is None:
            return await self._kube.post(workers_path(namespace), made)
        spec, metadata = existing["spec"], existing["metadata"]
        if spec["workerId"] != body.worker_id:
            raise Conflict(
                f"the id '{body.worker_id}' can't be told from that of worker '{spec['workerId']}'; take another"
            )
        if not spec.get("internal"):
            made["metadata"] = {**metadata, "labels": {**(metadata.get("labels") or {}), names.LABEL_INTERNAL: "false"}}
            made["spec"]["registeredTime"] = spec.get("registeredTime") or made["spec"]["registeredTime"]
            return await self._kube.put(workers_path(namespace, name), made)
        held = self._tasks.of_worker(body.worker_id)
        if held:
            raise Conflict(
                f"'{body.worker_id}' is an internal worker that is executing task {held[0].id}; "
                "register under another id, or when the task has ended"
            )
        guard = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        await self._kube.delete(workers_path(namespace, name), {"preconditions": guard})
        return await self._kube.post(workers_path(namespace), made)

    async def _start_lease(self, worker: WorkerView) -> None:
        """A Lease of an earlier Worker of this name is about to be deleted with it, so it must not stay."""
        lease = await self._renew(worker, datetime.now(UTC), said="")
        owners = lease["metadata"].get("ownerReferences") or ()
        if not any(owner["uid"] == worker.uid for owner in owners):
            path = lease_path(self._workers.namespace, worker.name)
            try:
                await self._kube.delete(path, {"preconditions": {"uid": lease["metadata"]["uid"]}})
            except KubeError as error:
                if not (error.not_found or error.conflict):
                    raise
            await self._renew(worker, datetime.now(UTC))

    async def _renew(self, worker: WorkerView, renewed: datetime, said: str | None = None) -> Object:
        """Write renewTime, and what the worker said where it said something; make the Lease where there is none."""
        namespace = self._workers.namespace
        spec = {"renewTime": format_time(renewed), "leaseDurationSeconds": self._seconds}
        change: dict[str, Any] = {"spec": spec}
        if said is not None:
            change["metadata"] = {"annotations": {names.ANNOTATION_SAID: said or None}}
        for _ in range(TRIES):
            try:
                made = await self._kube.patch(lease_path(namespace, worker.name), change)
            except KubeError as error:
                if not error.not_found:
                    raise
            else:
                self._workers.put_lease(made)
                return made
            try:
                await self._kube.post(lease_path(namespace), build_lease(worker, self._seconds, renewed))
            except KubeError as error:
                if not error.conflict:
                    raise
        raise Unavailable(f"the heartbeat of worker '{worker.id}' can't be kept right now; try again")


def require_external(worker: WorkerView | None, worker_id: str, what: str) -> WorkerView:
    """The worker, where it is one that speaks for itself.

    Raises:
        NotFound: nobody has registered under this id.
        Conflict: it is an internal one.
    """
    if worker is None:
        raise NotFound(f"there is no worker '{worker_id[:100]}'; register it first: POST /api/v1/workers/register")
    if worker.internal:
        raise Conflict(f"'{worker_id}' is an internal worker: the cluster itself {what}")
    return worker
