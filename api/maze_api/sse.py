"""Server-Sent Events of scenario runs.

A reader is a cursor: the number of the last event it was given. What it gets next is read from the Run when it has taken
what it got before, so a slow reader holds one write and nothing else, and nobody waits for it. Events are made into
text once for all readers of a Run. A reader that takes nothing for long is dropped by the socket (see `listen.py`).
"""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from maze_api.scenario_view import events, view_scenario_run

Json = dict[str, Any]

HEARTBEAT_SECONDS = 15.0
"""A stream on which nothing happens says so, so that proxies keep it and a client that is gone is noticed."""
HEARTBEAT = b": waiting for the next event\n\n"
BATCH = 64
"""Events in one write at most."""


@dataclass(frozen=True, slots=True)
class Feed:
    """All events of one state of a Run, as they are sent."""

    obj: Json
    numbers: list[int]
    texts: list[bytes]
    ended: bool


def make_feed(obj: Json) -> Feed | None:
    """None: not a scenario's Run."""
    run = view_scenario_run(obj)
    if run is None:
        return None
    found = events(run)
    return Feed(obj, [number for number, _ in found], [format_event(*event) for event in found], run.ended)


def format_event(number: int, content: Json) -> bytes:
    payload = json.dumps(content, ensure_ascii=False)
    return f"id: {number}\nevent: {content['type']}\ndata: {payload}\n\n".encode()


def parse_last_event_id(text: str | None) -> int:
    """The number that a client has seen last; 0 for what is no number of ours."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 18 else 0


class Feeds:
    """The event streams of this process.

    Args:
        look_up: the Run of this name as it is now, or None.
    """

    def __init__(self, look_up: Callable[[str], Json | None], heartbeat: float = HEARTBEAT_SECONDS) -> None:
        self._look_up = look_up
        self._heartbeat = heartbeat
        self._waiting: defaultdict[str, set[asyncio.Future[bool]]] = defaultdict(set)
        self._readers: defaultdict[str, int] = defaultdict(int)
        self._feeds: dict[str, Feed] = {}
        self._closed = False

    def changed(self, key: tuple[str, str], old: Json | None, new: Json | None) -> None:
        """To be called whenever a Run has changed."""
        self._feeds.pop(key[1], None)
        self._wake(key[1])

    def close(self) -> None:
        """End all streams, so that the process can: their clients come back with the number they have seen last."""
        self._closed = True
        for name in list(self._waiting):
            self._wake(name)

    def get(self, name: str) -> Feed | None:
        """The events of a scenario run so far; kept while somebody reads them."""
        obj = self._look_up(name)
        if obj is None:
            return None
        known = self._feeds.get(name)
        if known is None or known.obj is not obj:
            known = make_feed(obj)
            if known is not None and name in self._readers:
                self._feeds[name] = known
        return known

    async def follow(self, name: str, after: int) -> AsyncGenerator[bytes, None]:
        """The events after number `after`, as they come; ends after run_finished, or when the Run is deleted."""
        self._readers[name] += 1
        try:
            while True:
                feed = self.get(name)
                if feed is None:
                    return
                start = bisect_right(feed.numbers, after)
                chosen = feed.texts[start : start + BATCH]
                if chosen:
                    after = feed.numbers[start + len(chosen) - 1]
                elif feed.ended or self._closed:
                    return
                del feed  # a reader that is slow to take this must not keep an old state
                if chosen:
                    yield b"".join(chosen)
                elif not await self._changed_soon(name):
                    yield HEARTBEAT
        finally:
            self._readers[name] -= 1
            if not self._readers[name]:
                del self._readers[name]
                self._feeds.pop(name, None)

    async def _changed_soon(self, name: str) -> bool:
        """Whether the Run changes before the next heartbeat is due."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_later(self._heartbeat, _settle, waiter, False)
        self._waiting[name].add(waiter)
        try:
            return await waiter
        finally:
            timer.cancel()
            self._waiting[name].discard(waiter)
            if not self._waiting[name]:
                del self._waiting[name]

    def _wake(self, name: str) -> None:
        for waiter in self._waiting.get(name, ()):
            _settle(waiter, True)


def _settle(waiter: asyncio.Future[bool], value: bool) -> None:
    if not waiter.done():
        waiter.set_result(value)
