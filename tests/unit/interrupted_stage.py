"""One Run from its creation to its end, by the real operator, on a cluster of values in a time that only jumps.

Every call of the operator to the API server and the object store has a number. At one of them a fault strikes. What happens
outside, which is what a kubelet and the watches do, depends on the time alone; so the same fault at the same number is the
same story each time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import selectors
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from enum import Enum
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

from builders import SETTINGS, T0
from maze_crds import names
from maze_crds.base import format_time
from maze_crds.run import SLICED, TERMINAL_RUNS, TERMINAL_TASKS
from maze_crds.slices import tasks_at
from maze_io.cache import Changed, Replaced
from maze_io.kube import Kube, KubeError, runs_path, task_slices_path
from maze_io.store import AsyncStore, StoreError
from maze_operator.core import slicing
from maze_operator.engine import Engine
from maze_operator.settings import ShellSettings
from stand_ins import API_TOKEN, KEY, RUNS, Json, World

RUN = f"{RUNS}/r"
THERE = BACK = 0.004
"""Seconds that a request and its answer travel."""
STARTING, WORKING, ENDING = 0.1, 0.3, 0.1
"""Seconds that a pod takes to run, to end by itself, and to end when it is told to."""
NO_ANSWER = 30.0
"""Seconds after which the client gives up a call."""
OUTAGE = 3.0
ELECTION = 0.25
"""Seconds that an operator is away at least before its successor leads."""
LATE_SUCCESSOR = 5.0
LIMIT = 600.0
"""Seconds within which every story ends: many times of what the slowest needs."""
LOOK = 5.0
QUIET = 15.0
"""Seconds after the end of everything in which nothing happens any more: more than an operator's longest back-off."""
SHELL = ShellSettings(KEY, "me", "s", 0, "127.0.0.1", "INFO", API_TOKEN, relist_seconds=10 * LIMIT)
CORE = replace(SETTINGS, exit_grace=1.0, pod_retention=NO_ANSWER + 15, priority_classes=((0, "low"), (5, "high")))
"""Pods stay for longer than a request can be on its way."""
_OBJECT = re.compile(r"(/api/v1|/apis/[^/]+/[^/]+)/namespaces/[^/]+/([^/]+)/[^/]+")


class Fault(Enum):
    REFUSED = "the call fails before it does anything"
    UNHEARD = "it does its work, and the answer is lost"
    LATE = "there is no answer until the client gives up, and after that it does its work"
    AWAY = "from here on all calls are refused for a while"
    NOTED = "somebody has written the Run's metadata just before"
    EDITED = "somebody has written the Run's spec just before"
    CANCELLED = "the user has cancelled the Run just before"
    EVICTED = "all living pods are gone just before"
    STOPPED = "the operator is told to end while the call is under way"
    KILLED_BEFORE = "the operator dies before the call does anything"
    KILLED_AFTER = "the operator dies after the call has done its work"
    COLLECTED = "the same, and pods whose results are stored are gone when its successor comes"
    LONG_DEAD = "the operator dies like that, and its successor comes when all pods have ended"


