"""The Maze surface under load, under nonsense, and when the api is replaced under its readers."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster import GROUP, Cluster, kubectl
from maze_http import API, SECONDS, UNKNOWN, Maze

BUILT = 300
PAIRS = 40
SOURCE = "def f(p): return {'y': 1}"
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=8)
    | st.just(UNKNOWN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("workflow_id", "task_id", "source_task_id", "target_task_id", "task_type", "code_ser", "code_str", "args")
PATHS = (
    *("/add_task", "/save_task", "/save_task_and_add_edge", "/del_task", "/add_edge", "/del_edge", "/run_workflow"),
    *("/add_langgraph_task", "/run_langgraph_task"),
)


@pytest.fixture
def maze(cluster: Cluster) -> Iterator[Maze]:
    made = Maze()
    yield made
    made.clean(cluster)


def seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def test_call_number_300_costs_what_the_first_did_and_drafts_are_no_custom_resources(
    maze: Maze, cluster: Cluster
) -> None:
    """Call by call in turns with a small workflow, so that whatever else the machine does hits both."""
    large, before = maze.workflow(), versions(cluster)
    tasks = [maze.task(large, SOURCE) for _ in range(10)]
    while len(tasks) < BUILT:
        tasks.append(maze.task(large, SOURCE, {"x": f"@{tasks[-1]}.output.y"}))
    ratios = []
    for _ in range(PAIRS):
        small = maze.workflow()
        first = maze.task(small, SOURCE)
        one = seconds(lambda: maze.task(small, SOURCE, {"x": f"@{first}.output.y"}))  # noqa: B023 - called here
        last = tasks[-1]
        other = seconds(lambda: tasks.append(maze.task(large, SOURCE, {"x": f"@{last}.output.y"})))  # noqa: B023
        ratios.append(other / one)
    ratio = statistics.median(ratios)
    print(f"call number {BUILT} took {ratio:.2f} times what number 1 did (median of {PAIRS} pairs)")
    assert ratio < 1.5
    assert len(maze.get(f"/get_workflow_tasks/{large}")["tasks"]) == len(tasks)
    assert versions(cluster) == before, "building a workflow wrote custom resources"


def versions(cluster: Cluster) -> dict[str, set[str]]:
    """Every Workflow, and every Run that an earlier test has not left ending, by name."""
    found = {}
    for plural in ("workflows", "runs"):
        items = cluster.custom.list_namespaced_custom_object(*GROUP, cluster.namespace, plural)["items"]
        found[plural] = {item["metadata"]["name"] for item in items if "deletionTimestamp" not in item["metadata"]}
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(PATHS), anything | st.dictionaries(st.sampled_from(FIELDS), anything, max_size=6))
def test_nonsense_is_always_answered_with_words(path: str, body: Any) -> None:
    answer = SESSION.post(API + path, data=json.dumps(body), headers={"Content-Type": "application/json"}, timeout=10)
    assert 400 <= answer.status_code < 500, (path, body, answer.text)
    assert set(answer.json()) == {"detail", "type", "request_id"}
    assert answer.json()["detail"]


SESSION = requests.Session()


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b'{"workflow_id": "\\ud800"}', b"null"])
@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_is_not_even_json_is_answered_with_words(path: str, data: bytes) -> None:
    answer = SESSION.post(API + path, data=data, headers={"Content-Type": "application/json"}, timeout=10)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["detail"]


def test_values_that_are_no_json_or_too_deep_are_refused(maze: Maze) -> None:
    workflow = maze.workflow()
    task = maze.task(workflow, SOURCE)
    body = maze.content(workflow, task, SOURCE, {"x": "VALUE"})
    deep = b"[" * 100_000 + b"]" * 100_000
    for value, allowed in (
        (deep, (400, 422)),
        (b"NaN", (400, 422)),
        (b'"\\ud800"', (400, 422)),
        (b"1e999", (400, 422)),
    ):
        data = requests.Request("POST", API, json=body).prepare().body
        assert isinstance(data, bytes)
        changed = data.replace(b'"VALUE"', value)
        answer = SESSION.post(
            API + "/save_task", data=changed, headers={"Content-Type": "application/json"}, timeout=SECONDS
        )
        assert answer.status_code in allowed, (value[:10], answer.text[:300])


@pytest.mark.lifecycle
def test_a_stream_that_has_ended_is_the_same_from_another_api(maze: Maze) -> None:
    workflow = maze.workflow()
    task = maze.task(workflow, SOURCE)
    run = maze.run(workflow)
    before = maze.messages(workflow, run)
    with ThreadPoolExecutor(1) as pool:
        replaced = threading.Event()
        others = pool.submit(statuses_until, replaced, f"{API}/get_workflow_tasks/{workflow}")
        try:
            kubectl("-n", "maze-system", "rollout", "restart", "deployment/maze-api")
            kubectl("-n", "maze-system", "rollout", "status", "deployment/maze-api", "--timeout=60s")
            assert maze.messages(workflow, run) == before
        finally:
            replaced.set()
        assert set(others.result()) == {200}, "replacing the api refused a call"
    assert maze.messages(workflow, run) == before
    assert before[1]["data"]["result"] == {"y": 1}
    assert maze.get(f"/get_workflow_tasks/{workflow}")["tasks"] == [{"id": task, "name": "task"}]
    assert maze.messages(workflow, maze.run(workflow))[-1]["data"]["status"] == "Succeeded"


def statuses_until(done: threading.Event, address: str) -> list[int]:
    """What calls over new connections are answered, one after the other."""
    found = [requests.get(address, timeout=SECONDS).status_code]
    while not done.is_set():
        found.append(requests.get(address, timeout=SECONDS).status_code)
    return found
