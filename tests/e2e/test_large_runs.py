"""Runs of many tasks: built like any other, their events replayed to the last one, and nothing large in the API server."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import Cluster, awaited, python
from maze import MaClient, task
from maze_crds import names
from maze_http import API, UNKNOWN, Maze
from maze_io.store import ObjectStore

Json = dict[str, Any]
COUNT = 300
SOURCE = "def f(p):\n    return {'n': p['n'] + 1}"


@pytest.fixture
def maze(cluster: Cluster) -> Iterator[Maze]:
    made = Maze()
    yield made
    made.clean(cluster)


def in_store(store: ObjectStore, tasks: list[Json]) -> Json:
    """A workflow whose list of tasks is in the object store."""
    data = json.dumps(tasks).encode()
    sha256 = hashlib.sha256(data).hexdigest()
    store.put(names.payload_key(sha256), data)
    return {"tasksFrom": {"key": names.payload_key(sha256), "sha256": sha256, "size": len(data)}}


def wide(count: int) -> list[Json]:
    """Independent tasks, and one that waits for all of them."""
    made = [python(f"t{n}", SOURCE, inputs={"n": {"value": n}}, outputs=["n"]) for n in range(count)]
    return [*made, python("last", "def f(p):\n    return {}", dependsOn=[task["name"] for task in made])]


def replayed(maze: Maze, run: str) -> list[Json]:
    """All events of a Run that has ended, from its first on, page by page."""
    found: list[Json] = []
    while True:
        page = maze.get(f"/api/maze/runs/{run}/events", after=found[-1]["id"] if found else 0)
        found += page["events"]
        if page["ended"]:
            return found


def test_a_large_run_is_told_whole_and_every_object_of_it_is_small(
    cluster: Cluster, store: ObjectStore, maze: Maze
) -> None:
    name = cluster.create_run({"workflow": in_store(store, wide(COUNT))})
    status = cluster.ended(name)
    assert (status["phase"], status["progress"]) == ("Succeeded", f"{COUNT + 1}/{COUNT + 1}")
    assert status["counts"]["succeeded"] == COUNT + 1
    run, slices = cluster.get_run(name), cluster.slices_of(name)
    assert len(slices) == len(status["taskSlices"]) == 4
    assert max(len(json.dumps(each)) for each in [run, *slices]) < 64 * 1024
    detail = awaited(lambda: maze.get(f"/api/maze/runs/{name}"), lambda seen: seen["status"] == "Succeeded")
    assert [task["task_id"] for task in detail["tasks"]] == [*(f"t{n}" for n in range(COUNT)), "last"]
    assert {task["status"] for task in detail["tasks"]} == {"Succeeded"}
    assert len(detail["tasks"][-1]["depends_on"]) == COUNT
    events = replayed(maze, name)
    assert [event["id"] for event in events] == list(range(2, status["lastEvent"] + 1))
    assert [event["type"] for event in events].count("finish_task") == COUNT + 1
    assert events[-1]["type"] == "finish_workflow"
    assert maze.get(f"/api/maze/runs/{name}/tasks/t7/outputs")["outputs"]["n"]["size"] == 1


def test_slices_go_with_their_run(cluster: Cluster, store: ObjectStore) -> None:
    name = cluster.create_run({"workflow": in_store(store, wide(120))})
    cluster.ended(name)
    assert cluster.slices_of(name)
    cluster.delete_run(name)
    awaited(lambda: cluster.slices_of(name), lambda left: not left)


def test_a_large_run_is_cancelled_while_its_tasks_run(cluster: Cluster, store: ObjectStore, maze: Maze) -> None:
    sleepers = [python(f"t{n}", "import time\ndef f(p):\n    time.sleep(0.2)\n    return {}") for n in range(COUNT)]
    name = cluster.create_run({"workflow": in_store(store, sleepers)})
    cluster.await_run(name, lambda run: run.get("status", {}).get("counts", {}).get("succeeded", 0) >= 5)
    cluster.patch_run(name, {"desiredState": "Cancelled"})
    status = cluster.ended(name)
    assert status["phase"] == "Cancelled"
    counts = status["counts"]
    assert counts["succeeded"] >= 5
    assert counts["succeeded"] + counts["cancelled"] == COUNT
    detail = awaited(lambda: maze.get(f"/api/maze/runs/{name}"), lambda seen: seen["status"] == "Cancelled")
    assert {task["status"] for task in detail["tasks"]} == {"Succeeded", "Cancelled"}


def test_a_workflow_of_many_tasks_is_built_and_run_by_the_maze_protocol(cluster: Cluster, maze: Maze) -> None:
    workflow = maze.workflow()
    text = "x" * 3000
    ids = [maze.task(workflow, SOURCE, {"n": n, "text": text}, name=f"number {n}") for n in range(110)]
    run = maze.run(workflow)
    assert "tasksFrom" in cluster.get_run(run)["spec"]["workflow"], "about 330 KB are too much for the Run itself"
    messages = maze.messages(workflow, run)
    assert messages[-1]["type"] == "finish_workflow"
    results = {m["data"]["task_id"]: m["data"]["result"] for m in messages if m["type"] == "finish_task"}
    assert results == {task: {"n": n + 1} for n, task in enumerate(ids)}
    named = {task["task_id"]: task["name"] for task in maze.get(f"/api/maze/runs/{run}")["tasks"]}
    assert named == {task: f"number {n}" for n, task in enumerate(ids)}


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"key": "payloads/none"}, "is not in the object store"),
        ({"sha256": "0" * 64}, "is not what its sha256 says"),
    ],
)
def test_a_list_of_tasks_that_is_not_there_or_not_the_one_meant_fails_the_run_at_once(
    cluster: Cluster, store: ObjectStore, broken: Json, words: str
) -> None:
    workflow = in_store(store, wide(2))
    workflow["tasksFrom"] |= broken
    status = cluster.ended(cluster.create_run({"workflow": workflow}, f"test-{uuid.uuid4().hex[:10]}"))
    assert (status["phase"], status["reason"]) == ("Failed", "InvalidWorkflow")
    assert words in status["message"]


def test_a_map_over_more_items_than_a_run_can_hold_takes_seconds(cluster: Cluster) -> None:
    @task(inputs=["n"], outputs=["n"])
    def add_one(params: Json) -> Json:
        return {"n": params["n"] + 1}

    workflow = MaClient(API).create_workflow()
    first = workflow.add_task(add_one, inputs={"n": 0})
    began = time.monotonic()
    parts = workflow.map(add_one, [{"n": n} for n in range(1000)])
    last = workflow.map(add_one, [part.outputs["n"] for part in parts[-5:]])
    assert time.monotonic() - began < 30
    run = workflow.run()
    cluster.adopt(run)
    assert workflow.wait(run)["workflow_completed"]
    assert [workflow.result(run, one)["n"] for one in (first, parts[0], parts[999], *last)] == [
        1,
        1,
        1000,
        *range(997, 1002),
    ]
    assert [found["name"] for found in workflow.get_tasks()][:3] == ["add_one", "add_one[0]", "add_one[1]"]


def test_tasks_added_together_are_refused_together(cluster: Cluster, maze: Maze) -> None:
    workflow = maze.workflow()
    one = {"task_name": "one", "task_input": {"input_params": {}}}
    two = {"input_params": {"1": {"key": "n", "input_schema": "from_task", "value": f"{UNKNOWN}.output.n"}}}
    body = {"workflow_id": workflow, "code_str": SOURCE}
    for tasks in ([one, {"task_name": "two", "task_input": two}], []):
        answer = maze.call("POST", "/api/maze/tasks", json={**body, "tasks": tasks})
        assert answer.status_code in (404, 422), answer.text
    assert maze.get(f"/get_workflow_tasks/{workflow}")["tasks"] == []
    made = maze.call("POST", "/api/maze/tasks", json={**body, "tasks": [one, one]}).json()["task_ids"]
    assert [found["id"] for found in maze.get(f"/get_workflow_tasks/{workflow}")["tasks"]] == made
