"""Delivers the events of OpRuns, as CloudEvents, to the sink of the installation.

At least once, and in the order of their ids within a Run: the next event goes out when the sink has taken the one before.
How far that is, is in `status.op.delivered`, so a new operator goes on from there.

A Run with something to deliver has a task of its own here. The task holds one of a few slots for a turn of a few events, and
waits without one between tries. A Run whose event was not taken goes on in the slots for such Runs, which are fewer; so a
sink that is dead, slow or choosy holds up nothing but what it does not take, costs little however many Runs wait for it, and
memory holds the events of as many Runs as there are slots.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from cloudevents.core.bindings.http import HTTPMessage

from maze_crds import names
from maze_io.kube import Object
from maze_io.store import AsyncStore, StoreError
from maze_operator import metrics
from maze_operator.core.delivery import (
    NO_SINK,
    due_in_status,
    is_taken,
    make_message,
    page_of,
    view_delivered,
    wait_after,
    wished_wait,
)
from maze_operator.core.timeline import output_values
from maze_operator.core.values import Settings

log = logging.getLogger(__name__)
Json = dict[str, Any]

SLOTS = 32
"""Runs whose events are read and sent at the same time, of those whose last one was taken."""
RETRY_SLOTS = 8
"""The same of those whose last one was not."""
REST_SECONDS = 0.1
"""For which a slot rests after an event that was not taken: with the slots, this bounds tries in vain per second."""
TURN_SECONDS = 2.0
"""After these a Run lets another one have its slot, at the next event."""
REQUEST_SECONDS = 10.0
"""For one event: connecting, sending, and the head of the answer."""
IDLE_SECONDS = 1.0
"""For which a connection is kept: less than servers do, so that they never close one that is just being used."""
NOTE_SECONDS = 0.5
"""What has been delivered within these is noted at once, so that writes of the status stay few."""
STOP_SECONDS = 3.0
"""For the last notes to be in the status."""
TEXT_LIMIT = 500
"""Characters of a problem."""

Note = Callable[[Object, int, str | None], None]
"""(the Run, how many of its events the sink has taken, why the next one is not taken): keeps it in the status."""


class NotTaken(Exception):
    """The next event has not been delivered; the text says why. `outcome`: for the counter, `wished`: seconds."""

    def __init__(self, outcome: str, why: str, wished: float = 0.0) -> None:
        super().__init__(why[:TEXT_LIMIT])
        self.outcome, self.wished = outcome, wished


@dataclass(eq=False)
class _Line:
    """What waits of one Run."""

    run: Object
    """The newest that has been seen."""
    total: int
    taken: int
    problem: str | None
    status: tuple[int, str | None]
    """`taken` and `problem` as they are in `run`."""
    task: asyncio.Task[None] | None = None
    noting: asyncio.TimerHandle | None = None

    @property
    def is_noted(self) -> bool:
        return self.status == (self.taken, self.problem)


class Deliveries:
    def __init__(self, store: AsyncStore, settings: Settings, note: Note) -> None:
        self._store, self._sink, self._note = store, settings.event_sink, note
        self._lines: dict[str, _Line] = {}
        self._slots, self._retry_slots = asyncio.Semaphore(SLOTS), asyncio.Semaphore(RETRY_SLOTS)
        self._session: aiohttp.ClientSession | None = None
        self._seen = asyncio.Event()

    def see_run(self, uid: str, run: Object | None) -> None:
        """A Run as it is now; None: gone."""
        seen = view_delivered(run) if run is not None else None
        line = self._lines.get(uid)
        self._seen.set()
        if seen is None or run is None:
            self._drop(uid)
            return
        if line is None:
            if seen.taken >= seen.total:
                return
            line = _Line(run, seen.total, seen.taken, seen.problem, (seen.taken, seen.problem))
            self._lines[uid] = line
        line.run, line.total, line.status = run, seen.total, (seen.taken, seen.problem)
        line.taken = max(line.taken, seen.taken)
        if line.taken < line.total:
            self._begin(line)
        if not line.is_noted:
            self._note_soon(line)
        elif line.taken >= line.total:
            self._drop(uid)

    async def start(self) -> None:
        """This process leads, and every Run has been seen."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=SLOTS + RETRY_SLOTS, keepalive_timeout=IDLE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
        )
        for line in list(self._lines.values()):
            self._begin(line)

    async def stop(self) -> None:
        """Within a few seconds; what has been delivered is noted."""
        session, self._session = self._session, None
        if session is None:
            return
        tasks = [line.task for line in self._lines.values() if line.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await session.close()
        for line in list(self._lines.values()):
            if not line.is_noted:
                self._note_now(line)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                while not all(line.is_noted for line in self._lines.values()):
                    self._seen.clear()
                    await self._seen.wait()
        except TimeoutError:
            log.warning("not all deliveries of events are noted: some are going to be repeated")

    def _begin(self, line: _Line) -> None:
        if self._session is None or line.task is not None:
            return
        if self._sink is None:
            self._change(line, line.taken, NO_SINK)
        else:
            line.task = asyncio.create_task(self._deliver(self._session, self._sink, line))

    def _drop(self, uid: str) -> None:
        line = self._lines.pop(uid, None)
        if line is None:
            return
        if line.task is not None:
            line.task.cancel()
        if line.noting is not None:
            line.noting.cancel()

    def _change(self, line: _Line, taken: int, problem: str | None) -> None:
        if (taken, problem) == (line.taken, line.problem):
            return
        if problem is not None and problem != line.problem:
            log.warning("run %s: event %d is not delivered: %s", line.run["metadata"]["name"], taken, problem)
        line.taken, line.problem = taken, problem
        self._note_soon(line)

    def _note_soon(self, line: _Line) -> None:
        if line.noting is None and self._session is not None:
            line.noting = asyncio.get_running_loop().call_later(NOTE_SECONDS, self._note_now, line)

    def _note_now(self, line: _Line) -> None:
        if line.noting is not None:
            line.noting.cancel()
            line.noting = None
        self._note(line.run, line.taken, line.problem)

    async def _deliver(self, session: aiohttp.ClientSession, sink: str, line: _Line) -> None:
        """Until nothing is left."""
        failures = 0
        while line.taken < line.total:
            before, wished = line.taken, 0.0
            async with self._slots if failures == 0 else self._retry_slots:
                try:
                    await self._take_turn(session, sink, line)
                    failures = 0
                    continue
                except NotTaken as error:
                    outcome, problem, wished = error.outcome, str(error), error.wished
                except Exception as error:
                    log.exception("run %s: event %d", line.run["metadata"]["name"], line.taken)
                    outcome, problem = "error", f"the operator failed: {error!r}"[:TEXT_LIMIT]
                metrics.DELIVERIES.labels(outcome).inc()
                self._change(line, line.taken, problem)
                await asyncio.sleep(REST_SECONDS)
            failures = failures + 1 if line.taken == before else 1
            await asyncio.sleep(wait_after(failures, wished, random.random()))
        line.task = None

    async def _take_turn(self, session: aiohttp.ClientSession, sink: str, line: _Line) -> None:
        """The next events, until none is left that can be had at once, or the turn is over.

        Raises:
            NotTaken: at the first one that is not.
        """
        until = asyncio.get_running_loop().time() + TURN_SECONDS
        for event in await self._due(line):
            await self._post(session, sink, await self._message(line.run, event))
            metrics.DELIVERIES.labels("taken").inc()
            self._change(line, event["id"] + 1, None)
            if asyncio.get_running_loop().time() > until:
                return

    async def _post(self, session: aiohttp.ClientSession, sink: str, message: HTTPMessage) -> None:
        body = io.BytesIO(message.body)  # sent in parts: a large one does not hold up the event loop
        try:
            async with session.post(sink, data=body, headers=message.headers, allow_redirects=False) as answer:
                status, retry_after = answer.status, answer.headers.get("Retry-After")
        except TimeoutError:
            raise NotTaken("unreachable", f"the sink did not answer within {REQUEST_SECONDS:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NotTaken("unreachable", f"the sink can't be reached: {error}") from error
        if not is_taken(status):
            raise NotTaken("refused", f"the sink answered {status}", wished_wait(retry_after, datetime.now(UTC)))

    async def _due(self, line: _Line) -> list[Json]:
        """The next entries, one at least."""
        due = due_in_status(line.run, line.taken)
        if due is None:
            page = page_of(line.taken)
            key = names.events_key(line.run["metadata"]["uid"], page)
            entries: list[Json] = json.loads(await self._read(key))
            due = [event for event in entries if event["id"] >= line.taken]
            if not due:
                raise NotTaken("unreadable", f"the object store has lost event {line.taken}: it is not in {key}")
        return due

    async def _message(self, run: Object, event: Json) -> HTTPMessage:
        """With what the entry itself is too small for."""
        uid, stored, with_outputs = run["metadata"]["uid"], event.get("stored"), event.get("outputs", False)
        if stored is None and not with_outputs:
            return make_message(run, event, event.get("msg", ""), event.get("payload"))
        if stored is not None:
            data = await self._read(names.event_key(uid, stored))
        else:
            task = run["status"]["tasks"][0]["name"]
            data = await self._read(names.result_key(uid, task, event["attempt"]))
        return await asyncio.to_thread(_make_whole, run, event, data)

    async def _read(self, key: str) -> bytes:
        try:
            data = await self._store.get(key)
        except StoreError as error:
            raise NotTaken("unreadable", f"the event can't be read: {error}") from error
        if data is None:
            raise NotTaken("unreadable", f"the object store has lost the event: there is no {key}")
        return data


def _make_whole(run: Object, event: Json, data: bytes) -> HTTPMessage:
    """`data`: `{"msg", "payload"}` of the event, or the Result that has the outputs of its attempt."""
    found = json.loads(data)
    if "stored" in event:
        return make_message(run, event, found["msg"], found.get("payload"))
    payload = {**(event.get("payload") or {}), "outputs": output_values(found)}
    return make_message(run, event, event.get("msg", ""), payload)
