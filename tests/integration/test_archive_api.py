"""Ended tasks go on being answered from PostgreSQL when their Runs are gone: api processes of our own on the running system."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import requests
from kubernetes import client

from cluster import GROUP, Cluster
from cluster import awaited as cluster_awaited
from own_api import OwnApi, cluster_env, own_api, own_namespace
from postgres import Postgres, postgres
from worker_http import Client

Json = dict[str, Any]
SECONDS = 120
awaited = partial(cluster_awaited, seconds=SECONDS)
WORKER = "archivist"
SETTINGS = {"MAZE_RUN_TTL_SECONDS": "1", "NUM_INTERNAL_WORKERS": "0", "MAZE_WORKER_TIMEOUT_SECONDS": "3600"}
LARGE = {"text": "ü\x00" * 50_000, "numbers": list(range(10_000)), "nothing": None}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as made:
        yield made


@pytest.fixture(scope="module")
def kubernetes() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.close()


@pytest.fixture
def namespace(kubernetes: Cluster) -> Iterator[str]:
    with own_namespace(kubernetes) as name:
        yield name


def exists(kubernetes: Cluster, namespace: str, task_id: str) -> bool:
    try:
        kubernetes.custom.get_namespaced_custom_object(*GROUP, namespace, "runs", task_id)
    except client.ApiException as error:
        if error.status != 404:
            raise
        return False
    return True


def await_gone(kubernetes: Cluster, namespace: str, task_ids: list[str]) -> None:
    for task_id in task_ids:
        awaited(lambda task_id=task_id: exists(kubernetes, namespace, task_id), lambda there: not there)


def completed(calls: Client, problem: str, result: Any) -> str:
    """A task that the external worker has done."""
    made = calls.create(problem)
    claimed = awaited(lambda: calls.claim(WORKER), lambda found: found is not None)
    assert claimed["id"] == made
    answer = calls.report(WORKER, made, "complete", result)
    assert answer.status_code == 200, answer.text
    return made


def ended(calls: Client, task_id: str) -> Json:
    found: Json = awaited(lambda: calls.task(task_id), lambda task: task["status"] not in ("pending", "running"))
    return found


def archive_of(api: OwnApi) -> Json:
    """What /health says of the archive."""
    answer = requests.get(f"{api.url}/health", timeout=60)
    assert answer.status_code == 200
    found: Json = answer.json()
    assert found["status"] == ("healthy" if found["archive"]["connected"] else "degraded")
    return dict(found["archive"])


def test_tasks_are_answered_alike_before_and_after_their_runs_are_gone(
    server: Postgres, kubernetes: Cluster, namespace: str
) -> None:
    url = server.create(namespace)
    with own_api(namespace, DATABASE_URL=url, **SETTINGS) as api, Client(api.url) as calls:
        calls.register(WORKER, "*", parallel=100)
        key = {"Idempotency-Key": uuid.uuid4().hex}
        request = {"problem_id": "keyed", "parameters": {"seed": 1}}
        keyed = calls.call("POST", "/tasks", json=request, headers=key).json()["id"]
        assert calls.call("POST", f"/tasks/{keyed}/cancel").status_code == 200
        done = completed(calls, "first", LARGE)
        failing = calls.create("second")
        assert awaited(lambda: calls.claim(WORKER), lambda found: found is not None)["id"] == failing
        assert calls.report(WORKER, failing, "fail", {"error": "it broke"}).status_code == 200
        made = [keyed, done, failing]
        before = {task_id: ended(calls, task_id) for task_id in made}
        assert [before[task_id]["status"] for task_id in made] == ["cancelled", "completed", "failed"]
        assert before[done]["result"] == LARGE

        await_gone(kubernetes, namespace, made)
        # The api hears of it from its watch: until then it has both.
        for task_id in made:
            assert calls.task(task_id) == before[task_id]
        waiting = calls.create("waits")
        awaited(lambda: [task["id"] for task in calls.get("/tasks")], lambda ids: ids == [waiting, *reversed(made)])
        items = calls.get("/tasks", limit=3, offset=1)
        assert items == [{key: before[item["id"]][key] for key in item} for item in items]
        assert [item["id"] for item in items] == [failing, done, keyed]
        for query, ids in (
            ({"status": "completed"}, [done]),
            ({"problem_id": "second"}, [failing]),
            ({"worker_id": WORKER}, [failing, done]),
            ({"worker_id": WORKER, "status": "timeout"}, []),
            ({"status": "pending"}, [waiting]),
        ):
            assert [task["id"] for task in calls.get("/tasks", **query)] == ids

        again = calls.call("POST", "/tasks", json=request, headers=key)
        assert (again.status_code, again.json()["id"]) == (201, keyed)
        assert calls.call("POST", "/tasks", json={"problem_id": "other"}, headers=key).status_code == 422
        assert calls.call("POST", f"/tasks/{done}/cancel").status_code == 409
        events = calls.get(f"/tasks/{done}/events")
        assert events["ended"] is True
        assert events["events"][-1]["status"] == "completed"
        assert [entry["level"] for entry in calls.get(f"/tasks/{failing}/logs")][-1] == "error"
        assert calls.call("GET", f"/tasks/{uuid.uuid4()}").status_code == 404

        api.restart()
        assert calls.task(done) == before[done]
        assert archive_of(api)["waiting"] == 0


def test_nothing_is_lost_while_the_database_is_away(kubernetes: Cluster, namespace: str) -> None:
    with postgres() as own:
        own.stop()
        with own_api(namespace, DATABASE_URL=own.url(), **SETTINGS) as api, Client(api.url) as calls:
            calls.register(WORKER, "*", parallel=100)
            done = completed(calls, "p", {"kept": True})
            before = ended(calls, done)
            found = awaited(lambda: archive_of(api), lambda archive: archive["waiting"] == 1)
            assert found["connected"] is False
            assert "PostgreSQL" in found["detail"]

            time.sleep(4)  # longer than the Run would live without an archive
            assert exists(kubernetes, namespace, done)
            assert calls.task(done) == before
            assert calls.get("/tasks", status="pending") == []
            for method, path, more in (
                ("GET", "/tasks", {}),
                ("GET", f"/tasks/{uuid.uuid4()}", {}),
                ("POST", "/tasks", {"json": {"problem_id": "p"}, "headers": {"Idempotency-Key": uuid.uuid4().hex}}),
            ):
                answer = calls.call(method, path, **more)
                assert answer.status_code == 503
                assert "archive" in answer.json()["detail"]
                assert "Retry-After" in answer.headers

            own.start()
            await_gone(kubernetes, namespace, [done])
            assert calls.task(done) == before
            awaited(lambda: archive_of(api), lambda archive: archive["connected"] and archive["waiting"] == 0)
            own.stop()
            own.start()
            assert [task["id"] for task in calls.get("/tasks")] == [done]


def test_replicas_side_by_side_archive_each_task_once(server: Postgres, kubernetes: Cluster, namespace: str) -> None:
    url = server.create(namespace)
    with ExitStack() as stack:
        apis = [stack.enter_context(own_api(namespace, DATABASE_URL=url, **SETTINGS)) for _ in range(3)]
        calls = [stack.enter_context(Client(api.url)) for api in apis]
        calls[0].register(WORKER, "*", parallel=100)
        made = [calls[0].create("p") for _ in range(12)]
        for number in range(12):
            task = awaited(lambda: calls[0].claim(WORKER), lambda found: found is not None)
            assert calls[number % 3].report(WORKER, task["id"], "complete", number).status_code == 200
        await_gone(kubernetes, namespace, made)
        with server.connect(namespace) as connection:
            rows = connection.execute("SELECT id FROM maze_archived_tasks ORDER BY created_at").fetchall()
        assert [row[0] for row in rows] == made
        for one in calls:
            awaited(lambda one=one: [task["id"] for task in one.get("/tasks")], lambda ids: ids == made[::-1])
            pages = [one.get("/tasks", limit=5, offset=offset) for offset in (0, 5, 10, 15)]
            assert [task["id"] for page in pages for task in page] == made[::-1]
            assert sorted(one.task(task_id)["result"] for task_id in made) == list(range(12))


def test_a_wrong_url_ends_the_api_at_its_start_and_names_the_setting() -> None:
    env = {**cluster_env(), "DATABASE_URL": "mysql://user:hidden@db/tasks"}
    done = subprocess.run(
        [sys.executable, "-m", "maze_api"], env=env, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 2
    assert "DATABASE_URL" in done.stderr
    assert "postgresql://" in done.stderr
    assert "hidden" not in done.stderr
