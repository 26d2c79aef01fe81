"""Health, readiness and metrics of an api of our own, with workers and tasks that it counts."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from cluster import Cluster
from cluster import awaited as cluster_awaited
from own_api import OwnApi, cluster_env, own_api, own_namespace
from worker_http import Client

Json = dict[str, Any]
SECONDS = 90
awaited = partial(cluster_awaited, seconds=SECONDS)


@pytest.fixture(scope="module")
def api() -> Iterator[OwnApi]:
    cluster = Cluster()
    with own_namespace(cluster) as namespace, own_api(namespace, NUM_INTERNAL_WORKERS="2") as made:
        yield made
    cluster.close()


def get(api: OwnApi, path: str, status: int = 200) -> requests.Response:
    answer = requests.get(api.url + path, timeout=60)
    assert answer.status_code == status, answer.text
    return answer


def metrics(api: OwnApi) -> dict[str, float]:
    """Every sample by its name and labels."""
    lines = get(api, "/metrics").text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_health_counts_workers_and_tasks_as_the_reference_shows_them(api: OwnApi) -> None:
    # The operator makes the internal workers.
    awaited(lambda: get(api, "/health").json()["workers"]["total"], lambda total: total == 2)
    before = metrics(api)
    with Client(api.url) as calls:
        calls.register("outside", "test-*", parallel=2)
        calls.register("away", "test-*")
        calls.beat("away", status="offline")
        waiting, taken, done = (calls.create("test-health") for _ in range(3))
        for _ in range(2):
            assert calls.claim("outside") is not None
        answer = calls.report("outside", taken, "complete", {"ok": True})
        assert answer.status_code == 200, answer.text
        found = awaited(lambda: get(api, "/health").json(), lambda found: found["queue"]["completed"] == 1)
        shown = metrics(api)
        assert calls.task(done)["status"] == "pending"
        assert calls.task(waiting)["status"] == "running"

    assert list(found) == ["status", "version", "timestamp", "database", "workers", "queue", "archive", "detail"]
    assert found["status"] == "healthy"
    assert found["version"] == "1.0.0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["timestamp"])
    assert abs(datetime.fromisoformat(found["timestamp"]) - datetime.now(UTC)) < timedelta(minutes=5)
    assert found["database"]["connected"] is True
    assert 0 < found["database"]["latency_ms"] <= 2000
    assert found["workers"] == {"total": 4, "idle": 2, "busy": 1, "offline": 1}
    assert found["queue"] == {"pending": 1, "running": 1, "completed": 1}
    assert found["archive"] is None

    assert shown['maze_tasks{state="pending"}'] == 1
    assert shown['maze_tasks{state="running"}'] == 1
    assert shown['maze_tasks{state="completed"}'] == 1
    assert shown['maze_task_duration_seconds_count{state="completed"}'] == 1
    claimed = 'maze_task_claims_total{outcome="claimed"}'
    assert shown[claimed] - before.get(claimed, 0) == 2
    created = 'maze_api_requests_total{method="POST",route="/api/v1/tasks",status="201"}'
    assert shown[created] - before.get(created, 0) == 3
    assert any(name.startswith("maze_api_request_duration_seconds_bucket") for name in shown)


def test_a_ready_api_says_what_it_knows(api: OwnApi) -> None:
    ready = get(api, "/ready").json()
    assert ready == {"ready": True, "database": True, "workers": True, "kubernetes": True, "store": True}


class Lonely(OwnApi):
    """An api whose surroundings are away: it counts as started once it answers at all."""

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        def answers() -> bool:
            assert process.poll() is None, self.log()
            with suppress(requests.ConnectionError):
                return requests.get(f"{self.url}/health", timeout=60).status_code == 200
            return False

        awaited(answers, bool)


def test_an_api_whose_cluster_and_object_store_are_silent_says_so_and_lives_on(tmp_path: Path) -> None:
    """Both take connections and answer nothing. A restart would not help, so /health stays 200."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        cluster = {"name": "c", "cluster": {"server": f"https://{address}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        config = {"clusters": [cluster], "contexts": [context], "users": [{"name": "u", "user": {}}]}
        file = tmp_path / "kubeconfig"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "c", **config}))
        env = {**cluster_env(), "KUBECONFIG": str(file), "MAZE_S3_ENDPOINT": f"http://{address}"}
        with (tmp_path / "log").open("w+b") as log:
            api = Lonely("nowhere", env, log)
            api.start()
            try:
                found = get(api, "/health").json()
                ready = get(api, "/ready", 503).json()
                listed = get(api, "/api/v1/tasks", 503)
            finally:
                api.kill()
    assert found["status"] == "degraded"
    assert found["database"] == {"connected": False, "latency_ms": None}
    assert found["workers"] == {"total": 0, "idle": 0, "busy": 0, "offline": 0}
    assert found["detail"] == "no answer within 2 s"
    assert ready["detail"].startswith("the Runs could not be listed yet")
    assert {key: ready[key] for key in ready if key != "detail"} == dict.fromkeys(
        ("ready", "database", "workers", "kubernetes", "store"), False
    )
    assert listed.json()["type"] == "unavailable"
    assert listed.headers["Retry-After"]


def test_metrics_follow_the_conventions_of_prometheus(api: OwnApi) -> None:
    text = get(api, "/metrics")
    assert text.headers["Content-Type"].startswith("text/plain; version=")
    names = {line.split()[2]: line.split()[3] for line in text.text.splitlines() if line.startswith("# TYPE maze_")}
    assert names["maze_tasks"] == "gauge"
    assert names["maze_task_duration_seconds"] == "histogram"
    assert names["maze_task_claims_total"] == "counter"
    assert names["maze_api_requests_total"] == "counter"
    assert names["maze_api_request_duration_seconds"] == "histogram"
    assert all(re.fullmatch(r"maze_[a-z_]+", name) for name in names)
