"""OpRuns under random events, wishes, pods and an operator that dies between any two steps: what must hold whatever happens."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from builders import SETTINGS, at, container_task, pod, run_view, succeeded, workflow
from maze_crds.oprun import PAGE, TERMINAL_STATES, EventType, OpEvent, OpState, OpStatus
from maze_crds.protocol import Result
from maze_crds.run import TERMINAL_RUNS, RunStatus
from maze_operator.core.plan import attempts_to_look_up, plan
from maze_operator.core.values import AttemptId, CreatePod, DeletePod, Ended, Facts, PodView, Posted, Reply

_AFTER = {
    EventType.STARTED: OpState.RUNNING,
    EventType.COMPLETED: OpState.COMPLETED,
    EventType.FAILED: OpState.FAILED,
    EventType.CANCELLED: OpState.CANCELLED,
    EventType.RETRIED: OpState.PENDING,
}


def replay(events: list[OpEvent]) -> OpState:
    """The state that the events alone lead to."""
    state = OpState.PENDING
    for event in events:
        state = _AFTER.get(EventType(event.type), state) if event.type in _AFTER else state
    return state


class World:
    """The cluster and the object store as far as one OpRun sees them, people who post and wish, and a forgetful operator."""

    def __init__(self, max_attempts: int) -> None:
        self.max_attempts = max_attempts
        self.spec: dict[str, Any] = {"opRun": {"maxAttempts": max_attempts}}
        self.status = RunStatus()
        self.pods: dict[AttemptId, PodView] = {}
        self.store: dict[AttemptId, Result] = {}
        self.pages: dict[int, tuple[OpEvent, ...]] = {}
        self.waiting: list[Posted] = []
        """Posts without an answer: their senders say them again after a crash."""
        self.replies: dict[str, Reply] = {}
        self.forced = 0
        self.generation = 1
        self.clock = 0.0
        self.keys = 0
        self.crash()

    @property
    def op(self) -> OpStatus:
        return self.status.op or OpStatus()

    def crash(self) -> None:
        self.known = set(self.pods)
        self.cold = True

    def wish(self, **spec: Any) -> None:
        self.spec |= spec
        self.generation += 1

    def post(self, kind: str, pinned: bool) -> None:
        self.keys += 1
        attempt = self.op.attempt if pinned or kind == "COMPLETED" else None
        result = succeeded() if kind == "COMPLETED" else None
        if result is not None and attempt is not None:
            self.store[AttemptId("op", attempt)] = result
        msg: str | int = 50 if kind == "PROGRESS" else ""
        self.waiting.append(Posted(f"k{self.keys}", kind, at(self.clock), msg, attempt=attempt, result=result))

    def reconcile(self, dies: str = "") -> None:
        self.clock += 1
        view = replace(run_view(workflow(container_task("op")), self.status, **self.spec), generation=self.generation)
        wanted = attempts_to_look_up(view, self.pods, frozenset(self.known), self.cold)
        results = {attempt: self.store.get(attempt) for attempt in wanted}
        facts = Facts(results, known=frozenset(self.known), posted=tuple(self.waiting))
        decided = plan(view, self.pods, facts, at(self.clock), SETTINGS)
        for page in decided.pages:  # before the status, so they may be there without it
            stored = self.pages.setdefault(page.number, page.events)
            assert [event.id for event in stored] == [event.id for event in page.events]
            self.pages[page.number] = page.events
        if dies == "before":
            self.crash()
            return
        self.check_step(decided.status)
        self.status = decided.status
        if dies == "after":
            self.crash()
            return
        self.cold = False
        for posted, reply in zip(self.waiting, decided.replies, strict=False):
            self.replies[posted.key] = reply
        del self.waiting[: len(decided.replies)]
        for action in decided.actions:
            if isinstance(action, CreatePod):
                assert action.attempt_id not in self.pods, "two pods for one attempt"
                assert action.attempt_id.attempt == self.op.attempt
                self.pods[action.attempt_id] = pod("op", action.attempt_id.attempt)
                self.known.add(action.attempt_id)
            elif isinstance(action, DeletePod):
                self.pods = {a: p for a, p in self.pods.items() if p.name != action.name}

    def check_step(self, new: RunStatus) -> None:
        assert new.op is not None
        old = self.op
        assert new.op.next_event >= old.next_event
        assert [a.number for a in new.op.attempts] == list(range(1, len(new.op.attempts) + 1))
        assert new.op.attempts[: max(0, len(old.attempts) - 1)] == old.attempts[:-1], "an earlier attempt changed"
        if old.state in TERMINAL_STATES and new.op.state not in TERMINAL_STATES:
            assert new.op.attempt > old.attempt, "opened again without a new attempt"
        assert (new.op.state in TERMINAL_STATES) == (new.phase in TERMINAL_RUNS)
        assert all(attempt.completion_time is not None for attempt in new.op.attempts[:-1])
        assert new.last_event >= self.status.last_event

    def events(self) -> list[OpEvent]:
        tail = self.op.events
        first = tail[0].id if tail else self.op.next_event
        paged = [event for number in sorted(self.pages) if number < first // PAGE for event in self.pages[number]]
        return paged + list(tail)

    def current(self) -> AttemptId:
        return AttemptId("op", self.op.attempt)

    def runs(self) -> None:
        if self.current() in self.pods and self.pods[self.current()].ended is None:
            self.pods[self.current()] = pod("op", self.op.attempt, node="n", running_since=at(self.clock))

    def exits(self, code: int) -> None:
        attempt = self.current()
        if attempt in self.pods and self.pods[attempt].ended is None:
            if code == 0:
                self.store.setdefault(attempt, succeeded())
            ended = Ended(succeeded=code == 0, exit_code=code, reason="" if code == 0 else "Error")
            self.pods[attempt] = pod("op", attempt.attempt, node="n", ended=ended)


MOVES = [
    "reconcile",
    "reconcile",
    "reconcile",
    "die before",
    "die after",
    "runs",
    "succeeds",
    "fails",
    "lose",
    "post",
    "post",
    "post pinned",
    "post many",
    "cancel",
    "retry",
]
OVERRIDES = [f"override {state.value}" for state in OpState] + ["outputs"]
KINDS = ["STARTED", "PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "RETRIED", "NOTE"]


def act(world: World, move: str, kind: str) -> None:
    if move == "reconcile":
        world.reconcile()
    elif move.startswith("die"):
        world.reconcile(move.removeprefix("die "))
    elif move == "runs":
        world.runs()
    elif move in ("succeeds", "fails"):
        world.exits(0 if move == "succeeds" else 1)
    elif move == "lose":
        world.pods.pop(world.current(), None)
    elif move == "post many":
        for _ in range(PAGE):
            world.post("PROGRESS", False)
    elif move.startswith("post"):
        world.post(kind, move == "post pinned")
    else:
        wish(world, move)


def wish(world: World, move: str) -> None:
    if move == "cancel" and world.status.phase not in TERMINAL_RUNS:
        world.wish(desiredState="Cancelled")
    elif move == "retry" and world.status.phase in TERMINAL_RUNS and world.op.retries == world.forced:
        world.forced += 1
        world.wish(desiredState="Running", retries=world.spec.get("retries", 0) + 1)

    elif move.startswith("override"):
        numbered = {"number": world.op.state_override + 1, "state": move.removeprefix("override ")}
        world.wish(desiredState="Running", override={**world.spec.get("override", {}), "state": numbered})
    elif move == "outputs":
        numbered = {"number": world.op.outputs_override + 1, "outputs": {"mine": 1}}
        world.wish(override={**world.spec.get("override", {}), "outputs": numbered})


def finish(world: World) -> None:
    for _ in range(200):
        seen = world.status.observed_generation == world.generation
        if seen and world.status.phase in TERMINAL_RUNS and not world.waiting:
            return
        world.exits(0)
        world.clock += 70
        world.reconcile()
    raise AssertionError("the Run does not end")


@settings(max_examples=400, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from(MOVES), st.sampled_from(KINDS)), max_size=50),
)
def test_whatever_happens_there_is_one_history(max_attempts: int, moves: list[tuple[str, str]]) -> None:
    world = World(max_attempts)
    for move, kind in moves:
        act(world, move, kind)
    finish(world)
    events = world.events()
    check_timeline(world, events)
    assert replay(events) == world.op.state
    automatic = [event for event in events if event.type == "RETRIED" and event.payload == {"force": False}]
    assert all(event.attempt <= max_attempts for event in automatic)
    manual = [event for event in events if event.type == "RETRIED" and event.payload == {"force": True}]
    assert len(manual) == world.forced
    check_locked(events)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from(MOVES + OVERRIDES * 2), st.sampled_from(KINDS)), max_size=40),
)
def test_overrides_lose_no_event_and_leave_a_run_that_ends(max_attempts: int, moves: list[tuple[str, str]]) -> None:
    world = World(max_attempts)
    for move, kind in moves:
        act(world, move, kind)
    finish(world)
    check_timeline(world, world.events())


def check_timeline(world: World, events: list[OpEvent]) -> None:
    assert [event.id for event in events] == list(range(world.op.next_event)), "a gap in the timeline"
    keys = [event.key for event in events if event.key is not None]
    assert len(keys) == len(set(keys)), "a posted event is there twice"
    accepted = {key for key, reply in world.replies.items() if reply.status == 200}
    assert accepted == set(keys), "what was acknowledged is there, and nothing else"
    ids = {event.key: event.id for event in events}
    assert all(ids[key] == world.replies[key].id for key in accepted)


def check_locked(events: list[OpEvent]) -> None:
    """Nothing comes after an end but a retry."""
    for before, after in pairwise(events):
        if before.type in ("COMPLETED", "CANCELLED"):
            assert after.type == "RETRIED"
        if before.type == "FAILED":
            assert after.type == "RETRIED"
            assert after.attempt == before.attempt + 1
