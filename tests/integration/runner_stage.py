"""A stage for the real runner: an operator and an object store on 127.0.0.1, and the process itself."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cloudpickle

Json = dict[str, Any]
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
WAIT = 15.0


class Stage(AbstractContextManager["Stage"]):
    """Plays both servers. `answers` holds (status, headers) to give for the next requests of a path, before real ones.

    Leases: `lease` to each process that is started, then those of `more` one after the other, in the answer to
    /v1/complete and to those who ask; 409 when there are none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.bodies: dict[str, Json] = {}
        self.answers: dict[str, list[tuple[int, dict[str, str]]]] = {}
        self.connections: set[Any] = set()
        self.sockets: list[socket.socket] = []
        self.completed: list[Json] = []
        self.lease: Json = {}
        self.offered = False
        self.more: list[Json] = []
        self.add_when_asked: list[Json] = []
        """Given only to those who ask /v1/lease."""
        self.on_complete: Callable[[Json], object] = lambda told: None
        self.changed = threading.Condition()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self._processes: list[subprocess.Popen[bytes]] = []
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __exit__(self, *unused: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.server.shutdown()
        self.server.server_close()

    def offer(self, code: Callable[..., Any] | str | None = None, **fields: Any) -> None:
        """The lease to give out: source text, or a function that is pickled."""
        self.lease = self.make(code, **fields)

    def make(self, code: Callable[..., Any] | str | None = None, **fields: Any) -> Json:
        lease: Json = {
            "run": "demo",
            "runUid": "u-1",
            "task": "count",
            "attempt": 1,
            "inputs": {},
            "outputs": [],
            "resultUrl": f"{self.url}/s3/result.json?signature=x",
            "logUrl": f"{self.url}/s3/log?signature=x",
        }
        if isinstance(code, str):
            lease["source"] = code
        elif code is not None:
            lease["code"] = self.stored(cloudpickle.dumps(code))
        return {**lease, **fields}

    def next_lease(self) -> Json | None:
        if self.offered:
            self.offered = False
            return self.lease
        return self.more.pop(0) if self.more else None

    def stored(self, data: bytes, name: str | None = None) -> Json:
        """Bytes in the lease, or, with a name, in the object store."""
        found: Json = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        if name is None:
            return {**found, "data": base64.b64encode(data).decode()}
        self.objects[name] = data
        return {**found, "url": f"{self.url}/s3/{name}?signature=x"}

    def start(self, command: list[str] | None = None, **env: str) -> subprocess.Popen[bytes]:
        environ = {
            "PATH": os.environ["PATH"],
            "MAZE_REPORT_URL": self.url,
            "MAZE_TOKEN": "t0ken",
            "MAZE_NAMESPACE": "maze",
            "MAZE_POD_NAME": "pod-1",
            "MAZE_POD_UID": "pod-uid",
            "MAZE_WORKDIR": str(self.folder),
            **env,
        }
        self.offered = True
        process = subprocess.Popen(
            command or [sys.executable, "-I", "-S", str(self.folder / "runner.pyz")],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._processes.append(process)
        return process

    def run(self, command: list[str] | None = None, **env: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error of a runner that has ended."""
        process = self.start(command, **env)
        out, err = process.communicate(timeout=WAIT)
        return process.returncode, out.decode(), err.decode()

    def result(self, **env: str) -> Json:
        """Run what is offered to its end; what the operator was told, which must be what is stored, too."""
        code, _, err = self.run(None, **env)
        assert code == 0, err
        told = self.bodies["/v1/complete"]["result"]
        assert json.loads(self.objects["result.json"]) == told
        assert list(self.folder.glob("maze-*")) == [], "the attempt's directory is still there"
        return dict(told)

    def failure(self, **env: str) -> Json:
        return dict(self.result(**env)["failure"])

    def hang_up(self) -> None:
        """Close every connection, as a server that ends does."""
        for each in self.sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, WAIT), f"did not happen; requests were {self.requests}"

    def count(self, path: str) -> int:
        return sum(1 for _, seen in self.requests if seen == path)


def source(text: str) -> str:
    return "import os, signal, subprocess, sys, time\ndef f(params):\n" + "\n".join(
        f"    {x}" for x in text.split("\n")
    )


def read_until(process: subprocess.Popen[bytes], text: bytes) -> bytes:
    """What the process prints, up to and with `text`."""
    assert process.stdout is not None
    found = b""
    while text not in found:
        data = os.read(process.stdout.fileno(), 4096)
        assert data, f"ended after {found!r}"
        found += data
    return found


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_gone(pid: int) -> None:
    until = time.monotonic() + WAIT
    while is_alive(pid):
        assert time.monotonic() < until, f"process {pid} is still there"
        os.sched_yield()


def terminate(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=WAIT)
    return process.returncode


def _handler(stage: Stage) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - one small class
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            stage.sockets.append(self.connection)

        def do_POST(self) -> None:
            path, data = self._receive()
            stage.bodies[path] = body = json.loads(data)
            if self.headers["Authorization"] != "Bearer t0ken":
                self._answer(path, 401, b"{}")
            elif path == "/v1/lease":
                self._lease(path)
            elif path == "/v1/complete":
                self._complete(path, body)
            elif path == "/v1/uploads":
                urls = {key: f"{stage.url}/s3/{key}?signature=x" for key in body["outputs"]}
                self._answer(path, 200, json.dumps({"urls": urls}).encode())
            else:
                self._answer(path, 200, b"{}")

        def _lease(self, path: str) -> None:
            if stage.answers.get(path):
                self._answer(path, 200, b"{}")
                return
            found = stage.next_lease() or (stage.add_when_asked.pop(0) if stage.add_when_asked else None)
            self._answer(path, 200 if found else 409, json.dumps(found or {}).encode())

        def _complete(self, path: str, body: Json) -> None:
            if stage.answers.get(path):
                self._answer(path, 200, b"{}")
                return
            stage.on_complete(body)
            found = stage.next_lease()
            stage.completed.append(body)
            self._answer(path, 200, json.dumps({"next": found} if found else {}).encode())

        def do_PUT(self) -> None:
            path, data = self._receive()
            if self._answer(path, 200, b""):
                stage.objects[path.removeprefix("/s3/")] = data

        def do_GET(self) -> None:
            path, _ = self._receive()
            found = stage.objects.get(path.removeprefix("/s3/"))
            self._answer(path, 404 if found is None else 200, found or b"")

        def _receive(self) -> tuple[str, bytes]:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return self.path.partition("?")[0], data

        def _answer(self, path: str, status: int, body: bytes) -> bool:
            """The real answer, or the one that the test wants first. False: it was another one."""
            planned = stage.answers.get(path)
            status, headers = planned.pop(0) if planned else (status, {})
            self.close_connection = status == 0  # the server dies in the middle
            if status:
                self._send(status, headers, body)
            with stage.changed:
                stage.connections.add(self.client_address)
                stage.requests.append((self.command, path))
                stage.changed.notify_all()
            return 200 <= status < 300

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            body = b"" if status == 204 else body
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *unused: Any) -> None:
            pass

    return Handler
