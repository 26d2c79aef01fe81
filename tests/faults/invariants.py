"""What holds for a Run whatever was done to the cluster under it. `broken` is pure; `require` asks the cluster.

- It has ended, and each task of its workflow is recorded once: as a success, or as a failure with its cause and reason.
- Event numbers go from 1 to lastEvent: none is missing, none is there twice, and what a task needs ended before it
  began.
- It ran at most once for each attempt that is recorded, and at least once if it succeeded: by what the tasks told.
- No pod of it lives on, and the api tells all of its events.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import requests
from kubernetes.client import ApiException
from recorder import Recorder
from urllib3.exceptions import HTTPError

from cluster import ENDED, Cluster, awaited
from maze_crds.run import Cause
from maze_http import API

Json = dict[str, Any]
END_SECONDS = 90
POD_SECONDS = 40
"""A pod may take its grace period (30 s) to end."""
CAUSES = frozenset(cause.value for cause in Cause)
TASK_ENDS = ("Succeeded", "Failed", "Skipped", "Cancelled")


def tasks_of(run: Json) -> list[Json]:
    """The tasks' statuses: the one place that knows where they are."""
    found: list[Json] = run.get("status", {}).get("tasks", [])
    return found


def broken(
    run: Json,
    executions: Mapping[str, int] | None = None,
    living_pods: Collection[str] = (),
    told: Collection[int] | None = None,
) -> list[str]:
    """Everything that is wrong, in words; empty: nothing.

    executions: how often each task ran, by what it told itself. living_pods: of the Run. told: numbers of the events
    that the api tells, in its order: the first start and the end of each task, and the Run's end.
    """
    status = run.get("status", {})
    wrong = [] if status.get("phase") in ENDED else [f"the Run has not ended: {status.get('phase')}"]
    tasks = {task["name"]: task for task in tasks_of(run)}
    wrong += _recorded(run, tasks)
    for task in tasks.values():
        wrong += _told_apart(task)
    wrong += _numbers(status, tasks.values())
    wrong += _order(run, tasks)
    if executions is not None:
        wrong += _repeated(tasks.values(), executions)
    wrong += [f"pod {pod} lives on" for pod in sorted(living_pods)]
    if told is not None and list(told) != _to_be_told(status, tasks.values()):
        wrong.append(f"the api tells the events {list(told)}, the last is {status.get('lastEvent')}")
    return wrong


def _recorded(run: Json, tasks: Mapping[str, Json]) -> Iterator[str]:
    names = [task["name"] for task in tasks_of(run)]
    wanted = {task["name"] for task in run["spec"]["workflow"]["tasks"]}
    if len(names) != len(tasks):
        yield f"recorded twice: {sorted({name for name in names if names.count(name) > 1})}"
    if wanted != set(tasks):
        yield f"not the tasks of the workflow: {sorted(wanted ^ set(tasks))}"
    counts = run.get("status", {}).get("counts", {})
    for phase in ("Succeeded", "Failed", "Skipped", "Cancelled"):
        seen = sum(task.get("phase") == phase for task in tasks.values())
        if counts.get(phase.lower(), 0) != seen:
            yield f"counts.{phase.lower()} is {counts.get(phase.lower(), 0)}, and {seen} tasks are"


def _told_apart(task: Json) -> Iterator[str]:
    """One success, or a failure that is classified."""
    name, phase = task["name"], task.get("phase")
    if phase not in TASK_ENDS:
        yield f"{name} has not ended: {phase}"
    if phase == "Succeeded" and task.get("cause"):
        yield f"{name} succeeded with the cause {task['cause']}"
    if phase in ("Skipped", "Cancelled") and not task.get("reason"):
        yield f"{name} is {phase} without a reason"
    earlier = task.get("failedAttempts", [])
    for failure in [*earlier, *([task] if phase == "Failed" else [])]:
        if failure.get("cause") not in CAUSES or not failure.get("reason"):
            yield f"attempt {failure.get('attempt')} of {name} failed without cause and reason: {json.dumps(failure)}"
    numbers = [failure.get("attempt") for failure in earlier]
    expected = list(range(1, task.get("attempt", 0) + (phase in ("Skipped", "Cancelled") and not _began(task))))
    if numbers != expected:
        yield f"{name} is at attempt {task.get('attempt')}, and attempts {numbers} are recorded before it"


def _began(task: Json) -> bool:
    return task.get("startEvent") is not None or task.get("scheduledTime") is not None


