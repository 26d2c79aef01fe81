"""Maze on Ray (PyPI maze-agent, in an environment of its own) as a reference: started, measured and ended again.

It runs while the cluster has nothing to do. Its scheduler is busy even when it waits, so nothing else is measured beside it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

from client import original_client
from environments import install_ray
from floor import Round
from seen import BenchError

from cluster import free_port

START_SECONDS = 90
STOP_SECONDS = 20
MARK = "MAZE_BENCH_MARK"
"""In the environment of every process that is started here; how they are found again."""


def measure_ray(counts: Mapping[str, int], rounds: int) -> list[Round]:
    """What the original client waits for there; `counts`: kind of workflow -> tasks.

    Raises:
        BenchError: it can't be installed or does not start.
    """
    with ray_head(install_ray()) as address, original_client(address) as client:
        found: list[Round] = []
        for _ in range(rounds):
            measured = [client.measure("ray", kind, count) for kind, count in counts.items()]
            found.append({key: value for one in measured for key, value in one.items()})
        return found


@contextmanager
def ray_head(python: Path) -> Iterator[str]:
    """Maze on Ray for as long as the block lasts; its address."""
    mark = uuid.uuid4().hex
    port, ray_port = free_port(), free_port()
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as log,
    ):
        env = {
            "PATH": f"{python.parent}:{os.environ['PATH']}",
            "HOME": folder,
            "RAY_TMPDIR": folder,
            "RAY_USAGE_STATS_ENABLED": "0",
            MARK: mark,
        }
        command = [str(python), "-m", "maze.cli.cli", "start", "--head", "--port", str(port), "--log-level", "ERROR"]
        process = subprocess.Popen(
            [*command, "--ray-head-port", str(ray_port)],
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            await_answer(process, f"http://127.0.0.1:{port}", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            end_marked(mark)
            process.wait(STOP_SECONDS)


def await_answer(process: subprocess.Popen[bytes], address: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(requests.RequestException):
            if requests.get(f"{address}/docs", timeout=5).status_code == 200:
                return
        time.sleep(0.2)
    said = os.pread(log.fileno(), 2000, max(0, os.fstat(log.fileno()).st_size - 2000)).decode(errors="replace")
    raise BenchError(f"Maze on Ray does not start: {said}")


def end_marked(mark: str) -> None:
    """End what was started here, and what that started, wherever it is now; nothing else that is called Ray."""
    deadline = time.monotonic() + STOP_SECONDS
    while (left := marked(mark)) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
        time.sleep(0.1)


def marked(mark: str) -> list[int]:
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found
