"""If these fail, one slow browser holds up the others, or a page misses an event when it comes back."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from maze_api.sse import BATCH, HEARTBEAT, Feeds
from test_api_scenario_view import run_object, task

Json = dict[str, Any]
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Source:
    """Runs that a test changes."""

    def __init__(self, heartbeat: float = 60) -> None:
        self.objects: dict[str, Json] = {}
        self.feeds = Feeds(self.objects.get, heartbeat)

    def set(self, status: Json) -> None:
        self.objects["run-1"] = run_object(status)
        self.feeds.changed(("maze", "run-1"), None, None)


def status(ended_steps: int, phase: str = "Running") -> Json:
    tasks = [task(f"t{n}", "Succeeded", 2 * n + 2, 2 * n + 3) for n in range(ended_steps)]
    end = {"endEvent": 2 * ended_steps + 2, "completionTime": "2026-04-24T09:28:01Z"} if phase != "Running" else {}
    return {"phase": phase, "tasks": tasks, **end}


def ids(chunks: list[bytes]) -> list[int]:
    return [int(line[4:]) for line in b"".join(chunks).decode().splitlines() if line.startswith("id: ")]


async def read_all(source: Source, after: int = 0) -> list[bytes]:
    return [chunk async for chunk in source.feeds.follow("run-1", after)]


async def test_a_late_reader_gets_everything_and_one_that_comes_back_the_rest() -> None:
    source = Source()
    source.set(status(3, "Succeeded"))
    assert ids(await read_all(source)) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert ids(await read_all(source, after=5)) == [6, 7, 8]
    assert await read_all(source, after=8) == []


async def test_readers_at_different_places_get_the_same_events() -> None:
    source = Source()
    source.set(status(0))
    readers = [asyncio.create_task(read_all(source))]
    for steps in range(1, 6):
        await asyncio.sleep(0)
        source.set(status(steps))
        readers.append(asyncio.create_task(read_all(source)))
    await asyncio.sleep(0)
    source.set(status(5, "Succeeded"))
    found = await asyncio.wait_for(asyncio.gather(*readers), 10)
    assert [ids(chunks) for chunks in found] == [list(range(1, 13))] * 6
    assert not source.feeds._readers
    assert not source.feeds._feeds
    assert not source.feeds._waiting


async def test_a_write_is_small_and_a_reader_that_is_slow_holds_nothing_more() -> None:
    source = Source()
    source.set(status(500))
    async with aclosing(source.feeds.follow("run-1", 0)) as stream:
        first = await anext(stream)
        assert len(ids([first])) == BATCH
        source.set(status(500, "Succeeded"))
        rest = [chunk async for chunk in stream]
    assert ids([first, *rest]) == list(range(1, 1003))
    assert all(len(ids([chunk])) <= BATCH for chunk in rest)


async def test_nothing_new_is_a_comment() -> None:
    source = Source(heartbeat=0.01)
    source.set(status(0))
    async with aclosing(source.feeds.follow("run-1", 1)) as stream:
        assert await anext(stream) == HEARTBEAT
        assert await anext(stream) == HEARTBEAT
        source.set(status(0, "Failed"))
        assert ids([await anext(stream)]) == [2]


async def test_a_deleted_run_and_a_process_that_stops_end_the_stream() -> None:
    source = Source()
    source.set(status(0))
    reader = asyncio.create_task(read_all(source))
    await asyncio.sleep(0)
    del source.objects["run-1"]
    source.feeds.changed(("maze", "run-1"), None, None)
    assert ids(await asyncio.wait_for(reader, 10)) == [1]
    source.set(status(0))
    reader = asyncio.create_task(read_all(source))
    await asyncio.sleep(0)
    source.feeds.close()
    assert ids(await asyncio.wait_for(reader, 10)) == [1]
