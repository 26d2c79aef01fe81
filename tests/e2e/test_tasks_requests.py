"""Tasks of the Task Executor as clients ask for them, field by field. No internal worker is there: nothing runs in pods."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import websocket

from cluster import Cluster, awaited, python
from own_api import OwnApi, own_api, own_namespace
from task_http import TIME, UNKNOWN, UUID, Tasks, require_error, serve

Json = dict[str, Any]
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "max_steps": {"maximum": 50}, "level": {"enum": ["easy"]}},
    "required": ["n"],
}


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    with own_namespace() as name:
        made = Cluster(name)
        serve(made, name, "plain", "test-*", python("t", "def f(p): return {}"))
        serve(made, name, "strict", "strict-*", python("t", "def f(p): return {}"), inputSchema=SCHEMA)
        made.close()
        yield name


@pytest.fixture(scope="module")
def api(namespace: str) -> Iterator[OwnApi]:
    with own_api(namespace, NUM_INTERNAL_WORKERS="0", DEFAULT_TIMEOUT_MINUTES="7", DEFAULT_MAX_STEPS="9") as made:
        yield made


@pytest.fixture
def tasks(api: OwnApi) -> Iterator[Tasks]:
    made = Tasks(api.url)
    yield made
    made.close()


def test_a_task_is_created_as_the_reference_shows(tasks: Tasks) -> None:
    parameters = {"max_steps": 30, "timeout": 1800, "agent_config": {"model": "gpt-4", "temperature": 0.7}}
    answer = tasks.post({"problem_id": "test-problem-001", "parameters": parameters})
    assert answer.status_code == 201
    made = answer.json()
    assert set(made) == {"id", "problem_id", "status", "parameters", "created_at", "updated_at", "priority"}
    assert re.fullmatch(UUID, made["id"])
    assert (made["problem_id"], made["status"], made["parameters"]) == ("test-problem-001", "pending", parameters)
    assert re.fullmatch(TIME, made["created_at"])
    assert made["updated_at"] == made["created_at"]

    found = tasks.get(made["id"])
    assert {key: found[key] for key in made} == {**made, "updated_at": found["updated_at"]}
    assert found["status"] == "pending"
    for field in ("worker_id", "result", "started_at", "completed_at"):
        assert found[field] is None


def test_defaults_come_from_the_settings(tasks: Tasks) -> None:
    made = tasks.create("test-defaults")
    assert made["parameters"] == {"max_steps": 9, "timeout": 420}
    made = tasks.create("test-defaults", {"timeout": 5, "anything": [1, {"x": None}]}, priority=7)
    assert made["parameters"] == {"max_steps": 9, "timeout": 5, "anything": [1, {"x": None}]}
    assert tasks.get(made["id"])["parameters"] == made["parameters"]
    assert tasks.get(made["id"])["priority"] == 7


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "problem_id: Field required"),
        ({"problem_id": ""}, "problem_id: String should have at least 1 character"),
        ({"problem_id": "x" * 254}, "problem_id: String should have at most 253 characters"),
        ({"problem_id": 5}, "problem_id"),
        ({"problem_id": "test-1", "parameters": {"timeout": 0}}, "parameters.timeout"),
        ({"problem_id": "test-1", "parameters": {"timeout": 604801}}, "parameters.timeout"),
        ({"problem_id": "test-1", "parameters": {"timeout": "soon"}}, "parameters.timeout"),
        ({"problem_id": "test-1", "parameters": {"max_steps": 0}}, "parameters.max_steps"),
        ({"problem_id": "test-1", "parameters": [1]}, "parameters"),
        ({"problem_id": "test-1", "priority": 5000}, "priority"),
        ([1], "the body"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field(tasks: Tasks, body: Any, text: str) -> None:
    require_error(tasks.post(body), 422, "invalid", text)


@pytest.mark.parametrize("data", [b"{", b"problem_id=x", b"\xff", b""])
def test_what_is_no_json_is_refused(tasks: Tasks, data: bytes) -> None:
    answer = tasks.call("POST", "/api/v1/tasks", data=data, headers={"Content-Type": "application/json"})
    if data:
        require_error(answer, 400, "bad_request", "")
    else:
        require_error(answer, 422, "invalid", "the body: Field required")


def test_parameters_that_do_not_fit_the_workflow_are_all_named(tasks: Tasks) -> None:
    answer = tasks.post({"problem_id": "strict-1", "parameters": {"max_steps": 60, "level": "hard"}})
    require_error(answer, 422, "invalid", "Workflow 'strict'")
    for part in ("max_steps", "level", "'n' is a required property"):
        assert part in answer.json()["detail"]
    tasks.create("strict-1", {"n": 1, "level": "easy"})


def test_a_problem_that_nobody_serves_is_refused_until_a_worker_registers(tasks: Tasks) -> None:
    refused = tasks.post({"problem_id": "external-1"})
    require_error(refused, 422, "invalid", "no Workflow and no registered worker serves problem_id 'external-1'")
    assert "test-* (Workflow plain)" in refused.json()["detail"]
    assert "strict-* (Workflow strict)" in refused.json()["detail"]
    tasks.register("late-worker", "external-*")
    made = tasks.create("external-1")
    assert tasks.get(made["id"])["status"] == "pending"
    assert tasks.worker("DELETE", "/late-worker").status_code == 204
    awaited(lambda: tasks.post({"problem_id": "external-1"}).status_code, lambda status: status == 422)


def test_a_workflow_can_be_used_as_soon_as_it_is_applied(tasks: Tasks, namespace: str) -> None:
    cluster = Cluster(namespace)
    for number in range(5):
        serve(cluster, namespace, f"fresh-{number}", f"fresh-{number}-*", python("t", "def f(p): return {}"))
        tasks.create(f"fresh-{number}-x")
    cluster.close()


@pytest.mark.parametrize("task_id", [UNKNOWN, "No_Such_Name", "x" * 300, "a%2Fb", "%00"])
def test_an_unknown_task_is_not_found_anywhere(tasks: Tasks, task_id: str) -> None:
    path = f"/api/v1/tasks/{task_id}"
    require_error(tasks.call("GET", path), 404, "not_found", "")
    require_error(tasks.call("POST", f"{path}/cancel"), 404, "not_found", "")
    require_error(tasks.call("GET", f"{path}/logs"), 404, "not_found", "")
    require_error(tasks.call("GET", f"{path}/events"), 404, "not_found", "")


def test_the_socket_of_an_unknown_task_is_refused(tasks: Tasks) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        tasks.streamed(UNKNOWN)
    assert refused.value.status_code == 404
    assert b"there is no task" in refused.value.resp_body


def test_a_run_that_is_no_task_is_not_found(tasks: Tasks, namespace: str) -> None:
    cluster = Cluster(namespace)
    name = cluster.create_run({"workflowRef": {"name": "plain"}, "desiredState": "Suspended"})
    require_error(tasks.call("GET", f"/api/v1/tasks/{name}"), 404, "not_found", f"there is no task '{name}'")
    assert name not in {task["id"] for task in tasks.list(limit=1000)}
    cluster.clean()
    cluster.close()


def test_lists_are_filtered_and_paged_newest_first(tasks: Tasks) -> None:
    tasks.register("lister", "test-list-mine")
    made = [tasks.create("test-list")["id"] for _ in range(5)]
    mine = tasks.create("test-list-mine")["id"]
    claimed = tasks.worker("POST", "/lister/claim")
    assert (claimed.status_code, claimed.json()["id"]) == (200, mine)
    newest = made[::-1]

    listed = tasks.list(problem_id="test-list")
    assert [task["id"] for task in listed] == newest
    assert {"id", "problem_id", "status", "worker_id", "created_at"} <= set(listed[0])
    assert (listed[0]["problem_id"], listed[0]["status"], listed[0]["worker_id"]) == ("test-list", "pending", None)
    assert re.fullmatch(TIME, listed[0]["created_at"])
    assert [task["id"] for task in tasks.list(problem_id="test-list", limit=2)] == newest[:2]
    assert [task["id"] for task in tasks.list(problem_id="test-list", limit=2, offset=3)] == newest[3:]
    assert tasks.list(problem_id="test-list", offset=5) == []
    assert [task["id"] for task in tasks.list(limit=2)] == [mine, newest[0]]

    (running,) = tasks.list(worker_id="lister")
    assert (running["id"], running["status"], running["worker_id"]) == (mine, "running", "lister")
    assert mine in {task["id"] for task in tasks.list(status="running")}
    assert mine not in {task["id"] for task in tasks.list(status="pending", limit=1000)}
    assert tasks.list(status="pending", worker_id="lister") == []
    assert {"test-list"} == {task["problem_id"] for task in tasks.list(status="pending", problem_id="test-list")}


@pytest.mark.parametrize("query", ["status=lost", "limit=0", "limit=1001", "limit=many", "offset=-1"])
def test_a_list_that_cannot_be_is_refused(tasks: Tasks, query: str) -> None:
    require_error(tasks.call("GET", f"/api/v1/tasks?{query}"), 422, "invalid", query.split("=")[0])


def test_a_key_makes_one_task(tasks: Tasks) -> None:
    body = {"problem_id": "test-key", "parameters": {"a": 1, "b": 2}}
    first = tasks.post(body, **{"Idempotency-Key": "sequential"})
    again = tasks.post({**body, "parameters": {"b": 2, "a": 1}}, **{"Idempotency-Key": "sequential"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert first.json()["created_at"] == again.json()["created_at"]
    other = tasks.post({**body, "priority": 1}, **{"Idempotency-Key": "sequential"})
    require_error(other, 422, "invalid", "Idempotency-Key 'sequential' was used for another request")
    unkeyed = tasks.post(body)
    assert unkeyed.json()["id"] != first.json()["id"]
    assert len(tasks.list(problem_id="test-key")) == 2
    require_error(tasks.post(body, **{"Idempotency-Key": "k" * 256}), 422, "invalid", "Idempotency-Key")


def test_a_key_makes_one_task_for_callers_at_once_at_two_replicas(api: OwnApi, namespace: str) -> None:
    with own_api(namespace, NUM_INTERNAL_WORKERS="0") as second:
        callers = [Tasks(url) for url in (api.url, second.url) * 5]

        def create(caller: Tasks) -> tuple[int, str]:
            # The replicas have other defaults, which are no part of the request.
            answer = caller.post({"problem_id": "test-race"}, **{"Idempotency-Key": "race"})
            return answer.status_code, answer.json().get("id")

        with ThreadPoolExecutor(len(callers)) as pool:
            answers = list(pool.map(create, callers))
        try:
            assert {status for status, _ in answers} == {201}
            assert len({task_id for _, task_id in answers}) == 1
            assert len(callers[0].list(problem_id="test-race")) == 1
        finally:
            for caller in callers:
                caller.close()


def test_a_waiting_task_is_cancelled(tasks: Tasks) -> None:
    made = tasks.create("test-cancel")["id"]
    for _ in range(2):
        answer = tasks.cancel(made)
        if answer.status_code == 409:  # the second time the operator may have noted it already
            break
        assert answer.json() == {"message": "Task cancelled successfully", "task_id": made}
    else:
        assert answer.status_code == 200
    done = tasks.ended(made)
    assert (done["status"], done["worker_id"], done["started_at"]) == ("cancelled", None, None)
    assert done["result"]["success"] is False
    assert done["result"]["error"] == "Cancelled"
    assert re.fullmatch(TIME, done["completed_at"])
    require_error(tasks.cancel(made), 409, "conflict", "has ended already: it is cancelled")
    assert tasks.logs(made) == []
    events = tasks.polled(made)
    assert [(event["id"], event["type"], event["status"]) for event in events] == [(1, "task_cancelled", "cancelled")]
    assert tasks.streamed(made) == (events, 1000)
    assert tasks.streamed(made, after=1) == ([], 1000)


def test_what_an_external_worker_reports_is_the_result_as_it_is(tasks: Tasks) -> None:
    tasks.register("reporter", "test-reported-*")
    made = tasks.create("test-reported-1", {"n": 1})
    claimed = tasks.worker("POST", "/reporter/claim")
    assert claimed.status_code == 200
    shown = claimed.json()
    assert {key: shown[key] for key in ("id", "problem_id", "status", "parameters")} == {
        "id": made["id"],
        "problem_id": "test-reported-1",
        "status": "running",
        "parameters": made["parameters"],
    }
    running = tasks.get(made["id"])
    assert (running["status"], running["worker_id"], running["result"]) == ("running", "reporter", None)
    assert re.fullmatch(TIME, running["started_at"])
    result = {"success": False, "score": [1, 2.5, None], "text": "ünïcode"}
    reported = tasks.worker("POST", f"/reporter/tasks/{made['id']}/complete", result)
    assert reported.status_code == 200, reported.text
    done = tasks.ended(made["id"])
    assert (done["status"], done["worker_id"], done["result"]) == ("completed", "reporter", result)
    assert made["created_at"] <= done["started_at"] <= done["completed_at"] <= done["updated_at"]
    logs = tasks.logs(made["id"])
    assert [(entry["level"], entry["message"]) for entry in logs] == [
        ("info", "claimed by worker 'reporter'"),
        ("info", "completed"),
    ]
    events = tasks.polled(made["id"])
    assert [(event["id"], event["type"], event["worker_id"]) for event in events] == [
        (1, "task_started", "reporter"),
        (2, "task_completed", "reporter"),
    ]
    assert tasks.streamed(made["id"], after=1) == (events[1:], 1000)
    assert made["id"] in {task["id"] for task in tasks.list(status="completed", worker_id="reporter")}


def test_what_an_external_worker_could_not_do_has_failed_or_timed_out(tasks: Tasks) -> None:
    tasks.register("failer", "test-failed-*")
    failing, slow = tasks.create("test-failed-1"), tasks.create("test-failed-2", {"timeout": 1})
    for _ in range(2):
        assert tasks.worker("POST", "/failer/claim").status_code == 200
    error = "no luck: " + "x" * 3000
    assert tasks.worker("POST", f"/failer/tasks/{failing['id']}/fail", {"error": error}).status_code == 200
    failed = tasks.ended(failing["id"])
    assert failed["status"] == "failed"
    assert (failed["result"]["success"], failed["result"]["error"]) == (False, "ReportedFailed")
    assert failed["result"]["output"] == error, "whole, though the status cuts it"
    assert failed["result"]["metrics"]["duration_seconds"] >= 0
    assert [entry["level"] for entry in tasks.logs(failing["id"])] == ["info", "error"]
    assert [entry["level"] for entry in tasks.logs(failing["id"], level="error")] == ["error"]

    late = tasks.ended(slow["id"])
    assert (late["status"], late["result"]["error"]) == ("timeout", "TimedOut")
    assert late["result"]["metrics"]["duration_seconds"] >= 1
    assert tasks.polled(slow["id"])[-1]["type"] == "task_timeout"
    assert tasks.worker("POST", f"/failer/tasks/{slow['id']}/complete", {}).status_code == 409
