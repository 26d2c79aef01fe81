"""Slots are handed out in order and to one task each, whatever happens meanwhile; what has ended is counted once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from maze_crds.run import Assignment, AssignmentEnd, RunStatus
from maze_crds.worker import WorkerState
from maze_io.cache import Cache, Changed
from maze_io.kube import Kube, KubeError
from maze_operator.core.hands import Hands
from maze_operator.core.queue import Entry
from maze_operator.dispatch import Dispatch
from maze_operator.statuses import Statuses, closed_by

Json = dict[str, Any]
T0 = datetime(2026, 1, 1, tzinfo=UTC)
UIDS = [f"run-{number}" for number in range(6)]
WORKERS = ["a", "b", "c"]
uids = st.sampled_from(UIDS)


def entry(uid: str, priority: int = 0, **more: Any) -> Entry:
    queued = T0 + timedelta(seconds=int(uid.rsplit("-", 1)[1]))
    return Entry("maze", (-priority, queued, uid), **more)


class Slots(RuleBasedStateMachine):
    """Runs that come and go around three workers, next to a model that knows only what the status would say."""

    def __init__(self) -> None:
        super().__init__()
        self.hands = Hands()
        self.runs: dict[str, Entry] = {}
        self.members: tuple[str, ...] = ()

    @initialize(members=st.sets(st.sampled_from(WORKERS)))
    def begin(self, members: set[str]) -> None:
        self.scale(members)

    def see(self, uid: str, now: Entry | None) -> None:
        self._checked(lambda: self.hands.see(uid, now), uid, now)

    def _checked(self, change: Any, uid: str | None = None, now: Entry | None = None) -> None:
        """Whatever is handed out is what comes first in the queue, to members that were free."""
        if uid is not None:
            self.runs.pop(uid, None)
            if now is not None:
                self.runs[uid] = now
        had = {one: self.hands.slot_for(one) for one in UIDS}
        handed = change()
        kept = {one for one in UIDS if had[one] and self.hands.slot_for(one) == had[one]} - {h.uid for h in handed}
        open_ = {one: seen for one, seen in self.runs.items() if seen.wants_slot and one not in kept}
        first = sorted(open_, key=lambda one: open_[one].order)[: len(handed)]
        assert [one.uid for one in handed] == first
        for one in handed:
            assert (one.namespace, self.hands.slot_for(one.uid)) == ("maze", one.worker)
            assert one.worker in self.members

    @rule(uid=uids, priority=st.integers(-1, 1))
    def queue(self, uid: str, priority: int) -> None:
        """New, or back in the queue, or with another priority."""
        self.see(uid, entry(uid, priority, wants_slot=True))

    @rule(uid=uids)
    def assign(self, uid: str) -> None:
        """Our status write: the slot becomes an assignment."""
        worker = self.hands.slot_for(uid)
        if worker is not None:
            self.see(uid, entry(uid, internal=worker))

    @rule(uid=uids)
    def claim(self, uid: str) -> None:
        """An external worker was faster; nobody can be where an internal worker has the Run already."""
        if uid in self.runs and self.runs[uid].internal is None:
            self.see(uid, entry(uid, external="x"))

    @rule(uid=uids)
    def suspend(self, uid: str) -> None:
        if uid in self.runs and self.runs[uid].wants_slot:
            self.see(uid, entry(uid))

    @rule(uid=uids)
    def end(self, uid: str) -> None:
        self.see(uid, None)

    @rule(members=st.sets(st.sampled_from(WORKERS)))
    def scale(self, members: set[str]) -> None:
        self.members = tuple(sorted(members))
        self._checked(lambda: self.hands.open("maze", self.members))

    @invariant()
    def nobody_has_two(self) -> None:
        assigned = [seen.internal for seen in self.runs.values() if seen.internal is not None]
        handed = [worker for worker in map(self.hands.slot_for, UIDS) if worker is not None]
        assert sorted({*assigned, *handed}) == sorted(assigned + handed)
        assert {one for one in WORKERS if self.hands.is_busy("maze", one)} == {*assigned, *handed}

    @invariant()
    def slots_belong_to_who_wants_them(self) -> None:
        for uid in UIDS:
            if self.hands.slot_for(uid) is not None:
                assert self.runs[uid].wants_slot

    @invariant()
    def no_member_is_idle_while_somebody_waits(self) -> None:
        waiting = [uid for uid, seen in self.runs.items() if seen.wants_slot and self.hands.slot_for(uid) is None]
        assert not waiting or all(self.hands.is_busy("maze", one) for one in self.members)

    @invariant()
    def external_holders_are_known(self) -> None:
        assert self.hands.runs_of("maze", "x") == {uid for uid, seen in self.runs.items() if seen.external == "x"}


Slots.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestSlots = Slots.TestCase


def test_namespaces_do_not_share_slots() -> None:
    hands = Hands()
    hands.open("maze", ["a"])
    other = Entry("other", (0, T0, "r"), wants_slot=True)
    assert hands.see("run-1", other) == []
    assert [one.uid for one in hands.open("other", ["a"])] == ["run-1"]
    assert not hands.is_busy("maze", "a")


def test_thousands_wait_at_little_cost() -> None:
    hands, number = Hands(), 20_000
    hands.open("maze", ["a"])
    for one in reversed(range(number)):
        hands.see(f"run-{one}", entry(f"run-{one}", wants_slot=True))
    order = [f"run-{number - 1}"]
    for _ in range(number - 1):
        held = order[-1]
        hands.see(held, entry(held, internal="a"))
        (handed,) = hands.see(held, None)
        order.append(handed.uid)
    assert order[1:] == [f"run-{one}" for one in range(number - 1)]


# -- around the pure part


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def run(name: str, version: int, **spec: Any) -> Json:
    return {
        "metadata": {"name": name, "namespace": "maze", "uid": f"uid-{name}", "resourceVersion": str(version)},
        "spec": {"problemId": "p", "workflowRef": {"name": "w"}, **spec},
    }


def pool(replicas: int) -> Json:
    metadata = {
        "name": "internal",
        "namespace": "maze",
        "uid": "pool",
        "resourceVersion": "1",
        "generation": 1,
    }
    return {"metadata": metadata, "spec": {"replicas": replicas}}


class Api:
    """Stands for the Kubernetes API: takes what is created and patched, and says `refuse` once where it is set."""

    def __init__(self) -> None:
        self.version = 100
        self.patched: list[tuple[str, Json]] = []
        self.objects: dict[str, Json] = {}
        self.refuse: BaseException | None = None
        self.written = asyncio.Event()
        """A status has been patched."""

    def as_kube(self) -> Kube:
        return cast(Kube, self)

    async def list_and_watch(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        await asyncio.Event().wait()
        yield

    async def post(self, path: str, body: Json) -> Json:
        self.version += 1
        metadata = {
            **body["metadata"],
            "uid": f"u{self.version}",
            "resourceVersion": str(self.version),
            "generation": 1,
        }
        self.objects[f"{path}/{metadata['name']}"] = made = {**body, "metadata": metadata}
        return made

    async def patch(self, path: str, body: Json) -> Json:
        if self.refuse is not None:
            error, self.refuse = self.refuse, None
            raise error
        self.version += 1
        self.patched.append((path, body))
        key = path.removesuffix("/status")
        old = self.objects[key]
        status = {**old.get("status", {}), **body["status"]}
        metadata = {**old["metadata"], "resourceVersion": str(self.version)}
        self.objects[key] = made = {**old, "metadata": metadata, "status": status}
        self.written.set()
        return made


@pytest.mark.anyio
async def test_nobody_is_handed_anything_before_all_runs_have_been_seen() -> None:
    api, woken = Api(), list[str]()
    dispatch = Dispatch(api.as_kube(), woken.append)
    tasks = [asyncio.create_task(work) for work in dispatch.background()]
    api.objects["/apis/maze.dev/v1alpha1/namespaces/maze/workerpools/internal"] = pool(1)
    dispatch.pools.pools.apply(Changed("ADDED", pool(1)))
    await asyncio.sleep(0)
    dispatch.see_run("uid-late", run("late", 2, queuedTime="2026-01-01T00:00:02Z"))
    held = {"assignments": [{"number": 1, "worker": "worker-001-kind", "internal": True}]}
    dispatch.see_run("uid-held", {**run("held", 3), "status": held})
    dispatch.see_run("uid-early", run("early", 4, queuedTime="2026-01-01T00:00:01Z"))
    async with asyncio.timeout(60):
        for _ in range(50):
            await asyncio.sleep(0)
        assert woken == []
        dispatch.start()
        await api.written.wait()
        assert woken == [], "the worker has a task from before the restart"
        dispatch.see_run("uid-held", None)
        assert (woken, dispatch.slot_for("uid-early")) == (["uid-early"], "worker-001-kind")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# -- counters


def assigned(number: int, end: AssignmentEnd | None = None) -> Assignment:
    return Assignment(number=number, worker="w", start_time=T0, start_event=number, end=end)


def status(*ends: AssignmentEnd | None) -> RunStatus:
    return RunStatus(assignments=[assigned(number, end) for number, end in enumerate(ends, 1)])


@pytest.mark.parametrize(
    ("before", "after", "closed"),
    [
        (status(), status(None), []),
        (status(None), status(None), []),
        (status(None), status(AssignmentEnd.LOST), [1]),
        (status(), status(AssignmentEnd.CANCELLED), [1]),
        (status(AssignmentEnd.LOST, None), status(AssignmentEnd.LOST, AssignmentEnd.FAILED), [2]),
        (status(AssignmentEnd.LOST), status(AssignmentEnd.LOST), []),
    ],
)
def test_what_ended_with_a_write(before: RunStatus, after: RunStatus, closed: list[int]) -> None:
    assert [one.number for one in closed_by(before, after)] == closed


def made_statuses(api: Api) -> tuple[Statuses, Cache]:
    workers = Cache()
    worker = {
        "metadata": {"name": "w", "namespace": "maze", "resourceVersion": "1", "generation": 3},
        "spec": {"workerId": "w"},
        "status": {"tasksCompleted": 7},
    }
    workers.apply(Changed("ADDED", worker))
    api.objects["/apis/maze.dev/v1alpha1/namespaces/maze/workers/w"] = worker
    return Statuses(api.as_kube(), workers, lambda *_: WorkerState.IDLE), workers


@pytest.mark.anyio
async def test_what_ended_is_added_in_one_write_and_only_once() -> None:
    api = Api()
    statuses, workers = made_statuses(api)
    for end in (*[AssignmentEnd.COMPLETED] * 3, AssignmentEnd.TIMED_OUT, AssignmentEnd.FAILED, AssignmentEnd.LOST):
        statuses.count("maze", status(None), status(end))
    statuses.count("maze", status(None), status(AssignmentEnd.CANCELLED))
    await statuses.flush()
    await statuses.flush()
    assert len(api.patched) == 1
    found = workers.get("maze", "w")
    assert found is not None
    expected = {"tasksCompleted": 10, "tasksFailed": 2, "tasksLost": 1, "state": "idle", "observedGeneration": 3}
    assert found["status"] == expected


@pytest.mark.anyio
@pytest.mark.parametrize("error", [KubeError(500, "InternalError", "no"), asyncio.CancelledError()])
async def test_a_write_that_did_not_succeed_is_made_up_for(error: BaseException) -> None:
    api = Api()
    statuses, workers = made_statuses(api)
    statuses.count("maze", status(None), status(AssignmentEnd.COMPLETED))
    api.refuse = error
    await asyncio.gather(statuses.flush(), return_exceptions=True)
    await statuses.flush()
    found = workers.get("maze", "w")
    assert found is not None
    assert found["status"]["tasksCompleted"] == 8


@pytest.mark.anyio
async def test_a_new_worker_does_not_inherit_what_an_earlier_one_of_its_name_has_done() -> None:
    api = Api()
    statuses, _ = made_statuses(api)
    statuses.count("maze", status(None), status(AssignmentEnd.COMPLETED))
    statuses.forget(("maze", "w"))
    statuses.mark("maze", "w")
    await statuses.flush()
    assert all("tasksCompleted" not in body["status"] for _, body in api.patched)
