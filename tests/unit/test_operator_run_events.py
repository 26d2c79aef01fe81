"""Events that are posted to an OpRun: by whom, repeated, many at once, and while things fail or go away."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from builders import T0
from maze_crds import names
from maze_io.kube import KubeError
from maze_operator import run_events
from maze_operator.core.values import Posted, Reply
from maze_operator.inbox import Inbox
from maze_operator.run_reader import Gone
from maze_operator.tokens import make_run_token, make_token
from stand_ins import KEY, RUNS, detail, place

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# -- who may post to what


async def test_an_event_is_in_the_status_when_it_is_acknowledged() -> None:
    async with place() as here:
        here.create()
        assert await here.say("NOTE", msg="hello", payload={"a": None}) == {"id": 0, "state": "PENDING"}
        [event] = here.op()["events"]
        assert (event["id"], event["msg"], event["payload"], event["attempt"]) == (0, "hello", {"a": None}, 1)
        assert await here.say("PROGRESS", msg="40") == {"id": 1, "state": "PENDING"}
        assert here.op()["attempts"][-1]["progress"] == 40


async def test_tokens_are_good_for_their_own_run_only() -> None:
    async with place() as here:
        uid = here.create()["metadata"]["uid"]
        other = here.create("other")["metadata"]["uid"]
        good = make_run_token(KEY, "a", uid)
        assert (await here.post({"type": "NOTE"}, good)).status == 200
        for wrong in (
            make_run_token(KEY, "a", other),
            make_run_token(KEY, "b", uid),
            make_run_token(b"x" * 32, "a", uid),
            make_token(KEY, "a", uid),
            good[:-1],
            "",
        ):
            answer = await here.post({"type": "NOTE"}, wrong)
            assert answer.status == 401
            assert "MAZE_TOKEN" in await detail(answer)
        assert (await here.post({"type": "NOTE"}, good, run="nothing")).status == 401
        assert here.types() == ["NOTE"]


async def test_the_api_server_is_asked_before_a_run_is_said_not_to_be_there() -> None:
    async with place() as here:
        here.create(seen=False)
        assert (await here.post({"type": "NOTE"})).status == 200
        answer = await here.post({"type": "NOTE"}, run="nothing")
        assert answer.status == 404
        assert await detail(answer) == "there is no OpRun 'nothing' in namespace 'a'"
        assert (await here.post({"type": "NOTE"}, run="%2e%2e")).status == 404
        here.create("plain", opRun=None)
        assert (await here.post({"type": "NOTE"}, run="plain")).status == 404


async def test_nothing_is_taken_before_all_runs_are_known() -> None:
    async with place() as here:
        here.create()
        here.engine.ready = False
        answer = await here.post({"type": "NOTE"})
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize(
    ("body", "query", "text"),
    [
        (b"{", "", "no JSON"),
        ({"type": "progress"}, "", "write PROGRESS"),
        ({"type": "NOTE"}, "?attempt=first", "number of an attempt"),
        ({"type": "NOTE"}, "?attempt=-1", "number of an attempt"),
    ],
)
async def test_what_is_not_valid_is_refused(body: Any, query: str, text: str) -> None:
    async with place() as here:
        here.create()
        answer = await here.post(body, query=query)
        assert answer.status == 400
        assert text in await detail(answer)


async def test_an_event_of_another_attempt_is_refused() -> None:
    async with place() as here:
        here.create(opRun={"maxAttempts": 2})
        assert (await here.post({"type": "FAILED"}, query="?attempt=1")).status == 200
        late = await here.post({"type": "NOTE"}, query="?attempt=1")
        assert late.status == 409
        assert "attempt 2 is the current one" in await detail(late)
        assert (await here.post({"type": "NOTE"}, query="?attempt=2")).status == 200


async def test_an_ended_run_is_locked_also_when_nobody_looks_after_it_any_more() -> None:
    async with place() as here:
        uid = here.create()["metadata"]["uid"]
        pod = await here.until(here.pod)
        assert (await here.say("CANCELLED"))["state"] == "CANCELLED"
        await here.until(lambda: here.pod() is None)
        here.seen_gone(pod)
        await here.until(lambda: here.engine.worker_of(uid) is None)
        answer = await here.post({"type": "COMPLETED"})
        assert (answer.status, await detail(answer)) == (400, "Run is already in terminal state CANCELLED")
        assert names.result_key(uid, "op", 1) not in here.world.stored
        await here.until(lambda: here.engine.worker_of(uid) is None)


# -- repeats, and many at once


async def test_a_repeat_is_the_same_event() -> None:
    async with place() as here:
        here.create()
        first = await here.say("NOTE", key="one")
        await here.say("OTHER")
        assert await here.say("NOTE", key="one") == first
        assert here.types() == ["NOTE", "OTHER"]


async def test_events_that_wait_together_are_written_together_and_twins_share_an_answer() -> None:
    async with place() as here:
        here.create()
        await here.until(lambda: here.op())
        here.world.open.clear()
        writes = len(here.world.calls)
        posts = [asyncio.create_task(here.say("NOTE", key=f"k{n % 5}")) for n in range(10)]
        await here.until(lambda: len(here.engine.ensure_worker(here.run()).inbox.posted()) == 5)
        here.world.open.set()
        answers = await asyncio.gather(*posts)
        assert sorted(answer["id"] for answer in answers) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        assert [event["id"] for event in here.op()["events"]] == list(range(5))
        assert len(here.world.calls) - writes <= 5


async def test_what_comes_after_an_end_is_weighed_after_it() -> None:
    async with place() as here:
        here.create(opRun={"maxAttempts": 3})
        await here.until(lambda: here.pod())
        answers = await asyncio.gather(*(here.post({"type": "FAILED", "msg": f"f{n}"}) for n in range(4)))
        assert sorted(answer.status for answer in answers) == [200, 200, 200, 400]
        assert [attempt["state"] for attempt in here.op()["attempts"]] == ["FAILED"] * 3


async def test_of_ends_that_contradict_each_other_the_stored_result_is_of_the_one_that_counts() -> None:
    async with place() as here:
        uid = here.create()["metadata"]["uid"]
        bodies = [{"type": "COMPLETED", "payload": {"outputs": {"n": n, "big": "x" * 9000}}} for n in range(6)]
        answers = await asyncio.gather(*(here.post(body) for body in bodies))
        assert sorted(answer.status for answer in answers) == [200, *[400] * 5]
        won = [answer.status for answer in answers].index(200)
        result = json.loads(here.world.stored[names.result_key(uid, "op", 1)])
        assert (here.op()["outputsFrom"], result["outputs"]["n"]["value"]) == (1, won)


async def test_an_end_without_an_attempt_is_of_the_one_that_has_just_begun() -> None:
    async with place() as here:
        uid = here.create(opRun={"maxAttempts": 2})["metadata"]["uid"]
        await here.until(lambda: here.pod())
        here.world.open.clear()
        end = asyncio.create_task(here.say("COMPLETED", payload={"outputs": {"a": 1}}))
        await here.until(lambda: here.engine.ensure_worker(here.run()).being_stored)
        failed = asyncio.create_task(here.say("FAILED"))
        await here.until(lambda: here.engine.ensure_worker(here.run()).inbox.posted())
        here.world.open.set()
        await asyncio.gather(end, failed)
        assert [attempt["state"] for attempt in here.op()["attempts"]] == ["FAILED", "COMPLETED"]
        assert here.op()["outputs"] == {"a": 1}
        assert names.result_key(uid, "op", 2) in here.world.stored


# -- who gives up, and who is gone


async def test_who_waits_too_long_is_told_to_say_it_again_and_is_heard_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maze_operator.worker.SLOW", 0.01)
    async with place() as here:
        here.create()

        def no_writes(call: str) -> None:
            if call.startswith(f"PUT {RUNS}"):
                raise KubeError(0, "Unreachable", "no route")

        here.world.fail = no_writes
        with monkeypatch.context() as patched:
            patched.setattr(run_events, "DURABLE_SECONDS", 0.05)
            answer = await here.post({"type": "NOTE", "key": "k"})
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert here.engine.ensure_worker(here.run()).inbox.posted() == ()
        here.world.fail = lambda call: None
        await here.say("NOTE", key="k")
        assert here.types() == ["NOTE"]


async def test_a_run_that_is_deleted_meanwhile_is_gone_for_who_waits() -> None:
    async with place() as here:
        run = here.create()
        await here.until(lambda: here.op())
        here.world.open.clear()
        waits = asyncio.create_task(here.post({"type": "NOTE"}))
        await here.until(lambda: here.engine.ensure_worker(run).inbox.posted())
        here.engine.saw_run("DELETED", here.world.remove(f"{RUNS}/r"))
        here.world.open.set()
        answer = await waits
        assert (answer.status, await detail(answer)) == (404, "the Run has been deleted")


async def test_what_somebody_else_wrote_first_is_weighed_again() -> None:
    async with place() as here:
        here.create()
        await here.until(lambda: here.op())
        here.world.made(f"{RUNS}/r", {**here.run(), "status": {**here.run()["status"], "lastEvent": 7}})
        assert (await here.say("NOTE"))["id"] == 0
        assert here.run()["status"]["lastEvent"] >= 7


async def test_an_inbox_holds_what_somebody_waits_for() -> None:
    inbox = Inbox()
    posted = [Posted(key=key, type="NOTE", time=T0) for key in "abc"]
    first, second, third = (asyncio.create_task(inbox.post(one)) for one in posted)
    twin = asyncio.create_task(inbox.post(Posted(key="a", type="NOTE", time=T0)))
    await asyncio.sleep(0)
    assert inbox.posted() == tuple(posted)
    first.cancel()
    third.cancel()
    await asyncio.gather(first, third, return_exceptions=True)
    assert inbox.posted() == tuple(posted[:2])
    inbox.answer([(posted[0], Reply(200, id=4)), (posted[2], Reply(200, id=5))])
    assert (await twin).id == 4
    inbox.close(Gone())
    with pytest.raises(Gone):
        await second
    with pytest.raises(Gone):
        await inbox.post(posted[0])
