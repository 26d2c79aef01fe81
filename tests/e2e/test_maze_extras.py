"""`/api/maze`: what a user sees of their Runs while they run and afterwards, and gets back from them."""

from __future__ import annotations

import pickle
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import pytest

from cluster import Cluster
from maze_http import UNKNOWN, Maze

Params = dict[str, Any]


@pytest.fixture
def maze(cluster: Cluster) -> Iterator[Maze]:
    made = Maze()
    yield made
    made.clean(cluster)


def talk(params: Params) -> Params:
    import time

    print("first", flush=True)
    time.sleep(params.get("seconds", 0))
    print("last ä", flush=True)
    return {"y": 1}


def test_info_tells_versions_limits_and_that_all_parts_are_well(maze: Maze) -> None:
    found = maze.get("/api/maze/info")
    assert found["python"] == "3.11"
    assert found["namespace"] == "maze"
    assert found["limits"] == {"max_body_bytes": 64 * 1024 * 1024}
    assert {name: check["ok"] for name, check in found["checks"].items()} == {
        "kubernetes": True,
        "store": True,
        "operator": True,
    }, found["checks"]
    assert all(check["detail"] for check in found["checks"].values())
    assert found["version"]


def test_runs_are_listed_the_newest_first_and_by_workflow(maze: Maze) -> None:
    workflow = maze.workflow()
    maze.task(workflow, talk)
    runs = []
    for _ in range(3):
        runs.append(maze.run(workflow))
        maze.messages(workflow, runs[-1])
    other, _ = maze.start(talk)
    listed = maze.get("/api/maze/runs", workflow_id=workflow)["runs"]
    assert [run["run_id"] for run in listed] == runs[::-1]
    assert {run["status"] for run in listed} == {"Succeeded"}
    assert listed[0]["progress"] == "1/1"
    assert listed[0]["counts"]["succeeded"] == 1
    assert maze.get("/api/maze/runs", limit=1)["runs"][0]["run_id"] == other
    assert maze.get("/api/maze/runs", workflow_id="none")["runs"] == []
    assert maze.call("GET", "/api/maze/runs?limit=0").status_code == 422


def test_a_run_is_told_in_full(maze: Maze) -> None:
    workflow = maze.workflow()
    first = maze.task(workflow, talk, name="first")
    second = maze.task(workflow, "def f(p): raise KeyError(p['x'])", {"x": f"@{first}.output.y"}, name="second")
    found = maze.ended(maze.run(workflow))
    assert (found["status"], found["workflow_id"]) == ("Failed", workflow)
    created, started, finished = (
        datetime.fromisoformat(found[f"{key}_at"]) for key in ("created", "started", "finished")
    )
    assert created <= started < finished
    assert found["counts"] == {**dict.fromkeys(found["counts"], 0), "total": 2, "succeeded": 1, "failed": 1}
    told = {task["task_id"]: task for task in found["tasks"]}
    assert [told[first]["name"], told[second]["name"]] == ["first", "second"]
    assert [told[first]["depends_on"], told[second]["depends_on"]] == [[], [first]]
    assert (told[second]["status"], told[second]["cause"], told[second]["attempt"]) == ("Failed", "UserError", 1)
    assert told[second]["message"] == "KeyError: 1"
    assert told[first]["node"]
    assert datetime.fromisoformat(told[first]["finished_at"]) > datetime.fromisoformat(told[first]["started_at"])


def test_a_run_can_be_cancelled_until_it_has_ended(maze: Maze) -> None:
    run, task = maze.start(talk, {"seconds": 600})
    log = maze.call("GET", f"/api/maze/runs/{run}/tasks/{task}/logs?follow=true", stream=True)
    assert next(log.iter_lines()) == b"first"
    answer = maze.call("POST", f"/api/maze/runs/{run}/cancel")
    assert (answer.status_code, answer.json()) == (200, {"status": "success", "run_id": run})
    list(log.iter_lines())
    assert maze.ended(run)["status"] == "Cancelled"
    refused = maze.call("POST", f"/api/maze/runs/{run}/cancel")
    assert refused.status_code == 409
    assert "Cancelled" in refused.json()["detail"]


def test_events_can_be_read_from_any_number_on(maze: Maze) -> None:
    workflow = maze.workflow()
    first = maze.task(workflow, talk)
    maze.task(workflow, talk, {"seconds": f"@{first}.output.y"})
    run = maze.run(workflow)
    messages = maze.messages(workflow, run)
    found = maze.get(f"/api/maze/runs/{run}/events")
    ids = [event.pop("id") for event in found["events"]]
    assert found == {"events": messages, "ended": True}
    assert ids == sorted(set(ids))
    for number, after in enumerate(ids, 1):
        later = maze.get(f"/api/maze/runs/{run}/events", after=after)
        assert [event["id"] for event in later["events"]] == ids[number:]
        assert later["ended"] is True


