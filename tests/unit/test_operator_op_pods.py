"""The pod of an OpRun: its inputs, its token, its priority; and the status, as it is written."""

from __future__ import annotations

import json

import pytest

from builders import T0, container_task, python_task
from maze_crds import names
from maze_crds.oprun import OpAttempt, OpEvent, OpState, OpStatus
from maze_crds.run import RunStatus
from maze_io.cache import Changed
from maze_io.kube import KubeError
from maze_operator.core.values import AttemptId
from maze_operator.tokens import make_run_token
from stand_ins import KEY, PODS, Json, Place, place

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# -- the container


async def environment(here: Place) -> dict[str, str]:
    pod = await here.until(here.pod)
    return {one["name"]: one["value"] for one in pod["spec"]["containers"][0]["env"]}


async def test_the_container_knows_its_inputs_and_how_to_post() -> None:
    schema = {"type": "object", "properties": {"a": {"default": 1}, "b": {"default": 2}, "c": {"default": 3}}}
    task = container_task("op", inputs={"c": {"value": "own"}, "d": {"from": "input.b"}})
    async with place() as here:
        run = here.create(workflow={"tasks": [task], "inputSchema": schema}, inputs={"b": "given"})
        env = await environment(here)
        assert json.loads(env["MAZE_INPUTS"]) == {"a": 1, "b": "given", "c": "own", "d": "given"}
        assert env["MAZE_EVENTS_URL"] == "http://operator/v1/op-runs/a/r/events?attempt=1"
        assert env["MAZE_TOKEN"] == make_run_token(KEY, "a", run["metadata"]["uid"])
        assert (await here.post({"type": "NOTE"}, env["MAZE_TOKEN"], query="?attempt=1")).status == 200


def payload(key: str) -> Json:
    return {"opRun": {"inputs": {"key": key, "sha256": "0" * 64, "size": 9}}}


async def test_large_inputs_are_read_where_they_are() -> None:
    async with place() as here:
        here.create(**payload("payloads/x"))
        env = await environment(here)
        assert (env["MAZE_INPUTS_URL"], "MAZE_INPUTS" in env) == ("http://store/payloads/x", False)


async def test_large_inputs_meet_the_own_inputs_of_the_task() -> None:
    task = container_task("op", inputs={"c": {"value": "own"}, "d": {"from": "input.big"}})
    async with place() as here:
        big = "x" * 70_000
        here.world.stored["payloads/x"] = json.dumps({"big": big, "c": "not this"}).encode()
        run = here.create(workflow={"tasks": [task]}, **payload("payloads/x"))
        env = await environment(here)
        key = names.inputs_key(run["metadata"]["uid"], "op", 1)
        assert env["MAZE_INPUTS_URL"] == f"http://store/{key}"
        assert json.loads(here.world.stored[key]) == {"big": big, "c": "own", "d": big}


@pytest.mark.parametrize(("stored", "text"), [(None, "there is no payloads/x"), (b"[", "no JSON"), (b"[1]", "object")])
async def test_inputs_that_can_not_be_had_fail_the_run(stored: bytes | None, text: str) -> None:
    task = container_task("op", inputs={"c": {"value": "own"}})
    async with place() as here:
        if stored is not None:
            here.world.stored["payloads/x"] = stored
        here.create(workflow={"tasks": [task]}, **payload("payloads/x"))
        await here.until(lambda: here.op().get("state") == "FAILED")
        assert text in here.op()["attempts"][0]["message"]


@pytest.mark.parametrize(
    ("tasks", "text"),
    [
        ([python_task("p")], "this one has one without"),
        ([container_task("a"), container_task("b")], "this one has 2 tasks"),
    ],
)
async def test_a_workflow_that_is_not_one_container_is_no_op_run(tasks: list[Json], text: str) -> None:
    async with place() as here:
        here.create(workflow={"tasks": tasks})
        await here.until(lambda: here.op().get("state") == "FAILED")
        status = here.run()["status"]
        assert (status["phase"], status["reason"]) == ("Failed", "NotAnOpRun")
        assert text in status["message"]
        assert here.pod() is None


# -- priority

CLASSES = ((0, "normal"), (5, "high"))
WAITS = {
    "phase": "Pending",
    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}],
}


