"""Which internal workers there are, for any pool and any workers of others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from maze_operator.core.pool import choose_members, plan_pool, worker_id

NUMBERS = st.sets(st.integers(1, 12))
IDS = st.builds(lambda found: {worker_id(one) for one in found}, NUMBERS)


def test_ids_are_those_of_the_reference() -> None:
    assert choose_members(3, ()) == ("worker-001-kind", "worker-002-kind", "worker-003-kind")
    assert choose_members(0, ()) == ()
    assert worker_id(1000) == "worker-1000-kind"


def test_an_id_that_an_external_worker_has_is_left_out() -> None:
    external = {"worker-001-kind", "worker-003-kind", "somebody-else"}
    assert choose_members(2, external) == ("worker-002-kind", "worker-004-kind")


def test_what_is_missing_is_made_and_what_is_too_much_goes_when_it_is_idle() -> None:
    workers = {worker_id(1): True, worker_id(2): False, worker_id(4): True, worker_id(5): True}
    plan = plan_pool(2, workers, {worker_id(4)}.__contains__)
    assert plan.members == (worker_id(1), worker_id(3))
    assert plan.create == (worker_id(3),)
    assert plan.delete == (worker_id(5),), "4 has a task and drains"
    assert plan.replicas == 3


@given(replicas=st.integers(0, 15), internal=IDS, external=IDS, busy=IDS)
def test_any_pool_comes_to_rest(replicas: int, internal: set[str], external: set[str], busy: set[str]) -> None:
    workers = dict.fromkeys(internal, True) | dict.fromkeys(external, False)
    plan = plan_pool(replicas, workers, busy.__contains__)
    assert len(plan.members) == len(set(plan.members)) == replicas
    assert not set(plan.members) & external
    assert not set(plan.delete) & (busy | external | set(plan.members)), "nobody loses a worker that is at work"
    after = {one: own for one, own in workers.items() if one not in plan.delete} | dict.fromkeys(plan.create, True)
    assert sum(after.values()) == plan.replicas
    again = plan_pool(replicas, after, busy.__contains__)
    assert (again.members, again.create, again.delete) == (plan.members, (), ())
