"""What goes into a task beyond JSON values, what a saved task may add, and calls with arguments (LangGraph)."""

from __future__ import annotations

import base64
import hashlib
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from cluster import Cluster
from maze_http import UNKNOWN, Maze, pickled

Params = dict[str, Any]


@pytest.fixture
def maze(cluster: Cluster) -> Iterator[Maze]:
    made = Maze()
    yield made
    made.clean(cluster)


def payload(maze: Maze, data: bytes, encoding: str, **query: str) -> dict[str, Any]:
    answer = maze.put(data, encoding=encoding, **query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_files_objects_and_large_values_go_in_and_the_next_task_gets_them(maze: Maze) -> None:
    def look(params: Params) -> Params:
        table = params["table"]
        table.write_text(table.read_text().upper())
        return {"table": table, "kind": type(params["object"]).__name__, "length": len(params["long"])}

    def read(params: Params) -> Params:
        return {"text": params["file"].read_text(), "name": params["file"].name, "here": params["file"].is_absolute()}

    given = {
        "table": payload(maze, b"a;b\n", "file", file_name="my table.csv"),
        "object": payload(maze, pickle.dumps({1, 2}), "pickle"),
        "long": payload(maze, b'"' + b"x" * 3_000_000 + b'"', "json"),
    }
    workflow = maze.workflow()
    first = maze.task(workflow, look, given)
    second = maze.task(workflow, read, {"file": f"@{first}.output.table"})
    run = maze.run(workflow)
    assert maze.ended(run)["status"] == "Succeeded"
    assert maze.output(run, first, "kind").json() == "set"
    assert maze.output(run, first, "length").json() == 3_000_000
    assert maze.output(run, second, "text").json() == "A;B\n"
    assert maze.output(run, second, "name").json() == "my table.csv"
    assert maze.output(run, second, "here").json() is True


def test_a_payload_is_named_by_its_content(maze: Maze) -> None:
    data = b"x" * (3 << 20)
    found = payload(maze, data, "file", file_name="a.bin")["payload"]
    sha256 = hashlib.sha256(data).hexdigest()
    assert found == {
        "key": f"payloads/{sha256}",
        "sha256": sha256,
        "size": len(data),
        "encoding": "file",
        "file_name": "a.bin",
    }
    streamed = maze.call("PUT", "/api/maze/payloads?encoding=json", data=iter([b"[1", b",2]"]))
    assert streamed.json()["payload"]["sha256"] == hashlib.sha256(b"[1,2]").hexdigest()


@pytest.mark.parametrize(
    ("data", "query", "status", "words"),
    [
        (b"x", {}, 422, "encoding"),
        (b"x", {"encoding": "tar"}, 422, "encoding"),
        (b"x", {"encoding": "pickle"}, 400, "not a pickle"),
        (b"{", {"encoding": "json"}, 400, "not JSON"),
        (b"x", {"encoding": "file"}, 400, "file_name"),
        (b"x", {"encoding": "file", "file_name": "../x"}, 400, "file_name"),
    ],
)
def test_a_bad_payload_is_refused(maze: Maze, data: bytes, query: dict[str, str], status: int, words: str) -> None:
    answer = maze.put(data, **query)
    assert answer.status_code == status
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("announced", [True, False])
def test_a_payload_over_the_limit_is_refused_by_the_name_of_the_setting(maze: Maze, announced: bool) -> None:
    data = b"x" * (64 * 1024 * 1024 + 1)
    body = data if announced else iter([data[: 1 << 25], data[1 << 25 :]])
    answer = maze.call("PUT", "/api/maze/payloads?encoding=file&file_name=a", data=body)
    assert answer.status_code == 413
    assert "MAZE_MAX_BODY_BYTES" in answer.json()["detail"]
    assert str(64 * 1024 * 1024) in answer.json()["detail"]


def test_a_task_can_not_take_a_payload_that_is_not_there_or_not_one(maze: Maze) -> None:
    workflow = maze.workflow()
    task = maze.task(workflow, "def f(p): return {'y': 1}")
    missing = {"key": f"payloads/{'0' * 64}", "sha256": "0" * 64, "size": 1, "encoding": "json"}
    for given, words in ((missing, "there is no payload"), ({**missing, "key": "runs/x/result.json"}, "PUT")):
        body = maze.content(workflow, task, "def f(p): return {'y': 2}", {"x": {"payload": given}})
        answer = maze.call("POST", "/save_task", json=body)
        assert answer.status_code == 400
        assert words in answer.json()["detail"]
    run = maze.run(workflow)
    maze.ended(run)
    assert maze.output(run, task, "y").json() == 1, "a refused task has changed"


def test_environment_and_time_limit_of_a_task(maze: Maze) -> None:
    source = "import os, time\ndef f(p):\n    print(os.environ['GREETING'], flush=True)\n    time.sleep(600)"
    run, task = maze.start(source, env={"GREETING": "hello there"}, timeout=1)
    found = maze.ended(run)["tasks"][0]
    assert (found["status"], found["cause"], found["reason"]) == ("Failed", "Timeout", "TimedOut")
    assert maze.log(run, task) == "hello there\n"


def test_another_python_is_refused_when_the_task_is_saved(maze: Maze) -> None:
    workflow = maze.workflow()
    task = maze.task(workflow, "def f(p): return {}")
    body = maze.content(workflow, task, len, python_version="3.13")
    answer = maze.call("POST", "/save_task", json=body)
    assert answer.status_code == 400
    for words in ("3.13", "3.11", "image"):
        assert words in answer.json()["detail"]
    assert maze.call("POST", "/save_task", json={**body, "image": "any:3.13"}).status_code == 200


# --- LangGraph -------------------------------------------------------------------------------------------------------


def node(maze: Maze, function: Any) -> dict[str, str]:
    workflow = maze.workflow()
    made = maze.post(
        "/add_langgraph_task",
        workflow_id=workflow,
        task_type="langgraph",
        task_name="node",
        code_ser=pickled(function),
        resources={"cpu": 1, "cpu_mem": 0, "gpu": 0, "gpu_mem": 0},
    )
    return {"workflow_id": workflow, "task_id": made["task_id"]}


def arguments(*args: Any, **kwargs: Any) -> dict[str, str]:
    return {"args": pickled(args), "kwargs": pickled(kwargs)}


def test_a_function_is_called_with_arguments_many_times_at_once(maze: Maze) -> None:
    ids = node(maze, lambda a, *, b=0: {"sum": a + b})

    def call(number: int) -> Any:
        return Maze().post("/run_langgraph_task", **ids, **arguments(number, b=10))["result"]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(call, range(4))) == [{"sum": number + 10} for number in range(4)]
    assert call(7) == {"sum": 17}


