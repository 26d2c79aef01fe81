"""The runner's own loop without Kubernetes: what its code and this machine allow at most.

The real runner, as many processes as there are cores, against a server in this process that only gives out leases and takes
results. No task-running system around the runner, however fast, makes this faster.
"""

from __future__ import annotations

import json
import os
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from floor import Round
from seen import BenchError

RUNNER = Path(__file__).resolve().parents[1] / "runner-image"
SECONDS = 120.0
TINY = "def f(p):\n    return {'n': p['n']}"


def measure_loop(count: int) -> Round:
    """Tasks per second of so many tiny tasks, from when every runner has asked for work until all have reported.

    Raises:
        BenchError: a runner fails, or they take too long.
    """
    processes = os.cpu_count() or 1
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="maze-bench-"))
        server = stack.enter_context(_Server(count, processes))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.shutdown)
        runners = [_start(server.url, folder, number) for number in range(processes)]
        stack.callback(_end, runners)
        for runner in runners:
            _await(runner)
    if server.reported != count:
        raise BenchError(f"the runners reported {server.reported} of {count} tasks")
    return {"loop.rate": count / (server.ended - server.began)}


def _start(url: str, folder: str, number: int) -> subprocess.Popen[bytes]:
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(RUNNER),
        "MAZE_REPORT_URL": url,
        "MAZE_TOKEN": "none",
        "MAZE_NAMESPACE": "bench",
        "MAZE_POD_NAME": f"runner-{number}",
        "MAZE_POD_UID": f"uid-{number}",
        "MAZE_WORKDIR": folder,
    }
    command = [sys.executable, "-S", "-m", "maze_runner"]
    return subprocess.Popen(command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _await(runner: subprocess.Popen[bytes]) -> None:
    try:
        _, said = runner.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise BenchError(f"the runners are not done after {SECONDS:.0f} s") from None
    if runner.returncode != 0:
        raise BenchError(f"a runner ended with {runner.returncode}: {said.decode(errors='replace')[-1000:]}")


def _end(runners: list[subprocess.Popen[bytes]]) -> None:
    for runner in runners:
        runner.kill()
        runner.communicate()


class _Server(socketserver.ThreadingTCPServer):
    """Operator and object store in one. `began`, `ended`: of time.monotonic()."""

    daemon_threads = True

    def __init__(self, count: int, runners: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.began = self.ended = 0.0
        self.reported = 0
        self._all_ask = threading.Barrier(runners, self._begin)
        self._lock = threading.Lock()
        self._left: Iterator[int] = iter(range(count))

    def _begin(self) -> None:
        self.began = time.monotonic()

    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        if path == "/v1/lease":
            if not self.began:
                self._all_ask.wait(SECONDS)
            lease = self._next()
            return (409, b"{}") if lease is None else (200, json.dumps(lease).encode())
        if path == "/v1/complete":
            with self._lock:
                self.reported += 1
                self.ended = time.monotonic()
            lease = self._next()
            return 200, json.dumps({} if lease is None else {"next": lease}).encode()
        return 200, b""

    def _next(self) -> dict[str, object] | None:
        with self._lock:
            number = next(self._left, None)
        if number is None:
            return None
        return {
            "run": "bench",
            "runUid": "uid",
            "task": f"t{number}",
            "attempt": 1,
            "source": TINY,
            "inputs": {"n": {"value": number}},
            "outputs": ["n"],
            "resultUrl": f"{self.url}/s3/{number}/result.json",
            "logUrl": f"{self.url}/s3/{number}/log",
        }


class _Handler(socketserver.StreamRequestHandler):
    """Just enough HTTP for one client that keeps its connection; http.server takes several times as long."""

    server: _Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        while line := self.rfile.readline():
            path = line.split(b" ")[1].decode()
            length = 0
            while (header := self.rfile.readline().lower()) not in (b"\r\n", b""):
                if header.startswith(b"content-length:"):
                    length = int(header[15:])
            self.rfile.read(length)
            status, body = self.server.answer(path)
            self.wfile.write(f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
