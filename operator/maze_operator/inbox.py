"""Events that were posted to one OpRun and are not answered yet, in the order they came."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from maze_operator.core.values import Posted, Reply


@dataclass
class _Entry:
    posted: Posted
    reply: asyncio.Future[Reply]
    waiting: int = 0
    """How many senders wait for the reply: those who repeat an event wait for one."""


class Inbox:
    """An event is in here for as long as somebody waits for its reply."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._closed: Exception | None = None

    def posted(self) -> tuple[Posted, ...]:
        return tuple(entry.posted for entry in self._entries.values())

    async def post(self, posted: Posted) -> Reply:
        """Queue the event, unless one with its key is queued already; what became of it.

        Raises:
            Exception: what `close` was called with.
        """
        if self._closed is not None:
            raise self._closed
        entry = self._entries.get(posted.key)
        if entry is None:
            entry = self._entries[posted.key] = _Entry(posted, asyncio.get_running_loop().create_future())
        entry.waiting += 1
        try:
            return await asyncio.shield(entry.reply)
        finally:
            entry.waiting -= 1
            if not entry.waiting and self._entries.get(posted.key) is entry:
                del self._entries[posted.key]

    def answer(self, answered: Iterable[tuple[Posted, Reply]]) -> None:
        """Their senders may have given up meanwhile."""
        for posted, reply in answered:
            entry = self._entries.get(posted.key)
            if entry is not None and entry.posted is posted:
                del self._entries[posted.key]
                entry.reply.set_result(reply)

    def close(self, error: Exception) -> None:
        """Nothing that is or will be posted is ever taken."""
        self._closed = error
        for entry in self._entries.values():
            entry.reply.set_exception(error)
            entry.reply.exception()  # its sender may have given up in this very moment
        self._entries.clear()
