"""Which tasks of a Run can have a pod in common."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import SETTINGS, container_task, python_task, shared_task, workflow
from maze_operator.core.shapes import Shapes
from maze_operator.core.values import Shape

WITH = replace(SETTINGS, tools_image="tools", mcp_server_url="http://mcp", priority_classes=((5, "high"),))


def shapes(*tasks: dict[str, Any], priority: int = 0, scale: float = 1.0, **more: Any) -> list[Shape | None]:
    spec = workflow(*tasks, **more)
    found = Shapes(spec, priority, WITH)
    return [found.of(task, scale) for task in spec.tasks]


def tool_task(name: str, **tool: Any) -> dict[str, Any]:
    return {"name": name, "tool": {"name": "search", **tool}}


def environment(**values: str) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"displayName": "Another name"},
        {"python": {"source": "def f(p): return {'another': 1}"}},
        {"timeoutSeconds": 5},
        {"priority": 9},
        {"retry": {"limit": 3}},
        {"isolation": "run"},
        {"resources": {"cpu": "1"}},
        {"env": environment(A="1")},
        {"python": {"source": "def f(p): return {}", "image": "image"}},
    ],
    ids=lambda more: next(iter(more), "the same"),
)
def test_tasks_that_differ_in_nothing_that_a_pod_is_made_of_share_pods(more: dict[str, Any]) -> None:
    defaults = {"resources": {"cpu": "1"}, "image": "image"}
    env = environment(A="1")
    one, two = shapes(shared_task("a", env=env), shared_task("b", **{"env": env, **more}), defaults=defaults)
    assert one is not None
    assert one is two


@pytest.mark.parametrize(
    "more",
    [
        {"python": {"source": "def f(p): return {}", "image": "another"}},
        {"resources": {"cpu": "2"}},
        {"resources": {"memory": "2Gi"}},
        {"resources": {"gpu": 1}},
        {"env": environment(A="2")},
        {"env": environment(B="1")},
        {"env": environment(A="1", B="1")},
        {"env": []},
    ],
)
def test_a_task_that_needs_another_pod_has_one(more: dict[str, Any]) -> None:
    env = environment(A="1")
    one, two = shapes(shared_task("a", env=env), shared_task("b", **{"env": env, **more}))
    assert one is not None
    assert two is not None
    assert one.key != two.key


def test_another_size_has_the_same_base_which_a_spare_can_be_resized_from() -> None:
    one, large, gifted = shapes(
        shared_task("a"),
        shared_task("b", resources={"cpu": "2", "memory": "1Gi"}),
        shared_task("c", env=environment(A="1")),
    )
    assert one is not None
    assert large is not None
    assert gifted is not None
    assert one.base == large.base
    assert one.base != gifted.base


def test_the_priority_of_the_run_counts_by_its_class() -> None:
    [low], [lower], [high] = (shapes(shared_task("a"), priority=priority) for priority in (4, 0, 5))
    assert low is not None
    assert lower is not None
    assert high is not None
    assert low.key == lower.key != high.key


def test_a_retry_with_more_memory_has_pods_of_its_own() -> None:
    spec = workflow(shared_task("a", resources={"memory": "1Gi"}), shared_task("b", resources={"memory": "2Gi"}))
    found = Shapes(spec, 0, WITH)
    [plain, large] = [found.of(task, 1.0) for task in spec.tasks]
    again = found.of(spec.tasks[0], 2.0)
    assert plain is not None
    assert large is not None
    assert again is not None
    assert again.key != plain.key
    assert again.key == large.key, "as large as one that asks for so much"
    assert found.of(spec.tasks[0], 1.0) is plain


def test_python_and_tool_tasks_share_pods_only_with_their_like() -> None:
    python, tool, another, own = shapes(
        shared_task("a"), tool_task("b"), tool_task("c"), tool_task("d", image="my-tools")
    )
    assert python is not None
    assert tool is not None
    assert own is not None
    assert tool is another
    assert len({python.key, tool.key, own.key}) == 3


@pytest.mark.parametrize(
    "task",
    [python_task("a"), container_task("a"), container_task("a", isolation=None)],
    ids=["asks for it", "a container", "a container by default"],
)
def test_an_attempt_that_needs_a_pod_of_its_own_has_no_shape(task: dict[str, Any]) -> None:
    assert shapes({key: value for key, value in task.items() if value is not None}) == [None]


def test_the_workflow_may_ask_for_pods_per_task_and_a_task_may_not_want_them() -> None:
    one, two = shapes(shared_task("a"), shared_task("b", isolation="run"), defaults={"isolation": "task"})
    assert one is None
    assert two is not None


def test_what_the_settings_can_not_give_has_no_shape() -> None:
    spec = workflow(shared_task("a", resources={"gpu": "0.5"}), tool_task("b"))
    found = Shapes(spec, 0, replace(WITH, tools_image=None, shared_gpu_resource=None))
    assert [found.of(task, 1.0) for task in spec.tasks] == [None, None]
    assert found.all() == []


def test_all_are_those_that_were_asked_for_each_once() -> None:
    spec = workflow(shared_task("a"), shared_task("b"), shared_task("c", resources={"cpu": "2"}), container_task("d"))
    found = Shapes(spec, 0, WITH)
    assert found.all() == []
    asked = [found.of(task, 1.0) for task in spec.tasks]
    assert found.all() == [asked[0], asked[2]]
