"""Internal workers through the api: status, scale, stop, start; what survives a restart; and ids that both kinds may have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from cluster import Cluster, python
from own_api import OwnApi, own_api, own_namespace
from task_http import serve
from worker_http import Client, Json, assert_refused, until

QUICK = "def quick(inputs):\n    return {'success': True}"
LONG = "import time\ndef long(inputs):\n    time.sleep(600)"


@dataclass(frozen=True)
class Stage:
    api: OwnApi
    client: Client

    def status(self) -> Json:
        found: Json = self.client.get("/workers/internal/status")
        return found

    def ids(self) -> list[str]:
        return [worker["id"] for worker in self.status()["workers"]]

    def post(self, action: str, **body: object) -> Json:
        answer = self.client.call("POST", f"/workers/internal/{action}", **({"json": body} if body else {}))
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def scaled(self, number: int) -> None:
        """The pool has this many workers."""
        self.post("scale", num_workers=number)
        until(lambda: self.ids() == members(number), f"there are {number} workers")

    def held(self, problem_id: str) -> tuple[str, str]:
        """A task that does not end, and the worker that has it."""
        task = self.client.create(problem_id)
        until(lambda: self.client.task(task)["status"] == "running", "a worker has it")
        return task, self.client.task(task)["worker_id"]

    def cancelled(self, task: str) -> None:
        assert self.client.call("POST", f"/tasks/{task}/cancel").status_code == 200
        until(lambda: self.client.task(task)["status"] == "cancelled", "it is cancelled")


def members(number: int) -> list[str]:
    return [f"worker-{n + 1:03}-kind" for n in range(number)]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with own_namespace() as namespace:
        cluster = Cluster(namespace)
        serve(cluster, namespace, "quick", "quick-*", python("quick", QUICK))
        serve(cluster, namespace, "long", "long-*", python("long", LONG))
        cluster.close()
        with own_api(namespace, MAZE_WORKER_TIMEOUT_SECONDS="600") as api, Client(api.url) as client:
            yield Stage(api, client)


def test_three_workers_are_there_from_the_start(stage: Stage) -> None:
    until(lambda: stage.ids() == members(3), "there are three workers")
    shown = [{"id": one, "status": "idle", "current_task": None} for one in members(3)]
    assert stage.status() == {"running": True, "num_workers": 3, "workers": shown}
    until(lambda: len(stage.client.get("/workers")) == 3, "they are listed")
    first = stage.client.get("/workers", backend_type="kind", status="idle")[0]
    assert first["last_heartbeat"] >= "2025"
    assert {key: first[key] for key in ("id", "backend_type", "status", "capabilities", "internal")} == {
        "id": "worker-001-kind",
        "backend_type": "kind",
        "status": "idle",
        "capabilities": {"max_parallel_tasks": 1, "supported_problems": []},
        "internal": True,
    }


def test_scaling_answers_as_the_reference(stage: Stage) -> None:
    stage.scaled(3)
    answer = stage.post("scale", num_workers=5)
    assert answer == {"message": "Workers scaled successfully", "previous_count": 3, "new_count": 5}
    until(lambda: stage.ids() == members(5), "there are five workers")
    answer = stage.post("scale", num_workers=0)
    assert answer == {"message": "Workers scaled successfully", "previous_count": 5, "new_count": 0}
    until(lambda: stage.status() == {"running": True, "num_workers": 0, "workers": []}, "there are none")
    until(lambda: stage.client.get("/workers") == [], "none is listed")
    for wrong in (-1, 10001, "3", None, 1.5):
        answer = stage.client.call("POST", "/workers/internal/scale", json={"num_workers": wrong})
        assert_refused(answer, 422, "invalid", "num_workers")


def test_stopped_workers_take_nothing_new(stage: Stage) -> None:
    stage.scaled(2)
    assert stage.post("stop") == {"message": "Workers stopped", "stopped_count": 2}
    assert stage.post("stop") == {"message": "Workers stopped", "stopped_count": 0}
    assert stage.status()["running"] is False
    task = stage.client.create("quick-1")
    until(lambda: stage.client.task(task)["reason"] == "WaitingForWorker", "the operator knows the task")
    assert stage.client.task(task)["status"] == "pending"
    assert stage.post("start") == {"message": "Workers started", "worker_count": 2}
    assert stage.post("start") == {"message": "Workers started", "worker_count": 2}
    until(lambda: stage.client.task(task)["status"] == "completed", "the task is done")
    assert stage.client.task(task)["worker_id"] in members(2)


def test_a_worker_too_many_finishes_its_task(stage: Stage) -> None:
    stage.scaled(1)
    task, worker = stage.held("long-1")
    assert worker == "worker-001-kind"
    assert stage.status()["workers"] == [{"id": worker, "status": "busy", "current_task": task}]
    stage.scaled(0)
    assert stage.client.worker(worker)["status"] == "busy"
    assert stage.client.task(task)["status"] == "running"
    stage.cancelled(task)
    until(lambda: stage.client.get("/workers") == [], "it is gone when its task has ended")


def test_a_busy_internal_worker_keeps_its_id(stage: Stage) -> None:
    stage.scaled(1)
    task, worker = stage.held("long-2")
    body = {"worker_id": worker, "backend_type": "kind"}
    answer = stage.client.call("POST", "/workers/register", json=body)
    assert_refused(answer, 409, "conflict", f"'{worker}' is an internal worker that is executing task {task}")
    for method, path, given in (
        ("POST", "/heartbeat", {"status": "idle"}),
        ("POST", "/claim", None),
        ("POST", f"/tasks/{task}/complete", {}),
        ("POST", f"/tasks/{task}/fail", {"error": "x"}),
        ("DELETE", "", None),
    ):
        answer = stage.client.call(method, f"/workers/{worker}{path}", json=given)
        assert_refused(answer, 409, "conflict", f"'{worker}' is an internal worker")
    assert stage.client.task(task)["status"] == "running"
    stage.cancelled(task)


def test_an_internal_worker_is_idle_as_soon_as_its_task_is_shown_as_ended(stage: Stage) -> None:
    for n in range(3):
        stage.scaled(1)
        task = stage.client.create(f"quick-{n}")
        until(lambda shown=task: stage.client.task(shown)["status"] == "completed", "it is done")  # type: ignore[misc]
        made = stage.client.register("worker-001-kind", "none-*")
        assert (made["id"], made["status"]) == ("worker-001-kind", "idle")
        shown = stage.client.worker("worker-001-kind")
        assert (shown["internal"], shown["tasks_completed"]) == (False, 0)
        until(lambda: stage.ids() == ["worker-002-kind"], "the pool takes the next number")
        assert stage.client.call("POST", "/workers/worker-001-kind/claim").status_code == 204
        assert stage.client.call("DELETE", "/workers/worker-001-kind").status_code == 204


def test_what_was_set_survives_a_restart_until_the_environment_changes(stage: Stage) -> None:
    stage.scaled(2)
    stage.post("stop")
    stage.api.restart()
    assert (stage.status()["running"], stage.status()["num_workers"]) == (False, 2)
    stage.api.restart(NUM_INTERNAL_WORKERS="4")
    assert (stage.status()["running"], stage.status()["num_workers"]) == (False, 4)
    until(lambda: stage.ids() == members(4), "there are four workers")
    stage.post("start")
    stage.api.restart(AUTO_START_WORKERS="false")
    assert (stage.status()["running"], stage.status()["num_workers"]) == (False, 4)