@pytest.mark.parametrize(("priority", "name"), [(-1, None), (0, "normal"), (4, "normal"), (5, "high"), (1000, "high")])
async def test_a_pod_has_the_class_of_its_priority(priority: int, name: str | None) -> None:
    async with place(priority_classes=CLASSES) as here:
        here.create(priority=priority)
        pod = await here.until(here.pod)
        assert pod["spec"].get("priorityClassName") == name


async def test_a_waiting_pod_is_made_again_when_its_priority_changes_and_is_not_lost() -> None:
    async with place(priority_classes=CLASSES) as here:
        here.create()
        await here.until(here.pod)
        old = here.see_pod(**WAITS)
        here.wish(priority=7)
        uid = old["metadata"]["uid"]

        def made_again() -> Json | None:
            pod = here.pod()
            return pod if pod is not None and pod["metadata"]["uid"] != uid else None

        new = await here.until(made_again)
        assert (new["spec"]["priorityClassName"], new["metadata"]["name"]) == ("high", old["metadata"]["name"])
        here.seen_gone(old)  # the watch is late
        await here.say("NOTE")
        assert here.op()["state"] == "PENDING"
        worker = here.engine.ensure_worker(here.run())
        assert worker.pods.views[AttemptId("op", 1)].uid == new["metadata"]["uid"]


async def test_what_a_late_watch_tells_of_a_replaced_pod_means_nothing() -> None:
    """Between the end of the old pod and the making of the new one."""
    async with place(priority_classes=CLASSES) as here:
        here.create()
        await here.until(here.pod)
        old = here.see_pod(**WAITS)
        worker = here.engine.ensure_worker(here.run())

        def refuse(call: str) -> None:
            if call == f"POST {PODS}":
                raise KubeError(0, "Unreachable", "no route")

        here.world.fail = refuse
        here.wish(priority=7)
        await here.until(lambda: here.pod() is None and not worker.pods.views)
        here.engine._add_pod(worker, old)
        assert (worker.pods.views, worker.pods.known) == ({}, set())
        here.seen_gone(old)
        here.world.fail = lambda call: None
        pod = await here.until(here.pod)
        assert pod["spec"]["priorityClassName"] == "high"
        assert here.op()["attempts"][-1]["number"] == 1


async def test_a_pod_that_has_changed_meanwhile_stays() -> None:
    async with place(priority_classes=CLASSES) as here:
        here.create()
        await here.until(here.pod)
        waiting = here.see_pod(**WAITS)
        path = f"{PODS}/{waiting['metadata']['name']}"
        bound = here.world.made(path, {**waiting, "status": {"phase": "Pending", "hostIP": "10.0.0.1"}})
        here.wish(priority=7)
        await here.until(lambda: f"DELETE {path}" in here.world.calls)
        here.engine.pods.apply(Changed("MODIFIED", bound))
        await here.say("NOTE")
        pod = here.pod()
        assert pod is not None
        assert (pod["metadata"]["uid"], pod["spec"]["priorityClassName"]) == (waiting["metadata"]["uid"], "normal")


# -- the status, as it is written


@pytest.mark.parametrize(
    "op",
    [
        OpStatus(attempts=[OpAttempt(number=1, state=OpState.PENDING, created_time=T0)]),
        OpStatus(
            state=OpState.COMPLETED,
            attempts=[
                OpAttempt(number=n, state=OpState.FAILED, created_time=T0, progress=0, exit_code=0, gpu=0)
                for n in (1, 2)
            ],
            outputs={},
            next_event=2,
            events=[
                OpEvent(id=0, type="A", time=T0, attempt=1, msg="", payload={}),
                OpEvent(id=1, type="B", time=T0, attempt=1, msg=0, payload={"a": None, "b": [None, {"c": None}]}),
            ],
            retries=1,
        ),
    ],
)
async def test_a_status_is_read_back_as_it_was_written(op: OpStatus) -> None:
    async with place() as here:
        here.create(opRun=None)
        await here.until(lambda: here.run().get("status", {}).get("tasks"))
        worker = here.engine.ensure_worker(here.run())
        status = RunStatus(op=op)
        assert await worker._write(await worker.view(), status)
        assert RunStatus.model_validate(here.run()["status"]) == status
        assert {attempt["number"] for attempt in here.op()["attempts"]} == {one.number for one in op.attempts}
