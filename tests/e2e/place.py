"""Workers, pools and tasks of the Task Executor as custom resources, in a namespace of a test's own: no api takes part.

And images by names that a test chooses, and GPUs that there are not.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes import client

from cluster import GROUP, Cluster, kubectl, python
from maze_cluster.flavour import Flavour, choose_flavour, probe_machine
from maze_cluster.images import EXAMPLE_NAME
from maze_cluster.kind import CLUSTER
from maze_cluster.layout import build_layout, find_checkout
from maze_crds.base import format_time
from own_api import own_namespace
from worker_http import until

Json = dict[str, Any]
QUICK = "def f(p):\n    return {}"
HOLDS = "import time\ndef f(p):\n    time.sleep(600)\n    return {}"
EXAMPLE_IMAGE = f"docker.io/{EXAMPLE_NAME}:latest"
GPU = "nvidia.com/gpu"
GPU_PATHS = tuple(f"/status/{part}/nvidia.com~1gpu" for part in ("capacity", "allocatable"))
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


@contextmanager
def image_named(name: str) -> Iterator[str]:
    """The example image for OpRuns under another name, too, in the cluster's container runtime: nothing is pulled."""
    ctr = _ctr()
    subprocess.run([*ctr, "images", "tag", "--force", EXAMPLE_IMAGE, name], check=True, capture_output=True)
    try:
        yield name
    finally:
        subprocess.run([*ctr, "images", "rm", name], check=True, capture_output=True)


def _ctr() -> list[str]:
    flavour = choose_flavour(os.environ, probe_machine())
    if flavour is Flavour.EXISTING:
        pytest.skip("names of images are given in the container runtime, which is somebody else's here")
    if flavour is Flavour.KIND:
        return ["docker", "exec", f"{CLUSTER}-control-plane", "ctr", "--namespace", "k8s.io"]
    socket = build_layout(find_checkout(), os.environ).containerd_socket
    return ["ctr", "--address", str(socket), "--namespace", "k8s.io"]


class Gpus:
    """GPUs that the scheduler believes the node to have; nothing in a pod uses them. One test at a time."""

    def __init__(self, cluster: Cluster) -> None:
        self._node = cluster.core.list_node().items[0].metadata.name

    def label(self, mebibytes: int) -> None:
        """What GPU feature discovery says of the memory of each."""
        kubectl("label", "node", self._node, f"{GPU}.memory={mebibytes}", "--overwrite")

    def give(self, count: int) -> None:
        self._patch([{"op": "add", "path": path, "value": str(count)} for path in GPU_PATHS])

    def take(self) -> None:
        kubectl("label", "node", self._node, f"{GPU}.memory-")
        for path in GPU_PATHS:
            self._patch([{"op": "remove", "path": path}], check=False)  # the kubelet may have been first

    def _patch(self, changes: list[Json], *, check: bool = True) -> None:
        patch = ("--subresource=status", "--type=json", "-p", json.dumps(changes))
        kubectl("patch", "node", self._node, *patch, check=check)


@contextmanager
def gpus(cluster: Cluster, count: int, mebibytes: int) -> Iterator[Gpus]:
    made = Gpus(cluster)
    try:
        made.label(mebibytes)
        made.give(count)
        yield made
    finally:
        made.take()
