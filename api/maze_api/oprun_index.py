"""All OpRuns by what the list filters, kept as their Runs change.

For each combination of filters there is a list of its own, so a page costs the same however many OpRuns there are, and
whichever filters are given; a change costs the logarithm of their number (and moves pointers in a list).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from typing import TypeAlias

from maze_api.cache import Runs
from maze_api.oprun_view import OpView, is_op_run, view_op
from maze_crds.oprun import OpState
from maze_io.cache import Key
from maze_io.kube import Object

Place: TypeAlias = tuple[datetime, str]
"""(created_at, id): where an OpRun stands in every list. It never changes."""
MOMENT = timedelta(microseconds=1)
"""Between two times that differ."""


@dataclass(frozen=True, slots=True)
class Filter:
    """None: any."""

    state: OpState | None = None
    op_definition: str | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """Bounds of created_at: from `least`, and before `end`; None: none."""

    least: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    place: Place
    lists: tuple[Filter, ...]


class OpIndex:
    """The OpRuns among the Runs of one cache. What it tells is as new as the cache."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._entries: dict[str, _Entry] = {}
        self._lists: dict[Filter, list[Place]] = {}
        for obj in runs.objects():
            self._see(obj["metadata"]["name"], obj)
        runs.subscribe(self._changed)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, run_id: str) -> OpView | None:
        obj = self._runs.object(run_id) if run_id in self._entries else None
        return view_op(obj) if obj is not None else None

    def page(
        self, wanted: Filter, created: Created, limit: int, after: Place | None = None, before: Place | None = None
    ) -> tuple[list[OpView], bool]:
        """At most `limit` OpRuns, newest first, and whether there are more beyond the last one.

        after: only older ones than this, the newest of them. before: only newer ones, the oldest of them; more then means
        newer ones still.
        """
        places = self._lists.get(wanted, [])
        low = bisect_left(places, (created.least, "")) if created.least is not None else 0
        high = bisect_left(places, (created.end, "")) if created.end is not None else len(places)
        if before is not None:
            low = max(low, bisect_right(places, before))
            chosen, more = places[low : min(high, low + limit)], low + limit < high
        else:
            high = high if after is None else min(high, bisect_left(places, after))
            chosen, more = places[max(low, high - limit) : high], high - limit > low
        return [view for _, run_id in reversed(chosen) if (view := self.get(run_id)) is not None], more

    def _changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        self._see(key[1], new)

    def _see(self, name: str, obj: Object | None) -> None:
        known = self._entries.get(name)
        entry = _entry_of(view_op(obj)) if obj is not None and is_op_run(obj) else None
        if entry == known:
            return
        if known is not None:
            del self._entries[name]
            for one in known.lists:
                places = self._lists[one]
                del places[bisect_left(places, known.place)]
                if not places:
                    del self._lists[one]
        if entry is not None:
            self._entries[name] = entry
            for one in entry.lists:
                insort(self._lists.setdefault(one, []), entry.place)


def place_of(view: OpView) -> Place:
    return view.created_at, view.id


def _entry_of(view: OpView) -> _Entry:
    return _Entry(place_of(view), tuple(_filters(view)))


def _filters(view: OpView) -> Iterator[Filter]:
    """Every combination that the OpRun fits."""
    states, definitions, images = (None, view.state), {None, view.op_definition}, {None, view.image}
    for state, definition, image in product(states, sorted(definitions, key=str), sorted(images, key=str)):
        yield Filter(state, definition, image)
