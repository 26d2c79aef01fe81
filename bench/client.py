"""The original Maze client, as it was published, in an environment and a process of its own (original.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

from environments import install_client
from floor import Round
from seen import BenchError

from cluster import GROUP, Cluster
from maze_crds import names

PROGRAM = Path(__file__).with_name("original.py")
NAMESPACE = "maze"
"""Where the cluster's api makes its Runs."""
OURS = os.environ.get("MAZE_API", "http://127.0.0.1:8000")
SECONDS = 120.0
STOP_SECONDS = 20
KINDS = ("chain", "fan_out")


class Client:
    """It has its imports and its first connections behind it before it is measured."""

    def __init__(self, process: subprocess.Popen[str], log: IO[str]) -> None:
        self._process, self._log = process, log
        self.workflows: list[str] = []

    def measure(self, name: str, kind: str, count: int) -> Round:
        """A workflow of this kind (KINDS) with so many tasks: seconds that its user waits, as original.py says.

        Raises:
            BenchError: it fails, or takes too long.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = threading.Timer(SECONDS, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write(f"{kind} {count}\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            self._log.seek(0)
            raise BenchError(f"the original client has no result of {kind}: {self._log.read().strip()[-1000:]}")
        found = json.loads(line)
        self.workflows.append(found["workflow"])
        return {f"{name}.{kind}_{moment}": found[moment] for moment in ("made", "told", "seconds")}


@contextmanager
def original_client(address: str) -> Iterator[Client]:
    """For as long as the block lasts."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    command = [str(install_client()), str(PROGRAM), address]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        client = Client(process, log)
        try:
            for kind in KINDS:
                client.measure("warm", kind, 2)
            yield client
        finally:
            process.kill()
            process.wait(STOP_SECONDS)


@contextmanager
def our_client() -> Iterator[Client]:
    """Against the cluster's api; what it makes is deleted afterwards."""
    with original_client(OURS) as client:
        try:
            yield client
        finally:
            delete_runs(client.workflows)


def delete_runs(workflows: list[str]) -> None:
    cluster = Cluster(NAMESPACE)
    try:
        for workflow in workflows:
            selector = f"{names.LABEL_WORKFLOW_ID}={workflow}"
            cluster.custom.delete_collection_namespaced_custom_object(
                *GROUP, NAMESPACE, "runs", label_selector=selector
            )
    finally:
        cluster.close()
