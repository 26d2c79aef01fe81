"""All that the routes of OpRuns work with, made once per process."""

from __future__ import annotations

from dataclasses import dataclass

from maze_api.cache import Runs
from maze_api.operator_client import OperatorClient
from maze_api.oprun_create import OpCreation
from maze_api.oprun_events import Timelines
from maze_api.oprun_index import OpIndex
from maze_api.oprun_wishes import OpWishes
from maze_api.settings import Settings
from maze_io.store import AsyncStore


@dataclass(frozen=True, slots=True)
class OpRuns:
    index: OpIndex
    creation: OpCreation
    wishes: OpWishes
    timelines: Timelines

    @classmethod
    def make(cls, settings: Settings, runs: Runs, store: AsyncStore, operator: OperatorClient) -> OpRuns:
        return cls(
            index=OpIndex(runs),
            creation=OpCreation(runs, store, settings),
            wishes=OpWishes(runs),
            timelines=Timelines(store, operator, settings.namespace),
        )
