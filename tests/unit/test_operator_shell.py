"""The operator's loops go on whatever goes wrong in them, try again at a bearable rate, and keep nothing for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import pytest

from maze_crds import names
from maze_crds.queue import EPOCH
from maze_crds.run import Assignment, AssignmentEnd, RunStatus
from maze_crds.worker import WorkerState
from maze_io.cache import Cache, Changed
from maze_io.kube import Kube, KubeError
from maze_io.store import AsyncStore
from maze_operator import pools as pools_module
from maze_operator.core.hands import Hands
from maze_operator.core.queue import Entry, view_entry
from maze_operator.core.values import AttemptId
from maze_operator.forever import forever
from maze_operator.heartbeats import MEMORY as KNOWN_DELETED
from maze_operator.heartbeats import Heartbeats
from maze_operator.podlogs import AT_ONCE, BURST, KEPT_BYTES, PodLogs
from maze_operator.pools import Pools, goes_away
from maze_operator.statuses import MEMORY, Statuses

Json = dict[str, Any]
TERMINATING = KubeError(
    403,
    "Forbidden",
    "unable to create new content in namespace b because it is being terminated",
    {"details": {"causes": [{"reason": "NamespaceTerminating"}]}},
)
W1 = "worker-001-kind"

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Api:
    """Stands for the Kubernetes API: keeps what is made; `answer(method, path)` may raise, or replace an object before."""

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[str, Json] = {}
        self.calls: list[tuple[str, str]] = []
        self.answer: Callable[[str, str], None] = lambda method, path: None

    def as_kube(self) -> Kube:
        return cast(Kube, self)

    def made(self, path: str, obj: Json) -> Json:
        self.version += 1
        stamp = {"uid": f"u{self.version}", "generation": 1, **obj["metadata"], "resourceVersion": str(self.version)}
        self.objects[path] = {**obj, "metadata": stamp}
        return self.objects[path]

    async def get(self, path: str) -> Json:
        self._called("GET", path)
        return self.objects[path]

    async def post(self, path: str, body: Json) -> Json:
        self._called("POST", path)
        return self.made(f"{path}/{body['metadata']['name']}", body)

    async def patch(self, path: str, body: Json) -> Json:
        self._called("PATCH", path)
        path = path.removesuffix("/status")
        old = self.objects[path]
        if body["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]:
            raise KubeError(409, "Conflict", "somebody was first")
        return self.made(path, {**old, "status": {**old.get("status", {}), **body["status"]}})

    def _called(self, method: str, path: str) -> None:
        self.calls.append((method, path))
        self.answer(method, path)


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        async with asyncio.timeout(60):
            yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def turns(number: int = 50) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


# -- loops


async def test_a_loop_is_begun_again_whatever_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    begun, enough = 0, asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise KeyError("odd")
        if begun == 3:
            enough.set()
            await asyncio.Event().wait()

    async with running(forever("the work", work, 0.0)):
        await enough.wait()
    assert [record.getMessage() for record in caplog.records if record.name == "maze_operator.forever"] == [
        "the work failed; it is begun again",
        "the work ended; it is begun again",
    ]


# -- pools


class Pooled:
    """Pools of some namespaces; `opened`: who may take Runs, by namespace."""

    def __init__(self, *namespaces: str) -> None:
        self.api, self.workers = Api(), Cache()
        self.opened: dict[str, list[str]] = {}
        self.history: list[list[str]] = []
        self._told = asyncio.Event()
        self.pools = Pools(self.api.as_kube(), self.workers, self._open, lambda *_: False)
        for one in namespaces:
            path = pools_module.pools_path(one, "internal")
            body = {"metadata": {"name": "internal", "namespace": one}, "spec": {"replicas": 1}}
            self.pools.pools.apply(Changed("ADDED", self.api.made(path, body)))

    def _open(self, namespace: str, members: Any) -> None:
        self.opened[namespace] = list(members)
        self.history.append(self.opened[namespace])
        self._told.set()

    async def until(self, **opened: list[str]) -> None:
        while self.opened != opened:
            self._told.clear()
            await self._told.wait()

    def created(self, namespace: str) -> int:
        return sum(method == "POST" and f"/{namespace}/" in path for method, path in self.api.calls)


@contextmanager
def short_retries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setattr(pools_module, "RETRY", 0.001)
        yield


@pytest.mark.parametrize(
    "error", [KubeError(403, "Forbidden", "exceeded quota"), KubeError(0, "Unreachable", "no"), KeyError("odd")]
)
async def test_a_namespace_in_trouble_holds_up_no_other_and_is_tried_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, refused = Pooled("a", "b", "c"), 0

    def answer(method: str, path: str) -> None:
        nonlocal refused
        if method == "POST" and "/b/" in path and refused < 3:
            refused += 1
            raise error

    place.api.answer = answer
    with short_retries(monkeypatch):
        async with running(place.pools.keep()):
            await place.until(a=[W1], b=[W1], c=[W1])
    assert place.created("b") == 4


async def test_waits_become_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda delay, *_: waits.append(delay))
    place = Pooled("a")
    for _ in range(7):
        place.pools._retry("a")
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    place.pools._retry("a", conflict=True)
    assert waits[-1] == 1


async def test_a_namespace_that_is_being_deleted_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    place = Pooled("a", "b")

    def answer(method: str, path: str) -> None:
        if method == "POST" and "/b/" in path:
            raise TERMINATING

    place.api.answer = answer
    caplog.set_level(logging.INFO)
    async with running(place.pools.keep()):
        await place.until(a=[W1], b=[])
        await turns()
    assert (place.created("b"), place.opened["b"], place.pools._delays) == (1, [], {})
    assert not caplog.records
    assert goes_away(KubeError(404, "NotFound", "gone"))
    assert not goes_away(KubeError(403, "Forbidden", "exceeded quota", {"details": {}}))


async def test_nobody_takes_a_run_before_its_worker_object_is_there() -> None:
    place = Pooled("a")
    path = f"/apis/maze.dev/v1alpha1/namespaces/a/workers/{W1}"

    def answer(method: str, _: str) -> None:
        if method == "POST":
            assert place.opened["a"] == []
            if path not in place.api.objects:  # an external worker was faster
                spec = {"workerId": W1, "internal": False}
                place.api.made(path, {"metadata": {"name": W1, "namespace": "a"}, "spec": spec})
                raise KubeError(409, "AlreadyExists", "taken")

    place.api.answer = answer
    async with running(place.pools.keep()):
        await place.until(a=["worker-002-kind"])
    assert all(W1 not in members for members in place.history)


async def test_namespaces_without_anything_are_forgotten() -> None:
    hands = Hands()
    waits = Entry("a", (0, EPOCH, "r"), wants_slot=True)
    hands.open("a", ["w"])
    hands.see("r", waits)
    hands.see("r", Entry("a", waits.order, internal="w"))
    hands.open("a", ())
    assert hands.is_busy("a", "w")
    hands.see("r", None)
    hands.open("b", ())
    hands.see("x", Entry("c", waits.order, external="e"))
    hands.see("x", None)
    assert (dict(hands._pools), dict(hands._external), hands._entries, hands._handed) == ({}, {}, {}, {})


# -- the queue


@pytest.mark.parametrize("time", ["0000-01-01T00:00:00Z", "2026-01-01T00:00:00+24:00"])
async def test_a_time_that_only_the_api_server_can_read_stops_nobody(time: str) -> None:
    entry = view_entry(odd_run(time))
    assert entry is not None
    assert entry.order == (0, EPOCH, "r")


async def test_times_may_be_in_small_letters() -> None:
    assert view_entry(odd_run("2026-01-01t00:00:00z")) == view_entry(odd_run("2026-01-01T00:00:00Z"))


def odd_run(time: str) -> Json:
    return {"metadata": {"namespace": "a", "name": "r"}, "spec": {"problemId": "p", "queuedTime": time}}


# -- status of workers


class Counted:
    """One worker `w` in namespace `a`, and a clock that the test turns."""

    PATH = "/apis/maze.dev/v1alpha1/namespaces/a/workers/w"

    def __init__(self, *, here: bool = True) -> None:
        self.api, self.workers, self.now = Api(), Cache(), 0.0
        self.statuses = Statuses(self.api.as_kube(), self.workers, lambda *_: WorkerState.IDLE, lambda: self.now)
        if here:
            self.register()

    def register(self) -> None:
        made = self.api.made(self.PATH, {"metadata": {"name": "w", "namespace": "a"}, "spec": {"workerId": "w"}})
        self.workers.apply(Changed("ADDED", made))
        self.statuses.mark("a", "w")

    def leave(self) -> None:
        self.workers.apply(Changed("DELETED", self.api.objects.pop(self.PATH)))
        self.statuses.forget(("a", "w"))

    def end(self, how: AssignmentEnd = AssignmentEnd.COMPLETED) -> None:
        def status(end: AssignmentEnd | None) -> RunStatus:
            return RunStatus(assignments=[Assignment(number=1, worker="w", start_time=EPOCH, start_event=1, end=end)])

        self.statuses.count("a", status(None), status(how))

    def counted(self) -> Json:
        found: Json = self.api.objects[self.PATH].get("status", {})
        return {key: value for key, value in found.items() if key.startswith("tasks")}


async def test_what_a_worker_ends_before_it_is_seen_is_counted_when_it_is() -> None:
    place = Counted(here=False)
    place.end()
    assert await place.statuses.flush()
    place.now = MEMORY - 1
    place.register()
    assert await place.statuses.flush()
    assert place.counted() == {"tasksCompleted": 1}


async def test_what_ends_after_its_worker_was_deleted_is_not_counted_for_the_next_of_its_name() -> None:
    place = Counted()
    place.leave()
    place.end(AssignmentEnd.LOST)
    place.register()
    assert await place.statuses.flush()
    assert place.counted() == {}
    place.end()
    assert await place.statuses.flush()
    assert place.counted() == {"tasksCompleted": 1}


async def test_workers_that_never_come_are_forgotten() -> None:
    place = Counted(here=False)
    place.end()
    assert await place.statuses.flush()
    place.statuses.forget(("a", "other"))
    place.now = MEMORY
    assert await place.statuses.flush()
    statuses = place.statuses
    assert (statuses._ended, statuses._unseen, statuses._gone, statuses._marked) == ({}, {}, {}, set())


async def test_a_write_that_somebody_else_was_faster_with_is_made_on_top_of_theirs() -> None:
    place = Counted()
    place.end()
    theirs = place.api.objects[place.PATH]
    place.api.made(place.PATH, {**theirs, "status": {"tasksCompleted": 5}})
    assert await place.statuses.flush()
    assert place.counted() == {"tasksCompleted": 5}
    assert await place.statuses.flush()
    assert place.counted() == {"tasksCompleted": 6}


async def test_nothing_more_is_tried_while_nothing_can_be_written() -> None:
    place = Counted()
    for one in ("v", "x"):
        path = f"/apis/maze.dev/v1alpha1/namespaces/a/workers/{one}"
        made = place.api.made(path, {"metadata": {"name": one, "namespace": "a"}, "spec": {"workerId": one}})
        place.workers.apply(Changed("ADDED", made))
        place.statuses.mark("a", one)
    errors: list[Exception] = [KubeError(0, "Unreachable", "no"), KubeError(422, "Invalid", "no"), KeyError("odd")]

    def answer(method: str, path: str) -> None:
        if errors:
            raise errors.pop(0)

    place.api.answer = answer
    assert not await place.statuses.flush()
    assert len(place.api.calls) == 1
    assert await place.statuses.flush(), "one that can't be written holds up no other"
    assert len(place.api.calls) == 4
    assert await place.statuses.flush()
    assert len(place.api.calls) == 4


# -- heartbeats


async def test_workers_and_leases_that_are_gone_are_forgotten() -> None:
    now, told = 0.0, list[str]()
    heartbeats = Heartbeats(lambda _, one: told.append(one), lambda: now)
    worker = {"metadata": {"name": "w", "namespace": "a", "resourceVersion": "1"}, "spec": {"workerId": "w"}}
    lease = {"metadata": {"name": "w", "namespace": "a", "resourceVersion": "1"}, "spec": {"renewTime": "x"}}
    heartbeats.workers.apply(Changed("ADDED", worker))
    heartbeats.leases.apply(Changed("ADDED", lease))
    heartbeats.workers.apply(Changed("DELETED", worker))
    touched = {**lease, "metadata": {**lease["metadata"], "resourceVersion": "2"}}
    heartbeats.leases.apply(Changed("MODIFIED", touched))
    heartbeats.leases.apply(Changed("DELETED", touched))
    assert heartbeats.is_lost("a", "w")
    now = KNOWN_DELETED
    heartbeats.look()
    assert (heartbeats._pulses, heartbeats._deleted, heartbeats._strangers) == ({}, {}, {})

    told.clear()
    assert not heartbeats.is_lost("a", "w"), "a stranger again"
    now += 60
    heartbeats.look()
    assert heartbeats.is_lost("a", "w")
    assert told == ["w"]


async def test_a_lease_that_is_deleted_is_silence() -> None:
    now = 0.0
    heartbeats = Heartbeats(lambda *_: None, lambda: now)
    metadata = {"name": "w", "namespace": "a", "resourceVersion": "1"}
    lease = {"metadata": metadata, "spec": {"renewTime": "x", "leaseDurationSeconds": 5}}
    heartbeats.workers.apply(Changed("ADDED", {"metadata": metadata, "spec": {"workerId": "w"}}))
    heartbeats.leases.apply(Changed("ADDED", lease))
    heartbeats.leases.apply(Changed("DELETED", lease))
    now = 4.0
    heartbeats.look()
    assert not heartbeats.is_lost("a", "w")
    now = 5.0
    heartbeats.look()
    assert heartbeats.is_lost("a", "w")


# -- logs of pods


class Logs:
    """Stands for the Kubernetes API and the object store; pods named `slow…` print only once `go` is set."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks, self.go = chunks, asyncio.Event()
        self.stored: dict[str, bytes] = {}
        self.reading = self.most = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.logs = PodLogs(cast(Kube, self), cast(AsyncStore, self), self._spawn)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        return task

    async def exists(self, key: str) -> bool:
        return key in self.stored

    async def put(self, key: str, data: bytes) -> None:
        self.stored[key] = data

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        self.reading += 1
        self.most = max(self.most, self.reading)
        try:
            if "slow" in path:
                await self.go.wait()
            for chunk in self.chunks:
                yield chunk
        finally:
            self.reading -= 1

    async def keep(self, pod: str, pod_stays: bool = False) -> None:
        await self.logs.keep("u", AttemptId(pod, 1), "a", pod, pod_stays=pod_stays)


