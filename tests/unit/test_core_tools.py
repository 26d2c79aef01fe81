"""What a tool task needs before it gets a pod, which pod it gets, and how templates in inputs are filled in."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from typing import Any

import pytest

from builders import SETTINGS, container_task, python_task, run_view, succeeded, workflow
from maze_crds.inputs import check_inputs
from maze_crds.protocol import Output, Result
from maze_crds.run import Cause
from maze_crds.workflow import Retry, Task
from maze_operator.core.effective import runs_in_runner
from maze_operator.core.outputs import InputMissing, failed_result, lease_inputs
from maze_operator.core.podspec import PodNotPossible, build_pod
from maze_operator.core.retry import NEVER_RETRIED, retry_delay
from maze_operator.core.toolinputs import check_required, choose_server
from maze_operator.core.values import AttemptId, Settings, Workflow
from maze_operator.toolcall import call_lease

TOOLS = replace(SETTINGS, tools_image="tools:1", mcp_server_url="http://mcp/mcp")
JSON: dict[str, Any] = {"encoding": "json", "size": 1, "sha256": "0" * 64}


def tool_task(name: str = "t", inputs: Any = None, required: list[str] | None = None, **tool: Any) -> dict[str, Any]:
    fields = {"name": "search", **tool, **({"requiredInputs": required} if required else {})}
    return {"name": name, "tool": fields, "inputs": inputs or {}}


def make(task: dict[str, Any]) -> Task:
    return Task.model_validate(task)


def upstream(**outputs: Any) -> dict[str, Result]:
    """Results of a task 'up' with these values; Ellipsis: one that is a pickle."""
    made = {
        key: Output(**JSON, value=value) if value is not ... else Output(encoding="pickle", size=1, sha256="", data="")
        for key, value in outputs.items()
    }
    return {"up": {**succeeded(), "outputs": made}}


def lease(task: dict[str, Any], inputs: dict[str, Any], results: dict[str, Result]) -> dict[str, Any]:
    leased = lease_inputs(make(task), inputs, results, lambda key: f"url of {key}", lambda task, key: f"{task}/{key}")
    return {key: entry.get("value", entry) for key, entry in leased.items()}


# --- templates ---------------------------------------------------------------------------------------------------------


def test_a_template_takes_values_of_the_run_and_of_tasks() -> None:
    template = {"list": [1, {"from": "input.a"}, {"from": "up.output.x"}], "literal": {"from": "input.a", "and": 1}}
    found = lease(python_task("t", inputs={"k": {"template": template}}), {"a": [1]}, upstream(x={"y": 2}))
    assert found == {"k": {"list": [1, [1], {"y": 2}], "literal": {"from": "input.a", "and": 1}}}


def test_a_template_that_is_only_a_reference_takes_anything_that_an_input_takes() -> None:
    found = lease(python_task("t", inputs={"k": {"template": {"from": "up.output.x"}}}), {}, upstream(x=...))
    assert found["k"]["encoding"] == "pickle"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("input.b", "comes from input.b, which the Run does not give; it gives 'a'"),
        ("up.output.y", "needs up.output.y, which task 'up' did not return"),
        ("up.output.pickled", "a template takes plain JSON values"),
    ],
)
def test_what_a_template_can_not_have_is_named(reference: str, words: str) -> None:
    task = python_task("t", inputs={"k": {"template": [{"from": reference}]}})
    with pytest.raises(InputMissing, match=r"input 'k'") as caught:
        lease(task, {"a": 1}, upstream(x=1, pickled=...))
    assert words in str(caught.value)


def test_a_tool_does_without_what_the_run_does_not_give() -> None:
    inputs = {
        "k": {"from": "input.no"},
        "l": {"template": {"from": "input.no"}},
        "m": {"template": [{"from": "input.no"}]},
    }
    assert lease(tool_task(inputs=inputs), {}, {}) == {"m": [None]}


def test_inputs_that_the_run_must_give_are_those_of_templates_too_but_not_of_tools() -> None:
    inputs = {"k": {"template": {"deep": [{"from": "input.url"}]}}}
    (problem,) = check_inputs(workflow(python_task("t", inputs=inputs)), {})
    assert "task 't' takes its input 'k' from input.url" in problem
    assert check_inputs(workflow(tool_task(inputs=inputs)), {}) == []


# --- required inputs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, False, "x", [0], {"a": None}, 0.0])
def test_a_required_input_that_is_there_is_enough(value: Any) -> None:
    for source in ({"value": value}, {"from": "input.k"}, {"from": "up.output.k"}, {"template": {"from": "input.k"}}):
        check_required(make(tool_task(inputs={"k": source}, required=["k"])), {"k": value}, upstream(k=value))


def test_a_required_input_may_be_no_json() -> None:
    check_required(make(tool_task(inputs={"k": {"from": "up.output.k"}}, required=["k"])), {}, upstream(k=...))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, "does not take it from anywhere"),
        ({"value": None}, "it is null"),
        ({"value": ""}, "it is empty"),
        ({"value": []}, "it is empty"),
        ({"template": {}}, "it is empty"),
        ({"from": "input.empty"}, "it is empty"),
        ({"from": "input.null"}, "it is null"),
        ({"from": "input.absent"}, "the Run does not give it"),
        ({"template": {"from": "input.absent"}}, "the Run does not give it"),
        ({"from": "up.output.null"}, "it is null"),
        ({"from": "up.output.absent"}, "task 'up' did not return"),
    ],
)
def test_a_required_input_that_is_missing_fails_the_step_by_name(source: Any, words: str) -> None:
    inputs = {"k": source, "other": {"value": 1}} if source else {}
    task = make(tool_task("find-it", inputs=inputs, required=["k"]))
    with pytest.raises(InputMissing) as caught:
        check_required(task, {"empty": "", "null": None}, upstream(null=None))
    assert caught.value.reason == "RequiredInputMissing"
    assert "step 'find-it' is missing required input field 'k'" in str(caught.value)
    assert words in str(caught.value)
    failure = failed_result("now", caught.value)["failure"]
    assert (failure["cause"], failure["reason"]) == ("UserError", "RequiredInputMissing")


def test_all_missing_inputs_are_told_at_once() -> None:
    with pytest.raises(InputMissing, match=r"missing required input fields 'a', 'c' \(a: .*; c: .*\)"):
        check_required(make(tool_task(inputs={"b": {"value": 1}}, required=["a", "b", "c"])), {}, {})


def test_other_tasks_and_tools_that_require_nothing_are_left_alone() -> None:
    check_required(make(tool_task(inputs={"k": {"value": None}})), {}, {})
    check_required(make(python_task("t", inputs={"k": {"value": None}})), {}, {})


# --- server, image and pod ---------------------------------------------------------------------------------------------


def test_the_tasks_own_server_comes_before_that_of_the_installation() -> None:
    own = make(tool_task(server={"command": "serve", "args": ["x"]}))
    assert choose_server(own, TOOLS).command == "serve"
    assert choose_server(make(tool_task()), TOOLS).url == "http://mcp/mcp"
    with pytest.raises(PodNotPossible, match=r"'search' names no server.*MCP_SERVER_URL") as caught:
        choose_server(make(tool_task()), SETTINGS)
    assert caught.value.reason == "ToolServerNotConfigured"


def pod_of(task: dict[str, Any], settings: Settings, **spec: Any) -> dict[str, Any]:
    made = workflow(task, **spec)
    name = task["name"]
    return build_pod(run_view(made), Workflow.of(made), AttemptId(name, 1), 1.0, [], settings)["spec"]


def test_a_tool_task_gets_a_runner_pod_with_the_image_for_tools() -> None:
    pod = pod_of(tool_task(), TOOLS, defaults={"image": "python:3.9"})
    (container,) = pod["containers"]
    assert (container["image"], container["command"]) == ("tools:1", ["python3", "-S", "-m", "maze_runner"])
    assert {volume["name"] for volume in pod["volumes"]} == {"work", "tmp"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_an_image_of_ones_own_gets_the_runner_delivered() -> None:
    pod = pod_of(tool_task(image="mine"), SETTINGS)
    (container,) = pod["containers"]
    assert container["image"] == "mine"
    assert container["command"][-1] == "/maze/runner.pyz"
    assert {volume["name"] for volume in pod["volumes"]} == {"work", "tmp", "runner"}


def test_an_installation_without_an_image_for_tools_says_so() -> None:
    with pytest.raises(PodNotPossible, match=r"MAZE_TOOLS_IMAGE.*tool\.image") as caught:
        pod_of(tool_task(), SETTINGS)
    assert caught.value.reason == "ToolsImageNotConfigured"


@pytest.mark.parametrize(
    ("task", "expected"), [(tool_task(), True), (python_task("t"), True), (container_task("t"), False)]
)
def test_the_runner_executes_all_but_containers(task: dict[str, Any], expected: bool) -> None:
    assert runs_in_runner(make(task)) is expected


def test_what_no_other_attempt_can_change_is_not_tried_again() -> None:
    policy = Retry(limit=5)
    for reason in ("RequiredInputMissing", "ToolsImageNotConfigured", "ToolServerNotConfigured"):
        assert reason in NEVER_RETRIED
    assert retry_delay(policy, [], Cause.USER_ERROR, "ToolError") is not None


# --- what the pod executes ---------------------------------------------------------------------------------------------


def test_the_code_that_is_sent_can_be_compiled_and_names_the_call() -> None:
    server = {"command": "serve", "args": ["a'b\"c"], "env": {"K": "V\n"}}
    task = make({**tool_task(required=["q"], server=server), "outputs": ["x"], "displayName": "Süche 'it'"})
    sent = call_lease(task, SETTINGS)
    tree = ast.parse(sent["source"])
    assert sent["function"] in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    (text,) = [
        node.value.args[0].value  # type: ignore[attr-defined]
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MAZE_CALL"
    ]
    assert json.loads(text) == {
        "step": "Süche 'it'",
        "tool": "search",
        "server": server,
        "required": ["q"],
        "outputs": ["x"],
    }


def test_python_3_10_can_read_what_is_sent() -> None:
    ast.parse(call_lease(make(tool_task()), TOOLS)["source"], feature_version=(3, 10))
