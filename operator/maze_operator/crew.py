"""What a RunWorker asks about workers of the Task Executor. It asks at each step, so nothing of it can be out of date.

Who answers marks the RunWorker dirty (engine.worker_of(uid)) when an answer changes.
"""

from __future__ import annotations

from typing import Protocol


class Dispatch(Protocol):
    def slot_for(self, uid: str) -> str | None:
        """The id of the internal worker that is to execute the waiting Run with this UID now; None: it waits on."""


class Heartbeats(Protocol):
    def is_lost(self, namespace: str, worker: str) -> bool:
        """Whether the external worker with this id is offline, or is not registered any more."""


class Nobody:
    """Hands out nothing, and thinks no one lost."""

    def slot_for(self, uid: str) -> str | None:
        return None

    def is_lost(self, namespace: str, worker: str) -> bool:
        return False
