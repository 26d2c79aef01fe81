"""Delivers the events of OpRuns, as CloudEvents, to the sink of the installation."""

from __future__ import annotations

from collections.abc import Callable

from maze_io.kube import Object
from maze_io.store import AsyncStore
from maze_operator.core.values import Settings

Note = Callable[[Object, int, str | None], None]
"""(the Run, how many of its events the sink has taken, why the next one is not taken): keeps it in the status."""


class Deliveries:
    def __init__(self, store: AsyncStore, settings: Settings, note: Note) -> None:
        self._store, self._settings, self._note = store, settings, note

    def see_run(self, uid: str, run: Object | None) -> None:
        """A Run as it is now; None: gone."""

    async def start(self) -> None:
        """This process leads, and every Run has been seen."""

    async def stop(self) -> None:
        """Within a few seconds; what has been delivered is noted."""
