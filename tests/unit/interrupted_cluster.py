"""The cluster of interrupted_stage.py, made of values: API server, object store, and a kubelet that takes its time."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from builders import T0
from jumping_time import seconds
from maze_crds import names
from maze_crds.base import format_time
from maze_crds.run import TERMINAL_RUNS, TERMINAL_TASKS
from maze_crds.slices import tasks_at
from maze_io.cache import Changed, Replaced
from maze_io.kube import KubeError, task_slices_path
from stand_ins import RUNS, Json, World

RUN = f"{RUNS}/r"
STARTING, WORKING, ENDING = 0.1, 0.3, 0.1
"""Seconds that a pod takes to run, to end by itself, and to end when it is told to."""
_OBJECT = re.compile(r"(/api/v1|/apis/[^/]+/[^/]+)/namespaces/[^/]+/([^/]+)/[^/]+")


@dataclass(frozen=True)
class End:
    """How the container of an attempt ends; after: seconds of work."""

    code: int = 0
    after: float = WORKING


@dataclass(frozen=True)
class Story:
    """A Run and what happens to it anyway.

    ends: of attempts that do not simply succeed. unschedulable: seconds in which no node takes a pod. priority: what the Run's
    is changed to while the pods wait. told: seconds that the watches are late. stored: what the object store has at first.
    handovers: when an operator dies and another one goes on. slices: of so many tasks; None: the Run is too small for some.
    """

    spec: Json
    tasks: tuple[Json, ...]
    ends: Mapping[tuple[str, int], End] = field(default_factory=dict)
    unschedulable: float = 0.0
    priority: int | None = None
    told: float = 0.02
    stored: Mapping[str, bytes] = field(default_factory=dict)
    handovers: tuple[float, ...] = ()
    slices: int | None = None


class Cluster(World):
    """API server, object store, and a kubelet. `wrong`: what must not have happened, in words."""

    def __init__(self, story: Story) -> None:
        super().__init__()
        self.story = story
        self.stored.update(story.stored)
        self.made_pods: Counter[tuple[str, int]] = Counter()
        self.executions: Counter[tuple[str, int]] = Counter()
        self.wrong: list[str] = []
        self._watches: list[tuple[str, asyncio.Queue[tuple[float, Changed]]]] = []

    async def _called(self, call: str) -> None:
        """Calls take their time, and fail, in the operator's client."""

    # the Run

    def create(self) -> None:
        self.made(RUN, {"metadata": {"name": "r", "namespace": "a"}, "spec": self.story.spec})
        if self.story.priority is not None:
            after = STARTING + self.story.unschedulable / 2
            asyncio.get_running_loop().call_later(after, self.edit, {"priority": self.story.priority})

    @property
    def run(self) -> Json:
        """With its tasks, wherever they are."""
        run = self.objects[RUN]
        workflow = {**run["spec"]["workflow"], "tasks": list(self.story.tasks)}
        status = {**run.get("status", {}), "tasks": self._tasks(run)}
        return {**run, "spec": {**run["spec"], "workflow": workflow}, "status": status}

    def _tasks(self, run: Json) -> list[Json]:
        status = run.get("status", {})
        found: list[Json] = list(status.get("tasks", ()))
        for number, revision in enumerate(status.get("taskSlices", ())):
            name = names.task_slice_name("r", run["metadata"]["uid"], number)
            tasks = tasks_at(self.objects.get(task_slices_path("a", name)) or {"revision": 0}, revision)
            if tasks is None:
                self.wrong.append(f"slice {number} does not have the revision {revision} that the Run names")
            found += tasks or ()
        return found

    def edit(self, change: Json) -> None:
        run = self.objects[RUN]
        metadata = {**run["metadata"], "generation": run["metadata"]["generation"] + 1}
        self.made(RUN, {**run, "metadata": metadata, "spec": {**run["spec"], **change}})

    def annotate(self) -> None:
        run = self.objects[RUN]
        self.made(RUN, {**run, "metadata": {**run["metadata"], "annotations": {"by": "somebody"}}})

    @property
    def ended(self) -> bool:
        return self.objects.get(RUN, {}).get("status", {}).get("phase") in TERMINAL_RUNS

    # objects

    def made(self, path: str, body: Json) -> Json:
        old = self.objects.get(path)
        before = self.run if "status" in self.objects.get(RUN, {}) else None
        new = super().made(path, body)
        if before is not None and "/pods/" not in path:
            self.wrong += _forgotten(before, self.run)
        self._tell("ADDED" if old is None else "MODIFIED", path, new)
        if old is None and "/pods/" in path:
            self._pod_made(path, new)
        return new

    def remove(self, path: str) -> Json:
        gone = super().remove(path)
        self._tell("DELETED", path, gone)
        return gone

    async def put(self, path: str, body: Any) -> Any:
        if "/taskslices/" not in path:
            return await super().put(path, body)
        old = self._found(path)
        if body["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]:
            raise KubeError(409, "Conflict", "somebody was first")
        return self.made(path, {**json.loads(json.dumps(body)), "metadata": old["metadata"]})

    async def delete(self, path: str, options: Json) -> Json:
        """A pod that runs is given time to end."""
        found = self._found(path)
        if not options["gracePeriodSeconds"] or "status" not in found:
            return await super().delete(path, options)
        for key, value in options["preconditions"].items():
            if found["metadata"][key] != value:
                raise KubeError(409, "Conflict", f"{key} is another one")
        metadata = {**found["metadata"], "deletionTimestamp": format_time(T0)}
        asyncio.get_running_loop().call_later(ENDING, self._vanish, path, found["metadata"]["uid"])
        return self.made(path, {**found, "metadata": metadata})

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        pod = self._found(path.removesuffix("/log"))
        if not _state(pod):
            raise KubeError(400, "BadRequest", "nothing has started")
        yield b"printed"

    async def list_keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.stored if key.startswith(prefix))

    # watches

    def listed(self, collection: str) -> Replaced:
        items = [found for path, found in self.objects.items() if _collection(path) == collection]
        return Replaced(items, str(self.version))

    async def watch(self, collection: str) -> AsyncIterator[Replaced | Changed]:
        queue: asyncio.Queue[tuple[float, Changed]] = asyncio.Queue()
        self._watches.append((collection, queue))
        try:
            yield self.listed(collection)
            while True:
                due, event = await queue.get()
                await asyncio.sleep(due - seconds())
                yield event
        finally:
            self._watches.remove((collection, queue))

    def _tell(self, kind: Any, path: str, found: Json) -> None:
        for collection, queue in self._watches:
            if _collection(path) == collection:
                queue.put_nowait((seconds() + self.story.told, Changed(kind, found)))

    # the kubelet

    @property
    def pods(self) -> list[str]:
        return [path for path in self.objects if "/pods/" in path]

    @property
    def living(self) -> list[str]:
        return [path for path in self.pods if "terminated" not in _state(self.objects[path])]

    def evict(self) -> None:
        for path in self.living:
            self.remove(path)

    def collect(self) -> None:
        """Pods that have ended and whose results are stored."""
        for path in set(self.pods) - set(self.living):
            task, attempt = _attempt(self.objects[path])
            if names.result_key(self.objects[RUN]["metadata"]["uid"], task, attempt) in self.stored:
                self.remove(path)

    def _pod_made(self, path: str, pod: Json) -> None:
        attempt, uid = _attempt(pod), pod["metadata"]["uid"]
        self.made_pods[attempt] += 1
        recorded = {task["name"]: (task.get("phase"), task.get("attempt")) for task in self.run["status"]["tasks"]}
        if recorded.get(attempt[0]) != ("Starting", attempt[1]) and not self.ended:
            self.wrong.append(f"a pod is made for {attempt}, and recorded is {recorded.get(attempt[0])}")
        later = asyncio.get_running_loop().call_later
        wait = STARTING
        if self.story.unschedulable and seconds() < self.story.unschedulable:
            later(STARTING, self._not_placed, path, uid)
            wait = max(self.story.unschedulable - seconds(), 0) + STARTING
        later(wait, self._start, path, uid)

    def _same(self, path: str, uid: str) -> Json | None:
        found = self.objects.get(path)
        return found if found is not None and found["metadata"]["uid"] == uid else None

    def _not_placed(self, path: str, uid: str) -> None:
        if pod := self._same(path, uid):
            why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
            self.made(path, {**pod, "status": {"phase": "Pending", "conditions": [why]}})

    def _start(self, path: str, uid: str) -> None:
        if not (pod := self._same(path, uid)) or "deletionTimestamp" in pod["metadata"]:
            return
        self.executions[_attempt(pod)] += 1
        self._be(path, pod, "Running", {"running": {"startedAt": self._now()}})
        end = self.story.ends.get(_attempt(pod), End())
        asyncio.get_running_loop().call_later(end.after, self._finish, path, uid, end)

    def _finish(self, path: str, uid: str, end: End) -> None:
        if not (pod := self._same(path, uid)):
            return
        started = _state(pod)["running"]["startedAt"]
        said = {"message": json.dumps({"by": "/".join(map(str, _attempt(pod)))})} if end.code == 0 else {}
        ended = {"exitCode": end.code, "startedAt": started, "finishedAt": self._now(), **said}
        self._be(path, pod, "Failed" if end.code else "Succeeded", {"terminated": ended})

    def _vanish(self, path: str, uid: str) -> None:
        if self._same(path, uid):
            self.remove(path)

    def _be(self, path: str, pod: Json, phase: str, state: Json) -> None:
        status = {"phase": phase, "hostIP": "10.0.0.1", "containerStatuses": [{"state": state}]}
        self.made(path, {**pod, "status": status})

    @staticmethod
    def _now() -> str:
        return format_time(T0 + timedelta(seconds=seconds()))


