"""Real HTTP sinks for events, and what is around Deliveries in the operator."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from cloudevents.core.bindings.http import HTTPMessage, from_http_event

from maze_io.store import AsyncStore, ObjectStore
from maze_operator.core.values import Settings
from maze_operator.delivery import Deliveries

Json = dict[str, Any]
Answer = Callable[[str, int], Awaitable[web.StreamResponse]]
"""(name of the Run, id of the event) → what the sink says; an event whose answer is 2xx has been taken."""

SECONDS = 120.0
"""How long anything here may take that takes a moment on an idle machine."""
TIME = "2026-05-04T03:02:01.005000Z"


async def say_yes(run: str, event: int) -> web.StreamResponse:
    return web.Response(status=202)


class Sink:
    """Keeps what it is sent, as a receiver with the same package reads it."""

    def __init__(self, answer: Answer = say_yes) -> None:
        self.answer = answer
        self.asked: list[tuple[str, int]] = []
        self.taken: list[tuple[str, int]] = []
        self.data: dict[str, Json] = {}
        """By the id of the CloudEvent."""
        self.times: list[float] = []
        self._changed = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        event = from_http_event(HTTPMessage(dict(request.headers), await request.read()))
        data = event.get_data()
        assert isinstance(data, dict)
        one = (data["run_id"], data["event"]["id"])
        self.times.append(asyncio.get_running_loop().time())
        await self._add(self.asked, one)
        answer = await self.answer(*one)
        if 200 <= answer.status < 300:
            self.data[event.get_id()] = data
            await self._add(self.taken, one)
        return answer

    async def _add(self, to: list[tuple[str, int]], one: tuple[str, int]) -> None:
        async with self._changed:
            to.append(one)
            self._changed.notify_all()

    async def until(self, holds: Callable[[Sink], bool]) -> None:
        try:
            async with asyncio.timeout(SECONDS), self._changed:
                await self._changed.wait_for(lambda: holds(self))
        except TimeoutError:
            raise AssertionError(f"asked for {self.asked}, taken {self.taken}") from None

    def taken_of(self, run: str) -> list[int]:
        return [event for name, event in self.taken if name == run]


class Operator:
    """What is around Deliveries: the Runs, and a status that is written soon after a note, as a RunWorker does."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = AsyncStore(store)
        self.runs: dict[str, Json] = {}
        self.notes: list[tuple[str, int, str | None]] = []
        self.deliveries: Deliveries | None = None
        self._noted = asyncio.Condition()
        self._writes: set[asyncio.Task[None]] = set()

    def add(self, name: str, events: list[Json], delivered: int = 0) -> Json:
        """A Run that has these events in its status."""
        last = events[-1]["id"] + 1
        self.runs[name] = {
            "metadata": {"name": name, "uid": f"test-{uuid.uuid4()}"},
            "spec": {"opRun": {"eventDelivery": {"topic": "tests", "attributes": {"tenant": "a"}}}},
            "status": {
                "tasks": [{"name": "op"}],
                "op": {"state": "RUNNING", "nextEvent": last, "events": events, "delivered": delivered},
            },
        }
        self._see(name)
        return self.runs[name]

    def say(self, name: str, *more: Json) -> None:
        """More events of a Run."""
        op = self.runs[name]["status"]["op"]
        self._write(name, events=[*op["events"], *more], nextEvent=more[-1]["id"] + 1)

    def delete(self, name: str) -> None:
        uid = self.runs.pop(name)["metadata"]["uid"]
        assert self.deliveries is not None
        self.deliveries.see_run(uid, None)

    def op(self, name: str) -> Json:
        found: Json = self.runs[name]["status"]["op"]
        return found

    async def until(self, name: str, delivered: int, problem: str | None = None) -> None:
        """The status says this much; `problem`: a part of it."""

        def holds() -> bool:
            op = self.op(name)
            said = op.get("deliveryProblem")
            return op["delivered"] == delivered and (said is None if problem is None else problem in (said or ""))

        try:
            async with asyncio.timeout(SECONDS), self._noted:
                await self._noted.wait_for(holds)
        except TimeoutError:
            raise AssertionError(
                f"{name}: {self.op(name)['delivered']}, {self.op(name).get('deliveryProblem')}"
            ) from None

    async def start(self, sink: str | None) -> None:
        self.deliveries = Deliveries(self.store, Settings("image", "http://report", event_sink=sink), self._note)
        for name in self.runs:
            self._see(name)
        await self.deliveries.start()

    async def stop(self) -> None:
        assert self.deliveries is not None
        async with asyncio.timeout(SECONDS):
            await self.deliveries.stop()
        self.deliveries = None

    def _note(self, run: Json, count: int, problem: str | None) -> None:
        self.notes.append((run["metadata"]["name"], count, problem))
        write = asyncio.create_task(self._keep(run["metadata"]["name"], count, problem))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)

    async def _keep(self, name: str, count: int, problem: str | None) -> None:
        async with self._noted:
            if name in self.runs:
                self._write(name, delivered=count, deliveryProblem=problem)
            self._noted.notify_all()

    def _write(self, name: str, **op: Any) -> None:
        run = self.runs[name]
        self.runs[name] = {**run, "status": {**run["status"], "op": {**run["status"]["op"], **op}}}
        self._see(name)

    def _see(self, name: str) -> None:
        if self.deliveries is not None:
            self.deliveries.see_run(self.runs[name]["metadata"]["uid"], self.runs[name])


def events(first: int, count: int) -> list[Json]:
    return [{"id": first + n, "type": "PROGRESS", "time": TIME, "attempt": 1, "msg": n % 100} for n in range(count)]


@asynccontextmanager
async def served(sink: Sink, on: socket.socket | None = None) -> AsyncIterator[str]:
    """Its URL. `on`: a socket that is bound already."""
    app = web.Application(client_max_size=1 << 26)
    app.add_routes([web.post("/events", sink.handle)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, handler_cancellation=True)
    await runner.setup()
    bound = on or bound_socket()
    await web.SockSite(runner, bound).start()
    try:
        yield url_of(bound)
    finally:
        await runner.cleanup()


def bound_socket() -> socket.socket:
    """Nobody listens there yet, and nobody else can."""
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    return made


def url_of(bound: socket.socket) -> str:
    return f"http://127.0.0.1:{bound.getsockname()[1]}/events"
