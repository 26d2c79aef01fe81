"""External workers, call by call: what the Task Executor's reference says of them, and what it leaves open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from own_api import own_api, own_namespace
from worker_http import Client, assert_refused, until

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """No internal workers: only those that a test registers."""
    settings = {"NUM_INTERNAL_WORKERS": "0", "MAZE_WORKER_TIMEOUT_SECONDS": "600"}
    with own_namespace() as namespace, own_api(namespace, **settings) as api, Client(api.url) as client:
        yield client


def is_now(text: str) -> bool:
    """Whether a time is of the last minutes."""
    assert TIME.fullmatch(text), text
    return abs((datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()) < 600


def test_registering_as_in_the_reference(client: Client) -> None:
    body = {
        "worker_id": "worker-002-kind",
        "backend_type": "kind",
        "capabilities": {"max_parallel_tasks": 5, "supported_problems": ["test-*", "benchmark-*"]},
    }
    answer = client.call("POST", "/workers/register", json=body)
    assert answer.status_code == 201
    made = answer.json()
    assert is_now(made.pop("registered_at"))
    assert made == {"id": "worker-002-kind", "backend_type": "kind", "status": "idle"}

    shown = client.worker("worker-002-kind")
    assert is_now(shown.pop("registered_at"))
    assert is_now(shown.pop("last_heartbeat"))
    assert shown == {
        "id": "worker-002-kind",
        "backend_type": "kind",
        "status": "idle",
        "capabilities": body["capabilities"],
        "tasks_completed": 0,
        "tasks_failed": 0,
        "internal": False,
        "metadata": {},
    }


def test_registering_again_updates(client: Client) -> None:
    first = client.register("again", "a-*", metadata={"host": "one", "tags": [1, None, {"x": 1.5}]})
    assert client.worker("again")["metadata"] == {"host": "one", "tags": [1, None, {"x": 1.5}]}
    second = client.register("again", "b-*", parallel=7, backend_type="vm", metadata={"host": "two"})
    assert second == {**first, "backend_type": "vm"}
    shown = client.worker("again")
    assert shown["capabilities"] == {"max_parallel_tasks": 7, "supported_problems": ["b-*"]}
    assert shown["metadata"] == {"host": "two"}


def test_little_need_be_said(client: Client) -> None:
    answer = client.call("POST", "/workers/register", json={"worker_id": "terse", "backend_type": "x", "unknown": 1})
    assert answer.status_code == 201
    assert client.worker("terse")["capabilities"] == {"max_parallel_tasks": 1, "supported_problems": []}


@pytest.mark.parametrize("worker_id", ["Großer Arbeiter 1", "a.b_c:d@e?f#g%h", "x" * 253, "internal", "UPPER"])
def test_a_worker_may_call_itself_anything(client: Client, worker_id: str) -> None:
    client.register(worker_id, "nothing-of-this")
    path = f"/workers/{quote(worker_id)}"
    assert client.get(path)["id"] == worker_id
    assert client.call("POST", f"{path}/heartbeat").status_code == 200
    assert client.call("POST", f"{path}/claim").status_code == 204
    assert worker_id in [worker["id"] for worker in client.get("/workers")]
    assert client.call("DELETE", path).status_code == 204


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"worker_id": ""}, "worker_id"),
        ({"worker_id": "a/b"}, "must fit into a path"),
        ({"worker_id": None}, "worker_id"),
        ({"backend_type": ""}, "backend_type"),
        ({"capabilities": {"max_parallel_tasks": 0}}, "capabilities.max_parallel_tasks"),
        ({"capabilities": {"supported_problems": "test-*"}}, "capabilities.supported_problems"),
        ({"metadata": [1]}, "metadata"),
    ],
)
def test_a_registration_that_makes_no_sense(client: Client, wrong: dict[str, Any], said: str) -> None:
    body = {"worker_id": "wrong", "backend_type": "kind", **wrong}
    assert_refused(client.call("POST", "/workers/register", json=body), 422, "invalid", said)
    assert "wrong" not in [worker["id"] for worker in client.get("/workers")]


def test_the_list_and_its_filters(client: Client) -> None:
    client.register("list-b", "none-*", backend_type="list-type")
    client.register("list-a", "none-*", backend_type="list-type")
    client.register("list-c", "list-*", backend_type="list-other")
    task = client.create("list-1")
    assert client.claimed("list-c")["id"] == task

    def ids(**query: str) -> list[str]:
        return [worker["id"] for worker in client.get("/workers", **query)]

    assert ids(backend_type="list-type") == ["list-a", "list-b"]
    assert ids(backend_type="list-type", status="idle") == ["list-a", "list-b"]
    assert ids(backend_type="list-type", status="busy") == []
    assert ids(backend_type="list-other", status="busy") == ["list-c"]
    assert ids(backend_type="unknown") == []
    assert {"list-a", "list-b", "list-c"} <= set(ids())
    assert_refused(client.call("GET", "/workers?status=sleeping"), 422, "invalid", "status")
    client.complete("list-c", task, {})
    assert "list-c" in ids(status="idle")


def test_heartbeats(client: Client) -> None:
    client.register("beating", "none-*")
    before = client.worker("beating")["last_heartbeat"]
    answer = client.beat("beating", status="idle", current_task_id=None)
    assert answer["message"] == "Heartbeat received"
    assert is_now(answer["timestamp"])
    assert set(answer) == {"message", "timestamp"}
    assert client.worker("beating")["last_heartbeat"] == answer["timestamp"] > before
    client.beat("beating", status="busy", current_task_id="something of its own")
    assert client.worker("beating")["status"] == "busy"
    client.beat("beating")
    assert client.worker("beating")["status"] == "idle"
    left = client.beat("beating", status="offline")["timestamp"]
    assert client.worker("beating")["status"] == "offline"
    assert client.worker("beating")["last_heartbeat"] == left
    client.beat("beating", status="idle")
    assert client.worker("beating")["status"] == "idle"
    answer = client.call("POST", "/workers/beating/heartbeat", json={"status": "asleep"})
    assert_refused(answer, 422, "invalid", "status")


def test_a_claim_as_in_the_reference(client: Client) -> None:
    client.register("claiming", "claim-*")
    assert client.claim("claiming") is None
    parameters = {"max_steps": 5, "timeout": 60, "agent_config": {"model": "gpt-4", "temperature": 0.7}}
    task = client.create("claim-1", parameters=parameters)
    claimed = client.claimed("claiming")
    assert {key: claimed[key] for key in ("id", "problem_id", "status", "parameters")} == {
        "id": task,
        "problem_id": "claim-1",
        "status": "running",
        "parameters": parameters,
    }
    assert (claimed["worker_id"], claimed["attempt"], claimed["result"]) == ("claiming", 1, None)
    shown = client.task(task)
    assert (shown["status"], shown["worker_id"]) == ("running", "claiming")
    assert client.worker("claiming")["status"] == "busy"
    assert client.claim("claiming") is None, "a worker got more than max_parallel_tasks"
    client.complete("claiming", task, {"success": True})
    assert client.worker("claiming")["status"] == "idle"


def test_the_highest_priority_comes_first_then_the_oldest(client: Client) -> None:
    client.register("orderly", "order-[0-9]", parallel=10)
    made = [client.create(f"order-{n}", priority=priority) for n, priority in enumerate((0, 5, 0, -5, 5))]
    client.create("order-x")
    claimed = [client.claimed("orderly")["id"] for _ in made]
    assert claimed == [made[1], made[4], made[0], made[2], made[3]]
    assert client.claim("orderly") is None, "the glob order-[0-9] does not match order-x"


@pytest.mark.parametrize(
    "result", [{"success": True, "output": "ü", "metrics": {"steps_taken": 12}}, None, [], [1, "a"], "text", 0, False]
)
def test_any_json_is_a_result(client: Client, result: Any) -> None:
    client.register("reporting", "report-*")
    task = client.create("report-1")
    assert client.claimed("reporting")["id"] == task
    assert client.complete("reporting", task, result) == {
        "message": "Task completed successfully",
        "task_id": task,
        "status": "completed",
    }
    shown = client.task(task)
    assert (shown["status"], shown["worker_id"], shown["result"]) == ("completed", "reporting", result)
    assert is_now(shown["completed_at"])


def test_a_failure_and_reports_said_twice(client: Client) -> None:
    client.register("failing", "fail-*")
    task = client.create("fail-1")
    assert client.claimed("failing")["id"] == task
    assert_refused(client.report("failing", task, "fail", {}), 422, "invalid", "error: Field required")
    answer = client.report("failing", task, "fail", {"error": "the agent gave up"})
    assert answer.status_code == 200
    assert answer.json() == {"message": "Task failure recorded", "task_id": task, "status": "failed"}
    shown = client.task(task)
    assert (shown["status"], shown["worker_id"]) == ("failed", "failing")
    assert "the agent gave up" in shown["message"]
    assert client.report("failing", task, "fail", {"error": "the agent gave up"}).status_code == 200
    assert_refused(client.report("failing", task, "complete", {}), 409, "conflict", "failed before")
    assert client.task(task)["status"] == "failed"
    until(lambda: client.worker("failing")["tasks_failed"] == 1, "the failure is counted")


def test_only_the_owner_may_report(client: Client) -> None:
    client.register("owner", "own-*")
    client.register("stranger", "own-*")
    task = client.create("own-1")
    assert_refused(client.report("stranger", task, "complete", {}), 409, "conflict", "claim it first")
    assert client.claimed("owner")["id"] == task
    for how, body in (("complete", {}), ("fail", {"error": "x"})):
        assert_refused(
            client.report("stranger", task, how, body), 409, "conflict", "'stranger' does not have this task"
        )
    assert client.task(task)["status"] == "running"
    client.complete("owner", task, 1)
    for unknown in ("00000000-0000-4000-8000-000000000000", "No Name", "x"):
        assert_refused(client.report("owner", unknown, "complete", {}), 404, "not_found", unknown)


def test_a_cancelled_task_takes_no_report(client: Client) -> None:
    client.register("late", "late-*")
    task = client.create("late-1")
    assert client.claimed("late")["id"] == task
    assert client.call("POST", f"/tasks/{task}/cancel").status_code == 200
    until(lambda: client.task(task)["status"] == "cancelled", "the task is cancelled")
    assert_refused(client.report("late", task, "complete", {}), 409, "conflict", "cancelled")
    assert client.worker("late")["status"] == "idle"


def test_statistics(client: Client) -> None:
    client.register("counted", "count-*", parallel=2)
    empty = client.get("/workers/counted/stats")
    assert empty.pop("uptime_seconds") >= 0
    assert empty == {
        "id": "counted",
        "tasks_completed": 0,
        "tasks_failed": 0,
        "tasks_lost": 0,
        "tasks_running": 0,
        "running_tasks": [],
        "success_rate": None,
        "average_duration_seconds": None,
    }
    tasks = [client.create(f"count-{n}") for n in range(5)]
    for task in tasks[:3]:
        assert client.claimed("counted")["id"] == task
        client.complete("counted", task, {})
    assert client.claimed("counted")["id"] == tasks[3]
    assert client.report("counted", tasks[3], "fail", {"error": {"code": 7}}).status_code == 200
    assert client.claimed("counted")["id"] == tasks[4]
    until(lambda: client.get("/workers/counted/stats")["tasks_completed"] == 3, "three are counted")
    until(lambda: client.get("/workers/counted/stats")["tasks_failed"] == 1, "one is counted")
    found = client.get("/workers/counted/stats")
    assert found.pop("uptime_seconds") > 0
    assert found.pop("average_duration_seconds") >= 0
    assert found == {
        "id": "counted",
        "tasks_completed": 3,
        "tasks_failed": 1,
        "tasks_lost": 0,
        "tasks_running": 1,
        "running_tasks": [tasks[4]],
        "success_rate": 0.75,
    }


def test_who_is_not_registered_is_told_so(client: Client) -> None:
    task = client.create("test-1")  # worker-002-kind takes these
    for method, path, body in (
        ("GET", "", None),
        ("GET", "/stats", None),
        ("DELETE", "", None),
        ("POST", "/heartbeat", {"status": "idle"}),
        ("POST", "/claim", None),
        ("POST", f"/tasks/{task}/complete", {}),
        ("POST", f"/tasks/{task}/fail", {"error": "x"}),
    ):
        answer = client.call(method, f"/workers/nobody{path}", json=body)
        assert_refused(answer, 404, "not_found", "there is no worker 'nobody'")


def test_a_worker_that_is_forgotten_gives_its_task_back(client: Client) -> None:
    client.register("leaving", "leave-*")
    task = client.create("leave-1")
    assert client.claimed("leaving")["id"] == task
    assert client.call("DELETE", "/workers/leaving").status_code == 204
    assert "leaving" not in [worker["id"] for worker in client.get("/workers")]
    until(lambda: client.task(task)["status"] == "pending", "the task waits again")
    client.register("leaving", "leave-*")
    again = client.claimed("leaving")
    assert (again["id"], again["attempt"]) == (task, 2)
    client.complete("leaving", task, {})
