"""If these fail, tasks are answered with wrong fields, wrong results, or are made twice."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from pydantic import ValidationError

from maze_api.errors import Invalid
from maze_api.settings import Settings
from maze_api.task_bodies import CreateTask, TaskCreated, TaskDetail, TaskItem
from maze_api.task_create import Clock, inputs_of, keyed_id, require_same, task_object
from maze_api.task_describe import attempt_of, created_json, item_json, parameters_of, task_json
from maze_api.task_results import completed_result, failed_result, last_steps
from maze_api.task_serving import nobody_serves, require_fitting
from maze_api.task_view import TaskView, view_task
from maze_crds.base import format_time
from maze_crds.run import RunSpec
from maze_crds.workflow import WorkflowSpec
from maze_io.store import StoreSettings

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = Settings(StoreSettings("http://s3", "maze", "key", "secret"))
Json = dict[str, Any]


def body(**more: Any) -> CreateTask:
    return CreateTask.model_validate({"problem_id": "test-1", **more})


def at(seconds: float) -> str:
    return format_time(T0 + timedelta(seconds=seconds))


def made(given: CreateTask | None = None, name: str = "t", seconds: float = 0, **status: Any) -> TaskView:
    obj = task_object(name, given or body(), SETTINGS, "w", T0 + timedelta(seconds=seconds), False)
    obj["metadata"]["uid"] = f"uid-{name}"
    return view_task({**obj, "status": status})


def ended(phase: str, **more: Any) -> TaskView:
    last = {"number": 1, "worker": "w-1", "internal": True, "startTime": at(2), "startEvent": 1, "end": "Completed"}
    return made(phase=phase, completionTime=at(5.5), assignments=[last], **more)


def test_a_task_is_a_run_that_the_operator_understands() -> None:
    given = body(parameters={"max_steps": 5, "agent_config": {"model": "gpt-4"}}, priority=3)
    obj = task_object("id", given, SETTINGS, "flow", T0, True)
    spec = RunSpec.model_validate(obj["spec"])
    assert spec.workflow_ref is not None
    assert spec.workflow_ref.name == "flow"
    assert (spec.problem_id, spec.timeout_seconds, spec.priority, spec.queued_time) == ("test-1", 1800, 3, T0)
    assert spec.inputs == {
        "max_steps": 5,
        "timeout": 1800,
        "agent_config": {"model": "gpt-4"},
        "problem_id": "test-1",
    }
    assert spec.ttl_seconds_after_finished == SETTINGS.run_ttl_seconds
    assert "workflowRef" not in task_object("id", given, SETTINGS, None, T0, False)["spec"]


def test_parameters_are_answered_as_given_with_defaults() -> None:
    assert parameters_of(made()) == {"max_steps": 30, "timeout": 1800}
    assert parameters_of(made(body(parameters={"timeout": None, "x": None}))) == {
        "max_steps": 30,
        "timeout": 1800,
        "x": None,
    }
    named = made(body(parameters={"problem_id": "test-1", "timeout": 7}))
    assert parameters_of(named) == {"max_steps": 30, "timeout": 7, "problem_id": "test-1"}


def test_a_parameter_that_contradicts_the_problem_is_refused() -> None:
    with pytest.raises(Invalid, match="differs from problem_id"):
        inputs_of(body(parameters={"problem_id": "other"}), SETTINGS)


@pytest.mark.parametrize("annotation", [None, "", "no json", "1", '{"problem_id": 1}', "[1, null]"])
def test_runs_made_with_kubectl_say_their_parameters_otherwise(annotation: str | None) -> None:
    task = made()
    task.obj["metadata"]["annotations"] = {} if annotation is None else {"maze.dev/parameters": annotation}
    assert "problem_id" not in parameters_of(task)


@pytest.mark.parametrize(
    "wrong",
    [
        {"problem_id": ""},
        {"problem_id": "x" * 254},
        {"problem_id": "a\u0000b"},
        {"problem_id": 5},
        {"problem_id": "\ud800"},
        {"parameters": []},
        {"parameters": {"timeout": 0}},
        {"parameters": {"timeout": 604801}},
        {"parameters": {"timeout": "60"}},
        {"parameters": {"timeout": True}},
        {"parameters": {"max_steps": 0}},
        {"parameters": {"max_steps": 1.5}},
        {"parameters": {"": 1}},
        {"parameters": {"x" * 254: 1}},
        {"parameters": {"x": float("nan")}},
        {"parameters": {"x": {"y": ["\ud800"]}}},
        {"parameters": {f"x{n}": n for n in range(251)}},
        {"priority": 1001},
        {"priority": "high"},
    ],
)
def test_what_is_no_task(wrong: Json) -> None:
    with pytest.raises(ValidationError):
        body(**wrong)


def test_a_repeat_is_told_from_another_request() -> None:
    one = body(parameters={"a": 1, "b": {"x": 1, "y": 2}})
    same = body(parameters={"b": {"y": 2, "x": 1}, "a": 1})
    obj = task_object("id", one, SETTINGS, None, T0, True)
    assert require_same(obj, same, "k") is obj
    for other in (body(), body(parameters={"a": 2}), body(parameters={"a": 1}, priority=1)):
        with pytest.raises(Invalid, match="Idempotency-Key 'k' was used for another request"):
            require_same(obj, other, "k")
    with pytest.raises(Invalid):
        require_same(made().obj, one, "k")


def test_a_key_names_one_task_in_each_namespace() -> None:
    assert keyed_id("maze", "k") == keyed_id("maze", "k")
    assert len({keyed_id("maze", "k"), keyed_id("maze", "l"), keyed_id("other", "k")}) == 3


def test_times_order_what_a_process_makes() -> None:
    clock = Clock()
    times = [clock.next() for _ in range(1000)]
    assert times == sorted(set(times))


def test_answers_have_the_fields_of_the_reference() -> None:
    waiting = made()
    assert created_json(waiting) == {
        "id": "t",
        "problem_id": "test-1",
        "status": "pending",
        "parameters": {"max_steps": 30, "timeout": 1800},
        "priority": 0,
        "created_at": "2026-01-01T00:00:00.000000Z",
        "updated_at": "2026-01-01T00:00:00.000000Z",
    }
    TaskCreated.model_validate(created_json(waiting))
    done = ended("Succeeded")
    item = item_json(done)
    assert item == {
        "id": "t",
        "problem_id": "test-1",
        "status": "completed",
        "worker_id": "w-1",
        "priority": 0,
        "created_at": at(0),
        "updated_at": at(5.5),
        "started_at": at(2),
        "completed_at": at(5.5),
    }
    TaskItem.model_validate(item)
    shown = task_json(done, {"success": True})
    assert shown.items() > item.items()
    assert (shown["result"], shown["attempt"]) == ({"success": True}, 1)
    TaskDetail.model_validate(shown)
    assert task_json(waiting, None)["result"] is None


def test_attempts_are_counted() -> None:
    lost = {"number": 1, "worker": "w", "startTime": at(1), "startEvent": 1, "end": "Lost"}
    assert attempt_of(made()) == 0
    assert attempt_of(made(phase="Pending", assignments=[lost])) == 1
    assert attempt_of(made(phase="Failed", reason="WorkerLost", assignments=[lost])) == 1
    waiting = made(phase="Pending", assignments=[lost])
    claim = {"worker": "c", "number": 2, "time": at(2)}
    assert attempt_of(view_task({**waiting.obj, "spec": {**waiting.obj["spec"], "claim": claim}})) == 2


def test_the_result_of_a_workflow() -> None:
    done = ended("Succeeded")
    plain = {"success": True, "output": {"y": 1}, "metrics": {"duration_seconds": 3.5}}
    assert completed_result(done, {"t": {"y": 1}}) == plain
    said = {"success": False, "output": "text", "metrics": {"steps_taken": 12, "duration_seconds": 1.0}}
    assert completed_result(done, {"t": said}) == said
    assert completed_result(done, {"t": {"output": 1, "score": 2, "metrics": {"steps_taken": 3}}}) == {
        "success": True,
        "output": 1,
        "score": 2,
        "metrics": {"duration_seconds": 3.5, "steps_taken": 3},
    }
    assert completed_result(done, {"t": {"output": 1, "metrics": "many"}})["metrics"] == "many"
    assert completed_result(done, {"a": {"y": 1}, "b": {"success": False}})["output"] == {
        "a": {"y": 1},
        "b": {"success": False},
    }
    assert completed_result(done, {})["output"] == {}


def test_the_result_of_a_failure() -> None:
    assert failed_result(ended("Failed"), "boom", "UserException") == {
        "success": False,
        "output": "boom",
        "error": "UserException",
        "metrics": {"duration_seconds": 3.5},
    }
    cancelled = made(phase="Cancelled", completionTime=at(1))
    assert failed_result(cancelled, None, None) == {
        "success": False,
        "output": "the task is cancelled",
        "error": "cancelled",
        "metrics": {},
    }


def test_the_last_steps_are_those_that_nobody_waits_for() -> None:
    def step(name: str, **more: Any) -> Json:
        return {"name": name, "python": {"source": "def f(p): return {}"}, **more}

    spec = WorkflowSpec.model_validate(
        {
            "tasks": [
                step("a"),
                step("b", dependsOn=["a"]),
                step("c", inputs={"x": {"from": "a.output.y"}}),
                step("d"),
            ]
        }
    )
    assert last_steps(spec) == ["b", "c", "d"]


def test_who_is_refused_learns_what_is_served() -> None:
    text = nobody_serves("x", {"flow": ["test-*", "b-?"]}, {"w": ["c-*"], "idle": []})
    assert "no Workflow and no registered worker serves problem_id 'x'" in text
    assert "test-* (Workflow flow), b-? (Workflow flow), c-* (worker w)" in text
    many = nobody_serves("x", {"flow": [f"g{n}" for n in range(60)]}, {})
    assert "and 10 more" in many


def test_parameters_must_fit_the_workflow_and_all_that_is_wrong_is_said() -> None:
    task = {"name": "t", "python": {"source": "x"}, "inputs": {"n": {"from": "input.n"}}}
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "max_steps": {"maximum": 5}}}
    workflow = {"metadata": {"name": "flow"}, "spec": {"inputSchema": schema, "tasks": [task]}}
    require_fitting(workflow, {"n": 1, "max_steps": 5})
    with pytest.raises(Invalid, match=r"Workflow 'flow'.*max_steps.*; inputs.n.*not of type 'integer'"):
        require_fitting(workflow, {"n": "x", "max_steps": 6})
    with pytest.raises(Invalid, match="add it to parameters"):
        require_fitting(workflow, {})


def test_creating_asks_nobody_who_serves_a_repeat() -> None:
    """A repeat succeeds though the Workflow has gone meanwhile."""
    from maze_api.cache import Runs
    from maze_api.task_create import Creation
    from maze_api.task_serving import Serving
    from maze_io.kube import Kube

    runs = Runs(cast(Kube, None), "maze")
    known = task_object(keyed_id("maze", "k"), body(), SETTINGS, "flow", T0, True)
    known["metadata"] |= {"uid": "u", "resourceVersion": "5"}
    runs.put(known)
    creation = Creation(runs, cast(Serving, None), SETTINGS)
    assert asyncio.run(creation.create(body(), "k")) is known
    with pytest.raises(Invalid, match="another request"):
        asyncio.run(creation.create(body(priority=1), "k"))
