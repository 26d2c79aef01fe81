"""If these fail, a task is built that is not what its client asked for, or a bad one is not refused in words."""

from __future__ import annotations

import base64
import json
from typing import Any

import cloudpickle
import pytest
from pydantic import ValidationError

from maze_api.bodies import AddLangGraphBody, ResourcesBody, SaveTaskBody
from maze_api.errors import BadRequest, TooLarge
from maze_api.settings import Settings
from maze_api.submit import DraftTask, build_workflow, dump, fit, run_object
from maze_api.wire import (
    arguments,
    decode_pickle,
    payload_keys,
    references,
    resources,
    translate,
    translate_langgraph,
)
from maze_crds.base import MAX_TASKS
from maze_crds.names import payload_key
from maze_crds.run import RunSpec
from maze_crds.workflow import Task, WorkflowSpec

A, B, C = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "abc")
PYTHON = "3.11"
CODE = base64.b64encode(cloudpickle.dumps(len)).decode()


def body(task_id: str = A, inputs: dict[str, Any] | None = None, **more: Any) -> SaveTaskBody:
    parameters = {
        str(number): {
            "key": key,
            "input_schema": "from_task" if isinstance(value, str) and value[:1] == "@" else "from_user",
            "data_type": "str",
            "value": value[1:] if isinstance(value, str) and value[:1] == "@" else value,
        }
        for number, (key, value) in enumerate((inputs or {}).items(), 1)
    }
    fields = {
        "workflow_id": C,
        "task_id": task_id,
        "code_str": "",
        "code_ser": CODE,
        "task_input": {"input_params": parameters},
        "task_output": {"output_params": {"1": {"key": "y", "data_type": "str"}}},
        "resources": {"cpu": 1, "cpu_mem": 0, "gpu": 0, "gpu_mem": 0},
    }
    return SaveTaskBody.model_validate({**fields, **more})


def draft(task_id: str, inputs: dict[str, Any] | None = None, name: str = "job", **more: Any) -> DraftTask:
    return DraftTask(task_id, name, 1, translate(body(task_id, inputs, **more), name, PYTHON)[0])


def test_what_the_original_client_sends_becomes_a_task() -> None:
    task, uploads = translate(
        body(inputs={"x": "hello", "z": f"@{B}.output.k"}, python_version="3.11"), "my task", PYTHON
    )
    made = dump(task)
    assert made["name"] == A
    assert made["displayName"] == "my task"
    assert made["inputs"] == {"x": {"value": "hello"}, "z": {"from": f"{B}.output.k"}}
    assert made["outputs"] == ["y"]
    assert made["resources"] == {"cpu": "1"}
    assert made["python"]["pythonVersion"] == "3.11"
    assert made["python"]["code"]["key"] == uploads[0].key
    assert uploads[0].data == base64.b64decode(CODE)
    assert references(task) == [B]


@pytest.mark.parametrize("value", [None, "", 0, False, [], {"deep": [1, None]}])
def test_every_json_literal_survives_the_way_to_the_run_and_back(value: Any) -> None:
    saved = draft(A, {"x": value})
    again = DraftTask.from_json(saved.to_json())
    run = run_object("r", "maze", C, fit(build_workflow([again], []))[0])
    assert run["spec"]["workflow"]["tasks"][0]["inputs"] == {"x": {"value": value}}
    assert RunSpec.model_validate(run["spec"])


def test_a_large_literal_goes_to_the_object_store_under_the_draft() -> None:
    task, uploads = translate(body(inputs={"x": "ä" * 40_000}), None, PYTHON)
    payload = task.inputs["x"].payload
    assert payload is not None
    assert payload.key.startswith(f"drafts/{C}/inputs/")
    assert json.loads(next(upload.data for upload in uploads if upload.key == payload.key)) == "ä" * 40_000
    assert payload.size == 80_002


