"""A Run comes to the end it would have come to anyway, whatever interrupts its reconcile at whichever call."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from builders import container_task
from interrupted_cluster import End, Story
from interrupted_stage import Fault, Scene, play
from jumping_time import loops_time
from maze_crds import names
from maze_crds.run import TERMINAL_RUNS
from stand_ins import PODS, Json


def _pure_invariants() -> Callable[..., list[str]]:
    """`broken` of the fault suite. The rest of its module asks a cluster, and imports what there is only on a cluster's node."""
    spec = importlib.util.spec_from_file_location("invariants", Path(__file__).parents[1] / "faults" / "invariants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patched:
        for name in ("cluster", "maze_http", "recorder"):
            patched.setitem(sys.modules, name, Mock(ENDED=tuple(phase.value for phase in TERMINAL_RUNS)))
        spec.loader.exec_module(module)
    found: Callable[..., list[str]] = module.broken
    return found


broken = _pure_invariants()
AS_ANYWAY = frozenset(Fault) - {Fault.CANCELLED, Fault.EVICTED}
"""Faults that leave no trace in the Run."""


def _diamond() -> Story:
    """Two attempts fail: one by itself, the other one is stopped. The watches tell after a failed call is tried again."""
    taken = {"x": {"from": "a.output.by"}}
    tasks = (
        container_task("a", outputs=["by"]),
        container_task("b", "a", inputs=taken, outputs=["by"], retry={"limit": 1, "backoffSeconds": 0.5}),
        container_task("c", "a", timeoutSeconds=1, retry={"timeout": 1, "backoffSeconds": 0.5}),
        container_task("d", "b", "c", inputs={"x": {"from": "b.output.by"}}),
    )
    ends = {("b", 1): End(code=3), ("c", 1): End(after=3600)}
    return Story({"workflow": {"tasks": list(tasks)}}, tasks, ends, told=0.35)


def _chain() -> Story:
    """The tasks are in slices, the workflow is in the object store, watches are early, and other operators go on."""
    tasks = (
        container_task("a", outputs=["by"]),
        container_task("b", "a", inputs={"x": {"from": "a.output.by"}}, retry={"limit": 1, "backoffSeconds": 0.1}),
        container_task("c", "a", inputs={"x": {"from": "a.output.by"}}),
    )
    stored = json.dumps(tasks).encode()
    payload = {"key": "payloads/tasks", "sha256": hashlib.sha256(stored).hexdigest(), "size": len(stored)}
    return Story(
        {"workflow": {"tasksFrom": payload}},
        tasks,
        {("b", 1): End(code=3)},
        told=0.001,
        stored={"payloads/tasks": stored},
        handovers=(0.7, 1.3),
        slices=2,
    )


def _waiting() -> Story:
    """No node takes the pods at first; the Run gets another priority, so they are made again."""
    tasks = (container_task("a", outputs=["by"]), container_task("b", inputs={"x": {"value": 1}}))
    ends = {("b", 1): End(after=40)}
    return Story({"workflow": {"tasks": list(tasks)}}, tasks, ends, unschedulable=2.0, priority=7)


STORIES = {"diamond": _diamond, "chain": _chain, "waiting": _waiting}


@pytest.fixture(autouse=True, scope="module")
def _stage() -> Iterator[None]:
    """The operator's log would tell of every fault, as of something that was to be expected."""
    logging.disable(logging.WARNING)
    with loops_time():
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", STORIES)
def test_the_story_without_a_fault(name: str) -> None:
    scene = play(STORIES[name]())
    assert wrong_in(scene, None) == []
    assert scene.cluster.run["status"]["phase"] == "Succeeded"


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("name", STORIES)
def test_a_fault_at_any_call(name: str, fault: Fault) -> None:
    story = STORIES[name]()
    normal = play(story)
    wrong = []
    for at in range(1, len(normal.calls) + 1):
        scene = play(story, fault, at)
        if found := wrong_in(scene, normal):
            wrong.append(f"at {at}, {scene.calls[at - 1 : at]}: {'; '.join(found)}")
    assert not wrong, f"{fault.value}:\n" + "\n".join(wrong)


def test_pods_with_names_of_their_own_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at here can be broken: here by an operator that makes a second pod where it does not know of the first."""
    count, name = itertools.count(), names.pod_name
    monkeypatch.setattr(names, "pod_name", lambda *args: f"{name(*args)}-{next(count)}")
    normal = play(_diamond())
    at = next(number for number, call in enumerate(normal.calls, 1) if call == f"POST {PODS}")
    assert "2 pods were made for ('a', 1)" in wrong_in(play(_diamond(), Fault.UNHEARD, at), normal)


def outcome(run: Json) -> Json:
    """What does not depend on times."""
    kept = ("phase", "attempt", "reason", "cause", "exitCode")
    return {
        task["name"]: [{key: each.get(key) for key in kept} for each in (*task.get("failedAttempts", ()), task)]
        for task in run["status"]["tasks"]
    }


def wrong_in(scene: Scene, normal: Scene | None) -> list[str]:
    """normal: the same without a fault."""
    cluster, run, fault = scene.cluster, scene.cluster.run, scene.fault
    executions: dict[str, int] = {}
    for (task, _), count in cluster.executions.items():
        executions[task] = executions.get(task, 0) + count
    found = [*dict.fromkeys(cluster.wrong), *broken(run, executions, cluster.living)]
    if len(scene.calls) < scene.at:
        found.append("the fault has not struck")
    found += [f"{attempt} was executed {count} times" for attempt, count in cluster.executions.items() if count > 1]
    if cluster.story.priority is None:
        found += [f"{count} pods were made for {attempt}" for attempt, count in cluster.made_pods.items() if count > 1]
    for task in run["status"]["tasks"]:
        key = names.result_key(run["metadata"]["uid"], task["name"], task.get("attempt", 0))
        if task.get("phase") == "Succeeded" and key not in cluster.stored:
            found.append(f"{task['name']} succeeded, and its result is nowhere")
    # That it was the operator who deleted a pod, to replace it, is not known where the answer is lost: the pod is lost.
    lost = fault is Fault.UNHEARD and any(call.startswith("DELETE") for call in scene.calls[scene.at - 1 : scene.at])
    if normal is not None and fault in AS_ANYWAY and not lost and outcome(run) != outcome(normal.cluster.run):
        found.append(f"it has ended as {outcome(run)}")
    return found
