"""The Maze surface on the running system: what a user of the SDK, or of an existing client, does and gets.

Runs against http://127.0.0.1:8000, or MAZE_API.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from cluster import Cluster
from maze import MaClient, MaWorkflow, NotFound, RequestFailed, ServerUnreachable, UnknownRun, task

API = os.environ.get("MAZE_API", "http://127.0.0.1:8000")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

Params = dict[str, Any]
Messages = list[dict[str, Any]]


class Recorded(MaWorkflow):
    """Remembers its runs, so that the fixture can delete them."""

    made: list[str]

    def run(self) -> str:
        run_id = super().run()
        self.made.append(run_id)
        return run_id


@pytest.fixture
def new_workflow(cluster: Cluster) -> Iterator[Callable[[], MaWorkflow]]:
    client = MaClient(API)
    made: list[str] = []

    def create() -> MaWorkflow:
        found = Recorded(client.create_workflow().workflow_id, API)
        found.made = made
        return found

    yield create
    for run_id in made:
        cluster.delete_run(run_id)


@pytest.fixture
def workflow(new_workflow: Callable[[], MaWorkflow]) -> MaWorkflow:
    return new_workflow()


@task(inputs=["x"], outputs=["y"])
def increment(params: Params) -> Params:
    return {"y": params["x"] + 1}


@task(inputs=["a", "b"], outputs=["y"])
def add(params: Params) -> Params:
    return {"y": params["a"] + params["b"]}


@task(inputs=["x"], outputs=["y"])
def divide(params: Params) -> Params:
    return {"y": 1 / params["x"]}


def post(path: str, body: Any = None, **more: Any) -> requests.Response:
    return requests.post(API + path, json=body, timeout=60, **more)


def of_task(messages: Messages, task_id: str) -> list[str]:
    return [message["type"] for message in messages if message["data"].get("task_id") == task_id]


def position(messages: Messages, kind: str, task_id: str) -> int:
    return next(
        at for at, message in enumerate(messages) if message["type"] == kind and message["data"]["task_id"] == task_id
    )


def exception(messages: Messages, task_id: str) -> str:
    found: str = messages[position(messages, "task_exception", task_id)]["data"]["result"]
    return found


@pytest.mark.parametrize("example", ["quick_start.py", "demo.py"])
def test_the_examples_run(example: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / example)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"quick_start.py": "HELLO, WORLD", "demo.py": "Most alike"}[example] in done.stdout


def test_a_diamond_runs_in_the_order_of_its_edges(workflow: MaWorkflow) -> None:
    top = workflow.add_task(increment, inputs={"x": 1})
    left = workflow.add_task(increment, inputs={"x": top.outputs["y"]})
    right = workflow.add_task(increment, inputs={"x": top.outputs["y"]})
    bottom = workflow.add_task(add, inputs={"a": left.outputs["y"], "b": right.outputs["y"]})
    messages = workflow.get_results(workflow.run(), verbose=False)
    for source, target in ((top, left), (top, right), (left, bottom), (right, bottom)):
        ended = position(messages, "finish_task", source.task_id)
        assert ended < position(messages, "start_task", target.task_id)
    assert messages[position(messages, "finish_task", bottom.task_id)]["data"]["result"] == {"y": 6}
    assert messages[-1]["type"] == "finish_workflow"


def test_a_fan_out_of_eight(workflow: MaWorkflow, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = [workflow.add_task(increment, inputs={"x": number}) for number in range(8)]
    results = workflow.show_results(workflow.run())
    assert results == {
        "task_results": {made.task_id: {"y": number + 1} for number, made in enumerate(tasks)},
        "workflow_completed": True,
        "has_exception": False,
        "exception_tasks": [],
    }
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "🔗 Connected to server, starting workflow execution..."
    assert printed[-1] == "✅ Workflow execution completed!"
    assert f"✓ Task completed: task_{tasks[0].task_id[:8]}" in printed


def test_a_failing_task_stops_only_what_depends_on_it(workflow: MaWorkflow) -> None:
    broken = workflow.add_task(divide, inputs={"x": 0})
    after = workflow.add_task(increment, inputs={"x": broken.outputs["y"]})
    alone = workflow.add_task(increment, inputs={"x": 1})
    messages = workflow.get_results(workflow.run(), verbose=False)
    assert of_task(messages, broken.task_id) == ["start_task", "task_exception"]
    text = exception(messages, broken.task_id)
    assert text.startswith("Traceback (most recent call last)")
    assert "ZeroDivisionError: division by zero" in text
    assert of_task(messages, after.task_id) == []
    assert of_task(messages, alone.task_id) == ["start_task", "finish_task"]
    assert messages[-1]["type"] == "finish_workflow"
    assert messages[-1]["data"]["status"] == "Failed"


def test_every_reader_gets_the_whole_stream(workflow: MaWorkflow) -> None:
    workflow.add_task(increment, inputs={"x": 1})
    run_id = workflow.run()
    first_of_one_who_leaves = next(iter(MaClient(API).get_workflow(workflow.workflow_id).events(run_id)))
    read: list[Messages] = []

    def reader() -> None:
        read.append(MaClient(API).get_workflow(workflow.workflow_id).get_results(run_id, verbose=False))

    readers = [threading.Thread(target=reader) for _ in range(2)]
    for thread in readers:
        thread.start()
    for thread in readers:
        thread.join(120)
    reader()
    assert len(read) == 3
    assert [message["type"] for message in read[0]] == ["start_task", "finish_task", "finish_workflow"]
    assert read[0] == read[1] == read[2]
    assert first_of_one_who_leaves == read[0][0]


def test_functions_and_objects_pass_between_tasks_and_have_a_readable_stand_in(workflow: MaWorkflow) -> None:
    factor = 10

    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

        def __repr__(self) -> str:
            return f"Point({self.x})"

    @task(inputs=[], outputs=["point", "function", "closure", "text"])
    def make(params: Params) -> Params:
        return {
            "point": Point(4),
            "function": lambda x: x + 1,
            "closure": lambda x: x * factor,
            "text": "plain",
        }

    @task(inputs=["point", "function", "closure"], outputs=["y"])
    def use(params: Params) -> Params:
        return {"y": params["closure"](params["function"](params["point"].x))}

    made = workflow.add_task(make)
    used = workflow.add_task(use, inputs={key: made.outputs[key] for key in ("point", "function", "closure")})
    results = workflow.show_results(workflow.run())["task_results"]
    assert results[used.task_id] == {"y": 50}
    assert "Point(4)" in results[made.task_id]["point"]
    assert results[made.task_id]["text"] == "plain"


def test_large_values_go_in_and_out(workflow: MaWorkflow) -> None:
    @task(inputs=["text"], outputs=["shown", "huge"])
    def grow(params: Params) -> Params:
        return {"shown": params["text"] * 2, "huge": "x" * (5 * 1024 * 1024)}

    @task(inputs=["shown", "huge"], outputs=["lengths"])
    def measure(params: Params) -> Params:
        return {"lengths": [len(params["shown"]), len(params["huge"])]}

    grown = workflow.add_task(grow, inputs={"text": "ä" * 100_000})
    measured = workflow.add_task(measure, inputs={key: grown.outputs[key] for key in ("shown", "huge")})
    results = workflow.show_results(workflow.run())["task_results"]
    assert results[grown.task_id]["shown"] == "ä" * 200_000
    assert "too large to show" in results[grown.task_id]["huge"]
    assert results[measured.task_id] == {"lengths": [200_000, 5 * 1024 * 1024]}


def test_source_in_place_of_a_pickle_and_every_kind_of_input(workflow: MaWorkflow) -> None:
    made = workflow.add_task(task_name="from source")
    source = "import json\n\ndef work(params):\n    return {'y': json.dumps(params, sort_keys=True)}\n"
    values = {"a": "", "b": None, "c": [1, {"d": False}], "e": 1.5}
    parameters = {
        str(number): {"key": key, "input_schema": "from_user", "data_type": "str", "value": value}
        for number, (key, value) in enumerate(values.items(), 1)
    }
    made.save(source, {"input_params": parameters}, {"output_params": {"1": {"key": "y", "data_type": "str"}}}, {})
    results = workflow.show_results(workflow.run())["task_results"]
    assert results[made.task_id]["y"] == '{"a": "", "b": null, "c": [1, {"d": false}], "e": 1.5}'


def test_a_started_run_does_not_see_later_changes_of_its_workflow(workflow: MaWorkflow) -> None:
    first = workflow.add_task(increment, inputs={"x": 1}, task_name="first")
    run_id = workflow.run()
    workflow.add_task(increment, inputs={"x": 2}, task_name="second")
    assert [found["name"] for found in workflow.get_tasks()] == ["first", "second"]
    first.delete()
    assert [found["name"] for found in workflow.get_tasks()] == ["second"]
    assert list(workflow.show_results(run_id)["task_results"]) == [first.task_id]


def test_a_cycle_is_refused_by_name_and_leaves_nothing_behind(workflow: MaWorkflow) -> None:
    first = workflow.add_task(increment, inputs={"x": 1}, task_name="first")
    second = workflow.add_task(increment, inputs={"x": first.outputs["y"]}, task_name="second")
    third = workflow.add_task(increment, inputs={"x": 1}, task_name="third")
    workflow.add_edge(second, third)
    with pytest.raises(RequestFailed, match="cycle") as refused:
        workflow.add_edge(third, first)
    assert refused.value.status == 400
    assert all(name in refused.value.detail for name in ("first", "second", "third"))
    with pytest.raises(RequestFailed, match="cycle"):
        workflow.add_edge(first, first)
    workflow.del_edge(second, third)
    workflow.add_edge(third, first)
    assert workflow.show_results(workflow.run())["has_exception"] is False


def test_a_deleted_task_that_is_still_referred_to_is_named(workflow: MaWorkflow) -> None:
    first = workflow.add_task(increment, inputs={"x": 1}, task_name="first")
    workflow.add_task(increment, inputs={"x": first.outputs["y"]}, task_name="second")
    first.delete()
    with pytest.raises(RequestFailed) as refused:
        workflow.run()
    assert refused.value.status == 400
    assert "second" in refused.value.detail
    assert first.task_id in refused.value.detail


def test_a_workflow_without_tasks_is_refused(workflow: MaWorkflow) -> None:
    with pytest.raises(RequestFailed, match="workflow has no tasks"):
        workflow.run()


def test_unknown_ids_are_404_with_words(workflow: MaWorkflow) -> None:
    known, unknown = workflow.workflow_id, str(uuid.uuid4())
    for name in (unknown, "../../etc", ""):
        assert post("/run_workflow", {"workflow_id": name}).status_code == 404
        assert post("/add_task", {"workflow_id": name, "task_type": "code", "task_name": "x"}).status_code == 404
        assert post("/del_task", {"workflow_id": known, "task_id": name}).status_code == 404
        edge = {"workflow_id": known, "source_task_id": name, "target_task_id": name}
        assert post("/add_edge", edge).status_code == 404
    with pytest.raises(NotFound, match=unknown):
        MaClient(API).get_workflow(unknown).get_tasks()
    with pytest.raises(UnknownRun, match=unknown):
        workflow.get_results(unknown)


def test_a_run_is_not_shown_under_another_workflow(new_workflow: Callable[[], MaWorkflow]) -> None:
    mine, other = new_workflow(), new_workflow()
    mine.add_task(increment, inputs={"x": 1})
    run_id = mine.run()
    with pytest.raises(UnknownRun):
        other.get_results(run_id)


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"code_ser": "%%%"}, 400, "base64"),
        ({"code_ser": base64.b64encode(b"no pickle").decode()}, 400, "pickle"),
        ({"code_ser": None, "code_str": None}, 400, "no code"),
        ({"resources": {"cpu": "many"}}, 422, "resources.cpu"),
        ({"resources": {"cpu": -1}}, 422, "resources.cpu"),
        ({"task_input": {"input_params": {"1": {"input_schema": "from_user"}}}}, 422, "input_params.1.key"),
        ({"task_input": "none"}, 422, "task_input"),
    ],
)
def test_bad_content_is_refused_and_changes_nothing(
    workflow: MaWorkflow, changed: Params, status: int, words: str
) -> None:
    made = workflow.add_task(increment, inputs={"x": 1})
    body = {"workflow_id": workflow.workflow_id, "task_id": made.task_id, "code_str": None, "code_ser": "", **changed}
    answer = post("/save_task", body, headers={"X-Request-ID": "my-id.1"})
    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"] == "my-id.1"
    assert set(answer.json()) == {"detail", "type", "request_id"}
    assert workflow.show_results(workflow.run())["task_results"] == {made.task_id: {"y": 2}}


def test_code_that_does_not_unpickle_fails_the_task_in_words(workflow: MaWorkflow) -> None:
    made = workflow.add_task(increment, inputs={"x": 1})
    code = base64.b64encode(b"\x80\x02cno_such_module\nwork\n.").decode()
    body = {"workflow_id": workflow.workflow_id, "task_id": made.task_id, "code_str": None, "code_ser": code}
    assert post("/save_task", body).status_code == 200
    messages = workflow.get_results(workflow.run(), verbose=False)
    assert "no_such_module" in exception(messages, made.task_id)
    assert messages[-1]["type"] == "finish_workflow"


def test_a_missing_output_fails_the_task_and_names_the_key(workflow: MaWorkflow) -> None:
    @task(inputs=[], outputs=["promised"])
    def forget(params: Params) -> Params:
        return {"other": 1}

    made = workflow.add_task(forget)
    messages = workflow.get_results(workflow.run(), verbose=False)
    assert "promised" in exception(messages, made.task_id)


def test_a_body_over_the_limit_is_refused_by_name(workflow: MaWorkflow) -> None:
    made = workflow.add_task(increment, inputs={"x": 1})
    body = {"workflow_id": workflow.workflow_id, "task_id": made.task_id, "code_str": "#" * (65 * 1024 * 1024)}
    answer = post("/save_task", body)
    assert answer.status_code == 413
    assert "MAZE_MAX_BODY_BYTES" in answer.json()["detail"]


def test_no_server_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ServerUnreachable, match="make up"):
        MaClient("http://127.0.0.1:9").create_workflow()


def test_health_readiness_and_metrics_answer() -> None:
    assert requests.get(API + "/health", timeout=10).json()["status"] == "healthy"
    assert requests.get(API + "/ready", timeout=10).json()["ready"] is True
    assert "maze_api_requests_total" in requests.get(API + "/metrics", timeout=10).text