def _events(task: Json, *keys: str) -> list[int]:
    """Numbers of all attempts' events."""
    attempts = (*task.get("failedAttempts", ()), task)
    return [each[key] for each in attempts for key in keys or ("startEvent", "endEvent") if each.get(key)]


def _numbers(status: Json, tasks: Iterable[Json]) -> Iterator[str]:
    """The first event is the Run's start."""
    seen = sorted(
        [1, *([status["endEvent"]] if status.get("endEvent") else []), *(n for t in tasks for n in _events(t))]
    )
    last = status.get("lastEvent", 0)
    if missing := sorted(set(range(1, last + 1)) - set(seen)):
        yield f"events {missing} of {last} are missing"
    if repeated := sorted({number for number in seen if seen.count(number) > 1}):
        yield f"events {repeated} are there twice"
    if beyond := [number for number in seen if number > last]:
        yield f"events {beyond} are beyond the last, {last}"


def _order(run: Json, tasks: Mapping[str, Json]) -> Iterator[str]:
    for task in run["spec"]["workflow"]["tasks"]:
        starts = _events(tasks.get(task["name"], {}), "startEvent")
        for upstream in task.get("dependsOn", ()) if starts else ():
            end = tasks.get(upstream, {}).get("endEvent")
            if end is None or end > min(starts):
                yield f"{task['name']} began before {upstream} had ended"


def _repeated(tasks: Iterable[Json], executions: Mapping[str, int]) -> Iterator[str]:
    for task in tasks:
        ran = executions.get(task["name"], 0)
        if ran > task.get("attempt", 0):
            yield f"{task['name']} ran {ran} times in {task.get('attempt', 0)} attempts"
        if task.get("phase") == "Succeeded" and ran == 0:
            yield f"{task['name']} succeeded and never ran"


def _to_be_told(status: Json, tasks: Iterable[Json]) -> list[int]:
    """Numbers of the events that Maze clients know: attempts in between start and end silently."""
    found = [status.get("endEvent")]
    for task in tasks:
        starts = [attempt.get("startEvent") for attempt in (*task.get("failedAttempts", ()), task)]
        found.append(min((start for start in starts if start is not None), default=None))
        if task.get("phase") in ("Succeeded", "Failed"):
            found.append(task.get("endEvent"))
    return sorted(number for number in found if number is not None)


def end_of(cluster: Cluster, name: str, seconds: float = END_SECONDS) -> Json:
    """The Run when it has ended. Unlike `Cluster.ended` it stands an API server that is away for a while."""
    last: Json = {}

    def look() -> Json:
        with suppress(ApiException, HTTPError, OSError):
            last.update(cluster.get_run(name))
        status = last.get("status", {})
        open_ones = [task for task in tasks_of(last) if task.get("phase") not in TASK_ENDS]
        return {"phase": status.get("phase"), "counts": status.get("counts"), "open": open_ones}

    awaited(look, lambda seen: seen["phase"] in ENDED, seconds)
    return last


def living_pods(cluster: Cluster, name: str) -> set[str]:
    """Of a Run."""
    return {pod.metadata.name for pod in cluster.pods_of(name) if pod.status.phase in ("Pending", "Running")}


def told_events(name: str) -> list[int]:
    """Numbers of all events that the api tells of a Run that has ended. Waits for an api that is away."""
    found: list[int] = []
    while True:
        after = found[-1] if found else 0
        page = awaited(lambda after=after: _page(name, after), lambda page: page is not None, 60)
        found += [event["id"] for event in page["events"]]
        if page["ended"]:
            return found


def _page(name: str, after: int) -> Json | None:
    with suppress(requests.RequestException):
        answer = requests.get(f"{API}/api/maze/runs/{name}/events", params={"after": after}, timeout=10)
        if answer.status_code == 200:
            page: Json = answer.json()
            return page
    return None


def require(cluster: Cluster, name: str, recorder: Recorder) -> Json:
    """Await the end of a Run and the end of its pods, and check everything; its status."""
    run = end_of(cluster, name)
    awaited(lambda: living_pods(cluster, name), lambda left: not left, POD_SECONDS)
    wrong = broken(run, recorder.executions(), living_pods(cluster, name), told_events(name))
    assert not wrong, "\n".join([*wrong, json.dumps(run["status"], indent=1)])
    status: Json = run["status"]
    return status