class Loop(asyncio.SelectorEventLoop):
    """Whenever nothing is ready the time is that of the next timer."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self.now


class _Jump(selectors.SelectSelector):
    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everything waits, and nothing will ever happen"
        self._loop.now += timeout
        return []


def seconds() -> float:
    return asyncio.get_running_loop().time()


class _Datetime(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return T0 + timedelta(seconds=seconds())


@contextmanager
def loops_time() -> Iterator[None]:
    """The operator asks its event loop what time it is, instead of the machine."""
    time = SimpleNamespace(monotonic=seconds, thread_time=lambda: 0.0)
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("maze_operator.")]
    clocks = {"time": time, "datetime": _Datetime}
    patches = [
        patch.object(module, name, clock)
        for module in modules
        for name, clock in clocks.items()
        if getattr(module, name, None) in (sys.modules["time"], datetime)
    ]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


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


class Scene:
    """The Run of a story, where `fault` strikes at the call with the number `at`."""

    def __init__(self, story: Story, fault: Fault | None = None, at: int = 0) -> None:
        self.cluster = Cluster(story)
        self.fault, self.at = fault, at
        self.calls: list[str] = []
        self.away_until = 0.0
        self.late = 0
        """Calls that have yet to do their work after their clients gave up."""
        self.over = asyncio.Event()
        """The operator has died, or is told to end."""
        self.audience = asyncio.current_task()
        self._handovers = list(story.handovers)

    async def play(self) -> None:
        """Until the Run has ended and its pods are gone, and for a while after that."""
        async with asyncio.timeout(LIMIT):
            while not await self._lead():
                dead_long = self.fault is Fault.LONG_DEAD and len(self.calls) >= self.at
                await asyncio.sleep(LATE_SUCCESSOR if dead_long else ELECTION)

    async def _lead(self) -> bool:
        """One operator's life. True: everything has come to its end."""
        client = Client(self)
        self.over.clear()
        engine = Engine(cast(Kube, client), cast(AsyncStore, client), CORE, SHELL, b"")
        leading = asyncio.create_task(self._serve(engine))
        leading.add_done_callback(lambda _: self.over.set())
        try:
            if self._handovers:
                asyncio.get_running_loop().call_at(self._handovers.pop(0), self.over.set)
            while not await self._is_over():
                if self.cluster.ended and not self.cluster.pods and not self.late:
                    return await self._quiet()
            if not client.dead:
                await engine.stop()
            return False
        finally:
            client.dead = True
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await engine.deliveries.stop()

    async def _is_over(self) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK):
                await self.over.wait()
        return self.over.is_set()

    async def _quiet(self) -> bool:
        """Whether nothing happens any more."""
        calls = len(self.calls)
        await asyncio.sleep(QUIET)
        return not self.over.is_set() and calls == len(self.calls)

    async def _serve(self, engine: Engine) -> None:
        """As `python -m maze_operator` does when it leads: it ends where it can't begin, and is started again."""
        with suppress(KubeError, StoreError):
            await engine.start()
            async for event in self.cluster.watch(runs_path()):
                if RUN not in self.cluster.objects:
                    self.cluster.create()
                if isinstance(event, Changed):
                    engine.saw_run(event.type, event.object)
                else:
                    for run in event.items:
                        engine.saw_run(None, run)

    def strike_outside(self) -> None:
        """What somebody else does just before the call."""
        if self.fault is Fault.EVICTED:
            self.cluster.evict()
        elif RUN in self.cluster.objects:
            if self.fault is Fault.NOTED:
                self.cluster.annotate()
            elif self.fault is Fault.EDITED:
                self.cluster.edit({"parallelism": 50})
            elif self.fault is Fault.CANCELLED:
                self.cluster.edit({"desiredState": "Cancelled"})


