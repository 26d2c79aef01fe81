"""A graph that can't run is refused with words that say what to change."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import python_task, workflow
from maze_crds.graph import check_workflow, find_cycle, parse_reference


def with_input(name: str, reference: str, **more: object) -> dict[str, object]:
    return python_task(name, inputs={"x": {"from": reference}}, **more)


def test_a_cycle_is_written_out_in_the_order_the_tasks_would_run() -> None:
    spec = workflow(python_task("a", "c"), python_task("b", "a"), python_task("c", "b"))
    (problem,) = check_workflow(spec)
    assert "a → b → c → a" in problem


def test_a_task_that_needs_itself_is_a_cycle() -> None:
    assert find_cycle({"a": ["a"]}) == ["a", "a"]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (python_task("t", "nobody"), ["'t' depends on 'nobody'", "there are: t, up"]),
        (with_input("t", "nobody.output.k"), ["refers to nobody.output.k", "no task 'nobody'"]),
        (with_input("t", "up.output.k"), ["declares no output 'k'", "there are: y"]),
        (with_input("t", "input.k"), ["no property 'k'", "there are: url"]),
    ],
)
def test_a_wrong_reference_names_both_ends_and_what_there_is(task: dict[str, object], words: list[str]) -> None:
    schema = {"type": "object", "properties": {"url": {"type": "string"}}}
    spec = workflow(task, python_task("up", outputs=["y"]), inputSchema=schema)
    (problem,) = check_workflow(spec)
    for word in words:
        assert word in problem


def test_outputs_that_are_not_declared_may_be_referred_to() -> None:
    assert check_workflow(workflow(python_task("up"), with_input("t", "up.output.k"))) == []


@pytest.mark.parametrize("text", ["input.", "a.k", "output.k", ".output.k", "a.output."])
def test_text_that_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"input\.KEY or TASK\.output\.KEY"):
        parse_reference(text)


def test_a_chain_of_thousands_is_no_problem() -> None:
    edges = {str(n): [str(n - 1)] for n in range(1, 20000)}
    assert find_cycle(edges) is None


@given(st.dictionaries(st.integers(0, 8), st.sets(st.integers(0, 8))))
def test_a_cycle_that_is_found_is_one_and_none_is_missed(graph: dict[int, set[int]]) -> None:
    edges = {str(name): {str(other) for other in others} for name, others in graph.items()}
    cycle = find_cycle(edges)
    if cycle is not None:
        assert cycle[0] == cycle[-1]
        for earlier, later in itertools.pairwise(cycle):
            assert earlier in edges[later]
    else:
        left = dict(edges)
        while left:
            free = [name for name, needs in left.items() if not needs & left.keys()]
            assert free, "a cycle was missed"
            for name in free:
                del left[name]
