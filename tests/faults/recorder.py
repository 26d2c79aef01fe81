"""What tasks tell while they run, and a gate at which they wait: in the test's own process, which no fault reaches.

It listens on the node's own address, where pods reach it. A task tells `start/TASK/TOKEN/TIME` and `end/TASK/TOKEN/TIME`,
the token being new in each execution, the time what its clock shows; `gate/TASK/TOKEN/TIME` is answered when the gate is
open. Who tells the same again counts once.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from maze_cluster.layout import NODE_IP

GATE_SECONDS = 120


class Recorder:
    def __init__(self) -> None:
        self.address = ""
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._told: dict[str, set[tuple[str, str]]] = {"start": set(), "gate": set(), "end": set()}
        self._skews: dict[str, float] = {}

    def tell(self, what: str, task: str, token: str, clock: float) -> None:
        with self._lock:
            self._told[what].add((task, token))
            self._skews[task] = clock - time.time()
        if what == "gate":
            self._open.wait(GATE_SECONDS)

    def open(self) -> None:
        """Everybody goes on, now and later."""
        self._open.set()

    def executions(self) -> Counter[str]:
        """How often each task began."""
        return self._count("start")

    def waiting(self) -> Counter[str]:
        """How often each task has come to the gate."""
        return self._count("gate")

    def ended(self) -> Counter[str]:
        """How often each task came to its end."""
        return self._count("end")

    def skews(self) -> dict[str, float]:
        """By how many seconds each task's clock was ahead of ours when it told something last."""
        with self._lock:
            return dict(self._skews)

    def _count(self, what: str) -> Counter[str]:
        with self._lock:
            return Counter(task for task, _ in self._told[what])


@contextmanager
def recording() -> Iterator[Recorder]:
    made = Recorder()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            _, what, task, token, clock = self.path.split("/")
            made.tell(what, task, token, float(clock))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        # A connection for which there is no room is not refused: its pod asks again after 1, 2, 4, ... seconds.
        request_queue_size = 512
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """Tasks that are killed leave their calls."""

    server = Server((NODE_IP, 0), Handler)
    made.address = f"{NODE_IP}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.open()
        server.shutdown()
        server.server_close()
        thread.join()
