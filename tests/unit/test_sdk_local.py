"""maze.testing.LocalClient: workflows that really run, without a cluster. If these fail, users test against something else
than what they deploy, or what the SDK does with inputs, outputs and failures is wrong."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from maze import (
    BadRequest,
    Conflict,
    InvalidTask,
    MaWorkflow,
    NotFound,
    ResultNotLoadable,
    RunCancelled,
    RunFailed,
    RunNotEnded,
    UnknownRun,
    task,
)
from maze.testing import LocalClient

Params = dict[str, Any]


class Box:
    def __init__(self, value: int) -> None:
        self.value = value


@pytest.fixture
def workflow() -> MaWorkflow:
    return LocalClient().create_workflow()


@task(inputs=["x"], outputs=["y"])
def same(params: Params) -> Params:
    return {"y": params["x"]}


@task(inputs=["x", "factor"], outputs=["y"])
def multiply(params: Params) -> Params:
    print(f"{params['x']} times {params['factor']}")
    return {"y": params["x"] * params["factor"]}


@task(inputs=["x"], outputs=["y"])
def divide(params: Params) -> Params:
    return {"y": 1 / params["x"]}


@task(inputs=["files"], outputs=["y"])
def hang(params: Params) -> Params:
    print("hanging", flush=True)
    __import__("threading").Event().wait()
    return {"y": 0}


def test_messages_are_those_of_a_server(workflow: MaWorkflow) -> None:
    first = workflow.add_task(same, inputs={"x": 1})
    bad = workflow.add_task(divide, inputs={"x": 0})
    after = workflow.add_task(same, inputs={"x": bad.outputs["y"]})
    run_id = workflow.run()
    messages = workflow.get_results(run_id, verbose=False)
    assert [message["type"] for message in messages] == [
        "start_task",
        "finish_task",
        "start_task",
        "task_exception",
        "finish_workflow",
    ]
    ids = {"workflow_id": workflow.workflow_id, "run_id": run_id}
    assert messages[1]["data"] == {**ids, "task_id": first.task_id, "result": {"y": 1}}
    assert messages[3]["data"]["result"].startswith("Traceback (most recent call last)")
    assert "ZeroDivisionError" in messages[3]["data"]["result"]
    assert messages[4]["data"] == {**ids, "status": "Failed"}
    assert {made["task_id"]: made["status"] for made in workflow.status(run_id)["tasks"]} == {
        first.task_id: "Succeeded",
        bad.task_id: "Failed",
        after.task_id: "Skipped",
    }


def test_waiting_raises_what_went_wrong_or_returns_it(workflow: MaWorkflow) -> None:
    bad = workflow.add_task(divide, inputs={"x": 0})
    run_id = workflow.run()
    with pytest.raises(RunFailed, match=r"'divide': Failed \(UserException\): ZeroDivisionError") as failed:
        workflow.wait(run_id)
    assert [made["task_id"] for made in failed.value.tasks] == [bad.task_id]
    assert failed.value.summary == workflow.wait(run_id, check=False)
    with pytest.raises(RunFailed, match="ZeroDivisionError"):
        workflow.result(run_id, bad)


@pytest.mark.parametrize(
    "value",
    [(1, (2, 3)), {1, 2}, b"\x00bytes", {1: "one"}, 2**80, complex(1, 2), frozenset({"a"}), [1.5, None, "ä"], ""],
)
def test_any_value_goes_in_and_out_as_it_is(workflow: MaWorkflow, value: Any) -> None:
    made = workflow.add_task(same, inputs={"x": value})
    run_id = workflow.run()
    workflow.wait(run_id)
    result = workflow.result(run_id, made)["y"]
    assert (result, type(result)) == (value, type(value))


def test_objects_of_the_users_own_classes_come_back_as_such(workflow: MaWorkflow) -> None:
    made = workflow.add_task(same, inputs={"x": [Box(4)]})
    run_id = workflow.run()
    workflow.wait(run_id)
    (box,) = workflow.result(run_id, made)["y"]
    assert box.value == 4


def test_an_object_that_cannot_be_made_here_is_told_by_its_module(workflow: MaWorkflow) -> None:
    @task(inputs=[], outputs=["thing"])
    def foreign(params: Params) -> Params:
        Path("only_in_the_image.py").write_text("class Thing:\n    pass\n")
        return {"thing": __import__("only_in_the_image").Thing()}

    made = workflow.add_task(foreign)
    run_id = workflow.run()
    workflow.wait(run_id)
    with pytest.raises(ResultNotLoadable, match="'only_in_the_image'"):
        workflow.result(run_id, made)


def test_map_binds_items_and_takes_what_is_the_same_for_all(workflow: MaWorkflow) -> None:
    tasks = [
        *workflow.map(multiply, [1, 2], factor=(3,)),
        *workflow.map(multiply, [{"x": 5, "factor": 2}, {"factor": 1, "x": "a"}]),
    ]
    assert [made.task_name for made in tasks] == ["multiply[0]", "multiply[1]"] * 2
    run_id = workflow.run()
    workflow.wait(run_id)
    assert [workflow.result(run_id, made)["y"] for made in tasks] == [(3,), (3, 3), 10, "a"]
    assert list(workflow.logs(run_id, tasks[0])) == ["1 times (3,)"]
    with pytest.raises(InvalidTask, match=r"item 0 must be a dict with keys of \['x', 'factor'\]"):
        workflow.map(multiply, [1])
    with pytest.raises(InvalidTask, match="no input"):
        workflow.map(multiply, [1], nonsense=1)


def test_a_list_of_outputs_becomes_one_input_by_a_task_that_says_so(workflow: MaWorkflow) -> None:
    parts = workflow.map(same, [1, (2,)])
    made = workflow.add_task(same, inputs={"x": [parts[1].outputs["y"], 7, parts[0].outputs["y"], {8}]})
    assert [found["name"] for found in workflow.get_tasks()] == ["same[0]", "same[1]", "collect x of same", "same"]
    assert workflow.get_graph_info()["stats"] == {"total_nodes": 4, "total_edges": 3, "max_depth": 3}
    run_id = workflow.run()
    workflow.wait(run_id)
    assert workflow.result(run_id, made)["y"] == [(2,), 7, 1, {8}]


def test_more_outputs_than_one_task_takes_are_collected_in_their_order(workflow: MaWorkflow) -> None:
    first = workflow.add_task(same, inputs={"x": "first"})
    made = workflow.collect([first.outputs["y"], *range(450)])
    assert len(workflow.get_tasks()) == 1 + 3 + 1
    run_id = workflow.run()
    workflow.wait(run_id)
    assert workflow.result(run_id, made)["items"] == ["first", *range(450)]


def test_what_would_arrive_as_something_useless_is_refused_and_adds_nothing(
    workflow: MaWorkflow, tmp_path: Path
) -> None:
    first = workflow.add_task(same, inputs={"x": 1})
    file = tmp_path / "a.txt"
    file.write_text("")
    for value, words in (
        (first, r"is a task; give one of its outputs, such as task.outputs\['y'\]"),
        ({"a": first.outputs["y"]}, "inside a dict"),
        ([[first.outputs["y"]]], "inside a list"),
        ([file], "inside a list; give each file an input of its own"),
        ([first.outputs["y"], file], "inside a list; give each file"),
        (tmp_path, "is a folder"),
        (tmp_path / "none", "does not exist here"),
        (__import__("threading").Lock(), "can't be sent"),
    ):
        with pytest.raises(InvalidTask, match=words):
            workflow.add_task(same, inputs={"x": value})
    assert len(workflow.get_tasks()) == 1


def test_a_task_that_could_not_be_saved_leaves_nothing(workflow: MaWorkflow) -> None:
    stranger = LocalClient().create_workflow().add_task(same, inputs={"x": 1})
    first = workflow.add_task(same, inputs={"x": 1})
    with pytest.raises(NotFound):
        workflow.add_task(same, inputs={"x": [first.outputs["y"], stranger.outputs["y"]]})
    assert [found["id"] for found in workflow.get_tasks()] == [first.task_id]
    assert workflow.get_graph_info()["stats"] == {"total_nodes": 1, "total_edges": 0, "max_depth": 1}


def test_declared_types_are_compared_between_tasks_too(workflow: MaWorkflow) -> None:
    @task(inputs=["n"], outputs=["text"], data_types={"n": "float", "text": "str"})
    def show(params: Params) -> Params:
        return {"text": str(params["n"])}

    made = workflow.add_task(show, inputs={"n": 1})
    with pytest.raises(InvalidTask, match="declared as float, but 'text' of its task as str"):
        workflow.add_task(show, inputs={"n": made.outputs["text"]})
    assert workflow.add_task(same, inputs={"x": made.outputs["text"]})


def test_files_travel_and_those_of_one_name_do_not_overwrite_each_other(workflow: MaWorkflow, tmp_path: Path) -> None:
    @task(inputs=["file"], outputs=["a", "b"])
    def copy(params: Params) -> Params:
        folders = [Path(name) for name in ("one", "two")]
        for number, folder in enumerate(folders):
            folder.mkdir()
            (folder / "r.txt").write_text(params["file"].read_text() * (number + 1))
        return {"a": folders[0] / "r.txt", "b": folders[1] / "r.txt"}

    given = tmp_path / "given.txt"
    given.write_text("x")
    first, second = (workflow.add_task(copy, inputs={"file": given}) for _ in range(2))
    run_id = workflow.run()
    workflow.show_results(run_id, str(tmp_path / "out"))
    folder = tmp_path / "out" / run_id
    saved = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.txt")}
    names = [f"copy-{made.task_id[:8]}" for made in (first, second)]
    assert saved == {f"{name}/{key}-r.txt": text for name in names for key, text in (("a", "x"), ("b", "xx"))}
    assert workflow.result(run_id, first)["b"].read_text() == "xx"


def test_options_of_the_decorator(workflow: MaWorkflow, tmp_path: Path) -> None:
    counter = tmp_path / "attempts"

    @task(inputs=["path"], outputs=["y"], retries=2, env={"COLOR": "blue"}, isolation="task")
    def third_time(params: Params) -> Params:
        path = Path(params["path"])
        path.write_text(path.read_text() + "x" if path.exists() else "x")
        print(path.read_text())
        if len(path.read_text()) < 3:
            raise ValueError("not yet")
        return {"y": __import__("os").environ["COLOR"]}

    made = workflow.add_task(third_time, inputs={"path": str(counter)})
    run_id = workflow.run()
    workflow.wait(run_id)
    assert workflow.result(run_id, made) == {"y": "blue"}
    assert workflow.status(run_id)["tasks"][0]["attempt"] == 3
    assert list(workflow.logs(run_id, made)) == ["xxx"]
    assert next(workflow.logs(run_id, made, attempt=1)) == "x"


def test_a_task_that_takes_too_long_or_ends_its_process_fails_by_name(workflow: MaWorkflow) -> None:
    limited = task(inputs=["files"], outputs=["y"], timeout=1)(lambda params: hang_here())

    def hang_here() -> None:
        __import__("threading").Event().wait()

    workflow.add_task(limited, task_name="slow")
    workflow.add_task(task(inputs=[], outputs=[])(lambda params: __import__("os")._exit(3)), task_name="gone")
    run_id = workflow.run()
    workflow.wait(run_id, check=False)
    assert [made["reason"] for made in workflow.status(run_id)["tasks"]] == ["TimedOut", "Exited"]


def test_a_run_is_followed_and_cancelled(workflow: MaWorkflow) -> None:
    made = workflow.add_task(hang)
    run_id = workflow.run()
    with pytest.raises(RunNotEnded, match=r"within 0.1 s"):
        workflow.wait(run_id, timeout=0.1)
    lines = workflow.logs(run_id, made, follow=True)
    assert next(lines) == "hanging"
    with pytest.raises(Conflict):
        workflow.result(run_id, made)
    workflow.cancel(run_id)
    with pytest.raises(RunCancelled):
        workflow.wait(run_id)
    assert list(lines) == []
    with pytest.raises(Conflict):
        workflow.cancel(run_id)


def test_a_cycle_is_named_and_not_added(workflow: MaWorkflow) -> None:
    made = [workflow.add_task(same, inputs={"x": 1}, task_name=name) for name in "abc"]
    for source, target in itertools.pairwise(made):
        workflow.add_edge(source, target)
    with pytest.raises(BadRequest, match="c → a → b → c"):
        workflow.add_edge(made[2], made[0])
    assert workflow.get_graph_info()["stats"]["total_edges"] == 2


def test_source_runs_as_it_does_on_a_server(workflow: MaWorkflow) -> None:
    made = workflow.add_task(task_name="from source")
    with pytest.raises(BadRequest, match="never saved: from source"):
        workflow.run()
    parameters = {"1": {"key": "a", "input_schema": "from_user", "data_type": "str", "value": [1]}}
    source = "import json\n\ndef work(params):\n    return {'y': json.dumps(params)}\n"
    made.save(source, {"input_params": parameters}, {"output_params": {"1": {"key": "y"}}})
    run_id = workflow.run()
    assert json.loads(workflow.wait(run_id)["task_results"][made.task_id]["y"]) == {"a": [1]}


def test_unknown_runs_and_empty_workflows_are_told() -> None:
    client = LocalClient()
    workflow = client.create_workflow()
    with pytest.raises(BadRequest, match="has no tasks"):
        workflow.run()
    for call in (workflow.status, workflow.cancel, workflow.get_results):
        with pytest.raises(UnknownRun, match="nope"):
            call("nope")
    assert client.runs() == []
