"""Pods that are kept ready for Runs: made in the background, claimed with one write, given up where room is short."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from maze_io.cache import Object
from maze_operator.core.values import RunView, Shape

if TYPE_CHECKING:
    from maze_operator.engine import Engine


class Spares:
    """Spares are pods with an empty LABEL_RUN_UID; from its claim on, a pod is one of its Run like any other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What runs while this process leads."""
        return []

    def see_pod(self, old: Object | None, new: Object | None) -> None:
        """A pod of anybody's has changed: a spare, or one of a Run that may be short of room."""

    def available(self, namespace: str, shape: Shape) -> int:
        """How many could be claimed for this shape right now."""
        return 0

    async def claim(self, view: RunView, shape: Shape) -> bool:
        """Give one to the Run. When this returns True it is in engine.pods with the Run's labels and shape.

        Raises:
            KubeError: try again later.
        """
        return False

    async def wait(self, uid: str, seconds: float) -> bool:
        """The runner of the spare with this uid waits here until it is claimed (True), or the time is over."""
        return False
