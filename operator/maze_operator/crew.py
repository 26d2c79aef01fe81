"""What a RunWorker asks about workers of the Task Executor. It asks at each step, so nothing of it can be out of date.

Who answers marks the RunWorker dirty (engine.worker_of(uid)) when an answer changes.
"""

from __future__ import annotations

from typing import Protocol


class Dispatch(Protocol):
    def slot_for(self, uid: str) -> str | None:
        """The id of the internal worker that is to execute the waiting Run with this UID now; None: it waits on.

        Not taken by a Run without a workflow, one that is suspended or cancelled, or one that an external worker claims.
        """


class Heartbeats(Protocol):
    def is_lost(self, namespace: str, worker: str) -> bool:
        """Whether the external worker with this id is offline, or is not registered any more.

        One that registers and claims within a moment may be known here later than its claim: that is not lost.
        """


class Nobody:
    """Hands out nothing, and thinks no one lost."""

    def slot_for(self, uid: str) -> str | None:
        return None

    def is_lost(self, namespace: str, worker: str) -> bool:
        return False
