"""When an external worker is offline, by a clock that the test turns."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from maze_io.cache import Changed
from maze_io.kube import Kube, KubeError
from maze_operator.core.silence import DEFAULT_PATIENCE, STRANGER_PATIENCE, Pulse, hear, says_goodbye
from maze_operator.dispatch import Dispatch
from maze_operator.heartbeats import LONGEST_SLEEP, Heartbeats

Json = dict[str, Any]
EPOCH = "1970-01-01T00:00:00.000000Z"
PATIENCE = 10


def stamp(beat: int) -> str:
    """What a worker's api wrote; the operator must not care about the time in it."""
    return f"2026-01-01T00:00:{beat % 60:02d}.{beat:06d}Z"


def lease(renewed: str | None, version: int = 1, patience: int | None = PATIENCE) -> Json:
    spec = {"renewTime": renewed, "leaseDurationSeconds": patience}
    metadata = {"name": "w", "namespace": "maze", "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {key: value for key, value in spec.items() if value is not None}}


def worker(version: int = 1, **spec: Any) -> Json:
    metadata = {"name": "w", "namespace": "maze", "resourceVersion": str(version), "generation": 1}
    return {"metadata": metadata, "spec": {"workerId": "w", **spec}}


@pytest.mark.parametrize(
    ("renewed", "leaves"),
    [(EPOCH, True), ("1970-01-01T00:00:00Z", True), (stamp(3), False), ("", False), ("nonsense", False)],
)
def test_a_worker_says_goodbye_with_the_epoch(renewed: str, leaves: bool) -> None:
    assert says_goodbye(renewed) is leaves


def test_only_another_time_is_a_sign_of_life() -> None:
    first = hear(None, lease(stamp(1)), 100.0)
    assert first == Pulse(stamp(1), PATIENCE, 100.0)
    assert hear(first, lease(stamp(1), patience=20), 105.0) == Pulse(stamp(1), 20, 100.0)
    assert hear(first, lease(stamp(0)), 105.0).seen == 105.0, "clocks of apis differ; back is a change, too"
    assert hear(first, lease(EPOCH), 105.0).offline_at() == 105.0
    assert hear(None, lease(None, patience=None), 1.0) == Pulse("", DEFAULT_PATIENCE, 1.0)


class Silence(RuleBasedStateMachine):
    """One worker, one Lease, time: lost exactly when it is deleted or was not heard of for its patience."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.version, self.beats = 0.0, 1, 0
        self.told = 0
        self.heartbeats = Heartbeats(self._changed, lambda: self.now)
        self.registered = False
        self.heard: float | None = None
        self.goodbye = False
        self.seen_lost = False
        self.register()

    def _changed(self, namespace: str, one: str) -> None:
        assert (namespace, one) == ("maze", "w")
        self.told += 1

    def _next(self) -> int:
        self.version += 1
        return self.version

    @rule()
    def register(self) -> None:
        """Also again, as an update."""
        if not self.registered:
            self.heartbeats.workers.apply(Changed("ADDED", worker(self._next())))
        self.registered = True
        self.beat()

    @rule()
    def beat(self) -> None:
        self.beats += 1
        if self.registered:
            self._lease(stamp(self.beats))
            self.heard, self.goodbye = self.now, False

    @rule()
    def touch(self) -> None:
        """The Lease is written without a new renewTime, or listed again."""
        if self.registered:
            old = self.heartbeats.leases.get("maze", "w")
            assert old is not None
            self._lease(old["spec"]["renewTime"])

    @rule()
    def leave(self) -> None:
        if self.registered:
            self._lease(EPOCH)
            self.goodbye = True

    @rule()
    def delete(self) -> None:
        if self.registered:
            self.heartbeats.workers.apply(Changed("DELETED", worker(self._next())))
            self.registered = False

    @rule(seconds=st.integers(1, PATIENCE))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    def _lease(self, renewed: str) -> None:
        self.heartbeats.leases.apply(Changed("MODIFIED", lease(renewed, self._next())))

    @invariant()
    def lost_when_silent_and_who_waits_is_told(self) -> None:
        due = self.heartbeats.look()
        assert self.heard is not None
        silent = self.goodbye or self.now >= self.heard + PATIENCE
        lost = not self.registered or silent
        assert self.heartbeats.is_lost("maze", "w") is lost
        assert self.heartbeats.is_offline("maze", "w") is (self.registered and silent)
        if lost != self.seen_lost:
            assert self.told > 0, "a change is told"
        self.seen_lost, self.told = lost, 0
        if not lost:
            assert due <= max(0, self.heard + PATIENCE - self.now) + 0.1
        assert 0 < due <= LONGEST_SLEEP + 0.1


Silence.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestSilence = Silence.TestCase


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[str] = []
        self.heartbeats = Heartbeats(lambda _, one: self.told.append(one), lambda: self.now)


def test_a_claim_may_be_seen_before_its_worker_but_not_for_long() -> None:
    clock = Clock()
    assert not clock.heartbeats.is_lost("maze", "w")
    clock.now = STRANGER_PATIENCE - 1
    assert not clock.heartbeats.is_lost("maze", "w")
    assert clock.heartbeats.look() <= 1.1
    clock.now = STRANGER_PATIENCE
    clock.heartbeats.look()
    assert clock.told == ["w"]
    assert clock.heartbeats.is_lost("maze", "w")
    clock.heartbeats.workers.apply(Changed("ADDED", worker()))
    assert not clock.heartbeats.is_lost("maze", "w")


def test_a_worker_without_a_lease_has_a_minute() -> None:
    clock = Clock()
    clock.heartbeats.workers.apply(Changed("ADDED", worker()))
    clock.now = DEFAULT_PATIENCE - 1
    clock.heartbeats.look()
    assert not clock.heartbeats.is_lost("maze", "w")
    clock.now = DEFAULT_PATIENCE
    clock.heartbeats.look()
    assert clock.heartbeats.is_lost("maze", "w")


def test_a_new_worker_of_the_same_name_keeps_the_patience_of_its_lease() -> None:
    clock = Clock()
    clock.heartbeats.workers.apply(Changed("ADDED", worker(1)))
    clock.heartbeats.leases.apply(Changed("ADDED", lease(stamp(1), 2)))
    clock.heartbeats.workers.apply(Changed("DELETED", worker(3)))
    clock.heartbeats.workers.apply(Changed("ADDED", worker(4)))
    clock.now = PATIENCE
    clock.heartbeats.look()
    assert clock.heartbeats.is_lost("maze", "w")


def test_an_internal_worker_is_never_offline() -> None:
    clock = Clock()
    clock.heartbeats.workers.apply(Changed("ADDED", worker(internal=True)))
    clock.now = 10 * DEFAULT_PATIENCE
    clock.heartbeats.look()
    assert clock.told == []
    assert not clock.heartbeats.is_offline("maze", "w")


class Api:
    """Stands for the Kubernetes API: what is there now."""

    def __init__(self, *, here: bool, renewed: str) -> None:
        self.here, self.renewed = here, renewed

    async def get(self, path: str) -> Json:
        if not self.here:
            raise KubeError(404, "NotFound", "gone")
        return lease(self.renewed, 9) if "/leases/" in path else worker(9)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("here", "renewed", "lost"),
    [(True, stamp(1), False), (True, EPOCH, True), (False, EPOCH, True)],
)
async def test_a_worker_that_is_back_and_has_claimed_is_not_found_lost(here: bool, renewed: str, lost: bool) -> None:
    dispatch = Dispatch(cast(Kube, Api(here=here, renewed=renewed)), lambda _: None)
    dispatch.workers.apply(Changed("ADDED", worker(1)))
    dispatch.heartbeats.leases.apply(Changed("ADDED", lease(EPOCH, 2)))
    dispatch.heartbeats.look()
    assert dispatch.heartbeats.is_lost("maze", "w")
    assert await dispatch.is_lost("maze", "w") is lost
