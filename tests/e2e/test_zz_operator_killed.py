"""The operator may die at any moment, as hard as it can: nothing is lost and nothing runs twice."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cluster import Cluster, forwarded, kubectl, python
from test_runs import runner_image

KILLS = 20
TASKS = 50

COUNTER = """
import http.server, json, threading
seen, lock = {}, threading.Lock()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        with lock:
            seen[self.path] = seen.get(self.path, 0) + 1
        self.send_response(204); self.end_headers()
    def do_GET(self):
        body = json.dumps(seen).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
"""

COUNTED = """
import time, urllib.request
def work(p):
    url = "http://test-counter.maze.svc.cluster.local/" + p["name"]
    urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=30)
    time.sleep(p["seconds"])
    return {"done": p["name"]}
"""


@pytest.fixture
def counter(cluster: Cluster) -> Iterator[str]:
    """A pod that counts what tasks tell it; the address of its Service, from here."""
    labels = {"app": "test-counter"}
    container = {"name": "c", "image": runner_image(cluster), "command": ["python3", "-c", COUNTER]}
    container["readinessProbe"] = {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}
    pod = {"metadata": {"name": "test-counter", "labels": labels}, "spec": {"containers": [container]}}
    service = {
        "metadata": {"name": "test-counter"},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    cluster.core.create_namespaced_pod("maze", pod)
    cluster.core.create_namespaced_service("maze", service)
    try:
        kubectl("wait", "-n", "maze", "--for=condition=Ready", "pod/test-counter", "--timeout=60s")
        with forwarded("svc/test-counter", 80, "maze") as address:
            yield address
    finally:
        kubectl("delete", "-n", "maze", "pod,svc", "test-counter", "--grace-period=0", "--force")


def operator_processes() -> list[int]:
    """Process ids of operators in containers of this machine's cluster."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                command = (folder / "cmdline").read_bytes().split(b"\0")
                if command[1:3] == [b"-m", b"maze_operator"] and b"kubepods" in (folder / "cgroup").read_bytes():
                    found.append(int(folder.name))
    return found


def kill_operator(rng: random.Random) -> bool:
    """SIGKILL to the operator, as soon as there is one. False: there was none for a while."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for pid in operator_processes():
            time.sleep(rng.uniform(0, 1.5))  # the random moment is the point of the test
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return True
    return False


def test_the_operator_killed_twenty_times_during_a_run_repeats_and_loses_nothing(
    cluster: Cluster, counter: str
) -> None:
    if os.geteuid() != 0 or not operator_processes():
        pytest.skip("needs the embedded cluster: the operator's process is not on this machine")
    rng = random.Random(20)
    tasks = []
    for n in range(TASKS):
        after = [f"t{n - 5}"] if n >= 5 else []
        inputs = {"name": {"value": f"t{n}"}, "seconds": {"value": round(rng.uniform(0, 2), 2)}}
        tasks.append(python(f"t{n}", COUNTED, inputs=inputs, dependsOn=after))
    name = cluster.run(*tasks, parallelism=5)
    kills = 0
    while kills < KILLS and cluster.get_run(name).get("status", {}).get("phase", "Pending") in ("Pending", "Running"):
        assert kill_operator(rng), "the operator did not come back"
        kills += 1
    status = cluster.ended(name, seconds=240)
    with urllib.request.urlopen(counter, timeout=10) as answer:
        executions = Counter(json.load(answer))
    assert executions == Counter({f"/t{n}": 1 for n in range(TASKS)})
    assert status["phase"] == "Succeeded"
    assert status["counts"]["succeeded"] == TASKS
    assert [task["attempt"] for task in status["tasks"]] == [1] * TASKS
    numbers = sorted([1, status["endEvent"], *(t[e] for t in status["tasks"] for e in ("startEvent", "endEvent"))])
    assert numbers == list(range(1, 2 * TASKS + 3))
    assert kills == KILLS, f"the Run ended after {kills} kills: make its tasks longer"
