"""If these fail, a task is given out twice, is lost when an answer is lost, or a worker gets more than it may."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast

import anyio
import pytest

from maze_api.cache import Runs
from maze_api.claim_notes import ClaimNotes, Note, is_settled, read_note
from maze_api.claims import Claims
from maze_api.task_index import TaskIndex
from maze_api.worker_cache import Workers, WorkerView
from maze_crds import names
from maze_crds.base import format_time
from maze_io.cache import Replaced
from maze_io.kube import Kube, KubeError, Object, runs_path

T0 = datetime(2026, 1, 1, tzinfo=UTC)
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def run(name: str, problem: str = "test-1") -> Object:
    metadata = {"name": name, "uid": f"uid-{name}", "namespace": "maze", "creationTimestamp": format_time(T0)}
    return {"metadata": metadata, "spec": {"problemId": problem}, "status": {}}


def worker(parallel: int) -> list[Object]:
    """Worker and Lease."""
    spec = {"workerId": "w", "backendType": "k", "capabilities": {"maxParallelTasks": parallel}}
    both: list[Object] = [{"spec": spec}, {"spec": {"renewTime": format_time(T0), "leaseDurationSeconds": 60}}]
    return [{**obj, "metadata": {"name": "w", "uid": "u", "namespace": "maze"}} for obj in both]


class Server:
    """An API server's rule that counts here: a write that names an old resourceVersion is refused."""

    def __init__(self, *runs: Object) -> None:
        self.version = 0
        self.objects: dict[str, Object] = {}
        for obj in runs:
            self.write(runs_path("maze", obj["metadata"]["name"]), obj)
        self.down = False
        self.after_patch: Callable[[str], None] = lambda path: None

    def write(self, path: str, obj: Object) -> Object:
        self.version += 1
        made = copy.deepcopy(obj)
        made["metadata"]["resourceVersion"] = str(self.version)
        self.objects[path] = made
        return copy.deepcopy(made)

    async def get(self, path: str) -> Object:
        await anyio.lowlevel.checkpoint()
        self.require_up()
        if path not in self.objects:
            raise KubeError(404, "NotFound", path)
        return copy.deepcopy(self.objects[path])

    async def patch(self, path: str, change: Object) -> Object:
        await anyio.lowlevel.checkpoint()
        found = await self.get(path)
        version = change["metadata"]["resourceVersion"]
        if version != found["metadata"]["resourceVersion"]:
            raise KubeError(409, "Conflict", path)
        merged = {**found, "spec": {**found["spec"], **change["spec"]}}
        merged["metadata"] = {**found["metadata"], "annotations": change["metadata"].get("annotations", {})}
        made = self.write(path, merged)
        self.after_patch(path)
        self.require_up()
        return made

    def require_up(self) -> None:
        if self.down:
            raise KubeError(0, "Unreachable", "the API server can't be reached")


class Process:
    """One api process with caches of its own."""

    def __init__(self, server: Server, parallel: int = 1) -> None:
        self.server = server
        kube = cast(Kube, server)
        self.runs = Runs(kube, "maze")
        self.tasks = TaskIndex(self.runs)
        self.workers = Workers(kube, "maze")
        self.claims = Claims(self.runs, self.tasks, ClaimNotes(self.runs, self.workers), 60)
        obj, lease = worker(parallel)
        lease_path = "/apis/coordination.k8s.io/v1/namespaces/maze/leases/w"
        made = server.objects.get(lease_path) or server.write(lease_path, lease)
        self.workers.put_lease(copy.deepcopy(made))
        self.workers.put_worker({**obj, "metadata": {**obj["metadata"], "resourceVersion": "1"}})
        self.watch()

    def watch(self) -> None:
        """See everything that has happened so far."""
        items = [obj for path, obj in self.server.objects.items() if "/runs/" in path]
        self.runs._cache.apply(Replaced(copy.deepcopy(items), str(self.server.version)))

    @property
    def worker(self) -> WorkerView:
        found = self.workers.get("w")
        assert found is not None
        return found

    async def claim(self) -> str | None:
        task = await self.claims.claim(self.worker)
        return task.id if task else None


async def test_a_worker_gets_what_it_may_and_no_more() -> None:
    process = Process(Server(run("a"), run("b"), run("c")), parallel=2)
    assert [await process.claim() for _ in range(3)] == ["a", "b", None]


async def test_concurrent_claims_get_different_tasks() -> None:
    process = Process(Server(*(run(f"t{n}") for n in range(5))), parallel=5)
    got: list[str | None] = []

    async def one() -> None:
        got.append(await process.claim())

    async with anyio.create_task_group() as group:
        for _ in range(7):
            group.start_soon(one)
    assert Counter(got) == Counter(["t0", "t1", "t2", "t3", "t4", None, None])


