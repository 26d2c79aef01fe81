"""The checker itself: a history that is whole passes, and each way to break it is seen."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from invariants import broken

Json = dict[str, Any]
RAN = {"a": 1, "b": 2, "c": 0}
TOLD = [2, 3, 4, 7, 9]
"""Neither the end of the attempt that was tried again, nor the second start, nor that `c` is skipped."""


def whole() -> Json:
    """`a` succeeded; `b` was tried again, and failed; `c` needs it and is skipped."""
    first = {"attempt": 1, "cause": "Infrastructure", "reason": "PodLost", "startEvent": 4, "endEvent": 5}
    a = {"name": "a", "phase": "Succeeded", "attempt": 1, "startEvent": 2, "endEvent": 3}
    b = {"name": "b", "phase": "Failed", "attempt": 2, "cause": "UserError", "reason": "Exited"}
    c = {"name": "c", "phase": "Skipped", "attempt": 0, "reason": "UpstreamFailed", "endEvent": 8}
    tasks = [a, {**b, "startEvent": 6, "endEvent": 7, "failedAttempts": [first]}, c]
    counts = {"succeeded": 1, "failed": 1, "skipped": 1}
    status = {"phase": "Failed", "lastEvent": 9, "endEvent": 9, "counts": counts, "tasks": tasks}
    spec = [{"name": "a"}, {"name": "b", "dependsOn": ["a"]}, {"name": "c", "dependsOn": ["b"]}]
    return {"spec": {"workflow": {"tasks": spec}}, "status": status}


def test_a_whole_history_passes() -> None:
    assert broken(whole(), RAN, (), TOLD) == []


def set_status(**values: Any) -> Callable[[Json], None]:
    return lambda run: run["status"].update(values)


def set_task(number: int, **values: Any) -> Callable[[Json], None]:
    return lambda run: run["status"]["tasks"][number].update(values)


def set_earlier(**values: Any) -> Callable[[Json], None]:
    return lambda run: run["status"]["tasks"][1]["failedAttempts"][0].update(values)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (set_status(phase="Running"), "has not ended"),
        (set_status(lastEvent=10), "[10] of 10 are missing"),
        (set_status(lastEvent=8), "[9] are beyond"),
        (set_status(counts={"succeeded": 2, "failed": 1, "skipped": 1}), "counts.succeeded is 2"),
        (set_task(0, phase="Running"), "a has not ended"),
        (set_task(0, cause="Storage"), "succeeded with the cause"),
        (set_task(0, startEvent=3), "[3] are there twice"),
        (set_task(0, startEvent=3), "[2] of 9 are missing"),
        (set_task(0, attempt=2), "a is at attempt 2, and attempts []"),
        (set_task(0, endEvent=5), "b began before a had ended"),
        (set_task(1, cause=None), "attempt 2 of b failed without cause"),
        (set_task(1, cause="BadLuck"), "attempt 2 of b failed without cause"),
        (set_task(1, reason=None), "attempt 2 of b failed without cause"),
        (set_task(1, failedAttempts=[]), "[4, 5] of 9 are missing"),
        (set_task(2, reason=None), "c is Skipped without a reason"),
        (set_earlier(reason=""), "attempt 1 of b failed without cause"),
        (set_earlier(attempt=2), "b is at attempt 2, and attempts [2]"),
        (lambda run: run["status"]["tasks"].append(run["status"]["tasks"][0]), "recorded twice: ['a']"),
        (lambda run: run["status"]["tasks"].pop(), "not the tasks of the workflow: ['c']"),
    ],
)
def test_a_broken_history_is_seen(harm: Callable[[Json], None], words: str) -> None:
    run = copy.deepcopy(whole())
    harm(run)
    assert words in "\n".join(broken(run))


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"executions": {"a": 2, "b": 2}}, "a ran 2 times in 1 attempts"),
        ({"executions": {"b": 2}}, "a succeeded and never ran"),
        ({"executions": {"a": 1, "c": 1}}, "c ran 1 times in 0 attempts"),
        ({"living_pods": {"maze-pod"}}, "pod maze-pod lives on"),
        ({"told": [2, 3, 7, 9]}, "the api tells"),
        ({"told": [*TOLD, 9]}, "the api tells"),
    ],
)
def test_what_was_seen_outside_of_the_status_counts(seen: Json, words: str) -> None:
    assert words in "\n".join(broken(whole(), **seen))
