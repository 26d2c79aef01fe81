"""The Task Executor reference's own examples, typed as they stand there, on a fresh installation; and the example problems."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import Any

import pytest
import requests

from cluster import ROOT, Cluster, kubectl
from maze_http import API

Json = dict[str, Any]
ENDED = ("completed", "failed", "timeout", "cancelled")

CREATE = """\
curl -X POST http://localhost:8000/api/v1/tasks \\
  -H "Content-Type: application/json" \\
  -d '{
    "problem_id": "example-problem",
    "parameters": {
      "max_steps": 30,
      "timeout": 1800
    }
  }'
"""
STATUS = "curl http://localhost:8000/api/v1/tasks/$TASK_ID"
LOGS = "curl http://localhost:8000/api/v1/tasks/$TASK_ID/logs"
CANCEL = "curl -X POST http://localhost:8000/api/v1/tasks/$TASK_ID/cancel"
WORKERS = "curl http://localhost:8000/api/v1/workers"
SCALE = """\
curl -X POST http://localhost:8000/api/v1/workers/internal/scale \\
  -H "Content-Type: application/json" \\
  -d '{"num_workers": 5}'
"""
HEALTH = "curl http://localhost:8000/health"


def shell(command: str, task_id: str = "") -> Any:
    """Run a command of the reference in a shell; the JSON it prints."""
    done = subprocess.run(
        ["sh", "-c", f'TASK_ID="{task_id}"\n{command}'], capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout)


def ended(task_id: str, seconds: float = 180) -> Json:
    """Await the end of a task by reading it; the task."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        task: Json = shell(STATUS, task_id)
        if task["status"] in ENDED:
            return task
        time.sleep(0.2)
    raise AssertionError(f"after {seconds} s: {task}")


def create(cluster: Cluster, problem_id: str, **parameters: Any) -> str:
    answer = requests.post(f"{API}/api/v1/tasks", json={"problem_id": problem_id, "parameters": parameters}, timeout=60)
    assert answer.status_code == 201, answer.text
    task_id: str = answer.json()["id"]
    cluster.adopt(task_id)
    return task_id


def test_the_complete_task_lifecycle(cluster: Cluster) -> None:
    task = shell(CREATE)
    cluster.adopt(task["id"])
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", task["id"])
    assert task["status"] == "pending"
    assert task["problem_id"] == "example-problem"
    assert {"max_steps": 30, "timeout": 1800}.items() <= task["parameters"].items()

    done = ended(task["id"])
    assert done["status"] == "completed", done
    assert re.fullmatch(r"worker-\d{3}-kind", done["worker_id"])
    assert done["result"]["success"] is True
    assert done["result"]["output"].startswith("Task completed successfully")
    steps = done["result"]["metrics"]["steps_taken"]
    assert 1 <= steps <= 30

    logs = shell(LOGS, task["id"])
    started = next(entry for entry in logs if entry["message"].startswith("Task execution started"))
    assert started["level"] == "info"
    assert sum(entry["message"].startswith("step ") for entry in logs) == steps

    refused = shell(CANCEL, task["id"])
    assert refused["type"] == "conflict"


def test_cancel_as_it_stands_there(cluster: Cluster) -> None:
    """A task that waits for long: its problem is served by a worker that never claims."""
    worker = {"worker_id": "curl-example-worker", "backend_type": "kind"}
    worker["capabilities"] = {"supported_problems": ["curl-example-*"]}  # type: ignore[assignment]
    assert requests.post(f"{API}/api/v1/workers/register", json=worker, timeout=60).status_code == 201
    try:
        task_id = create(cluster, "curl-example-1")
        assert shell(CANCEL, task_id) == {"message": "Task cancelled successfully", "task_id": task_id}
        assert ended(task_id)["status"] == "cancelled"
    finally:
        requests.delete(f"{API}/api/v1/workers/curl-example-worker", timeout=60)


