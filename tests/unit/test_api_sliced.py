"""If these fail, readers of a large Run see tasks of one moment with the Run of another, or no Run at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from maze_api.cache import view
from maze_api.sliced import SlicedRuns
from maze_crds import names
from maze_io.cache import Cache, Changed, Event, Replaced

Json = dict[str, Any]


class Place:
    """A namespace: what readers see, and events of Runs and slices as they come."""

    def __init__(self) -> None:
        self.version = 0
        self.shown = Cache()
        self.sliced = SlicedRuns("maze", self.shown)
        self.sliced._cache.apply(Replaced([], "0"))

    def run(self, *revisions: int, **status: Any) -> Json:
        self.version += 1
        return {
            "metadata": {"name": "r", "namespace": "maze", "uid": "u", "resourceVersion": str(self.version)},
            "spec": {},
            "status": {"phase": "Running", "taskSlices": list(revisions), **status},
        }

    def see(self, *events: Event) -> None:
        async def told() -> AsyncIterator[Event]:
            for event in events:
                yield event

        asyncio.run(self.shown.follow(self.sliced.complete(told())))

    def slice(self, number: int, revision: int, before: Json | None = None, **phases: str) -> None:
        self.version += 1
        tasks = [{"name": name, "phase": phase} for name, phase in phases.items()]
        made = {
            "metadata": {
                "name": f"s{number}",
                "namespace": "maze",
                "resourceVersion": str(self.version),
                "labels": {names.LABEL_RUN_UID: "u"},
            },
            "number": number,
            "revision": revision,
            "tasks": tasks,
            "before": before,
        }
        self.sliced._cache.apply(Changed("MODIFIED", made))

    def tasks(self) -> dict[str, str] | None:
        found = self.shown.get("maze", "r")
        if found is None:
            return None
        parsed = view(found, self.sliced.parsed(found)).status.tasks
        raw = {task["name"]: task.get("phase", "Pending") for task in found["status"]["tasks"]}
        assert raw == {task.name: task.phase.value for task in parsed}
        return raw


def test_a_run_is_seen_once_its_slices_are_here() -> None:
    place = Place()
    place.slice(0, 1, a="Running")
    place.see(Changed("MODIFIED", place.run(1, 2)))
    assert place.tasks() is None
    place.slice(1, 2, b="Running")
    assert place.tasks() == {"a": "Running", "b": "Running"}


def test_slices_that_come_before_their_run_change_nothing_yet() -> None:
    place = Place()
    place.slice(0, 1, a="Running")
    place.see(Changed("MODIFIED", place.run(1)))
    place.slice(0, 2, {"revision": 1, "tasks": [{"name": "a", "phase": "Running"}]}, a="Succeeded")
    assert place.tasks() == {"a": "Running"}
    place.see(Changed("MODIFIED", place.run(1, reason="Suspended")))
    assert place.tasks() == {"a": "Running"}
    place.see(Changed("MODIFIED", place.run(2)))
    assert place.tasks() == {"a": "Succeeded"}


def test_until_a_new_version_is_complete_the_old_one_is_seen_also_after_a_new_list() -> None:
    place = Place()
    place.slice(0, 1, a="Running")
    place.see(Changed("MODIFIED", place.run(1)))
    newer = place.run(2)
    place.see(Replaced([newer], str(place.version)))
    assert place.tasks() == {"a": "Running"}
    place.slice(0, 2, a="Failed")
    assert place.tasks() == {"a": "Failed"}


def test_a_run_that_was_deleted_while_it_was_awaited_stays_away() -> None:
    place = Place()
    newer = place.run(1)
    place.see(Changed("MODIFIED", newer), Changed("DELETED", newer))
    place.slice(0, 1, a="Running")
    assert place.tasks() is None


def test_a_list_that_came_before_the_slices_shows_its_runs_when_they_are_here() -> None:
    place = Place()
    place.see(Replaced([place.run(1)], "5"))
    assert place.tasks() is None
    place.slice(0, 1, a="Running")
    assert place.tasks() == {"a": "Running"}
