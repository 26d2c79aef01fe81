"""Many Runs want pods at once: who may start one, and that nobody waits while there is room."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from maze_operator.core.starts import Starts


class Hall:
    """Runs named like NAMESPACE/NUMBER; whoever may start a pod is noted in `called`."""

    def __init__(self, most: int) -> None:
        self.called: list[str] = []
        self.starts = Starts(most, self.called.append)

    def wants(self, run: str, pods: int = 1) -> int:
        """The Run plans, and wants so many; how many it makes."""
        makes = min(pods, self.starts.may_start(run))
        self.starts.planned(run, run.split("/")[0], makes, pods > makes)
        return makes

    def has(self, run: str, pods: int, starting: int) -> None:
        self.starts.count(run, run.split("/")[0], pods, starting)


def test_a_run_alone_starts_as_many_as_there_may_be() -> None:
    assert Hall(8).wants("a/1", 20) == 8


def test_the_next_one_goes_to_the_run_with_the_fewest_pods() -> None:
    hall = Hall(2)
    assert hall.wants("a/1", 5) == 2
    hall.has("a/1", 2, 2)
    assert hall.wants("a/2", 5) == 0
    hall.has("a/1", 2, 1)
    assert hall.called == ["a/2"]
    assert hall.wants("a/1", 3) == 0
    assert hall.wants("a/2", 5) == 1


def test_a_namespace_with_many_runs_does_not_keep_another_one_waiting() -> None:
    hall = Hall(1)
    assert hall.wants("a/0") == 1
    hall.has("a/0", 1, 1)
    for run in ("a/1", "a/2", "a/3", "b/1"):
        assert hall.wants(run) == 0
    hall.has("a/0", 1, 0)
    assert hall.called == ["b/1"]


def test_what_was_granted_and_is_not_wanted_any_more_goes_to_the_next() -> None:
    hall = Hall(1)
    hall.wants("a/0")
    hall.has("a/0", 1, 1)
    hall.wants("a/1")
    hall.wants("a/2")
    hall.has("a/0", 1, 0)
    hall.wants("a/1", 0)
    assert hall.called == ["a/1", "a/2"]
    hall.starts.forget("a/2")
    assert hall.wants("a/3") == 1


MOVES = st.lists(
    st.tuples(st.sampled_from(["wants", "ready", "ends"]), st.integers(0, 5), st.integers(0, 4)), max_size=60
)


@given(st.integers(1, 4), MOVES)
def test_there_are_never_too_many_and_room_is_never_left_while_somebody_waits(
    most: int, moves: list[tuple[str, int, int]]
) -> None:
    hall = Hall(most)
    starting: Counter[str] = Counter()
    wanting: Counter[str] = Counter()

    def plan(run: str) -> None:
        made = hall.wants(run, wanting[run])
        wanting[run] -= made
        starting[run] += made
        hall.has(run, starting[run], starting[run])

    for move, number, pods in moves:
        run = f"{'ab'[number % 2]}/{number}"
        if move == "wants":
            wanting[run] += pods
            plan(run)
        elif move == "ready" and starting[run]:
            starting[run] -= 1
            hall.has(run, starting[run], starting[run])
        elif move == "ends":
            starting[run] = wanting[run] = 0
            hall.starts.forget(run)
        while hall.called:
            called = hall.called.pop(0)
            if wanting[called]:
                plan(called)
        assert starting.total() <= most
        assert starting.total() == most or not wanting.total(), (starting, wanting)