class Client:
    """API server and object store as one operator reaches them."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._cluster = scene, scene.cluster
        self.dead = False
        self.store = self._cluster

    async def get(self, path: str, params: Any = None) -> Any:
        return await self._call("GET", path, lambda: self._cluster.get(path))

    async def post(self, path: str, body: Json) -> Json:
        return cast(Json, await self._call("POST", path, lambda: self._cluster.post(path, body)))

    async def put(self, path: str, body: Any) -> Any:
        return await self._call("PUT", path, lambda: self._cluster.put(path, body))

    async def delete(self, path: str, options: Json) -> Json:
        return cast(Json, await self._call("DELETE", path, lambda: self._cluster.delete(path, options)))

    async def list_all(self, path: str, params: Any = None) -> Replaced:
        async def listed() -> Replaced:
            return self._cluster.listed(path)

        return cast(Replaced, await self._call("LIST", path, listed))

    async def stream(self, path: str, params: Any = None) -> AsyncIterator[bytes]:
        async def read() -> list[bytes]:
            return [chunk async for chunk in self._cluster.stream(path)]

        for chunk in await self._call("GET", path, read):
            yield chunk

    def list_and_watch(self, path: str, params: Any = None) -> AsyncIterator[Replaced | Changed]:
        """What fails in here heals in here, so it is no call of a reconcile."""
        return self._cluster.watch(path)

    async def exists(self, key: str) -> bool:
        return cast(bool, await self._call("HEAD", key, lambda: self._cluster.exists(key)))

    async def list_keys(self, prefix: str) -> list[str]:
        return cast(list[str], await self._call("LIST", prefix, lambda: self._cluster.list_keys(prefix)))

    async def _call(self, verb: str, path: str, work: Callable[[], Any]) -> Any:
        if self.dead:
            raise asyncio.CancelledError
        scene = self._scene
        scene.calls.append(f"{verb} {path}")
        struck = len(scene.calls) == scene.at
        await asyncio.sleep(THERE)
        if struck:
            await self._strike_before(path, work)
        if seconds() < scene.away_until:
            raise _error(path, 503)
        answer = await work()
        if struck and scene.fault is Fault.COLLECTED:
            self._cluster.collect()
        if struck and scene.fault in (Fault.KILLED_AFTER, Fault.COLLECTED, Fault.LONG_DEAD):
            await self._killed()
        if struck and scene.fault is Fault.UNHEARD:
            raise _error(path, 0)
        await asyncio.sleep(BACK)
        return answer

    async def _strike_before(self, path: str, work: Callable[[], Any]) -> None:
        scene = self._scene
        scene.strike_outside()
        match scene.fault:
            case Fault.REFUSED:
                raise _error(path, 500)
            case Fault.AWAY:
                scene.away_until = seconds() + OUTAGE
            case Fault.LATE:
                scene.late += 1
                asyncio.get_running_loop().call_later(NO_ANSWER + 1, self._do_late, work)
                await asyncio.sleep(NO_ANSWER)
                raise _error(path, 0)
            case Fault.STOPPED:
                scene.over.set()
                await asyncio.sleep(NO_ANSWER)
            case Fault.KILLED_BEFORE:
                await self._killed()

    def _do_late(self, work: Callable[[], Any]) -> None:
        """Nobody hears what becomes of it. It waits for nothing, so it is over at its first step."""
        self._scene.late -= 1
        with suppress(KubeError, StopIteration):
            work().send(None)

    async def _killed(self) -> None:
        """No line of the operator is run any more, but what Python does to unwind it."""
        self.dead = True
        self._scene.over.set()
        for task in asyncio.all_tasks() - {asyncio.current_task(), self._scene.audience}:
            task.cancel()
        raise asyncio.CancelledError


def _error(path: str, status: int) -> Exception:
    if path.startswith("/"):
        return KubeError(status, "Unreachable" if status == 0 else "InternalError", "it is the test's will")
    return StoreError(path, "http://store/maze", "it is the test's will")


class _Errors(logging.Handler):
    """What the operator did not expect is wrong, though it goes on."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        why = f": {record.exc_info[1]!r}" if record.exc_info else ""
        self.told.append(f"the operator's log says: {record.getMessage()}{why}")


def play(story: Story, fault: Fault | None = None, at: int = 0) -> Scene:
    async def scene() -> Scene:
        made = Scene(story, fault, at)
        try:
            await made.play()
        except TimeoutError:
            made.cluster.wrong.append("not everything has come to its end")
        return made

    errors = _Errors()
    logging.getLogger().addHandler(errors)
    try:
        sliced = patch.object(slicing, "SLICED", story.slices or SLICED)
        with sliced, asyncio.Runner(loop_factory=Loop) as runner:
            played = runner.run(scene())
    finally:
        logging.getLogger().removeHandler(errors)
    played.cluster.wrong += errors.told
    return played