async def test_a_status_that_changes_meanwhile_does_not_move_the_task_back() -> None:
    server = Server(run("a"), run("b"))
    process = Process(server)
    path = runs_path("maze", "a")
    server.write(path, {**server.objects[path], "status": {"phase": "Pending"}})
    assert await process.claim() == "a"


async def test_who_loses_a_race_gets_the_next_task() -> None:
    server = Server(run("a"), run("b"))
    process = Process(server)
    path = runs_path("maze", "a")
    spec = {**server.objects[path]["spec"], "claim": {"worker": "x", "number": 1, "time": format_time(T0)}}
    server.write(path, {**server.objects[path], "spec": spec})
    assert await process.claim() == "b"


async def test_a_task_that_is_gone_is_passed_over() -> None:
    server = Server(run("a"), run("b"))
    process = Process(server)
    del server.objects[runs_path("maze", "a")]
    assert await process.claim() == "b"


async def test_a_claim_whose_answer_was_lost_is_recognized() -> None:
    server = Server(run("a"), run("b"))
    process = Process(server)
    lost = []

    def lose(path: str) -> None:
        if "/runs/" in path and not lost:
            lost.append(path)
            raise KubeError(0, "Unreachable", "the connection broke")

    server.after_patch = lose
    assert await process.claim() == "a"
    assert lost
    assert await process.claim() is None


async def test_a_claim_that_was_never_answered_counts() -> None:
    server = Server(run("a"), run("b"))
    process = Process(server)

    def break_down(path: str) -> None:
        server.down = "/runs/" in path

    server.after_patch = break_down
    with pytest.raises(KubeError, match="can't be reached"):
        await process.claim()
    server.down = False
    assert server.objects[runs_path("maze", "a")]["spec"]["claim"]["worker"] == "w"
    assert await process.claim() is None, "the worker has task a, whether it knows or not"


async def test_the_limit_holds_through_two_processes() -> None:
    server = Server(*(run(f"t{n}") for n in range(6)))
    first, second = Process(server, parallel=3), Process(server, parallel=3)
    got = [await first.claim(), await first.claim()]
    with anyio.move_on_after(0.2):  # its watch is behind: it waits, and gives nothing out
        await second.claim()
        pytest.fail("a claim was answered on old news")
    second.watch()
    got += [await second.claim(), await second.claim()]
    assert got == ["t0", "t1", "t2", None]
    first.watch()
    assert await first.claim() is None


async def test_the_limit_holds_where_two_processes_claim_at_once() -> None:
    server = Server(*(run(f"t{n}") for n in range(6)))
    processes = [Process(server, parallel=3), Process(server, parallel=3)]
    got: list[str | None] = []

    async def several(process: Process) -> None:
        for _ in range(4):
            got.append(await process.claim())

    async def watch() -> None:
        while True:
            await anyio.sleep(0.01)
            for process in processes:
                process.watch()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        async with anyio.create_task_group() as claiming:
            for process in processes:
                claiming.start_soon(several, process)
        group.cancel_scope.cancel()
    assert Counter(got) == Counter({"t0": 1, "t1": 1, "t2": 1, None: 5})


def lease(text: str | None) -> Object:
    return {"metadata": {"annotations": {names.ANNOTATION_CLAIMING: text} if text else None}}


@pytest.mark.parametrize(
    "text", [None, "", "nonsense", "[1]", "{}", '{"by": "a", "task": "t", "time": "", "version": "x"}']
)
async def test_what_can_not_be_read_is_no_note(text: str | None) -> None:
    assert read_note(lease(text)) == Note()


async def test_a_note_is_read_as_it_was_written() -> None:
    note = Note("me", "t", format_time(T0), 7)
    assert read_note(lease(note.text())) == note
    assert json.loads(note.text())["version"] == 7


NOTED, EARLIER = format_time(T0), format_time(T0.replace(day=2))
LOST = [{"number": 1, "worker": "w", "startTime": NOTED, "end": "Lost"}]


@pytest.mark.parametrize(
    ("claim", "status", "settled"),
    [
        (None, {}, False),
        ({"worker": "w", "number": 1, "time": NOTED}, {}, True),
        ({"worker": "w", "number": 1, "time": NOTED}, {"assignments": LOST}, True),
        ({"worker": "w", "number": 1, "time": EARLIER}, {"assignments": LOST}, False),
        ({"worker": "x", "number": 1, "time": EARLIER}, {}, True),
        (None, {"phase": "Succeeded"}, True),
    ],
)
async def test_what_became_of_a_noted_claim(claim: Object | None, status: Object, settled: bool) -> None:
    found = run("t")
    found["spec"] |= {"claim": claim} if claim else {}
    assert is_settled({**found, "status": status}, "w", Note("other", "t", NOTED, 0)) is settled