def test_what_a_graph_raises_is_its_result_and_what_is_not_json_has_a_stand_in(maze: Maze) -> None:
    def raises() -> None:
        raise RuntimeError("no such edge")

    ids = node(maze, raises)
    result = maze.post("/run_langgraph_task", **ids, **arguments())["result"]
    assert result.startswith("Traceback")
    assert "RuntimeError: no such edge" in result
    ids = node(maze, lambda x: {x})
    assert maze.post("/run_langgraph_task", **ids, **arguments(1))["result"] == "builtins.set: {1}"
    wrong = maze.post("/run_langgraph_task", **ids, **arguments())["result"]
    assert "TypeError" in wrong


def test_a_large_result_is_given_in_full(maze: Maze) -> None:
    ids = node(maze, lambda text: text * 2)
    result = maze.post("/run_langgraph_task", **ids, **arguments("ä" * 3_000_000))["result"]
    assert result == "ä" * 6_000_000


def test_a_caller_who_leaves_stops_nothing(maze: Maze) -> None:
    def slow() -> str:
        import time

        time.sleep(2)
        return "done"

    ids = node(maze, slow)
    with pytest.raises(requests.exceptions.ReadTimeout):
        maze.call("POST", "/run_langgraph_task", json={**ids, **arguments()}, timeout=1)
    run = maze.get("/api/maze/runs", workflow_id=ids["workflow_id"])["runs"][0]["run_id"]
    assert maze.ended(run)["status"] == "Succeeded"
    assert maze.output(run, ids["task_id"], "result").json() == "done"
    assert maze.post("/run_langgraph_task", **ids, **arguments())["result"] == "done"


def test_a_wrong_langgraph_call_is_refused(maze: Maze) -> None:
    ids = node(maze, len)
    good = arguments([1])
    no_pickle = base64.b64encode(b"[1]").decode()
    code_task = maze.task(ids["workflow_id"], "def f(p): return {}")
    for changed, status, words in (
        ({"args": "%%%"}, 400, "args is not base64"),
        ({"kwargs": no_pickle}, 400, "kwargs is base64, but not of a pickle"),
        ({"args": None}, 422, "args"),
        ({"task_id": UNKNOWN}, 404, UNKNOWN),
        ({"workflow_id": UNKNOWN}, 404, UNKNOWN),
        ({"task_id": code_task}, 400, "add_langgraph_task"),
    ):
        answer = maze.call("POST", "/run_langgraph_task", json={**ids, **good, **changed})
        assert answer.status_code == status, answer.text
        assert words in answer.json()["detail"]
    truncated = base64.b64encode(b"\x80\x05cbroken.").decode()
    result = maze.post("/run_langgraph_task", **ids, **{**good, "args": truncated})["result"]
    assert "input 'args' can't be loaded" in result
    answer = maze.call("POST", "/add_langgraph_task", json={"workflow_id": ids["workflow_id"], "code_ser": "%%%"})
    assert answer.status_code == 400
    assert len(maze.get(f"/get_workflow_tasks/{ids['workflow_id']}")["tasks"]) == 2, "a refused task is in the workflow"