def test_a_log_is_followed_while_the_task_runs(maze: Maze) -> None:
    run, task = maze.start(talk, {"seconds": 3})
    answer = maze.call("GET", f"/api/maze/runs/{run}/tasks/{task}/logs?follow=true", stream=True)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    lines = answer.iter_lines()
    assert next(lines) == b"first"
    assert maze.get(f"/api/maze/runs/{run}")["status"] == "Running", "the line came only after the end"
    assert maze.log(run, task) == "first\n"
    assert maze.get(f"/api/maze/runs/{run}/events")["ended"] is False
    assert maze.call("GET", f"/api/maze/runs/{run}/tasks/{task}/outputs").status_code == 409
    assert [line.decode() for line in lines] == ["last ä"]
    assert maze.ended(run)["status"] == "Succeeded"
    assert maze.log(run, task) == maze.log(run, task, follow=True) == "first\nlast ä\n"


def test_each_attempt_has_its_log_and_following_goes_on_to_the_next(maze: Maze) -> None:
    source = "import uuid\ndef f(p):\n    print(uuid.uuid4())\n    raise ValueError('again')\n"
    run, task = maze.start(source, retries=1)
    followed = maze.log(run, task, follow=True)
    assert maze.ended(run)["tasks"][0]["attempt"] == 2
    first, second = (maze.log(run, task, attempt=attempt) for attempt in (1, 2))
    assert first != second
    assert maze.log(run, task) == second
    assert [uuid.UUID(log.splitlines()[0]) for log in (first, second)]
    assert all(log.splitlines()[0] in followed and "ValueError: again" in log for log in (first, second))
    assert maze.log(run, task, attempt=3) == maze.log(run, task, attempt=3, follow=True) == ""


def test_outputs_come_back_as_they_are(maze: Maze) -> None:
    def make(params: Params) -> Params:
        from pathlib import Path

        Path("tabelle ü.csv").write_bytes(b"1,2\n" * 50_000)
        return {
            "a/b ?": {"n": 1.5},
            "set": {1, 2},
            "large": "ä" * 100_000,
            "file": Path("tabelle ü.csv"),
            "pairs": [("x", 1)],
        }

    workflow = maze.workflow()
    task = maze.task(workflow, make)
    run = maze.run(workflow)
    shown = maze.messages(workflow, run)[1]["data"]["result"]
    assert shown["pairs"] == [["x", 1]]
    assert shown["file"] == "<file tabelle ü.csv of 200000 bytes>"
    found = maze.get(f"/api/maze/runs/{run}/tasks/{task}/outputs")["outputs"]
    assert {key: each["encoding"] for key, each in found.items()} == {
        "a/b ?": "json",
        "set": "pickle",
        "large": "json",
        "file": "file",
        "pairs": "pickle",
    }
    assert found["file"]["file_name"] == "tabelle ü.csv"
    for key, each in found.items():
        answer = maze.output(run, task, key.replace("?", "%3F"))
        assert answer.headers["X-Maze-Encoding"] == each["encoding"]
        assert answer.headers["X-Maze-SHA256"] == each["sha256"]
        assert len(answer.content) == each["size"]
    assert maze.output(run, task, "a/b %3F").json() == {"n": 1.5}
    assert maze.output(run, task, "large").json() == "ä" * 100_000
    assert pickle.loads(maze.output(run, task, "set").content) == {1, 2}
    assert pickle.loads(maze.output(run, task, "pairs").content) == [("x", 1)]
    file = maze.output(run, task, "file")
    assert file.content == b"1,2\n" * 50_000
    assert unquote(file.headers["X-Maze-File-Name"]) == "tabelle ü.csv"
    unknown = maze.output(run, task, "nothing")
    assert unknown.status_code == 404
    assert "'set'" in unknown.json()["detail"]


@pytest.mark.parametrize("name", [UNKNOWN, "..%2F..%2Fapi", "A b"])
def test_unknown_runs_and_tasks_are_404_with_words(maze: Maze, name: str) -> None:
    run, task = maze.start(talk)
    paths = ["", "/events", f"/tasks/{task}/logs", f"/tasks/{task}/outputs", f"/tasks/{task}/outputs/y"]
    for path in [f"/api/maze/runs/{name}{path}" for path in paths] + [
        f"/api/maze/runs/{run}/tasks/{name}/{path}" for path in ("logs", "logs?follow=true", "outputs", "outputs/y")
    ]:
        answer = maze.call("GET", path)
        assert answer.status_code == 404, path
        assert answer.json()["type"] == "not_found"
    assert maze.call("POST", f"/api/maze/runs/{name}/cancel").status_code == 404
    assert maze.ended(run)["status"] == "Succeeded"


def test_a_reader_who_leaves_a_log_leaves_nothing_behind(maze: Maze) -> None:
    run, task = maze.start(talk, {"seconds": 600})
    answer = maze.call("GET", f"/api/maze/runs/{run}/tasks/{task}/logs?follow=true", stream=True)
    lines = answer.iter_lines()
    assert next(lines) == b"first"
    assert followers(maze) >= 1
    answer.close()
    deadline = time.monotonic() + 20
    while followers(maze):
        assert time.monotonic() < deadline, "the api goes on reading for nobody"
    again = maze.call("GET", f"/api/maze/runs/{run}/tasks/{task}/logs?follow=true", stream=True)
    assert next(again.iter_lines()) == b"first"
    maze.call("POST", f"/api/maze/runs/{run}/cancel")
    assert maze.ended(run)["status"] == "Cancelled"


def followers(maze: Maze) -> int:
    lines = maze.call("GET", "/metrics").text.splitlines()
    return int(float(next(line for line in lines if line.startswith("maze_api_log_followers ")).split()[1]))
