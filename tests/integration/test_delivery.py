"""Delivery of events to real HTTP sinks: which ones arrive, in which order, how often, and what the status says of it."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from delivery_stage import TIME, Operator, Sink, bound_socket, events, served, url_of
from maze_crds import names
from maze_crds.oprun import PAGE
from maze_io.store import ObjectStore
from maze_operator.delivery import NOTE_SECONDS, SLOTS

pytestmark = pytest.mark.anyio


@pytest.fixture
async def operator(store: ObjectStore) -> AsyncIterator[Operator]:
    made = Operator(store)
    yield made
    if made.deliveries is not None:
        await made.stop()
    for run in made.runs.values():
        await made.store.delete_prefix(names.run_prefix(run["metadata"]["uid"]))
    await made.store.close()


async def test_events_arrive_once_and_in_order_where_the_sink_takes_them(operator: Operator) -> None:
    before = delivered_so_far("taken")
    for name in ("a", "b", "c"):
        operator.add(name, events(0, 20))
    sink = Sink()
    async with served(sink) as url:
        await operator.start(url)
        for name in ("a", "b", "c"):
            await operator.until(name, 20)
        operator.say("b", *events(20, 5))
        await operator.until("b", 25)
        operator.say("c", {"id": 20, "type": "COMPLETED", "time": TIME, "attempt": 1, "payload": {"outputs": {"x": 1}}})
        await operator.until("c", 21)
    assert [sink.taken_of(name) for name in ("a", "b", "c")] == [list(range(n)) for n in (20, 25, 21)]
    completed = sink.data[f"{operator.runs['c']['metadata']['uid']}/20"]
    assert completed["event"]["payload"] == {"outputs": {"x": 1}}
    assert (completed["topic"], completed["attributes"]) == ("tests", {"tenant": "a"})
    assert delivered_so_far("taken") - before == 66


async def test_an_event_is_sent_again_until_it_is_taken_and_holds_the_later_ones(operator: Operator) -> None:
    noes = itertools.cycle((500, 404, 302))
    mended = asyncio.Event()

    async def refuse_one(run: str, event: int) -> web.StreamResponse:
        status = 202 if event != 1 or mended.is_set() else next(noes)
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    operator.add("a", events(0, 4))
    sink = Sink(refuse_one)
    async with served(sink) as url:
        await operator.start(url)
        await sink.until(lambda sink: len(sink.asked) >= 4)
        await operator.until("a", 1, "the sink answered")
        mended.set()
        await operator.until("a", 4)
    tries = len(sink.asked) - 3
    assert sink.asked == [("a", event) for event in (0, *[1] * tries, 2, 3)]
    assert tries >= 4
    said = {problem for _, _, problem in operator.notes if problem}
    assert said <= {"the sink answered 500", "the sink answered 404", "the sink answered 302"}


async def test_an_event_whose_acknowledgement_is_lost_comes_again(operator: Operator) -> None:
    lost = False

    async def lose_one(run: str, event: int) -> web.StreamResponse:
        nonlocal lost
        if event == 1 and not lost:
            lost = True
            raise ConnectionResetError  # the connection ends without an answer
        return web.Response()

    operator.add("a", events(0, 3))
    sink = Sink(lose_one)
    async with served(sink) as url:
        await operator.start(url)
        await operator.until("a", 3)
    assert sink.asked == [("a", event) for event in (0, 1, 1, 2)]


async def test_a_sink_that_comes_late_gets_everything(operator: Operator) -> None:
    bound = bound_socket()
    operator.add("a", events(0, 3))
    await operator.start(url_of(bound))
    await operator.until("a", 0, "the sink can't be reached: ")
    sink = Sink()
    async with served(sink, bound):
        await operator.until("a", 3)
        await operator.stop()
    assert sink.taken == [("a", event) for event in range(3)]


async def test_the_sink_says_when_to_try_again(operator: Operator) -> None:
    async def busy_once(run: str, event: int) -> web.StreamResponse:
        return web.Response(status=503, headers={"Retry-After": "3"}) if len(sink.asked) == 1 else web.Response()

    operator.add("a", events(0, 1))
    sink = Sink(busy_once)
    async with served(sink) as url:
        await operator.start(url)
        await operator.until("a", 1)
    first, second = sink.times
    assert second - first > 2.99
    assert operator.notes == [("a", 0, "the sink answered 503"), ("a", 1, None)]


@pytest.mark.parametrize("hanging", [1, 2 * SLOTS])
async def test_runs_whose_events_hang_hold_up_no_others(operator: Operator, hanging: int) -> None:
    never = asyncio.Event()

    async def hang(run: str, event: int) -> web.StreamResponse:
        if run.startswith("stuck"):
            await never.wait()
        return web.Response()

    for n in range(hanging):
        operator.add(f"stuck-{n}", events(0, 1))
    sink = Sink(hang)
    async with served(sink) as url:
        await operator.start(url)
        await sink.until(lambda sink: len(sink.asked) >= min(hanging, SLOTS))
        for n in range(3):
            operator.add(f"free-{n}", events(0, 3))
        for n in range(3):
            await operator.until(f"free-{n}", 3)
        await operator.until("stuck-0", 0, "did not answer within")
        await operator.stop()
    assert {name for name, _ in sink.taken} == {"free-0", "free-1", "free-2"}


async def test_a_new_operator_goes_on_where_the_last_one_was(operator: Operator) -> None:
    closed = asyncio.Event()
    closed.set()

    async def close_after_three(run: str, event: int) -> web.StreamResponse:
        return web.Response(status=503 if closed.is_set() and event >= 3 else 200)

    operator.add("a", events(0, 6))
    sink = Sink(close_after_three)
    async with served(sink) as url:
        await operator.start(url)
        await operator.until("a", 3, "the sink answered 503")
        await operator.stop()
        seen = len(sink.asked)
        closed.clear()
        await operator.start(url)
        await operator.until("a", 6)
        await operator.stop()
    assert sink.asked[seen:] == [("a", event) for event in (3, 4, 5)]
    assert sink.taken_of("a") == list(range(6))


async def test_a_new_operator_begins_where_the_status_says(operator: Operator) -> None:
    operator.add("a", events(0, 4), delivered=2)
    sink = Sink()
    async with served(sink) as url:
        await operator.start(url)
        await operator.until("a", 4)
    assert sink.taken_of("a") == [2, 3]


async def test_what_was_delivered_last_is_noted_when_the_operator_stops(operator: Operator) -> None:
    never = asyncio.Event()

    async def hang_at_two(run: str, event: int) -> web.StreamResponse:
        if event == 2:
            await never.wait()
        return web.Response()

    operator.add("a", events(0, 4))
    sink = Sink(hang_at_two)
    async with served(sink) as url:
        await operator.start(url)
        await sink.until(lambda sink: ("a", 2) in sink.asked)
        await operator.stop()
        assert operator.op("a")["delivered"] == 2
    assert operator.notes[-1] == ("a", 2, None)


async def test_many_events_make_few_notes(operator: Operator) -> None:
    operator.add("a", events(0, 200))
    sink = Sink()
    async with served(sink) as url:
        started = asyncio.get_running_loop().time()
        await operator.start(url)
        await operator.until("a", 200)
        took = asyncio.get_running_loop().time() - started
    assert sink.taken_of("a") == list(range(200))
    assert len(operator.notes) <= took / NOTE_SECONDS + 1


async def test_events_that_have_left_the_status_come_from_their_pages(operator: Operator) -> None:
    total = 3 * PAGE + 5
    everything = events(0, total)
    uid = operator.add("a", everything[2 * PAGE :])["metadata"]["uid"]
    for page in range(2):
        body = json.dumps(everything[page * PAGE : (page + 1) * PAGE]).encode()
        await operator.store.put(names.events_key(uid, page), body)
    sink = Sink()
    async with served(sink) as url:
        await operator.start(url)
        await operator.until("a", total)
    assert sink.taken_of("a") == list(range(total))
    assert sink.data[f"{uid}/{PAGE + 3}"]["event"]["msg"] == everything[PAGE + 3]["msg"]


async def test_a_page_that_can_not_be_read_is_told_and_awaited(operator: Operator) -> None:
    everything = events(0, PAGE + 1)
    uid = operator.add("a", everything[PAGE:])["metadata"]["uid"]
    sink = Sink()
    async with served(sink) as url:
        await operator.start(url)
        await operator.until("a", 0, "the object store has lost the event")
        await operator.store.put(names.events_key(uid, 0), json.dumps(everything[:PAGE]).encode())
        await operator.until("a", PAGE + 1)
    assert sink.taken_of("a") == list(range(PAGE + 1))


async def test_large_events_and_outputs_arrive_whole(operator: Operator) -> None:
    whole = {"msg": "m" * 5000, "payload": {"rows": ["ü" * 1000] * 3000}}
    data = json.dumps(whole).encode()
    sha256 = hashlib.sha256(data).hexdigest()
    entries = [
        {"id": 0, "type": "REPORT", "time": TIME, "attempt": 1, "msg": "mmm", "stored": sha256},
        {"id": 1, "type": "COMPLETED", "time": TIME, "attempt": 2, "outputs": True},
    ]
    uid = operator.add("a", entries)["metadata"]["uid"]
    await operator.store.put(names.event_key(uid, sha256), data)
    outputs = {"big": list(range(1000)), "none": None}
    result = {"outputs": {key: {"encoding": "json", "value": value} for key, value in outputs.items()}}
    await operator.store.put(names.result_key(uid, "op", 2), json.dumps(result).encode())
    sink = Sink()
    async with served(sink) as url:
        await operator.start(url)
        await operator.until("a", 2)
    first, second = sink.data[f"{uid}/0"]["event"], sink.data[f"{uid}/1"]["event"]
    assert (first["msg"], first["payload"]) == (whole["msg"], whole["payload"])
    assert second["payload"] == {"outputs": outputs}


async def test_without_a_sink_the_status_says_what_to_set(operator: Operator) -> None:
    operator.add("a", events(0, 2))
    await operator.start(None)
    await operator.until("a", 0, "MAZE_EVENT_SINK_URL")
    operator.say("a", *events(2, 2))
    await operator.stop()
    assert len(operator.notes) == 1
    sink = Sink()
    async with served(sink) as url:
        await operator.start(url)
        await operator.until("a", 4)
    assert sink.taken_of("a") == list(range(4))


async def test_a_deleted_run_is_not_delivered_any_more(operator: Operator) -> None:
    tries: Counter[str] = Counter()

    async def refuse(run: str, event: int) -> web.StreamResponse:
        tries[run] += 1
        if run == "a":
            operator.delete("a")
        return web.Response(status=202 if tries["b"] > 3 else 500)

    operator.add("a", events(0, 1))
    operator.add("b", events(0, 1))  # refused for longer than the other one would have waited
    sink = Sink(refuse)
    async with served(sink) as url:
        await operator.start(url)
        await operator.until("b", 1)
    assert tries["a"] == 1
    assert {name for name, _, _ in operator.notes} == {"b"}


def delivered_so_far(outcome: str) -> float:
    return REGISTRY.get_sample_value("maze_operator_event_deliveries_total", {"outcome": outcome}) or 0.0
