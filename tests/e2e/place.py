"""Workers, pools and tasks of the Task Executor as custom resources, in a namespace of a test's own: no api takes part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from kubernetes import client

from cluster import GROUP, Cluster, python
from maze_crds.base import format_time
from own_api import own_namespace
from worker_http import until

Json = dict[str, Any]
QUICK = "def f(p):\n    return {}"
HOLDS = "import time\ndef f(p):\n    time.sleep(600)\n    return {}"
T0 = datetime(2026, 1, 1, tzinfo=UTC)


class Place(Cluster):
    """A namespace of its own."""

    def make(self, plural: str, kind: str, name: str, spec: Json) -> None:
        body = {"apiVersion": "/".join(GROUP), "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.custom.create_namespaced_custom_object(*GROUP, self.namespace, plural, body)

    def pool(self, **spec: Any) -> None:
        """Create the pool, or change it; returns when the operator has taken it in."""
        try:
            self.custom.patch_namespaced_custom_object(
                *GROUP, self.namespace, "workerpools", "internal", {"spec": spec}
            )
        except client.ApiException as error:
            if error.status != 404:
                raise
            self.make("workerpools", "WorkerPool", "internal", spec)
        self.until(self.settled, "the operator sees the pool")

    def pool_now(self) -> Json:
        found: Json = self.custom.get_namespaced_custom_object(*GROUP, self.namespace, "workerpools", "internal")
        return found

    def scale(self) -> tuple[int, int]:
        """What the subresource says: wanted and present."""
        found = self.custom.get_namespaced_custom_object_scale(*GROUP, self.namespace, "workerpools", "internal")
        return found["spec"]["replicas"], found["status"]["replicas"]

    def settled(self) -> bool:
        pool = self.pool_now()
        return bool(pool.get("status", {}).get("observedGeneration") == pool["metadata"]["generation"])

    def workers(self) -> dict[str, Json]:
        """Worker objects by id."""
        found = self.custom.list_namespaced_custom_object(*GROUP, self.namespace, "workers")["items"]
        return {one["spec"]["workerId"]: one for one in found}

    def states(self) -> dict[str, str]:
        return {one: found.get("status", {}).get("state", "") for one, found in self.workers().items()}

    def task(self, name: str, workflow: str | None = None, *, seconds: float = 0.0, **spec: Any) -> str:
        """A task of the Task Executor that was queued at this second."""
        reference = {"workflowRef": {"name": workflow}} if workflow else {}
        queued = format_time(T0 + timedelta(seconds=seconds))
        return self.create_run({"problemId": "p", "queuedTime": queued, **reference, **spec}, name)

    def assignments(self, name: str) -> list[Json]:
        found: list[Json] = self.get_run(name).get("status", {}).get("assignments", [])
        return found

    def assigned(self, name: str) -> str:
        """Await that a worker has it; the worker's id."""
        run = self.await_run(name, has_worker)
        worker: str = run["status"]["assignments"][-1]["worker"]
        return worker

    def waits(self, name: str) -> None:
        self.await_run(name, lambda run: run.get("status", {}).get("reason") == "WaitingForWorker")

    def cancel(self, name: str) -> Json:
        self.patch_run(name, {"desiredState": "Cancelled"})
        return self.ended(name)

    def until(self, holds: Callable[[], object], what: str) -> None:
        until(holds, what, 120)


def has_worker(run: Json) -> bool:
    found = run.get("status", {}).get("assignments") or [{"end": "none yet"}]
    return "end" not in found[-1]


@contextmanager
def own_place() -> Iterator[Place]:
    """With the Workflows `quick`, and `holds`, which ends when it is cancelled."""
    with own_namespace() as namespace:
        made = Place(namespace)
        for name, source in (("quick", QUICK), ("holds", HOLDS)):
            made.make("workflows", "Workflow", name, {"tasks": [python("t", source)]})
        yield made
        made.close()
