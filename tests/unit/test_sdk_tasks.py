"""If these fail, a user's task is described or pickled wrongly, or a mistake in it is not explained."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import maze
from maze import InvalidTask, MaTask, TaskOutput, UnknownOutput, get_task_metadata, task
from maze._decorator import normalize_resources
from maze._inputs import Upload, input_parameters
from maze._pickle import dumps

PUBLIC = {
    "BadRequest",
    "Conflict",
    "DrawingUnavailable",
    "InvalidTask",
    "MaClient",
    "MaTask",
    "MaWorkflow",
    "MazeError",
    "NotFound",
    "RequestFailed",
    "ResultNotLoadable",
    "RunCancelled",
    "RunFailed",
    "RunNotEnded",
    "ServerUnreachable",
    "StreamBroken",
    "TaskMetadata",
    "TaskOutput",
    "TaskOutputs",
    "UnknownOutput",
    "UnknownRun",
    "get_task_metadata",
    "task",
}


def unknown(_: TaskOutput) -> None:
    """The declared type of a reference: not known."""


@task(inputs=["count", "text"], outputs=["total"], data_types={"count": "int", "total": "float"})
def job(params: dict[str, Any]) -> dict[str, Any]:
    return {"total": params["count"] * 1.5}


def test_the_decorator_returns_the_function_itself() -> None:
    assert job({"count": 2}) == {"total": 3.0}
    metadata = get_task_metadata(job)
    assert metadata.func_name == "job"
    assert metadata.data_types == {"count": "int", "text": "str", "total": "float"}
    with pytest.raises(ValueError, match="not decorated"):
        get_task_metadata(len)


@pytest.mark.parametrize(
    ("given", "effective"),
    [
        (None, {"cpu": 1, "cpu_mem": 0, "gpu": 0, "gpu_mem": 0}),
        ({"gpu_mem": 4096}, {"cpu": 1, "cpu_mem": 0, "gpu": 1, "gpu_mem": 4096}),
        ({"cpu": 0.5}, {"cpu": 1, "cpu_mem": 0, "gpu": 0, "gpu_mem": 0}),
        ({"gpu": 0.5, "gpu_mem": 10}, {"cpu": 1, "cpu_mem": 0, "gpu": 0.5, "gpu_mem": 10}),
        ({"cpu": 2, "cpu_mem": 256}, {"cpu": 2, "cpu_mem": 256, "gpu": 0, "gpu_mem": 0}),
    ],
)
def test_resources_are_filled_in_as_the_reference_says(given: dict[str, Any] | None, effective: dict[str, Any]) -> None:
    assert normalize_resources(given) == effective


@pytest.mark.parametrize("given", [{"ram": 1}, {"cpu": "2"}, {"cpu": -1}, {"gpu": True}, {"cpu": float("nan")}])
def test_wrong_resources_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidTask, match="resources"):
        normalize_resources(given)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"inputs": "text", "outputs": []}, "list of names"),
        ({"inputs": ["a", "a"], "outputs": []}, "twice"),
        ({"inputs": ["a"], "outputs": [], "data_types": {"b": "int"}}, "neither an input nor an output"),
        ({"inputs": ["a"], "outputs": [], "data_types": {"a": "integer"}}, "known are"),
        ({"inputs": [], "outputs": [], "isolation": "pod"}, '"run" or "task"'),
    ],
)
def test_wrong_decorations_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidTask, match=words):
        task(**arguments)


def test_inputs_are_sent_as_the_protocol_has_them() -> None:
    made = input_parameters("job", get_task_metadata(job), {"count": TaskOutput("id", "n")}, unknown)
    assert made == {
        "1": {"key": "count", "input_schema": "from_task", "data_type": "int", "value": "id.output.n"},
        "2": {"key": "text", "input_schema": "from_user", "data_type": "str", "value": ""},
    }
    assert input_parameters("job", get_task_metadata(job), {"text": [1, 2]}, unknown)["2"]["value"] == [1, 2]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"nope": 1}, r"no input \['nope'\]"),
        ({"count": "three"}, "declared as int, but is str"),
        ({"count": True}, "declared as int, but is bool"),
        ({"text": Path("/no/such/file")}, "does not exist here"),
        ({"text": {"deep": TaskOutput("id", "n")}}, "outputs can be an input, or elements of a list"),
    ],
)
def test_wrong_inputs_are_refused_before_anything_is_sent(inputs: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidTask, match=words):
        input_parameters("job", get_task_metadata(job), inputs, unknown)


def test_values_that_json_can_not_hold_are_uploaded_as_pickles() -> None:
    sent = input_parameters("job", get_task_metadata(job), {"text": {1, 2}}, unknown)["2"]["payload"]
    assert isinstance(sent, Upload)
    assert sent.encoding == "pickle"
    assert isinstance(sent.data, bytes)
    assert pickle.loads(sent.data) == {1, 2}


def test_outputs_are_references_by_key() -> None:
    made = MaTask("t1", "w", "http://x/", "name", ["a", "b"])
    assert made.outputs.keys() == ["a", "b"]
    assert made.outputs["a"].to_reference_string() == "t1.output.a"
    with pytest.raises(KeyError, match="declared are: a, b"):
        made.outputs["c"]
    assert str(UnknownOutput("text")) == "text"


MODULE = """
from maze import task
import helper_of_mine

FACTOR = 3

class Box:
    def __init__(self, value): self.value = value

@task(inputs=["x"], outputs=["y"])
def work(params):
    return {"y": Box(helper_of_mine.twice(params["x"]) * FACTOR).value}
"""
LOAD = "import pickle, sys; print(pickle.load(sys.stdin.buffer)({'x': 7})); assert 'maze' not in sys.modules"


def test_a_task_from_the_users_own_modules_loads_where_these_do_not_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also without Maze: the other interpreter fails on an import of it."""
    (tmp_path / "helper_of_mine.py").write_text("def twice(x):\n    return 2 * x\n")
    (tmp_path / "tasks_of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    work = importlib.import_module("tasks_of_mine").work
    data = dumps(work)
    done = subprocess.run([sys.executable, "-c", LOAD], input=data, capture_output=True, cwd="/", check=False)
    assert done.stdout.decode().strip() == "{'y': 42}", done.stderr.decode()


def test_what_cannot_be_pickled_is_named() -> None:
    lock = __import__("threading").Lock()

    @task(inputs=[], outputs=["y"])
    def holds_a_lock(params: dict[str, Any]) -> dict[str, Any]:
        return {"y": str(lock)}

    with pytest.raises(InvalidTask, match=r"holds_a_lock.*lock"):
        dumps(holds_a_lock)


def test_the_public_names_are_these() -> None:
    assert set(maze.__all__) == PUBLIC