async def test_the_last_part_of_a_long_log_is_kept() -> None:
    million = bytes(1_000_000)
    logs = Logs(b"first", *[million] * 40, b"last")
    await logs.keep("p")
    (kept,) = logs.stored.values()
    assert (len(kept), kept[-5:]) == (KEPT_BYTES, b"\0last")


async def test_not_all_logs_are_read_at_once_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maze_operator.podlogs.PATIENCE", 0.001)
    logs = Logs(b"printed")
    pods = [f"slow-{number}" for number in range(2 * AT_ONCE)]
    async with asyncio.timeout(60):
        for pod in pods:
            await logs.keep(pod)
        await asyncio.gather(*(logs.keep(pod) for pod in pods))
        assert (logs.most, len(logs.tasks), logs.stored) == (AT_ONCE, len(pods), {})
        logs.go.set()
        await asyncio.gather(*logs.tasks)
        await turns()
    assert logs.stored == {names.log_key("u", pod, 1): b"printed" for pod in pods}
    assert logs.logs._reading == {}


async def test_many_logs_of_pods_that_stay_are_read_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maze_operator.podlogs.PATIENCE", 0.001)
    monkeypatch.setattr("maze_operator.podlogs.REST", 0.0)
    logs = Logs(b"printed")
    first = [f"slow-{number}" for number in range(BURST)]  # so many are read as they come
    later = [f"later-{number}" for number in range(9)]
    async with asyncio.timeout(60):
        for pod in [*first, *later]:
            await logs.keep(pod, pod_stays=True)
        assert logs.most == AT_ONCE
        await logs.keep(later[-1])
        logs.go.set()
        await asyncio.gather(*logs.tasks)
        await turns()
    assert list(logs.stored) != [names.log_key("u", pod, 1) for pod in [*first, *later]], "one was in a hurry"
    assert set(logs.stored) == {names.log_key("u", pod, 1) for pod in [*first, *later]}
    assert (logs.logs._reading, logs.logs._later, logs.logs._pacer) == ({}, {}, None)
