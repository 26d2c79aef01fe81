"""Tasks of the Task Executor that internal workers execute in pods: every way to end, logs, and events."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from cluster import Cluster, awaited, kubectl, python
from own_api import OwnApi, own_api, own_namespace
from task_http import TIME, Tasks, require_error, serve

Json = dict[str, Any]
LIMIT = 30
"""Seconds."""
WORKER = r"worker-\d{3}-kind"

SEARCH = """
import json, logging

def search(inputs):
    logging.basicConfig(level=logging.DEBUG, format="%(levelname)s:%(name)s:%(message)s")
    log = logging.getLogger("search")
    log.info("Task execution started")
    print(json.dumps({"level": "warning", "message": "hot", "timestamp": "2025-01-14T10:30:05Z", "step": 1}), flush=True)
    print("plain", flush=True)
    log.debug("agent %s", inputs["agent_config"]["model"])
    return {"success": True, "output": "Task completed successfully", "metrics": {"steps_taken": inputs["max_steps"]}}
"""
FAIL = "def fail(inputs):\n    print('before')\n    raise ValueError('no luck')"
WAIT = "import time\ndef wait(inputs):\n    print('waiting', flush=True)\n    time.sleep(600)"
FROM_INPUT = {"max_steps": {"from": "input.max_steps"}, "agent_config": {"from": "input.agent_config"}}
DOUBLE = "def double(inputs):\n    print('got', inputs['n'])\n    return {'n': 2 * inputs['n']}"


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    with own_namespace() as name:
        made = Cluster(name)
        serve(made, name, "search", "search-*", python("search", SEARCH, inputs=FROM_INPUT))
        serve(made, name, "fail", "fail-*", python("fail", FAIL))
        serve(made, name, "wait", "wait-*", python("wait", WAIT))
        first = python("first", DOUBLE, inputs={"n": {"from": "input.n"}})
        second = python("second", DOUBLE, inputs={"n": {"from": "first.output.n"}})
        serve(made, name, "chain", "chain-*", first, second)
        made.close()
        yield name


@pytest.fixture(scope="module")
def api(namespace: str) -> Iterator[OwnApi]:
    with own_api(namespace, NUM_INTERNAL_WORKERS="3") as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def limited(api: OwnApi) -> str:
    """A task that is stopped after a time that lets any pod start; it runs beside the others."""
    with closing(Tasks(api.url)) as made:
        task_id: str = made.create("wait-timeout", {"timeout": LIMIT})["id"]
        return task_id


@pytest.fixture
def tasks(api: OwnApi) -> Iterator[Tasks]:
    made = Tasks(api.url)
    yield made
    made.close()


def test_a_task_completes_with_the_result_and_the_log_of_the_reference(tasks: Tasks, namespace: str) -> None:
    made = tasks.create("search-1", {"max_steps": 12, "agent_config": {"model": "gpt-4"}})
    done = tasks.ended(made["id"])
    assert done["status"] == "completed", done
    assert done["parameters"] == made["parameters"]
    assert re.fullmatch(WORKER, done["worker_id"])
    duration = done["result"]["metrics"].pop("duration_seconds")
    assert 0 < duration < 120
    assert done["result"] == {"success": True, "output": "Task completed successfully", "metrics": {"steps_taken": 12}}
    for field in ("created_at", "updated_at", "started_at", "completed_at"):
        assert re.fullmatch(TIME, done[field]), field
    assert done["created_at"] <= done["started_at"] <= done["completed_at"]
    assert made["id"] in {task["id"] for task in tasks.list(status="completed", worker_id=done["worker_id"])}

    logs = tasks.logs(made["id"])
    assert [(entry["level"], entry["message"], entry["context"]) for entry in logs] == [
        ("info", "Task execution started", {"logger": "search"}),
        ("warning", "hot", {"step": 1}),
        ("info", "plain", {}),
        ("debug", "agent gpt-4", {"logger": "search"}),
    ]
    assert next(entry for entry in logs if entry["message"] == "hot")["timestamp"] == "2025-01-14T10:30:05.000000Z"
    assert all(set(entry) == {"timestamp", "level", "message", "context"} for entry in logs)
    assert tasks.messages(made["id"], level="debug") == ["agent gpt-4"]
    assert tasks.messages(made["id"], level="critical") == []
    assert tasks.messages(made["id"], limit=2) == [entry["message"] for entry in logs][-2:]
    require_error(tasks.call("GET", f"/api/v1/tasks/{made['id']}/logs?level=loud"), 422, "invalid", "query.level")
    require_error(tasks.call("GET", f"/api/v1/tasks/{made['id']}/logs?limit=0"), 422, "invalid", "query.limit")

    kubectl("delete", "pods", "-n", namespace, "-l", f"maze.dev/run={made['id']}", "--ignore-not-found")
    assert tasks.logs(made["id"]) == logs, "the log outlives the pod"
    require_error(tasks.cancel(made["id"]), 409, "conflict", "has ended already: it is completed")


def test_a_task_that_raises_has_failed(tasks: Tasks) -> None:
    done = tasks.ended(tasks.create("fail-1")["id"])
    assert done["status"] == "failed"
    assert (done["result"]["success"], done["result"]["error"]) == (False, "UserException")
    assert "no luck" in done["result"]["output"]
    plain, traceback = tasks.logs(done["id"])
    assert (plain["level"], plain["message"]) == ("info", "before")
    assert traceback["level"] == "error"
    assert traceback["message"].startswith("Traceback (most recent call last):")
    assert traceback["message"].endswith("ValueError: no luck")
    assert tasks.logs(done["id"], level="error") == [traceback]
    assert tasks.polled(done["id"])[-1]["type"] == "task_failed"


def test_a_running_task_shows_its_log_and_is_cancelled(tasks: Tasks) -> None:
    task_id = tasks.create("wait-cancelled")["id"]
    running = tasks.until(task_id, "running")
    assert re.fullmatch(WORKER, running["worker_id"])
    assert re.fullmatch(TIME, running["started_at"])
    assert (running["completed_at"], running["result"]) == (None, None)
    assert task_id in {task["id"] for task in tasks.list(status="running", worker_id=running["worker_id"])}
    awaited(lambda: tasks.messages(task_id), lambda seen: "waiting" in seen)
    assert tasks.cancel(task_id).json() == {"message": "Task cancelled successfully", "task_id": task_id}
    done = tasks.ended(task_id)
    assert (done["status"], done["worker_id"]) == ("cancelled", running["worker_id"])
    assert done["result"]["error"] == "Cancelled"
    require_error(tasks.cancel(task_id), 409, "conflict", "has ended already: it is cancelled")
    assert tasks.polled(task_id)[-1]["type"] == "task_cancelled"


def test_the_socket_tells_what_polling_tells_while_it_happens(tasks: Tasks) -> None:
    task_id = tasks.create("chain-1", {"n": 3})["id"]
    with ThreadPoolExecutor(2) as pool:
        streams = [pool.submit(tasks.streamed, task_id), pool.submit(tasks.polled, task_id)]
        (streamed, code), polled = streams[0].result(), streams[1].result()
    assert code == 1000
    assert streamed == polled == tasks.streamed(task_id)[0]
    assert [event["id"] for event in polled] == list(range(1, len(polled) + 1))
    assert [(event["type"], event.get("step")) for event in polled] == [
        ("task_started", None),
        ("step_started", "first"),
        ("step_completed", "first"),
        ("step_started", "second"),
        ("step_completed", "second"),
        ("task_completed", None),
    ]
    assert {event["task_id"] for event in polled} == {task_id}
    assert [event["status"] for event in polled] == ["running"] * 5 + ["completed"]
    assert {bool(re.fullmatch(WORKER, event["worker_id"])) for event in polled} == {True}
    assert all(re.fullmatch(TIME, event["timestamp"]) for event in polled)
    assert tasks.streamed(task_id, after=4) == (polled[4:], 1000)
    assert tasks.read(f"/{task_id}/events", after=len(polled)) == {"events": [], "ended": True}

    done = tasks.get(task_id)
    assert done["result"]["output"] == {"n": 12}, "what the last step returned"
    assert [(entry["message"], entry["context"]) for entry in tasks.logs(task_id)] == [
        ("got 3", {"task": "first", "attempt": 1}),
        ("got 6", {"task": "second", "attempt": 1}),
    ]


def test_a_task_that_takes_too_long_is_stopped_and_its_log_is_kept(tasks: Tasks, limited: str) -> None:
    done = tasks.ended(limited, seconds=LIMIT + 60)
    assert (done["status"], done["result"]["error"]) == ("timeout", "TimedOut")
    assert done["result"]["success"] is False
    assert LIMIT <= done["result"]["metrics"]["duration_seconds"] < LIMIT + 60
    assert tasks.messages(limited)[0] == "waiting"
    assert tasks.polled(limited)[-1]["type"] == "task_timeout"
