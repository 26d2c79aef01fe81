"""What e2e tests need of the running system: apply objects, await conditions by watching, read results and logs."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch

from maze_crds import names
from maze_crds.slices import tasks_at
from maze_io.store import ObjectStore, StoreSettings

ROOT = Path(__file__).resolve().parents[2]
KUBECONFIG = os.environ.get("KUBECONFIG") or str(ROOT / ".cluster" / "kubeconfig")
KUBECTL = shutil.which("kubectl") or next(
    str(path)
    for path in sorted((Path(os.environ.get("MAZE_CACHE") or Path.home() / ".cache/maze") / "bin").glob("*/kubectl"))
)
GROUP = ("maze.dev", "v1alpha1")
ENDED = ("Succeeded", "Failed", "Cancelled")
Json = dict[str, Any]


class Cluster:
    """One API server, synchronously."""

    def __init__(self, namespace: str = "maze") -> None:
        self._api = config.new_client_from_config(KUBECONFIG)
        self.namespace = namespace
        self.core = client.CoreV1Api(self._api)
        self.apps = client.AppsV1Api(self._api)
        self.custom = client.CustomObjectsApi(self._api)
        self._made: list[str] = []

    def run(self, *tasks: Json, name: str | None = None, inputs: Json | None = None, **spec: Any) -> str:
        """Create a Run with an inline workflow; its name."""
        run_fields = {key: spec.pop(key) for key in ("desiredState", "ttlSecondsAfterFinished") if key in spec}
        return self.create_run({"workflow": {"tasks": list(tasks), **spec}, "inputs": inputs or {}, **run_fields}, name)

    def create_run(self, spec: Json, name: str | None = None) -> str:
        name = name or f"test-{uuid.uuid4().hex[:10]}"
        body = {"apiVersion": "/".join(GROUP), "kind": "Run", "metadata": {"name": name}, "spec": spec}
        self.custom.create_namespaced_custom_object(*GROUP, self.namespace, "runs", body)
        self._made.append(name)
        return name

    def adopt(self, name: str) -> None:
        """A Run that was made elsewhere is deleted afterwards, too."""
        self._made.append(name)

    def get_run(self, name: str) -> Json:
        found: Json = self.custom.get_namespaced_custom_object(*GROUP, self.namespace, "runs", name)
        return found

    def patch_run(self, name: str, spec: Json) -> None:
        self.custom.patch_namespaced_custom_object(*GROUP, self.namespace, "runs", name, {"spec": spec})

    def delete_run(self, name: str) -> None:
        self.custom.delete_namespaced_custom_object(*GROUP, self.namespace, "runs", name)

    def await_run(self, name: str, until: Callable[[Json], object], seconds: float = 120) -> Json:
        """Watch until `until(run)` is true; the run. Fails with the last status when the time is over."""
        deadline = time.monotonic() + seconds
        last: Json = {}
        while (left := deadline - time.monotonic()) > 0:
            stream = watch.Watch().stream(
                self.custom.list_namespaced_custom_object,
                *GROUP,
                self.namespace,
                "runs",
                field_selector=f"metadata.name={name}",
                timeout_seconds=max(1, int(left)),
            )
            for event in stream:
                last = event["object"]
                if until(last):
                    return last
        raise AssertionError(f"run {name} after {seconds} s: {json.dumps(last.get('status'), indent=1)}")

    def ended(self, name: str, seconds: float = 120) -> Json:
        """Await the end of a Run; its status, with the tasks of a large one from its slices."""
        run = self.await_run(name, lambda run: run.get("status", {}).get("phase") in ENDED, seconds)
        status: Json = run["status"]
        return {**status, "tasks": self._sliced(name, status)} if "taskSlices" in status else status

    def _sliced(self, name: str, status: Json) -> list[Json]:
        slices = {each["number"]: each for each in self.slices_of(name)}
        found = (tasks_at(slices[number], revision) for number, revision in enumerate(status["taskSlices"]) if revision)
        return [task for tasks in found for task in tasks or ()]

    def clean(self) -> None:
        for name in self._made:
            try:
                self.delete_run(name)
            except client.ApiException as error:
                if error.status != 404:
                    raise
        self._made.clear()

    def close(self) -> None:
        self._api.close()

    def pods_of(self, name: str) -> list[Any]:
        selector = f"{names.LABEL_RUN}={name}"
        return list(self.core.list_namespaced_pod(self.namespace, label_selector=selector).items)

    def slices_of(self, name: str) -> list[Json]:
        """The TaskSlices of a Run."""
        selector = f"{names.LABEL_RUN}={name}"
        found: list[Json] = self.custom.list_namespaced_custom_object(
            *GROUP, self.namespace, "taskslices", label_selector=selector
        )["items"]
        return found

    def result(self, store: ObjectStore, name: str, task: str) -> Json:
        """The protocol.Result of a task's last attempt."""
        run = self.get_run(name)
        data = store.get(names.result_key(run["metadata"]["uid"], task, task_of(run["status"], task)["attempt"]))
        assert data is not None, f"no result of {task}"
        found: Json = json.loads(data)
        return found

    def log(self, store: ObjectStore, name: str, task: str) -> str:
        run = self.get_run(name)
        data = store.get(names.log_key(run["metadata"]["uid"], task, task_of(run["status"], task)["attempt"]))
        assert data is not None, f"no log of {task}"
        return data.decode()


def task_of(status: Json, name: str) -> Json:
    found: Json = next(task for task in status["tasks"] if task["name"] == name)
    return found


def python(name: str, source: str, **more: Any) -> Json:
    return {"name": name, "python": {"source": source}, **more}


def awaited(look: Callable[[], Any], holds: Callable[[Any], object], seconds: float = 120) -> Any:
    """Look until it holds; what was seen last. For what another process brings about and nobody can be asked to tell."""
    deadline = time.monotonic() + seconds
    while not holds(seen := look()):
        assert time.monotonic() < deadline, f"after {seconds} s: {str(seen)[:2000]}"
        time.sleep(0.1)
    return seen


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """As if the process hung: it gets no more time, and does not know. Afterwards it goes on."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def kubectl(*arguments: str, check: bool = True) -> str:
    """Run the kubectl that came with the cluster."""
    command = [KUBECTL, "--kubeconfig", KUBECONFIG, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def forwarded(service: str, port: int, namespace: str = "maze-system") -> Iterator[str]:
    """`kubectl port-forward` for as long as the block lasts; the local address."""
    local = free_port()
    command = [KUBECTL, "--kubeconfig", KUBECONFIG, "-n", namespace, "port-forward", service, f"{local}:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert "Forwarding from" in line, line
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield f"http://127.0.0.1:{local}"
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@contextmanager
def object_store(cluster: Cluster) -> Iterator[ObjectStore]:
    """The cluster's own object store, with its generated credentials."""
    secret = cluster.core.read_namespaced_secret("maze-s3", "maze-system").data
    keys = {key: base64.b64decode(value).decode() for key, value in secret.items()}
    with forwarded("svc/maze-s3", 7070) as address:
        store = ObjectStore(StoreSettings(address, "maze", keys["access-key"], keys["secret-key"]))
        yield store
        store.close()
