"""The timeline of an OpRun: read from its status and the object store, and added to through the operator."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import OrderedDict
from typing import Any

from maze_api.errors import ApiError, BadRequest, Conflict, TooLarge, Unavailable
from maze_api.operator_client import Answer, OperatorClient, unknown_token
from maze_api.oprun_bodies import AddEventRequest
from maze_api.oprun_view import OpView, wished_outputs
from maze_api.oprun_wishes import no_run
from maze_crds import names
from maze_crds.oprun import PAGE
from maze_crds.plainjson import encode_json
from maze_io.store import AsyncStore

PAGES = 256
"""Pages of events that are remembered: they never change."""
FINAL = frozenset({200, 400, 401, 404, 409, 413})
"""Answers of the operator after which it makes no sense to ask again."""
Json = dict[str, Any]


class Lost(Unavailable):
    """A value that the Run names is not in the object store: it was deleted just now with its Run, or by other hands."""


class Timelines:
    def __init__(self, store: AsyncStore, operator: OperatorClient, namespace: str) -> None:
        self._store, self._operator, self._namespace = store, operator, namespace
        self._pages: OrderedDict[str, list[Json]] = OrderedDict()

    async def events(self, run: OpView, after: int | None) -> list[Json]:
        """All events with a greater id than `after`, as the reference shows them.

        Raises:
            StoreError, Lost: older ones can't be read.
        """
        tail = run.op.get("events") or []
        first = tail[0]["id"] if tail else run.op.get("nextEvent", 0)
        start = 0 if after is None else max(0, after + 1)
        wanted = range(start // PAGE, -(-first // PAGE)) if start < first else range(0)
        pages = await asyncio.gather(*(self._page(run.uid, number) for number in wanted))
        entries = [entry for page in (*pages, tail) for entry in page if entry["id"] >= start]
        shown = await asyncio.gather(*(self._whole(run, entry) for entry in entries))
        return [
            {
                "id": entry["id"],
                "type": entry["type"],
                "t": entry["time"],
                "msg": msg,
                "state": run.state.value,
                "payload": payload,
            }
            for entry, (msg, payload) in zip(entries, shown, strict=True)
        ]

    async def outputs(self, run: OpView) -> Json:
        """Those of the run as a whole.

        Raises:
            StoreError, Lost: they can't be read.
        """
        if run.attempt > (run.op.get("attempts") or [{"number": 1}])[-1]["number"]:
            return {}
        wished = wished_outputs(run.obj)
        if wished is not None:
            return wished
        attempt = run.op.get("outputsFrom")
        return await self._outputs_of(run, attempt) if attempt is not None else run.op.get("outputs") or {}

    async def inputs(self, run: OpView) -> Json:
        payload = run.obj["spec"]["opRun"].get("inputs")
        if payload is None:
            return run.obj["spec"].get("inputs") or {}
        found: Json = await self._load(payload["key"])
        return found

    async def add(self, run: OpView, body: AddEventRequest) -> None:
        """Returns once the event is in the status of the Run.

        Raises:
            BadRequest: it is not valid, or the Run is locked.
            NotFound, TooLarge, Conflict.
            Unavailable: no operator takes it now.
        """
        said: Json = {"type": body.type, "payload": body.payload, "key": uuid.uuid4().hex}
        said |= {"msg": body.msg} if body.msg is not None else {}
        path = f"/v1/op-runs/{self._namespace}/{run.id}/events"
        answer = await self._operator.ask(
            path, encode_json(said), f"event of OpRun {run.id}", lambda answer: answer.status in FINAL
        )
        if answer.status != 200:
            raise _refusal(answer, run.id)

    async def _page(self, uid: str, number: int) -> list[Json]:
        key = names.events_key(uid, number)
        known = self._pages.get(key)
        if known is None:
            known = await self._load(key)
            self._pages[key] = known
            if len(self._pages) > PAGES:
                self._pages.popitem(last=False)
        return known

    async def _whole(self, run: OpView, entry: Json) -> tuple[str | int, Json]:
        msg, payload = entry.get("msg", ""), entry.get("payload") or {}
        if entry.get("stored"):
            found = await self._load(names.event_key(run.uid, entry["stored"]))
            msg, payload = found["msg"], found.get("payload") or {}
        elif entry.get("outputs"):
            payload = {**payload, "outputs": await self._outputs_of(run, entry["attempt"])}
        return msg, payload

    async def _outputs_of(self, run: OpView, attempt: int) -> Json:
        task = run.obj["status"]["tasks"][0]["name"]
        result = await self._load(names.result_key(run.uid, task, attempt))
        return {key: output["value"] for key, output in result["outputs"].items() if "value" in output}

    async def _load(self, key: str) -> Any:
        data = await self._store.get(key)
        if data is None:
            raise Lost(f"the object store has lost {key}")
        return json.loads(data)


def _refusal(answer: Answer, run_id: str) -> ApiError:
    """An answer of the operator that is not success, as ours."""
    if answer.status == 400:
        return BadRequest(answer.detail)
    if answer.status == 404:
        return no_run(run_id)
    if answer.status == 409:
        return Conflict(answer.detail)
    if answer.status == 413:
        return TooLarge(f"the event of OpRun '{run_id}' is too large for the operator")
    if answer.status == 401:
        return unknown_token()
    return Unavailable(f"no operator has taken the event ({answer.detail}); nothing is lost: send it again")