@pytest.mark.parametrize(
    ("given", "quantities"),
    [
        ({}, None),
        ({"cpu": 0, "cpu_mem": 0}, None),
        ({"cpu": 0.5, "cpu_mem": 128}, {"cpu": "0.5", "memory": "128M"}),
        ({"cpu": 4.0, "gpu": 1, "gpu_mem": 4096}, {"cpu": "4", "gpu": "1", "gpuMemory": "4096M"}),
        ({"gpu_mem": 4096}, {"gpu": "1", "gpuMemory": "4096M"}),
    ],
)
def test_resources_become_quantities(given: dict[str, Any], quantities: dict[str, str] | None) -> None:
    made = resources(ResourcesBody.model_validate(given))
    assert (made and made.model_dump(by_alias=True, exclude_unset=True)) == quantities


@pytest.mark.parametrize("amount", [-1, "many", float("nan"), float("inf"), None])
def test_a_wrong_amount_is_refused(amount: object) -> None:
    with pytest.raises(ValidationError):
        ResourcesBody.model_validate({"cpu": amount})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"code_ser": "%%%"}, "not base64"),
        ({"code_ser": base64.b64encode(b"print(1)").decode()}, "not of a pickle"),
        ({"code_ser": None, "code_str": "  "}, "has no code"),
        ({"code_ser": None, "code_str": "#" * 300_000}, "send the function as code_ser"),
        ({"inputs": {"x": "@nonsense"}}, "from_task needs"),
        ({"inputs": {"x": "@input.k"}}, "from_task needs"),
        ({"task_output": {"output_params": {"1": {"key": "y"}, "2": {"key": "y"}}}}, "twice"),
        ({"inputs": {"x": float("nan")}}, "not JSON.*payload"),
        ({"python_version": "3.9"}, r"Python 3\.9, but tasks run in Python 3\.11.*image that has Python 3\.9"),
        ({"env": {"MAZE_TOKEN": "x"}}, "MAZE_TOKEN.*Maze's own"),
    ],
)
def test_bad_content_is_refused_in_words(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        translate(body(**changed), None, PYTHON)


def test_source_is_taken_where_there_is_no_pickle() -> None:
    task, uploads = translate(body(code_ser=None, code_str="def f(p):\n    return {'y': 1}\n"), None, PYTHON)
    assert task.python is not None
    assert task.python.source is not None
    assert not uploads


def test_a_pickle_is_only_looked_at() -> None:
    """Loading this one would raise."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (exec, ("raise SystemExit('loaded')",))

    data = cloudpickle.dumps(Trap())
    assert decode_pickle(base64.b64encode(data).decode(), "code_ser", "") == data


@pytest.mark.parametrize(
    ("tasks", "edges", "words"),
    [
        ([], [], "workflow has no tasks"),
        ([DraftTask(A, "half", 1, None)], [], "never saved: 'half'"),
        ([draft(A, {"x": f"@{B}.output.y"}, "needy")], [], f"needy \\({A}\\).*there is no task '{B}'"),
        ([draft(A), draft(B, {"x": f"@{A}.output.z"})], [], "declares no output 'z'"),
        ([draft(A), draft(B)], [(A, B), (B, A)], "cycle"),
    ],
)
def test_a_workflow_that_cannot_run_is_refused(
    tasks: list[DraftTask], edges: list[tuple[str, str]], words: str
) -> None:
    with pytest.raises(BadRequest, match=words):
        build_workflow(tasks, edges)


def test_edges_become_dependencies_and_those_of_deleted_tasks_are_left_out() -> None:
    spec = build_workflow([draft(A), draft(B)], [(A, B), (C, B)])
    assert [task.depends_on for task in spec.tasks] == [None, [A]]


def test_tasks_too_large_for_a_run_go_to_the_object_store() -> None:
    spec = build_workflow([draft(A, {"x": "v" * 3000})], [])
    assert fit(spec) == (dump(spec), [])
    made, [upload] = fit(spec, limit=2000)
    assert made == {"tasksFrom": {"key": upload.key, "sha256": upload.key.split("/")[1], "size": len(upload.data)}}
    assert json.loads(upload.data) == dump(spec)["tasks"]
    with pytest.raises(TooLarge, match="split it"):
        fit(spec, limit=100, most=2000)


def test_more_tasks_than_a_run_may_have_in_itself_go_to_the_object_store() -> None:
    tasks = [Task(name=f"t{number}", python={"source": "def f(i): return i"}) for number in range(MAX_TASKS + 1)]
    assert "tasks" not in fit(WorkflowSpec(tasks=tasks))[0]


def test_settings_name_what_is_missing_or_wrong() -> None:
    store = {f"MAZE_S3_{name}": "x" for name in ("ENDPOINT", "BUCKET", "ACCESS_KEY", "SECRET_KEY")}
    assert Settings.from_env(store).max_body_bytes == 64 * 1024 * 1024
    with pytest.raises(ValueError, match="MAZE_S3_BUCKET"):
        Settings.from_env({**store, "MAZE_S3_BUCKET": ""})
    with pytest.raises(ValueError, match="MAZE_MAX_BODY_BYTES"):
        Settings.from_env({**store, "MAZE_MAX_BODY_BYTES": "64M"})
    with pytest.raises(ValueError, match="MAZE_RUNNER_PYTHON"):
        Settings.from_env({**store, "MAZE_RUNNER_PYTHON": "three"})


def test_what_newer_clients_add_becomes_part_of_the_task() -> None:
    more: dict[str, Any] = {
        "image": "python:3.9",
        "timeout": 60,
        "retries": 2,
        "env": {"A": "1", "B": ""},
        "python_version": "3.9",
        "isolation": "task",
    }
    made = dump(translate(body(**more), None, PYTHON)[0])
    assert (made["python"]["image"], made["python"]["pythonVersion"]) == ("python:3.9", "3.9")
    assert (made["timeoutSeconds"], made["retry"], made["isolation"]) == (60, {"limit": 2}, "task")
    assert made["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": ""}]
    assert RunSpec.model_validate({"workflow": {"tasks": [made]}})


def with_payload(**changed: Any) -> SaveTaskBody:
    sha256 = "0" * 64
    payload = {"key": payload_key(sha256), "sha256": sha256, "size": 3, "encoding": "file", "file_name": "a b.csv"}
    parameter = {"key": "x", "input_schema": "from_user", "data_type": "str", "payload": {**payload, **changed}}
    return body(task_input={"input_params": {"1": parameter}})


def test_a_payload_stands_in_place_of_a_value() -> None:
    task, uploads = translate(with_payload(), None, PYTHON)
    payload = dump(task)["inputs"]["x"]["payload"]
    assert payload == {
        "key": payload_key("0" * 64),
        "sha256": "0" * 64,
        "size": 3,
        "encoding": "file",
        "fileName": "a b.csv",
    }
    assert payload_keys(task) == [payload["key"]], "its being there would not be checked"
    assert len(uploads) == 1, "only the code"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"key": "runs/someone/elses/result.json"}, "PUT /api/maze/payloads"),
        ({"key": payload_key("1" * 64)}, "PUT /api/maze/payloads"),
        ({"file_name": "../../etc/passwd"}, "file_name"),
        ({"file_name": ".."}, "file_name"),
        ({"file_name": None}, "file_name"),
        ({"file_name": "ä" * 200}, "255 bytes"),
    ],
)
def test_a_payload_can_not_name_what_is_not_its_own(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        translate(with_payload(**changed), None, PYTHON)


def test_a_langgraph_call_becomes_a_task_with_arguments() -> None:
    given = AddLangGraphBody(workflow_id=C, task_name="node", code_ser=CODE, resources=ResourcesBody(cpu=1))
    task, upload = translate_langgraph(given, A, PYTHON)
    inputs, uploads = arguments(*(base64.b64encode(cloudpickle.dumps(x)).decode() for x in ((1,), {"a": 2})))
    made = dump(task.model_copy(update={"inputs": inputs}))
    assert made["python"]["call"] == "Arguments"
    assert (made["displayName"], made["outputs"], made["resources"]) == ("node", ["result"], {"cpu": "1"})
    assert {key: given["payload"]["encoding"] for key, given in made["inputs"].items()} == dict.fromkeys(
        inputs, "pickle"
    )
    assert cloudpickle.loads(uploads[1].data) == {"a": 2}
    assert upload.data == base64.b64decode(CODE)
    assert RunSpec.model_validate({"workflow": {"tasks": [made]}})
    with pytest.raises(BadRequest, match="kwargs is not base64"):
        arguments(CODE, "%%%")
