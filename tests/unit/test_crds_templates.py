"""References inside nested inputs: all are found, all are filled in, and what only looks like one stays as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import python_task, workflow
from maze_crds.graph import check_workflow, dependencies
from maze_crds.templates import fill, find_reference, references
from maze_crds.workflow import WorkflowSpec

texts = st.text(max_size=8)
names = st.sampled_from(["input.a", "input.b", "t.output.x", "u.output.y.z"])
nodes = st.recursive(
    st.none() | st.booleans() | st.integers() | texts | names.map(lambda name: {"from": name}),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.just("from"), inner, max_size=4),
    max_leaves=20,
)


def leaves(node: Any) -> list[str]:
    """Another way to find them: depth first, by an own stack."""
    found, stack = [], [node]
    while stack:
        item = stack.pop()
        if isinstance(item, dict) and list(item) == ["from"] and isinstance(item["from"], str):
            found.append(item["from"])
        elif isinstance(item, dict):
            stack.extend(reversed(item.values()))
        elif isinstance(item, list):
            stack.extend(reversed(item))
    return found


@given(nodes)
def test_every_reference_is_found_once_and_in_order(node: Any) -> None:
    assert references(node) == list(dict.fromkeys(leaves(node)))


@given(nodes)
def test_filling_asks_for_every_reference_and_leaves_none(node: Any) -> None:
    asked: list[str] = []

    def resolve(text: str) -> Any:
        asked.append(text)
        return 1

    filled = fill(node, resolve)
    assert asked == leaves(node)
    assert references(filled) == []


@given(nodes)
def test_filling_with_the_references_themselves_changes_nothing(node: Any) -> None:
    before = json.dumps(node)
    assert fill(node, lambda text: {"from": text}) == node
    assert json.dumps(node) == before, "the template itself was changed"


@given(nodes.filter(lambda node: not leaves(node)))
def test_literals_stay(node: Any) -> None:
    assert fill(node, lambda text: pytest.fail(f"{text} is no reference")) == node


@pytest.mark.parametrize(
    "node", [{"from": 1}, {"from": "input.a", "to": 1}, {}, {"from": None}, {"from": {"from": 1}}, "from", ["from"]]
)
def test_what_only_looks_like_a_reference_is_none(node: Any) -> None:
    assert find_reference(node) is None


def test_what_is_filled_in_is_not_searched_for_references() -> None:
    assert fill([{"from": "input.a"}], lambda text: {"from": "input.b"}) == [{"from": "input.b"}]


def with_template(name: str, template: Any) -> dict[str, Any]:
    return python_task(name, inputs={"x": {"template": template}})


def test_a_task_waits_for_those_that_its_templates_name() -> None:
    spec = workflow(with_template("t", {"deep": [{"from": "up.output.a"}, {"from": "input.k"}]}), python_task("up"))
    assert dependencies(spec.tasks[0]) == {"up"}
    assert check_workflow(spec) == []


def test_a_cycle_through_templates_is_found() -> None:
    spec = workflow(
        with_template("a", [{"from": "b.output.x"}]),
        with_template("b", {"k": {"from": "a.output.x"}}),
    )
    (problem,) = check_workflow(spec)
    assert "a → b → a" in problem or "b → a → b" in problem


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nobody.output.k", "no task 'nobody'"),
        ("up.output.other", "declares no output 'other'"),
        ("input.other", "no property 'other'"),
        ("neither", "write input.KEY or TASK.output.KEY"),
    ],
)
def test_a_wrong_reference_in_a_template_is_named(reference: str, words: str) -> None:
    schema = {"type": "object", "properties": {"url": {}}}
    spec: WorkflowSpec = workflow(
        with_template("t", {"a": [1, {"from": reference}]}), python_task("up", outputs=["y"]), inputSchema=schema
    )
    (problem,) = check_workflow(spec)
    assert "input 'x' of task 't'" in problem
    assert reference in problem
    assert words in problem
