"""Which news of a Run's own pods is urgent, and how many of them may wait for a node."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders import SETTINGS, at, container_task, pod, run_view, workflow
from maze_crds.run import RunStatus
from maze_operator.core.placing import MOST, PATIENCE, is_urgent, may_make, may_wait, refill_at
from maze_operator.core.plan import plan
from maze_operator.core.values import AttemptId, CreatePod, Ended, Facts, Plan, PodView, Workflow
from maze_operator.own_pods import OwnPods

LARGE = Workflow.of(
    workflow(
        *(container_task(name) for name in ("first", "left", "right", *(f"t{n}" for n in range(150)))),
        container_task("last", "first"),
        container_task("join", "left", "right"),
    )
)
SMALL = Workflow.of(workflow(container_task("t0"), container_task("t1")))


def decided(**more: object) -> Plan:
    return Plan(RunStatus(), **more)  # type: ignore[arg-type]


def ended(task: str) -> PodView:
    return pod(task, node="10.0.0.1", ended=Ended(succeeded=True))


@pytest.mark.parametrize(("placed", "expected"), [(0, 100), (99, 100), (180, 180), (MOST, MOST), (5 * MOST, MOST)])
def test_as_many_pods_wait_as_nodes_took_lately(placed: int, expected: int) -> None:
    assert may_wait(100, placed) == expected


def test_the_installation_may_let_more_wait_than_that() -> None:
    assert may_wait(2 * MOST, 10) == 2 * MOST


@pytest.mark.parametrize(("most", "expected"), [(1, 0), (3, 0), (100, 25), (801, 200)])
def test_the_next_pods_are_made_when_few_are_left(most: int, expected: int) -> None:
    assert refill_at(most) == expected


@pytest.mark.parametrize(
    ("waiting", "placed", "expected"),
    [(0, 0, 100), (25, 50, 75), (26, 50, 0), (26, 0, 74), (100, 0, 0), (180, 0, 0), (180, 50, 0)],
    ids=[
        "first",
        "few are left",
        "enough are left",
        "no node takes them",
        "all wait",
        "more than may",
        "more, and some went",
    ],
)
def test_pods_are_made_by_whole_batches_where_nodes_take_them(waiting: int, placed: int, expected: int) -> None:
    assert may_make(100, waiting, placed) == expected


def test_any_news_of_a_small_run_is_urgent() -> None:
    assert is_urgent(pod("t0"), SMALL, decided(), living=1, unplaced=1)


@pytest.mark.parametrize(
    ("news", "plan", "living", "unplaced", "urgent"),
    [
        (pod("t0"), {}, 9, 9, False),
        (pod("t0", node="10.0.0.1"), {}, 9, 8, False),
        (pod("t0", node="10.0.0.1"), {"refill_at": 7}, 9, 8, False),
        (pod("t0", node="10.0.0.1"), {"refill_at": 8}, 9, 8, True),
        (ended("t0"), {}, 9, 8, False),
        (ended("t0"), {}, 0, 0, True),
        (ended("t0"), {"limited": True}, 9, 8, True),
        (ended("first"), {}, 9, 8, True),
        (ended("left"), {}, 9, 8, False),
    ],
    ids=[
        "made",
        "placed",
        "placed, enough wait",
        "placed, too few wait",
        "ended",
        "the last",
        "limited",
        "needed",
        "needed with others",
    ],
)
def test_news_of_a_large_run_is_urgent_where_something_can_go_on(
    news: PodView, plan: dict[str, object], living: int, unplaced: int, urgent: bool
) -> None:
    assert is_urgent(news, LARGE, decided(**plan), living, unplaced, {news.attempt_id.task}) is urgent


def test_a_plan_says_when_the_next_pods_are_made() -> None:
    spec = workflow(*(container_task(f"t{n}") for n in range(30)))
    few = replace(SETTINGS, pods_waiting=16)
    first = plan(run_view(spec), {}, Facts(), at(0), few)
    assert (sum(isinstance(each, CreatePod) for each in first.actions), first.refill_at) == (16, 4)
    assert first.requeue_after is None
    faster = plan(run_view(spec), {}, Facts(placed=24), at(0), few)
    assert (sum(isinstance(each, CreatePod) for each in faster.actions), faster.refill_at) == (24, 6)
    assert faster.requeue_after == PATIENCE, "it may have been the last that a node takes"
    assert plan(run_view(spec), {}, Facts(), at(0), SETTINGS).refill_at is None, "nothing waits"


def test_a_plan_says_that_tasks_wait_for_the_limit() -> None:
    spec = workflow(container_task("a"), container_task("b"), parallelism=1)
    assert plan(run_view(spec), {}, Facts(), at(0), SETTINGS).limited
    assert not plan(run_view(SMALL.spec), {}, Facts(), at(0), SETTINGS).limited


class Seen:
    def __init__(self) -> None:
        self.told: list[bool] = []
        self.pods = OwnPods(self.told.append)
        self.pods.planned(LARGE, decided(refill_at=1))

    def news(self, pod: PodView) -> list[bool]:
        self.told.clear()
        self.pods.see(pod)
        return list(self.told)


def test_pods_without_a_node_are_counted() -> None:
    seen = Seen()
    assert [seen.news(pod(f"t{n}")) for n in range(3)] == [[True], [False], [False]]
    assert seen.news(pod("t0", node="10.0.0.1")) == [False]
    assert seen.pods.placed_lately() == 1
    assert seen.news(pod("t1", node="10.0.0.1")) == [True], "one is left, so the next are made"
    assert seen.pods.placed_lately() == 2


def test_pods_that_are_about_to_be_made_wait_already() -> None:
    seen = Seen()
    made = [AttemptId(f"t{n}", 1) for n in range(4)]
    seen.pods.planned(LARGE, decided(refill_at=1, actions=tuple(CreatePod(each, 1.0) for each in made)))
    assert [seen.news(pod(each.task)) for each in made[:2]] == [[False], [False]]
    assert [seen.news(pod(each.task, node="10.0.0.1")) for each in made[:3]] == [[False], [False], [True]]
    seen.pods.planned(LARGE, decided(refill_at=0))
    assert seen.news(pod("t9", node="10.0.0.1")) == [True], "the fourth is not to be made any more"


def test_the_last_of_those_that_a_task_needs_is_urgent() -> None:
    seen = Seen()
    for name in ("left", "right", "t0", "t1"):
        seen.news(pod(name))
    assert [seen.news(ended(name)) for name in ("left", "right")] == [[False], [True]]


def test_news_that_changes_nothing_for_a_plan_is_no_news() -> None:
    seen = Seen()
    seen.news(pod("t0", resource_version="1"))
    assert seen.news(pod("t0", resource_version="2")) == []
    assert seen.pods.views[pod("t0").attempt_id].resource_version == "2"


def test_a_pod_that_we_have_replaced_is_not_lost() -> None:
    seen = Seen()
    old = pod("t0")
    seen.news(old)
    seen.pods.replace(old.attempt_id, old.uid)
    assert (seen.pods.views, seen.pods.known) == ({}, set())
    assert seen.news(old) == []
    new = replace(old, uid="another")
    seen.news(new)
    seen.pods.lose(old)
    assert seen.pods.views == {old.attempt_id: new}
    seen.pods.lose(new)
    assert (seen.pods.views, seen.pods.known) == ({}, {old.attempt_id})
