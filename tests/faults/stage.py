"""A cluster to do something to, and work on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import work
from invariants import require
from machine import Machine
from recorder import Recorder

from cluster import Cluster, awaited

Json = dict[str, Any]


@dataclass
class Stage:
    cluster: Cluster
    recorder: Recorder
    machine: Machine

    def work(self, **spec: Any) -> str:
        """A Run in its middle (work.py); its name."""
        return work.start(self.cluster, self.recorder, **spec)

    def require(self, name: str) -> Json:
        """What holds for every Run (invariants.py); its status."""
        return require(self.cluster, name, self.recorder)

    def require_undisturbed(self, name: str) -> None:
        """And: nothing failed, and nothing ran twice."""
        status = self.require(name)
        assert status["phase"] == "Succeeded", status
        attempts = {task["name"]: task["attempt"] for task in status["tasks"]}
        assert attempts == dict.fromkeys(attempts, 1)
        assert self.recorder.executions() == attempts

    def require_success(self, name: str) -> None:
        """And: all of it succeeded, be it in a later attempt."""
        status = self.require(name)
        assert status["phase"] == "Succeeded", status

    def let_some_end(self, count: int = 3) -> None:
        """Open the gate; returns when so many more executions have come to their end."""
        before = self.recorder.ended().total()
        self.recorder.open()
        awaited(self.recorder.ended, lambda seen: seen.total() >= before + count, 30)
