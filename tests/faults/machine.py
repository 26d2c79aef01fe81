"""The embedded cluster's processes on this machine: they are killed, stopped, and brought back.

What runs in pods (operator, api, S3) the kubelet starts again. Kubernetes' own parts have no supervisor: `make up`
starts what has died, and `revive` does the same for one of them.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cluster import awaited, stopped
from maze_cluster import cgroups, process
from maze_cluster.components import Component, build_components, build_digest
from maze_cluster.embedded import exclusive
from maze_cluster.errors import ClusterError
from maze_cluster.flavour import Flavour, choose_flavour, probe_machine
from maze_cluster.layout import build_layout, find_checkout
from maze_cluster.tools import find_bin_dir

PROGRAMS = {
    "operator": (1, [b"-m", b"maze_operator"]),
    "api": (1, [b"-m", b"maze_api"]),
    "s3": (0, [b"/versitygw"]),
}
"""In pods: where in the command line what stands."""


RUNNERS = (b"maze_runner", b"/maze/runner.pyz")
"""What the command line of a runner contains, and of the children that it forks for its tasks."""


class Machine:
    """killed: components that were, by `kill_component`."""

    def __init__(self) -> None:
        self.layout = build_layout(find_checkout(), os.environ)
        bin_dir, containerd = find_bin_dir(self.layout), shutil.which("containerd") or "containerd"
        self.killed: set[str] = set()
        self.components = {one.name: one for one in build_components(self.layout, bin_dir, containerd)}

    def pid(self, program: str) -> int | None:
        """Of the one process of this program in a pod."""
        at, words = PROGRAMS[program]
        return next((pid for pid, command in in_pods() if command[at : at + len(words)] == words), None)

    def runners(self) -> list[int]:
        """The processes of all shared pods, and those of the tasks in them."""
        return [pid for pid, command in in_pods() if not set(RUNNERS).isdisjoint(command)]

    def record(self, name: str) -> process.Record:
        """Of a component that runs."""
        found = process.read_record(self.layout, name)
        assert found is not None
        assert process.is_alive(found), f"{name} does not run"
        return found

    def kill(self, program: str) -> None:
        """SIGKILL; returns when the kubelet has started it again."""
        pid = self.running(program)
        os.kill(pid, signal.SIGKILL)
        awaited(lambda: self.pid(program), lambda seen: seen not in (None, pid), 60)

    def running(self, program: str) -> int:
        pid: int = awaited(lambda: self.pid(program), lambda seen: seen is not None, 60)
        return pid

    def kill_component(self, name: str) -> None:
        """SIGKILL; returns when it is gone."""
        record = self.record(name)
        self.killed.add(name)
        os.kill(record.pid, signal.SIGKILL)
        awaited(lambda: process.is_alive(record), lambda alive: not alive, 10)

    def revive(self, name: str) -> None:
        """Start it if it does not run; returns when it is ready."""
        component: Component = self.components[name]
        with exclusive(self.layout):
            record = process.read_record(self.layout, name)
            if record is None or not process.is_alive(record):
                digest = build_digest(component, {path: path.read_bytes() for path in component.files})
                record = process.start(self.layout, component, digest, cgroups.create_cgroups())
            process.wait_ready(self.layout, component, record)

    def heal(self) -> None:
        """Everything runs."""
        for name in self.components:
            self.revive(name)
        for program in PROGRAMS:
            with suppress(ProcessLookupError):
                os.kill(self.running(program), signal.SIGCONT)

    @contextmanager
    def silent(self, program: str) -> Iterator[None]:
        """It lives and does nothing, for as long as the block lasts: its connections stay, and nobody answers."""
        with stopped(self.running(program)):
            yield

    @contextmanager
    def slow(self, program: str) -> Iterator[None]:
        """It does nothing for most of the time."""
        pid, over = self.running(program), threading.Event()

        def brake() -> None:
            with suppress(ProcessLookupError):
                while not over.is_set():
                    os.kill(pid, signal.SIGSTOP)
                    over.wait(0.4)
                    os.kill(pid, signal.SIGCONT)
                    over.wait(0.05)

        thread = threading.Thread(target=brake)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def in_pods() -> Iterator[tuple[int, list[bytes]]]:
    """(process, command line) of all that runs in pods."""
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and b"kubepods" in (folder / "cgroup").read_bytes():
                yield int(folder.name), (folder / "cmdline").read_bytes().split(b"\0")


def require_embedded() -> Machine:
    try:
        embedded = choose_flavour(os.environ, probe_machine()) is Flavour.EMBEDDED
    except ClusterError:
        embedded = False
    if not embedded or os.geteuid() != 0:
        pytest.skip("needs the embedded cluster: its processes are not on this machine")
    return Machine()
