"""All that the routes of workers work with, made once per process."""

from __future__ import annotations

from dataclasses import dataclass

from maze_api.cache import Runs
from maze_api.claim_notes import ClaimNotes
from maze_api.claims import Claims
from maze_api.operator_client import OperatorClient
from maze_api.pool import InternalPool
from maze_api.reports import Reports
from maze_api.settings import Settings
from maze_api.task_index import TaskIndex
from maze_api.worker_cache import Workers
from maze_api.worker_operator import OperatorLife
from maze_api.worker_registry import Registry


@dataclass(frozen=True, slots=True)
class Crew:
    """Registration, claims and reports of external workers, and the pool of internal ones."""

    registry: Registry
    claims: Claims
    reports: Reports
    pool: InternalPool
    operator: OperatorLife

    @classmethod
    def make(cls, settings: Settings, runs: Runs, tasks: TaskIndex, workers: Workers, operator: OperatorClient) -> Crew:
        return cls(
            registry=Registry(workers, tasks, settings.worker_timeout_seconds),
            claims=Claims(runs, tasks, ClaimNotes(runs, workers), settings.worker_timeout_seconds),
            reports=Reports(operator, runs, tasks),
            pool=InternalPool(workers, settings),
            operator=OperatorLife(workers.kube, settings.control_namespace),
        )
