"""If these fail, OpRuns are listed twice or not at all, or are shown in another state than their wishes make of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maze_api.cache import Runs
from maze_api.errors import BadRequest, TooLarge
from maze_api.oprun_bodies import OpRunCreate, OpRunUpdate
from maze_api.oprun_create import fits_run, op_object
from maze_api.oprun_index import Created, Filter, OpIndex, Place
from maze_api.oprun_view import OpView, attempts_json, op_json, view_op, wished_outputs
from maze_api.oprun_wishes import NotSettled, cancel, retry, update
from maze_api.routes.opruns import read_created
from maze_api.settings import Settings
from maze_crds.base import format_time
from maze_crds.oprun import MAX_ATTEMPTS, OpState
from maze_crds.run import RunSpec
from maze_io.cache import Changed
from maze_io.kube import Kube
from maze_io.store import StoreSettings

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = Settings(StoreSettings("http://s3", "maze", "a", "b"))
PHASES = {"COMPLETED": "Succeeded", "FAILED": "Failed", "CANCELLED": "Cancelled"}
Json = dict[str, Any]


def at(seconds: float) -> str:
    return format_time(T0 + timedelta(seconds=seconds))


def run(name: str = "r", version: int = 1, state: str | None = None, **spec: Any) -> Json:
    """An OpRun in this state as the operator writes it; None: not seen yet."""
    metadata = {"name": name, "uid": f"uid-{name}", "namespace": "maze", "resourceVersion": str(version)}
    inline = {} if "workflowRef" in spec else {"workflow": {"tasks": [{"name": "op", "container": {"image": "i"}}]}}
    made: Json = {
        "metadata": {**metadata, "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {**inline, "opRun": {}, "queuedTime": at(1), **spec},
    }
    if state is not None:
        entry: Json = {"number": 1, "state": state, "createdTime": at(1)}
        op: Json = {"attempts": [entry], "updatedTime": at(2), "image": "j"} | (
            {} if state == "PENDING" else {"state": state}
        )
        phase = PHASES.get(state, "Running")
        tasks = [{"name": "op", "phase": "Running" if phase == "Running" else "Succeeded", "attempt": 1}]
        made["status"] = {"phase": phase, "op": op, "tasks": tasks}
    return made


def overridden(state: str, number: int = 1) -> Json:
    return {"override": {"state": {"number": number, "state": state}}}


@pytest.mark.parametrize(
    ("state", "spec", "shown", "attempt", "settled"),
    [
        (None, {}, "PENDING", 1, True),
        ("RUNNING", {}, "RUNNING", 1, True),
        (None, {"desiredState": "Cancelled"}, "CANCELLED", 1, False),
        ("RUNNING", {"desiredState": "Cancelled"}, "CANCELLED", 1, False),
        ("COMPLETED", {"desiredState": "Cancelled"}, "COMPLETED", 1, True),
        ("CANCELLED", {"desiredState": "Cancelled"}, "CANCELLED", 1, True),
        ("FAILED", {"retries": 1}, "PENDING", 2, False),
        ("RUNNING", {"retries": 1}, "RUNNING", 1, True),
        ("FAILED", {"retries": 1, "desiredState": "Cancelled"}, "CANCELLED", 2, False),
        ("RUNNING", overridden("COMPLETED"), "COMPLETED", 1, False),
        ("FAILED", overridden("COMPLETED"), "COMPLETED", 1, False),
        ("FAILED", overridden("PENDING"), "PENDING", 2, False),
        ("RUNNING", overridden("PENDING"), "PENDING", 2, False),
        ("PENDING", overridden("PENDING"), "PENDING", 1, True),
        ("PENDING", overridden("RUNNING"), "RUNNING", 1, False),
        ("FAILED", overridden("RUNNING"), "FAILED", 1, True),
    ],
)
def test_a_wish_is_shown_as_it_will_be_carried_out(
    state: str | None, spec: Json, shown: str, attempt: int, settled: bool
) -> None:
    found = view_op(run(state=state, **spec))
    assert (found.state.value, found.attempt, found.settled) == (shown, attempt, settled)
    assert [one["attempt"] for one in attempts_json(found)] == list(range(1, attempt + 1))
    assert attempts_json(found)[-1]["state"] == shown


def test_what_the_operator_has_carried_out_is_not_projected_again() -> None:
    obj = run(state="RUNNING", retries=1, **overridden("COMPLETED", 3))
    obj["status"]["op"] |= {"retries": 1, "stateOverride": 3}
    assert view_op(obj).state is OpState.RUNNING
    obj = run(state="RUNNING", override={"outputs": {"number": 1, "outputs": {"a": 1}}})
    assert wished_outputs(obj) == {"a": 1}
    obj["status"]["op"]["outputsOverride"] = 1
    assert wished_outputs(obj) is None


def body(**more: Any) -> OpRunCreate:
    return OpRunCreate.model_validate({"image": "i", **more})


def test_what_is_made_is_what_was_asked_for() -> None:
    asked = {
        "priority": 4,
        "inputs": {"param": "value"},
        "constraints": {"ram_mb": 4096, "vram_mb": 8000, "cpu": 0.5},
        "retry_policy": {"max_attempts": 3},
        "event_delivery": {"topic": "t", "attributes": {"a": "b"}},
    }
    made = op_object("id", body(**asked), None, SETTINGS, T0)
    spec = RunSpec.model_validate(made["spec"])
    assert spec.op_run is not None
    assert spec.workflow is not None
    assert spec.workflow.tasks[0].resources is not None
    wanted = {"cpu": "500m", "memory": "4096Mi", "gpu": "1", "gpuMemory": "8000Mi"}
    assert spec.workflow.tasks[0].resources.model_dump(by_alias=True) == wanted
    made["metadata"] |= {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    shown = op_json(view_op(made), {"param": "value"}, {})
    assert {key: shown[key] for key in asked} == asked
    assert (shown["op_definition"], shown["state"], shown["current_attempt"]) == (None, "PENDING", 1)


def test_nothing_asked_for_is_nothing_set() -> None:
    made = op_object("id", body(constraints={"ram_mb": 0, "vram_mb": 0, "cpu": 0}), None, SETTINGS, T0)
    assert "resources" not in made["spec"]["workflow"]["tasks"][0]


@pytest.mark.parametrize(
    "inputs", [{"": 1}, {"k" * 254: 1}, {"a": "x" * 70000}, {"a": 2**70}, {str(key): 1 for key in range(300)}]
)
def test_inputs_that_a_run_can_not_hold_go_elsewhere(inputs: Json) -> None:
    assert not fits_run(inputs)
    assert fits_run({"a": [1, {"b": None}]})


def test_a_run_by_reference_tells_its_definition() -> None:
    found = view_op(run(state="RUNNING", workflowRef={"name": "blur"}))
    assert (found.op_definition, found.image) == ("blur", "j")


def test_what_can_be_wished_of_which_state() -> None:
    running, failed = view_op(run(state="RUNNING")), view_op(run(state="FAILED"))
    assert (cancel(running) or {})["desiredState"] == "Cancelled"
    with pytest.raises(BadRequest, match=r"^Run is already in terminal state FAILED$"):
        cancel(failed)
    assert (retry(failed) or {})["retries"] == 1
    with pytest.raises(BadRequest, match=r"^Cannot retry: the run is RUNNING"):
        retry(running)
    with pytest.raises(NotSettled):
        retry(view_op(run(state="RUNNING", desiredState="Cancelled")))
    worn = run(state="FAILED")
    worn["status"]["op"]["attempts"][0]["number"] = MAX_ATTEMPTS
    with pytest.raises(BadRequest, match="100 attempts"):
        retry(view_op(worn))


def patched(run_view: OpView, **more: Any) -> Json | None:
    return update(OpRunUpdate.model_validate(more))(run_view)


def test_an_update_changes_what_it_names() -> None:
    running, failed = view_op(run(state="RUNNING", priority=1)), view_op(run(state="FAILED", desiredState="Cancelled"))
    assert patched(running) is None
    assert patched(running, priority=1) is None
    assert (patched(running, priority=0) or {})["priority"] == 0
    assert (patched(running, outputs={}) or {})["override"] == {"outputs": {"number": 1, "outputs": {}}}
    assert (patched(running, state="FAILED") or {})["override"] == {"state": {"number": 1, "state": "FAILED"}}
    again = patched(failed, state="PENDING") or {}
    assert (again["desiredState"], again["override"]["state"]["state"]) == ("Running", "PENDING")
    with pytest.raises(BadRequest, match=r"^Invalid state 'DONE'$"):
        patched(running, state="DONE")
    with pytest.raises(BadRequest, match="set state PENDING"):
        patched(failed, state="RUNNING")
    with pytest.raises(TooLarge, match="at most 131072"):
        patched(running, outputs={"a": "x" * 131072})
    later = view_op(run(state="RUNNING", override={"outputs": {"number": 4, "outputs": {}}}))
    assert (patched(later, outputs={"a": 1}) or {})["override"]["outputs"]["number"] == 5


@pytest.mark.parametrize("seconds", [10**18, -(10**18), 10**30, 10**12])
def test_a_time_that_is_none_is_refused(seconds: int) -> None:
    with pytest.raises(BadRequest, match=r"^Invalid created timestamp$"):
        read_created(seconds, None, None, None)


# The index


class World:
    """Runs that come, change and go, with what the index should say of them."""

    def __init__(self) -> None:
        self.runs = Runs(cast(Kube, None), "maze")
        self.index = OpIndex(self.runs)
        self.there: dict[str, Json] = {}
        self.version = 0

    def put(self, number: int, second: int, state: str | None, image: str, definition: str | None) -> None:
        self.version += 1
        name = f"r{number}"
        known = self.there.get(name)
        spec: Json = {"workflowRef": {"name": definition}} if definition else {}
        obj = run(name, self.version, state, queuedTime=known["spec"]["queuedTime"] if known else at(second), **spec)
        if definition is None:
            obj["spec"]["workflow"]["tasks"][0]["container"]["image"] = image
        self.there[name] = obj
        self.runs.put(obj)

    def delete(self, number: int) -> None:
        obj = self.there.pop(f"r{number}", None)
        if obj is not None:
            self.version += 1
            metadata = {**obj["metadata"], "resourceVersion": str(self.version)}
            self.runs._cache.apply(Changed("DELETED", {**obj, "metadata": metadata}))

    def fitting(self, wanted: Filter, created: Created) -> list[OpView]:
        """Newest first, the slow way."""
        found = [view_op(obj) for obj in self.there.values()]
        found.sort(key=lambda view: (view.created_at, view.id), reverse=True)
        return [
            view
            for view in found
            if wanted.state in (None, view.state)
            and wanted.op_definition in (None, view.op_definition)
            and wanted.image in (None, view.image)
            and (created.least is None or view.created_at >= created.least)
            and (created.end is None or view.created_at < created.end)
        ]


STATES = [None, "PENDING", "RUNNING", "COMPLETED", "FAILED"]
puts = st.tuples(
    st.integers(0, 12),
    st.integers(0, 5),
    st.sampled_from(STATES),
    st.sampled_from(["i", "k"]),
    st.sampled_from([None, None, "d", "e"]),
)
filters = st.builds(
    Filter,
    st.sampled_from([None, *OpState]),
    st.sampled_from([None, None, "d", "e"]),
    st.sampled_from([None, None, "i", "j", "k"]),
)
moments = st.one_of(st.none(), st.integers(0, 6).map(lambda second: T0 + timedelta(seconds=second)))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(puts, st.integers(0, 12)), max_size=40),
    filters,
    moments,
    moments,
    st.integers(1, 5),
    st.sampled_from(["newest", "after", "before"]),
    st.integers(0, 12),
)
def test_a_page_is_what_looking_at_every_run_finds(
    changes: list[Any],
    wanted: Filter,
    least: datetime | None,
    end: datetime | None,
    limit: int,
    direction: str,
    chosen: int,
) -> None:
    world = World()
    for change in changes:
        if isinstance(change, int):
            world.delete(change)
        else:
            world.put(*change)
    assert len(world.index) == len(world.there)
    created = Created(least, end)
    fitting = world.fitting(wanted, created)
    cursor = world.index.get(f"r{chosen}") if direction != "newest" else None
    if cursor is None:
        page, more = world.index.page(wanted, created, limit)
        expected = fitting
    else:
        place: Place = (cursor.created_at, cursor.id)
        older = [view for view in fitting if (view.created_at, view.id) < place]
        newer = [view for view in fitting if (view.created_at, view.id) > place]
        if direction == "after":
            page, more = world.index.page(wanted, created, limit, after=place)
            expected = older
        else:
            page, more = world.index.page(wanted, created, limit, before=place)
            assert [view.id for view in page] == [view.id for view in newer[max(0, len(newer) - limit) :]]
            assert more == (len(newer) > limit)
            return
    assert [view.id for view in page] == [view.id for view in expected[:limit]]
    assert more == (len(expected) > limit)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.lists(st.one_of(puts, st.integers(0, 12)), max_size=20))
def test_a_walk_meets_every_older_run_once_whatever_changes(size: int, limit: int, changes: list[Any]) -> None:
    world = World()
    for number in range(size):
        world.put(number, number, "RUNNING", "i", None)
    gone = {f"r{change}" for change in changes if isinstance(change, int)}
    met: list[str] = []
    after: Place | None = None
    while True:
        page, more = world.index.page(Filter(), Created(), limit, after)
        met += [view.id for view in page]
        if not more:
            break
        after = (page[-1].created_at, page[-1].id)
        for change in changes[:3]:
            if isinstance(change, int):
                world.delete(change)
            elif change[0] >= size:
                world.put(change[0], size + 1, *change[2:])
            else:
                world.put(change[0], 0, *change[2:]) if f"r{change[0]}" in world.there else None
        del changes[:3]
    assert len(met) == len(set(met))
    assert {f"r{number}" for number in range(size)} - gone <= set(met)
