"""Which internal workers a WorkerPool has, and which Worker objects that asks for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import count

from maze_crds.worker import INTERNAL_BACKEND


@dataclass(frozen=True)
class PoolPlan:
    """members: ids, in order; create, delete: ids of Worker objects; replicas: Worker objects there are after that."""

    members: tuple[str, ...]
    create: tuple[str, ...]
    delete: tuple[str, ...]
    replicas: int


def worker_id(number: int) -> str:
    """`worker-001-kind`, as the Task Executor's reference writes it."""
    return f"worker-{number:03d}-{INTERNAL_BACKEND}"


def choose_members(replicas: int, external: Collection[str]) -> tuple[str, ...]:
    """The first `replicas` ids that no external worker has."""
    found: list[str] = []
    for number in count(1):
        if len(found) >= replicas:
            return tuple(found)
        if worker_id(number) not in external:
            found.append(worker_id(number))
    raise AssertionError


def plan_pool(replicas: int, workers: Mapping[str, bool], is_busy: Callable[[str], bool]) -> PoolPlan:
    """`workers`: id → whether it is internal, of all Worker objects. One that is not wanted any more goes when it is idle."""
    internal = {one for one, own in workers.items() if own}
    members = choose_members(replicas, workers.keys() - internal)
    create = tuple(one for one in members if one not in internal)
    delete = tuple(sorted(one for one in internal - set(members) if not is_busy(one)))
    return PoolPlan(members, create, delete, len(internal) + len(create) - len(delete))
