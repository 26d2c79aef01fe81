"""Workers that fall silent, leave, or lose their api: no task is lost, and none has two owners."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from own_api import OwnApi, own_api, own_namespace
from worker_http import Client, assert_refused, until

LONG = "600"
"""Seconds: longer than anything here is waited for."""


@dataclass(frozen=True)
class Stage:
    """Two apis of one namespace: workers that are heard of through `hasty` may be silent for two seconds only."""

    api: OwnApi
    client: Client
    hasty: Client


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with (
        own_namespace() as namespace,
        own_api(namespace, NUM_INTERNAL_WORKERS="0", MAZE_WORKER_TIMEOUT_SECONDS=LONG) as api,
        own_api(namespace, NUM_INTERNAL_WORKERS="0", MAZE_WORKER_TIMEOUT_SECONDS="2") as hasty,
        Client(api.url) as client,
        Client(hasty.url) as impatient,
    ):
        yield Stage(api, client, impatient)


def test_a_silent_worker_loses_its_task_to_another_one(stage: Stage) -> None:
    client, hasty = stage.client, stage.hasty
    client.register("keeper", "lost-*")
    hasty.register("silent", "lost-*")
    task = hasty.create("lost-1")
    assert hasty.claimed("silent")["id"] == task
    until(lambda: client.worker("silent")["status"] == "offline", "the worker is offline")
    until(lambda: client.task(task)["status"] == "pending", "the task waits again")
    assert client.task(task)["worker_id"] is None
    assert [worker["id"] for worker in client.get("/workers", status="offline")] == ["silent"]
    assert_refused(client.report("silent", task, "complete", {}), 409, "conflict", "went silent")

    again = client.claimed("keeper")
    assert (again["id"], again["attempt"]) == (task, 2)
    assert_refused(client.report("silent", task, "complete", {}), 409, "conflict", "went silent")
    client.complete("keeper", task, {"by": "keeper"})
    shown = client.task(task)
    assert (shown["status"], shown["worker_id"], shown["attempt"]) == ("completed", "keeper", 2)
    assert shown["result"] == {"by": "keeper"}
    until(lambda: client.get("/workers/silent/stats")["tasks_lost"] == 1, "the loss is counted")
    until(lambda: client.get("/workers/keeper/stats")["tasks_completed"] == 1, "the success is counted")

    client.register("keeper", "none-*")
    client.beat("silent")
    assert client.worker("silent")["status"] == "idle"
    second = client.create("lost-2")
    assert client.claimed("silent")["id"] == second, "a worker that is back gets tasks"
    client.complete("silent", second, {})


def test_a_worker_that_claims_after_its_time_is_back(stage: Stage) -> None:
    stage.hasty.register("sleepy", "sleep-*")
    until(lambda: stage.client.worker("sleepy")["status"] == "offline", "the worker is offline")
    task = stage.client.create("sleep-1")
    assert stage.client.claimed("sleepy")["id"] == task
    assert stage.client.worker("sleepy")["status"] == "busy"
    stage.client.complete("sleepy", task, {})
    assert stage.client.task(task)["attempt"] == 1


def test_a_worker_that_says_goodbye_gives_its_task_back_at_once(stage: Stage) -> None:
    client = stage.client
    client.register("polite", "polite-*")
    task = client.create("polite-1")
    assert client.claimed("polite")["id"] == task
    client.beat("polite", status="offline")
    assert client.worker("polite")["status"] == "offline"
    until(lambda: client.task(task)["status"] == "pending", "the task waits again")
    assert_refused(client.report("polite", task, "complete", {}), 409, "conflict", "went silent")
    assert client.claimed("polite")["id"] == task
    client.complete("polite", task, {})
    assert client.task(task)["attempt"] == 2


def test_the_api_may_die_between_claim_and_report(stage: Stage) -> None:
    client = stage.client
    client.register("patient", "patient-*", parallel=2)
    tasks = [client.create(f"patient-{n}") for n in range(2)]
    assert [client.claimed("patient")["id"] for _ in tasks] == tasks
    stage.api.kill()
    stage.api.start()
    assert client.worker("patient")["status"] == "busy"
    assert client.claim("patient") is None
    assert client.get("/workers/patient/stats")["running_tasks"] == tasks
    client.complete("patient", tasks[0], {"n": 0})
    assert client.report("patient", tasks[1], "fail", {"error": "no"}).status_code == 200
    assert [client.task(task)["status"] for task in tasks] == ["completed", "failed"]
    client.complete("patient", tasks[0], {"n": 0})
    assert_refused(client.report("patient", tasks[0], "fail", {"error": "no"}), 409, "conflict", "completed before")
