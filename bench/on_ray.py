"""Maze on Ray (PyPI maze-agent, in an environment of its own) as a reference: started, measured and ended again.

It runs while the cluster has nothing to do. Its scheduler is busy even when it waits, so nothing else is measured beside it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

from floor import Round
from seen import BenchError

from cluster import GROUP, Cluster, free_port
from maze_crds import names

PACKAGE = "maze-agent==1.0.2"
CACHE = Path(os.environ.get("MAZE_CACHE") or Path.home() / ".cache/maze") / "clients"
INSTALL_SECONDS = 480
START_SECONDS = 90
RUN_SECONDS = 240
STOP_SECONDS = 20
OURS = os.environ.get("MAZE_API", "http://127.0.0.1:8000")
MARK = "MAZE_BENCH_MARK"
"""In the environment of every process that is started here; how they are found again."""
WARM_UP = 1


def measure_original(chain: int, fan_out: int, rounds: int) -> list[Round]:
    """Its own client, with the same program, against Maze on Kubernetes and against Maze on Ray.

    The first workflow of each is not counted: both have imports and first connections to make.

    Raises:
        BenchError: it can't be installed or does not start.
    """
    python = install()
    counts = (chain, fan_out, rounds + WARM_UP)
    ours = ask(python, OURS, *counts)
    with ray_head(python) as address:
        theirs = ask(python, address, *counts)
    pairs = zip(ours[WARM_UP:], theirs[WARM_UP:], strict=True)
    return [
        {f"original.{key}": value for key, value in mine.items()}
        | {f"ray.{key}": value for key, value in other.items()}
        for mine, other in pairs
    ]


def install() -> Path:
    """The interpreter of the environment, which is made once."""
    folder = CACHE / f"ray-{PACKAGE.replace('==', '-')}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin/python"
    if (folder / ".ready").exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=False, symlinks=True)
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", PACKAGE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{PACKAGE} is not installed after {INSTALL_SECONDS} s") from None
    if done.returncode != 0:
        raise BenchError(f"{PACKAGE} can't be installed: {(done.stdout + done.stderr).strip()[-1000:]}")
    (folder / ".ready").touch()
    return python


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


def ask(python: Path, address: str, chain: int, fan_out: int, rounds: int) -> list[Round]:
    program = Path(__file__).with_name("original.py")
    command = [str(python), str(program), address, str(chain), str(fan_out), str(rounds)]
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"the original client has no result from {address} after {RUN_SECONDS} s") from None
    if address == OURS and done.stdout:
        delete_runs(json.loads(done.stdout.splitlines()[-1])["workflows"])
    if done.returncode != 0:
        raise BenchError(f"the original client at {address}: {done.stderr.strip()[-1000:]}")
    rounds: list[Round] = json.loads(done.stdout.splitlines()[-1])["rounds"]
    return rounds


def delete_runs(workflows: list[str]) -> None:
    cluster = Cluster()
    try:
        for workflow in workflows:
            selector = f"{names.LABEL_WORKFLOW_ID}={workflow}"
            cluster.custom.delete_collection_namespaced_custom_object(*GROUP, "maze", "runs", label_selector=selector)
    finally:
        cluster.close()