def test_the_worker_operations() -> None:
    """Scaled back afterwards, so that other tests find what a fresh installation has."""
    before = shell(WORKERS)
    assert {"worker-001-kind", "worker-002-kind", "worker-003-kind"} <= {worker["id"] for worker in before}
    scaled = shell(SCALE)
    try:
        assert scaled == {"message": "Workers scaled successfully", "previous_count": 3, "new_count": 5}
        assert shell(HEALTH)["status"] == "healthy"
    finally:
        requests.post(f"{API}/api/v1/workers/internal/scale", json={"num_workers": 3}, timeout=60)


@pytest.mark.parametrize(
    ("problem_id", "output"),
    [
        ("test-problem-001", "Task completed successfully"),
        ("benchmark-001", "million numbers sorted"),
        ("container-001", "the container got its parameters"),
        ("incident-pod-failure", "root cause: pod_failure of redis"),
        ("incident-network-loss", "root cause: network_loss of catalog"),
        ("incident-bad-config", "root cause: bad_config of database"),
        ("incident-memory-leak", "root cause: memory_leak of cart"),
    ],
)
def test_the_example_problems_are_solved(cluster: Cluster, problem_id: str, output: str) -> None:
    done = ended(create(cluster, problem_id, agent_config={"model": "gpt-4", "temperature": 0.7}))
    assert done["status"] == "completed", done
    assert done["result"]["success"] is True
    assert output in done["result"]["output"]
    assert done["result"]["metrics"]["steps_taken"] >= 1


def test_the_agent_stops_when_its_steps_are_used_up_and_logs_each(cluster: Cluster) -> None:
    task_id = create(cluster, "incident-pod-failure", max_steps=3)
    done = ended(task_id)
    assert done["status"] == "completed"
    assert done["result"]["success"] is False
    assert done["result"]["metrics"]["steps_taken"] == 3
    logs = shell(LOGS, task_id)
    steps = [entry["context"]["step"] for entry in logs if "action" in entry["context"]]
    assert steps == [1, 2, 3]
    assert [entry["message"] for entry in logs if entry["level"] == "warning"] == ["out of steps"]


def test_the_container_logs_json_lines_and_plain_ones(cluster: Cluster) -> None:
    task_id = create(cluster, "container-002")
    assert ended(task_id)["status"] == "completed"
    logs = shell(LOGS, task_id)
    assert logs[0]["context"] == {"step": 1, "action": "initialize"}
    assert logs[1]["message"].startswith("parameters: ")
    assert [entry["level"] for entry in logs] == ["info", "info", "debug"]


def test_the_example_worker_takes_its_tasks(cluster: Cluster) -> None:
    """And leaves what it does not know to others."""
    command = [sys.executable, "-u", str(ROOT / "examples" / "worker.py"), "example-worker", "echo-*"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        task_id = await_created(cluster, "echo-1", text="hello")
        done = ended(task_id)
        assert done["status"] == "completed", done
        assert done["worker_id"] == "example-worker"
        assert done["result"] == {"success": True, "output": "echo-1: hello", "metrics": {"steps_taken": 1}}
    finally:
        process.kill()
        process.communicate()
        requests.delete(f"{API}/api/v1/workers/example-worker", timeout=60)


def await_created(cluster: Cluster, problem_id: str, **parameters: Any) -> str:
    """Refused until the worker that serves it has registered."""
    deadline = time.monotonic() + 60
    body = {"problem_id": problem_id, "parameters": parameters}
    while True:
        answer = requests.post(f"{API}/api/v1/tasks", json=body, timeout=60)
        if answer.status_code == 201:
            task_id: str = answer.json()["id"]
            cluster.adopt(task_id)
            return task_id
        assert answer.status_code == 422, answer.text
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)


def test_the_example_problems_are_custom_resources() -> None:
    listed = kubectl("get", "workflows", "-n", "maze", "-o", "jsonpath={.items[*].metadata.name}").split()
    assert {"example-problems", "benchmark-problems", "container-problems", "incident-problems"} <= set(listed)
