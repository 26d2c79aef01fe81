"""Scenario definitions and Workflows are two notations of one thing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze_crds import names
from maze_crds.graph import check_workflow
from maze_crds.inputs import check_inputs
from maze_crds.scenario import ScenarioError, derive, same, scenario_id, to_definition, to_workflow, workflow_name
from maze_crds.scenario_files import unstorable
from maze_crds.workflow import WorkflowSpec

Json = dict[str, Any]
EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "scenarios").glob("*.json"))
SEED: Json = {
    "schema_version": "1",
    "scenario_id": "news_source_discovery_v1",
    "name": "News Source Discovery V1",
    "description": "Find earliest news source using sequential MCP tools.",
    "input_schema": {
        "type": "object",
        "required": ["url"],
        "properties": {"url": {"type": "string", "description": "URL of source news article"}},
    },
    "steps": [
        {
            "name": "search_news_sources",
            "type": "tool",
            "tool": "search_news_sources",
            "input": {"url": {"from": "input.url"}},
            "required_input_fields": ["url"],
        }
    ],
}


def definition(*steps: Json, **more: Any) -> Json:
    return {"scenario_id": "test", "steps": list(steps), **more}


def step(name: str, **more: Any) -> Json:
    return {"name": name, "tool": "echo", **more}


def problems_of(*steps: Json, **more: Any) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        to_workflow(definition(*steps, **more))
    return caught.value.problems


def test_the_definition_of_the_reference_becomes_a_workflow() -> None:
    made = to_workflow(SEED)
    assert made["metadata"]["labels"] == {names.LABEL_SCENARIO: "true"}
    assert re.fullmatch(r"news-source-discovery-v1-[0-9a-f]{10}", made["metadata"]["name"])
    assert scenario_id(made) == "news_source_discovery_v1"
    assert made["spec"] == {
        "description": SEED["description"],
        "inputSchema": SEED["input_schema"],
        "tasks": [
            {
                "name": "search_news_sources",
                "tool": {"name": "search_news_sources", "requiredInputs": ["url"]},
                "inputs": {"url": {"from": "input.url"}},
            }
        ],
    }


def test_a_definition_comes_back_as_it_was_given() -> None:
    given_text = json.dumps({**SEED, "x-ui": {"colour": "blue"}})
    assert json.dumps(to_definition(to_workflow(json.loads(given_text)))) == given_text


def test_an_edited_workflow_is_told_as_it_is_now() -> None:
    made = to_workflow({**SEED, "x-ui": 1})
    made["spec"]["tasks"][0]["timeoutSeconds"] = 5
    assert to_definition(made) == {**SEED, "x-ui": 1, "steps": [{**SEED["steps"][0], "timeout_seconds": 5}]}


def test_an_edit_from_a_number_to_a_truth_value_counts() -> None:
    made = to_workflow(definition(step("a", input={"n": 1})))
    made["spec"]["tasks"][0]["inputs"]["n"]["value"] = True
    assert to_definition(made)["steps"][0]["input"] == {"n": True}
    made["spec"]["tasks"][0]["inputs"]["n"]["value"] = 1.0
    assert "type" not in to_definition(made)["steps"][0], "the text that was given still holds"


def test_a_workflow_that_kubectl_applied_is_a_scenario() -> None:
    spec = {"tasks": [{"name": "a", "tool": {"name": "t"}}, {"name": "b", "tool": {"name": "t"}, "dependsOn": ["a"]}]}
    found = to_definition({"metadata": {"name": "mine", "labels": {names.LABEL_SCENARIO: "true"}}, "spec": spec})
    assert found == {
        "schema_version": "1",
        "scenario_id": "mine",
        "name": "mine",
        "steps": [
            {"name": "a", "type": "tool", "tool": "t", "input": {}},
            {"name": "b", "type": "tool", "tool": "t", "input": {}},
        ],
    }


@pytest.mark.parametrize(
    ("task", "why"),
    [
        ({"name": "a", "python": {"source": "def f(p): ..."}}, "task 'a' is not a tool"),
        (
            {"name": "a", "tool": {"name": "t"}, "inputs": {"x": {"value": [{"from": "input.x"}]}}},
            "reads like a reference",
        ),
    ],
)
def test_what_no_definition_can_say_is_named(task: Json, why: str) -> None:
    with pytest.raises(ScenarioError, match=why):
        to_definition({"metadata": {"name": "mine"}, "spec": {"tasks": [task]}})


def test_inputs_are_literals_references_and_templates() -> None:
    made = to_workflow(
        definition(
            step(
                "a",
                input={"x": {"from": "input.x"}, "y": [1, {"deep": {"from": "input.y"}}], "z": {"from": 1}, "n": None},
            )
        )
    )
    assert made["spec"]["tasks"][0]["inputs"] == {
        "x": {"from": "input.x"},
        "y": {"template": [1, {"deep": {"from": "input.y"}}]},
        "z": {"value": {"from": 1}},
        "n": {"value": None},
    }


def test_steps_run_one_after_the_other_unless_they_say_otherwise() -> None:
    made = to_workflow(
        definition(
            step("a"), step("b", depends_on=["a"]), step("c", depends_on=["a"]), step("d"), step("e", depends_on=[])
        )
    )
    assert [task.get("dependsOn") for task in made["spec"]["tasks"]] == [None, ["a"], ["a"], ["b", "c"], None]


def test_servers_are_given_for_all_steps_or_for_one() -> None:
    made = to_workflow(
        definition(
            step("a"), step("b", server={"command": "python3", "args": ["-c", "1"]}), server={"url": "http://s/mcp"}
        )
    )
    assert [task["tool"].get("server") for task in made["spec"]["tasks"]] == [
        {"url": "http://s/mcp"},
        {"command": "python3", "args": ["-c", "1"]},
    ]


def test_everything_of_a_task_can_be_said() -> None:
    made = to_workflow(
        definition(
            step(
                "a",
                timeout_seconds=5,
                retry=2,
                output="text",
                image="python:3.12",
                env={"A": "b"},
                resources={"gpu_memory": "1Gi"},
                priority=3,
                isolation="task",
            ),
            defaults={"retry": {"out_of_memory": 1}, "timeout_seconds": 9, "isolation": "run"},
        )
    )
    assert made["spec"]["tasks"][0] == {
        "name": "a",
        "tool": {"name": "echo", "image": "python:3.12"},
        "inputs": {},
        "outputs": ["text"],
        "env": [{"name": "A", "value": "b"}],
        "resources": {"gpuMemory": "1Gi"},
        "retry": {"limit": 2},
        "timeoutSeconds": 5,
        "priority": 3,
        "isolation": "task",
    }
    assert made["spec"]["defaults"] == {"retry": {"outOfMemory": 1}, "timeoutSeconds": 9, "isolation": "run"}


def test_all_problems_are_told_at_once() -> None:
    problems = problems_of(
        {"name": "a b", "type": "llm", "tool": ""},
        step("input"),
        step("c", input={"x": [{"from": "Berlin"}]}, retry={"limit": -1}, server={}),
        schema_version="2",
        inputs={},
        input_schema={"type": "nonsense", "required": 1},
    )
    places = [problem.split(": ")[0] for problem in problems]
    assert places == [
        "schema_version",
        "input_schema",
        "steps.0.name",
        "steps.0.type",
        "steps.0.tool",
        "steps.1.name",
        "steps.2.input",
        "steps.2.server",
        "steps.2.retry.limit",
        "inputs",
    ]
    text = "; ".join(problems)
    assert "write input.KEY or STEP.output.KEY" in text
    assert "'nonsense' is not valid" in text
    assert "there is no such field" in text


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([step("a"), step("a")], "two steps are named 'a'"),
        ([step("a", depends_on=["z"])], "step 'a' depends on 'z', which is not a step of this scenario"),
        ([step("a", input={"x": {"from": "b.output.y"}}), step("b")], "the steps wait for each other in a cycle"),
        ([step("a", input={"x": [{"from": "input.z"}]})], "the input_schema has no property 'z'"),
    ],
)
def test_a_graph_that_can_not_run_is_refused(steps: list[Json], why: str) -> None:
    assert why in "; ".join(problems_of(*steps, input_schema={"properties": {"y": {}}}))


def test_a_definition_too_large_for_kubernetes_is_refused() -> None:
    assert "more than 200000" in problems_of(step("a", input={"x": "a" * 200_000}))[0]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"a": ["\ud800"]}, "a[0] has half of a character"),
        ({"\ud800": 1}, "has a key with half"),
        ({"a": {"b": float("inf")}}, "a.b is a number that JSON does not have"),
        ([2**63], "[0] is a number of more than 64 bits"),
    ],
)
def test_what_kubernetes_would_change_is_refused(value: Any, why: str) -> None:
    assert why in "; ".join(unstorable(value))


def test_depth_is_bounded() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert "levels deep" in unstorable(deep)[0]
    assert unstorable({"a": [{"b": [1, -(2**63), 1.5, None, True, "ü"]}]}) == []


@pytest.mark.parametrize("name", ["hello", "a.b-c", "a" * 200])
def test_an_id_that_can_be_a_kubernetes_name_is_one(name: str) -> None:
    assert workflow_name(name) == name


def test_ids_that_differ_have_names_that_differ() -> None:
    ids = ["a_b", "a-b", "A-b", "a.-b", "a_B", "a" * 200 + "b"]
    found = [workflow_name(each) for each in ids]
    assert len(set(found)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name) and len(name) <= 200 for name in found)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_a_definition(example: Path) -> None:
    parsed = json.loads(example.read_text())
    assert parsed["scenario_id"] == example.stem
    assert to_definition(to_workflow(parsed)) == parsed


def test_a_schema_never_makes_us_fetch_or_loop() -> None:
    def check(schema: Json) -> str:
        spec = WorkflowSpec.model_validate({"inputSchema": schema, "tasks": [{"name": "a", "tool": {"name": "t"}}]})
        return "; ".join(check_inputs(spec, {"x": "y"}))

    assert "which is not in it" in check({"$ref": "http://127.0.0.1:1/schema.json"})
    assert "without an end" in check({"$ref": "#"})
    assert "regex" in check({"properties": {"x": {"pattern": "("}}})


# Property tests.

NAMES = ["one", "two", "three-3", "F_4"]
keys = st.sampled_from(["a", "b c", "ü", "from", "x.y"])
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


def nested(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
    )


def is_reference(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["from"] and isinstance(value["from"], str)


def is_literal(value: Any) -> bool:
    if isinstance(value, dict):
        return not is_reference(value) and all(map(is_literal, value.values()))
    return all(map(is_literal, value)) if isinstance(value, list) else True


def values(earlier: list[str]) -> st.SearchStrategy[Any]:
    texts_of_references = st.sampled_from(["input.a", "input.x.y", *(f"{name}.output.r" for name in earlier)])
    references = st.fixed_dictionaries({"from": texts_of_references})
    literal = nested(leaves | texts).filter(is_literal)
    return literal | references | nested(leaves | references).filter(_only_references)


def _only_references(value: Any) -> bool:
    """No accidental {"from": text} but those that are references."""
    if isinstance(value, dict):
        if is_reference(value):
            return "." in value["from"]
        return all(map(_only_references, value.values()))
    return all(map(_only_references, value)) if isinstance(value, list) else True


servers = st.sampled_from(
    [{"url": "http://one/mcp"}, {"url": "https://two/mcp"}, {"command": "x", "args": ["-y"], "env": {"A": "b"}}]
)
retries = st.fixed_dictionaries(
    {}, optional={"limit": st.integers(0, 3), "out_of_memory": st.integers(0, 2), "backoff_seconds": st.just(2.5)}
)


@st.composite
def definitions(draw: st.DrawFn) -> Json:
    steps: list[Json] = []
    for number in range(draw(st.integers(1, 4))):
        earlier = NAMES[:number]
        steps.append(
            draw(
                st.fixed_dictionaries(
                    {"name": st.just(NAMES[number]), "tool": texts.filter(bool)},
                    optional={
                        "type": st.just("tool"),
                        "input": st.dictionaries(keys, values(earlier), max_size=3).filter(
                            lambda found: not is_reference(found)
                        ),
                        "required_input_fields": st.lists(keys, max_size=2),
                        "server": servers,
                        "timeout_seconds": st.integers(1, 100),
                        "retry": retries | st.integers(0, 3),
                        "depends_on": st.lists(st.sampled_from(earlier), unique=True) if earlier else st.just([]),
                        "outputs": st.just(["r", "other"]),
                        "display_name": texts,
                        "priority": st.integers(-5, 5),
                        "isolation": st.sampled_from(["run", "task"]),
                        "env": st.dictionaries(st.sampled_from(["A", "B_C"]), texts),
                        "x-note": texts,
                    },
                )
            )
        )
    top = st.fixed_dictionaries(
        {"scenario_id": st.sampled_from(["plain", "With_Underscores", "a.b"]), "steps": st.just(steps)},
        optional={
            "schema_version": st.just("1"),
            "name": texts,
            "description": texts,
            "server": servers,
            "input_schema": st.sampled_from([{}, {"type": "object"}]),
            "parallelism": st.integers(1, 9),
            "defaults": st.fixed_dictionaries({}, optional={"retry": retries, "timeout_seconds": st.integers(1, 9)}),
            "x-own": nested(leaves),
        },
    )
    return draw(top)


@given(definitions())
def test_any_definition_comes_back(given_one: Json) -> None:
    made = to_workflow(given_one)
    assert json.dumps(to_definition(json.loads(json.dumps(made)))) == json.dumps(given_one)
    assert check_workflow(WorkflowSpec.model_validate(made["spec"])) == []


@given(definitions())
def test_a_definition_made_from_a_workflow_makes_that_workflow(given_one: Json) -> None:
    made = to_workflow(given_one)
    spec = WorkflowSpec.model_validate(made["spec"])
    again = to_workflow(derive(spec, given_one["scenario_id"], {}))
    assert same(again["spec"], made["spec"])
