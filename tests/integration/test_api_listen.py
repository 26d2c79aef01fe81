"""The socket of the api, and event streams over it: what a client that does not read costs the others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from maze_api.listen import listen
from maze_api.sse import HEARTBEAT, Feeds
from test_api_scenario_view import run_object, task

SECONDS = 60.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server:
    """Event streams of one Run on a listening socket of ours; `open`: how many."""

    def __init__(self, stalled_seconds: float) -> None:
        self.objects = {"run-1": run_object({"phase": "Running"})}
        self.feeds = Feeds(self.objects.get, heartbeat=0.05)
        self.open = 0
        self._counted_again = asyncio.Event()
        self.socket = listen("127.0.0.1", 0, stalled_seconds)
        self.port: int = self.socket.getsockname()[1]

    def set(self, steps: int, phase: str = "Running") -> None:
        """Steps with messages, so that there is much to send."""
        tasks = [task(f"t{n}", "Failed", 2 * n + 2, 2 * n + 3, message="x" * 1000) for n in range(steps)]
        end = {} if phase == "Running" else {"endEvent": 2 * steps + 2, "completionTime": "2026-01-01T00:00:00Z"}
        self.objects["run-1"] = run_object({"phase": phase, "tasks": tasks, **end})
        self.feeds.changed(("maze", "run-1"), None, None)

    async def events(self, request: Request) -> Response:
        return StreamingResponse(self._counted(), media_type="text/event-stream")

    async def _counted(self) -> AsyncIterator[bytes]:
        self._count(1)
        try:
            async for chunk in self.feeds.follow("run-1", 0):
                yield chunk
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        self.open += change
        self._counted_again.set()

    async def until_open(self, number: int) -> None:
        """Await that so many streams are open."""
        while self.open != number:
            self._counted_again.clear()
            await asyncio.wait_for(self._counted_again.wait(), SECONDS)


@asynccontextmanager
async def serving(stalled_seconds: float) -> AsyncIterator[Server]:
    made = Server(stalled_seconds)
    app = Starlette(routes=[Route("/events", made.events)])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
    running = asyncio.create_task(server.serve(sockets=[made.socket]))
    try:
        yield made
    finally:
        made.feeds.close()
        server.should_exit = True
        await running


async def connect(port: int, receive_buffer: int | None = None) -> socket.socket:
    """A client that has asked for the events and has read nothing yet."""
    made = socket.socket()
    if receive_buffer is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    made.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(made, ("127.0.0.1", port))
    await loop.sock_sendall(made, b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    return made


@asynccontextmanager
async def reading(port: int) -> AsyncIterator[asyncio.StreamReader]:
    """A client that reads."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        yield reader
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@pytest.mark.anyio
async def test_a_client_that_reads_nothing_is_dropped_and_holds_up_nobody() -> None:
    async with serving(stalled_seconds=1) as server:
        stalled = await connect(server.port, receive_buffer=4096)
        try:
            await server.until_open(1)
            server.set(40)  # more than its buffer takes
            async with reading(server.port) as reader:
                await asyncio.wait_for(reader.readuntil(b"id: 81\n"), SECONDS)
                await server.until_open(1)  # the stalled one is gone, by the kernel's timer
                server.set(40, "Failed")
                await asyncio.wait_for(reader.readuntil(b"event: run_finished\n"), SECONDS)
        finally:
            stalled.close()


@pytest.mark.anyio
async def test_a_client_that_only_waits_is_kept() -> None:
    async with serving(stalled_seconds=1) as server, reading(server.port) as reader:
        for _ in range(40):  # two seconds of heartbeats
            await asyncio.wait_for(reader.readuntil(HEARTBEAT), SECONDS)
        server.set(0, "Succeeded")
        await asyncio.wait_for(reader.readuntil(b"event: run_finished\n"), SECONDS)


@pytest.mark.anyio
async def test_a_client_that_leaves_is_noticed() -> None:
    async with serving(stalled_seconds=60) as server:
        client = await connect(server.port)
        await server.until_open(1)
        client.close()
        await server.until_open(0)


def test_connections_wait_for_no_acknowledgement() -> None:
    with listen("127.0.0.1", 0) as listening:
        listening.setblocking(True)
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


def test_an_address_that_is_taken_is_named() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match=f"can't listen on 127.0.0.1:{port}: "):
            listen("127.0.0.1", port)
