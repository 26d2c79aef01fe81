"""Events of OpRuns that leave for the object store: before they are acknowledged, and never lost when it is down."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from maze_crds import names
from maze_crds.oprun import PAGE, TAIL, TAIL_LIMIT, OpEvent
from maze_operator import run_events
from stand_ins import RUNS, detail, place, store_down

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# -- what is large


async def test_what_is_large_is_stored_before_the_status_is_written() -> None:
    async with place() as here:
        uid = here.create()["metadata"]["uid"]
        await here.until(lambda: here.op())
        begun = len(here.world.calls)
        await here.say("NOTE", msg="m" * 2000, payload={"a": [1]})
        [event] = here.op()["events"]
        assert (event["msg"], event.get("payload")) == ("m" * 200, None)
        key = names.event_key(uid, event["stored"])
        assert json.loads(here.world.stored[key]) == {"msg": "m" * 2000, "payload": {"a": [1]}}
        writes = [call for call in here.world.calls[begun:] if call.startswith("PUT")]
        assert writes[0] == f"PUT {key}"


async def test_an_event_is_not_acknowledged_when_what_is_large_can_not_be_stored() -> None:
    async with place() as here:
        here.create()
        here.world.fail = store_down
        for body in ({"type": "NOTE", "msg": "m" * 2000}, {"type": "COMPLETED"}):
            answer = await here.post(body)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert "connection refused" in await detail(answer)
        here.world.fail = lambda call: None
        assert (await here.say("COMPLETED"))["id"] == 0


async def test_a_result_that_is_being_stored_is_not_taken_for_what_the_pod_left() -> None:
    async with place() as here:
        uid = here.create()["metadata"]["uid"]
        pod = await here.until(lambda: here.pod())
        key = names.result_key(uid, "op", 1)
        stored = asyncio.Event()
        put = here.world.put

        async def slow_put(path: str, body: Any) -> Any:
            answer = await put(path, body)
            if path == key:  # it is there, but who stored it does not know yet
                await stored.wait()
            return answer

        here.world.put = slow_put  # type: ignore[method-assign]
        end = asyncio.create_task(here.say("COMPLETED", msg="mine", key="k"))
        await here.until(lambda: key in here.world.stored)
        terminated = {"exitCode": 1, "reason": "Error"}
        here.see_pod(phase="Failed", containerStatuses=[{"state": {"terminated": terminated}}])
        lookups = here.world.calls.count(f"GET {key}")
        for _ in range(200):
            await asyncio.sleep(0)
        assert here.world.calls.count(f"GET {key}") == lookups
        assert here.op()["attempts"][0]["state"] != "COMPLETED"
        stored.set()
        await end
        assert here.op()["state"] == "COMPLETED"
        assert [event["msg"] for event in here.op()["events"] if event.get("key") == "k"] == ["mine"]
        assert here.types().count("COMPLETED") == 1
        assert pod is not None


# -- pages


async def test_pages_are_stored_before_the_events_leave_the_status() -> None:
    async with place() as here:
        uid = here.create()["metadata"]["uid"]
        for n in range(TAIL + 5):
            await here.say("NOTE", msg=n, key=f"k{n}")
        assert [event["id"] for event in here.op()["events"]] == list(range(PAGE, TAIL + 5))
        page = json.loads(here.world.stored[names.events_key(uid, 0)])
        assert [OpEvent.model_validate(one).msg for one in page] == list(range(PAGE))
        assert page[1] | {"id": 0, "msg": 0, "time": "", "key": ""} == {
            **here.op()["events"][0],
            **{"id": 0, "msg": 0, "time": "", "key": ""},
        }
        calls = here.world.calls
        stored = calls.index(f"PUT {names.events_key(uid, 0)}")
        assert calls[:stored].count(f"PUT {RUNS}/r/status") <= TAIL + 1


async def test_events_stay_in_the_status_for_a_while_when_the_store_is_down(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maze_operator.worker.SLOW", 0.01)
    async with place() as here:
        uid = here.create()["metadata"]["uid"]
        here.world.fail = store_down
        for n in range(TAIL_LIMIT):
            await here.say("NOTE", msg=n)
        assert [event["id"] for event in here.op()["events"]] == list(range(TAIL_LIMIT))
        with monkeypatch.context() as patched:
            patched.setattr(run_events, "DURABLE_SECONDS", 0.2)
            answer = await here.post({"type": "NOTE", "msg": "one too many"})
            assert answer.status == 503
        waits = asyncio.create_task(here.say("NOTE", msg="last"))
        await here.until(lambda: here.engine.ensure_worker(here.run()).inbox.posted())
        here.world.fail = lambda call: None
        assert (await waits)["id"] == TAIL_LIMIT
        assert [event["id"] for event in here.op()["events"]] == list(range(TAIL_LIMIT - PAGE, TAIL_LIMIT + 1))
        for page in range(TAIL_LIMIT // PAGE - 1):
            ids = [one["id"] for one in json.loads(here.world.stored[names.events_key(uid, page)])]
            assert ids == list(range(page * PAGE, (page + 1) * PAGE))
    told = [record for record in caplog.records if record.name == "maze_operator.worker"]
    assert told
    assert {record.levelno for record in told} == {logging.WARNING}
    assert not any(record.exc_info and record.exc_info[0] for record in told)


@pytest.mark.parametrize("value", [10**30, "[" * 40 + "1" + "]" * 40])
async def test_outputs_that_the_api_server_would_change_or_refuse_are_kept_whole(value: Any) -> None:
    given = json.loads(value) if isinstance(value, str) else value
    async with place() as here:
        uid = here.create()["metadata"]["uid"]
        await here.say("COMPLETED", payload={"outputs": {"a": given}})
        assert (here.op().get("outputs"), here.op()["outputsFrom"]) == (None, 1)
        stored = json.loads(here.world.stored[names.result_key(uid, "op", 1)])
        assert stored["outputs"]["a"]["value"] == given
        [event] = [one for one in here.op()["events"] if one["type"] == "COMPLETED"]
        assert json.loads(here.world.stored[names.event_key(uid, event["stored"])])["payload"]["outputs"] == {
            "a": given
        }