def _collection(path: str) -> str | None:
    found = _OBJECT.fullmatch(path)
    return f"{found[1]}/{found[2]}" if found else None


def _attempt(pod: Json) -> tuple[str, int]:
    labels = pod["metadata"]["labels"]
    return labels[names.LABEL_TASK], int(labels[names.LABEL_ATTEMPT])


def _state(pod: Json) -> Json:
    """Of its container; empty: it has not started."""
    containers: list[Json] = pod.get("status", {}).get("containerStatuses", [])
    return containers[0]["state"] if containers else {}


def _forgotten(before: Json, after: Json) -> Iterator[str]:
    """What was recorded once stays."""
    was, now = before["status"], after["status"]
    if now.get("lastEvent", 0) < was.get("lastEvent", 0):
        yield f"lastEvent goes back from {was['lastEvent']} to {now.get('lastEvent')}"
    tasks = {task["name"]: task for task in now["tasks"]}
    for task in was["tasks"]:
        new = tasks.get(task["name"], {})
        if task.get("phase") in TERMINAL_TASKS and new != task:
            yield f"the end of {task['name']} is written again: {task} becomes {new}"
        if new.get("attempt", 0) < task.get("attempt", 0):
            yield f"{task['name']} goes back from attempt {task['attempt']} to {new.get('attempt')}"
