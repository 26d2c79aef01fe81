"""Building on the running system: the thousandth call costs what the first did, and what is wrong is told before a run."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from cluster import Cluster
from maze import MaClient, RunFailed, task

API = os.environ.get("MAZE_API", "http://127.0.0.1:8000")
SAMPLE = 50
TRIALS = 3


@task(inputs=["x"], outputs=["y"])
def increment(params: dict[str, Any]) -> dict[str, Any]:
    return {"y": params["x"] + 1}


@task(inputs=["x"], outputs=["y"])
def divide(params: dict[str, Any]) -> dict[str, Any]:
    return {"y": 1 / params["x"]}


@task(inputs=["x", "many"], outputs=["y"])
def count(params: dict[str, Any]) -> dict[str, Any]:
    return {"y": [params["x"].read_bytes().decode(), len(params["many"])]}


def ratio() -> float:
    """What the last calls of 1,000 cost, as a multiple of the first: medians, each task with an edge to the one before."""
    workflow = MaClient(API).create_workflow()
    last = workflow.add_task(increment, inputs={"x": 0})
    seconds = []
    for _ in range(1000):
        began = time.perf_counter()
        last = workflow.add_task(increment, inputs={"x": last.outputs["y"]})
        seconds.append(time.perf_counter() - began)
    assert len(workflow.get_tasks()) == 1001
    return statistics.median(seconds[-SAMPLE:]) / statistics.median(seconds[:SAMPLE])


def test_call_number_1000_costs_what_call_number_1_did() -> None:
    """One of a few trials is enough: other load on the machine can only make it look worse."""
    ratios: list[float] = []
    while len(ratios) < TRIALS and (not ratios or min(ratios) > 1.5):
        ratios.append(ratio())
    assert min(ratios) <= 1.5, ratios


def test_the_result_of_a_failed_task_is_why_it_failed(cluster: Cluster) -> None:
    workflow = MaClient(API).create_workflow()
    bad = workflow.add_task(divide, inputs={"x": 0})
    after = workflow.add_task(divide, inputs={"x": bad.outputs["y"]})
    run_id = workflow.run()
    cluster.adopt(run_id)
    workflow.wait(run_id, check=False)
    with pytest.raises(RunFailed, match="ZeroDivisionError"):
        workflow.result(run_id, bad)
    with pytest.raises(RunFailed, match="'divide': Skipped"):
        workflow.result(run_id, after)


def test_empty_files_and_large_objects_are_inputs_and_results(cluster: Cluster, tmp_path: Path) -> None:
    """10 MB that are no JSON, once for all tasks of a map; a file of no bytes."""
    empty = tmp_path / "empty"
    empty.touch()
    many = set(range(1_500_000))
    workflow = MaClient(API).create_workflow()
    tasks = workflow.map(count, [empty, empty], many=many)
    passed = workflow.add_task(task(inputs=["x"], outputs=["x"])(lambda params: params), inputs={"x": many})
    run_id = workflow.run()
    cluster.adopt(run_id)
    workflow.wait(run_id)
    assert [workflow.result(run_id, made)["y"] for made in tasks] == [["", 1_500_000]] * 2
    assert workflow.result(run_id, passed)["x"] == many
