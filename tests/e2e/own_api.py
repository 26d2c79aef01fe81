"""An api process of a test's own, in a namespace of its own, against the running cluster.

So a test has its own workers, tasks and settings, may end the api as hard as it likes, and disturbs nobody. The object
store and the operator are reached by the addresses of their Services, which outlive their pods.
"""

from __future__ import annotations

import base64
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

import requests
from kubernetes import client

from cluster import KUBECONFIG, Cluster

READY_SECONDS = 120
STOP_SECONDS = 30
CONTROL = "maze-system"
PORTS = range(20000, 30000)
"""Below the ports that the kernel gives to outgoing connections, so that an api can be started again on its port."""
TAIL = 6000
"""Characters of the log that a failure shows."""


class OwnApi:
    """`url` stays the same however often the process is ended and started."""

    def __init__(self, namespace: str, env: dict[str, str], log: BinaryIO) -> None:
        self.namespace = namespace
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = env
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the api is not running"
        return self._process.pid

    def start(self, **env: str) -> None:
        """Start the process, with changed settings where `env` gives them; returns when it is ready to serve."""
        assert self._process is None, "the api is running already"
        self.env.update(env)
        own = {"MAZE_NAMESPACE": self.namespace, "MAZE_API_HOST": "127.0.0.1", "MAZE_API_PORT": str(self.port)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "maze_api"],
            env={**_inherited(), **own, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            self._await_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """As Kubernetes stops a pod: SIGTERM, and time to finish."""
        if self._process is not None:
            self._process.terminate()
            self._ended()

    def kill(self) -> None:
        """SIGKILL: whatever the process was doing stays half done."""
        if self._process is not None:
            self._process.kill()
            self._ended()

    def restart(self, **env: str) -> None:
        self.stop()
        self.start(**env)

    def log(self) -> str:
        """What the processes have printed so far, its last part."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), TAIL, max(0, size - TAIL)).decode(errors="replace")

    def _ended(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        said = "nothing"
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise AssertionError(f"the api ended with {process.returncode}:\n{self.log()}")
            with suppress(requests.RequestException):
                answer = requests.get(f"{self.url}/ready", timeout=5)
                if answer.status_code == 200:
                    return
                said = answer.text
            time.sleep(0.05)
        raise AssertionError(f"the api is not ready after {READY_SECONDS} s, /ready says {said}:\n{self.log()}")


@contextmanager
def own_api(namespace: str, **env: str) -> Iterator[OwnApi]:
    """A running api for this namespace; `env`: settings that differ from those of `make up`.

    Printed when the block fails: what the api said last.
    """
    with tempfile.TemporaryFile() as log:
        made = OwnApi(namespace, {**cluster_env(), **env}, log)
        try:
            made.start()
            yield made
        except BaseException:
            print(made.log(), file=sys.stderr)
            raise
        finally:
            made.stop()


@contextmanager
def own_namespace(cluster: Cluster | None = None) -> Iterator[str]:
    """A namespace `test-…` that is deleted afterwards, with all that is in it."""
    used = cluster or Cluster()
    name = f"test-{uuid.uuid4().hex[:10]}"
    used.core.create_namespace({"metadata": {"name": name}})
    try:
        _await_service_account(used, name)
        yield name
    finally:
        used.core.delete_namespace(name)
        if cluster is None:
            used.close()


def cluster_env() -> dict[str, str]:
    """The settings of the cluster's own api, with addresses that work from here."""
    cluster = Cluster()
    try:
        s3 = _secret(cluster, "maze-s3")
        return {
            "MAZE_S3_ENDPOINT": _address(cluster, "maze-s3"),
            "MAZE_S3_BUCKET": "maze",
            "MAZE_S3_REGION": "us-east-1",
            "MAZE_S3_ACCESS_KEY": s3["access-key"],
            "MAZE_S3_SECRET_KEY": s3["secret-key"],
            "MAZE_REPORT_URL": _address(cluster, "maze-operator"),
            "MAZE_API_TOKEN": _secret(cluster, "maze-runner")["api-token"],
            "POD_NAMESPACE": CONTROL,
            "KUBECONFIG": KUBECONFIG,
        }
    finally:
        cluster.close()


def _inherited() -> dict[str, str]:
    """What the process takes from ours: no setting of Maze, and no proxy for addresses inside the cluster."""
    ours = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
    return {key: value for key, value in os.environ.items() if key in ours} | {"PYTHONUNBUFFERED": "1"}


def _secret(cluster: Cluster, name: str) -> dict[str, str]:
    data = cluster.core.read_namespaced_secret(name, CONTROL).data
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def _address(cluster: Cluster, service: str) -> str:
    spec = cluster.core.read_namespaced_service(service, CONTROL).spec
    return f"http://{spec.cluster_ip}:{spec.ports[0].port}"


def _await_service_account(cluster: Cluster, namespace: str) -> None:
    """No pod can be made in a namespace before its default service account is there."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            cluster.core.read_namespaced_service_account("default", namespace)
        except client.ApiException as error:
            if error.status != 404:
                raise
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"namespace {namespace} has no default service account after {READY_SECONDS} s")


def _free_port() -> int:
    for port in random.sample(PORTS, 50):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")
