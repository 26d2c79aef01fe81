"""The endpoint that runners talk to (maze_crds.protocol), with health and metrics on the same port."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest
from pydantic import TypeAdapter, ValidationError

from maze_crds import names
from maze_crds.protocol import (
    LEASE_WAIT,
    Complete,
    Holding,
    LeaseRequest,
    OpEventAnswer,
    UploadsRequest,
    WorkerReport,
)
from maze_crds.run import TaskPhase
from maze_io.kube import KubeError
from maze_io.store import StoreError
from maze_operator import metrics, slot_calls
from maze_operator.core.admission import ACTIVE
from maze_operator.core.opevents import InvalidEvent, parse_event
from maze_operator.core.outputs import InputMissing, ResultLost
from maze_operator.core.podview import run_uid_of, view_pod, view_slot
from maze_operator.core.values import AttemptId, PodView, SlotPod, Started
from maze_operator.engine import Engine
from maze_operator.leases import make_lease
from maze_operator.reports import DURABLE_SECONDS, NotJson, take_report
from maze_operator.run_events import find_op_run, take_event
from maze_operator.run_reader import Gone
from maze_operator.tokens import bearer_fits, make_run_token, token_fits
from maze_operator.worker import RunWorker

log = logging.getLogger(__name__)

MAX_BODY = 4 * 1024 * 1024
"""Bytes of a report; the inlined outputs of one are at most protocol.INLINE_TOTAL before base64."""

LEASE, UPLOADS, COMPLETE = TypeAdapter(LeaseRequest), TypeAdapter(UploadsRequest), TypeAdapter(Complete)
HOLDING = TypeAdapter(Holding)
REPORT = TypeAdapter(WorkerReport)
REQUESTS = Counter(
    "maze_operator_runner_requests_total", "Requests of runners, and reports of workers.", ["call", "status"]
)


class Server:
    """Answers 503 while this process does not lead or does not know all Runs and pods yet."""

    def __init__(self, hmac_key: bytes, api_token: str = "") -> None:
        self._key, self._api_token = hmac_key, api_token
        self.engine: Engine | None = None

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY)
        app.add_routes(
            [
                web.post("/v1/lease", self._guarded("lease", LEASE, self._lease)),
                web.post("/v1/uploads", self._guarded("uploads", UPLOADS, self._uploads)),
                web.post("/v1/complete", self._guarded("complete", COMPLETE, self._complete)),
                web.post("/v1/holding", self._guarded("holding", HOLDING, self._holding)),
                web.post("/v1/worker-reports", self._worker_reports),
                web.post("/v1/op-runs/{namespace}/{run}/events", self._run_events),
                web.get("/healthz", self._health),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._metrics),
            ]
        )
        return app

    def _guarded(
        self,
        call: str,
        shape: TypeAdapter[Any],
        handle: Callable[[Engine, RunWorker, PodView | SlotPod, Any], Awaitable[web.Response]],
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handler(request: web.Request) -> web.Response:
            response = await self._checked(request, shape, handle)
            REQUESTS.labels(call, str(response.status)).inc()
            return response

        return handler

    async def _checked(self, request: web.Request, shape: TypeAdapter[Any], handle: Any) -> web.Response:
        try:
            body = shape.validate_json(await request.read())
        except ValidationError as error:
            return _say(400, str(error))
        if not token_fits(self._key, body["namespace"], body["pod"], request.headers.get("Authorization", "")):
            return _say(401, "the token does not belong to this pod")
        engine = self.engine
        if engine is None or not engine.ready:
            return _later("the operator is starting")
        pod = engine.pods.get(body["namespace"], body["pod"])
        if pod is None:
            return _later("this pod is not known yet")
        if pod["metadata"]["uid"] != body["uid"]:
            return _say(409, "nothing to do for this pod")
        if run_uid_of(pod) == "":
            if not await engine.spares.wait(body["uid"], LEASE_WAIT):
                return web.Response(status=204)
            pod = engine.pods.get(body["namespace"], body["pod"]) or pod
        view = view_pod(pod) or view_slot(pod)
        worker = engine.worker_of(run_uid_of(pod) or "")
        if view is None or worker is None:
            return _say(409, "nothing to do for this pod")
        try:
            await worker.view()  # so that its tasks are known, also right after a start
            answer: web.Response = await handle(engine, worker, view, body)
        except Gone:
            return _say(409, "the Run has been deleted")
        except (KubeError, StoreError) as error:
            log.warning("%s: %s", request.path, error)
            return _later(str(error))
        return answer

    async def _lease(
        self, engine: Engine, worker: RunWorker, pod: PodView | SlotPod, body: LeaseRequest
    ) -> web.Response:
        if isinstance(pod, SlotPod):
            return await slot_calls.lease(engine, worker, pod)
        attempt = pod.attempt_id
        if not _owns(worker, attempt):
            return _say(409, "nothing to do for this pod")
        try:
            lease = await make_lease(engine, await worker.view(), attempt)
        except (InputMissing, ResultLost) as error:
            await engine.executor.fail_early(worker, attempt, error)
            return _say(409, str(error))
        if attempt in worker.pods.created:
            metrics.POD_START.observe(time.monotonic() - worker.pods.created.pop(attempt))
        worker.started.setdefault(attempt, Started(datetime.now(UTC), pod.node))
        worker.dirty.set()
        return web.json_response(lease)

    async def _uploads(
        self, engine: Engine, worker: RunWorker, pod: PodView | SlotPod, body: UploadsRequest
    ) -> web.Response:
        if isinstance(pod, SlotPod):
            return await slot_calls.uploads(engine, worker, pod, body)
        attempt = pod.attempt_id
        if AttemptId(body["task"], body["attempt"]) != attempt or not _owns(worker, attempt):
            return _say(409, slot_calls.NOT_YOURS)
        keys = {key: names.output_key(worker.uid, attempt.task, attempt.attempt, key) for key in body["outputs"]}
        store = engine.store.store
        urls = {key: store.presign_put(stored, engine.shell.url_seconds) for key, stored in keys.items()}
        return web.json_response({"urls": urls})

    async def _holding(self, engine: Engine, worker: RunWorker, pod: PodView | SlotPod, body: Holding) -> web.Response:
        if isinstance(pod, SlotPod):
            return await slot_calls.holding(engine, worker, pod, body)
        attempt = pod.attempt_id
        mine = AttemptId(body["task"], body["attempt"]) == attempt and _owns(worker, attempt)
        return web.json_response({}) if mine else _say(409, slot_calls.NOT_YOURS)

    async def _complete(
        self, engine: Engine, worker: RunWorker, pod: PodView | SlotPod, body: Complete
    ) -> web.Response:
        if isinstance(pod, SlotPod):
            return await slot_calls.complete(engine, worker, pod, body)
        attempt = pod.attempt_id
        if AttemptId(body["task"], body["attempt"]) != attempt:
            return _say(409, slot_calls.NOT_YOURS)
        status = worker.task_status(attempt.task)
        if status is None or status.attempt != attempt.attempt:
            return _say(409, slot_calls.NOT_YOURS)
        if status.phase not in ACTIVE:
            reported = status.phase in (TaskPhase.SUCCEEDED, TaskPhase.FAILED)
            return web.json_response({}) if reported else _say(409, f"the attempt is {status.phase.value}")
        engine.results.remember(worker.uid, attempt, body["result"])
        done = worker.report(attempt, body["result"])
        try:
            async with asyncio.timeout(DURABLE_SECONDS):
                await done
        except TimeoutError:
            return _later("the report is not written yet")
        return web.json_response({})

    async def _worker_reports(self, request: web.Request) -> web.Response:
        response = await self._worker_report(request)
        REQUESTS.labels("worker-reports", str(response.status)).inc()
        return response

    async def _worker_report(self, request: web.Request) -> web.Response:
        if not bearer_fits(self._api_token, request.headers.get("Authorization", "")):
            return _say(401, "only the api may forward reports of workers, with MAZE_API_TOKEN as its bearer token")
        try:
            report = REPORT.validate_json(await request.read())
        except ValidationError as error:
            return _say(400, str(error))
        engine = self.engine
        if engine is None or not engine.ready:
            return _later("the operator is starting")
        try:
            answer = await take_report(engine, report)
        except NotJson as error:
            return _say(400, str(error))
        except (KubeError, StoreError) as error:
            log.warning("%s: %s", request.path, error)
            return _later(str(error))
        if answer.status == 503:
            return _later(answer.detail)
        return _say(answer.status, answer.detail) if answer.detail else web.json_response({}, status=answer.status)

    async def _run_events(self, request: web.Request) -> web.Response:
        response = await self._run_event(request)
        REQUESTS.labels("op-run-events", str(response.status)).inc()
        return response

    async def _run_event(self, request: web.Request) -> web.Response:
        engine = self.engine
        if engine is None or not engine.ready:
            return _later("the operator is starting")
        namespace, name = request.match_info["namespace"], request.match_info["run"]
        said = request.headers.get("Authorization", "")
        from_api = bearer_fits(self._api_token, said)
        try:
            run = await find_op_run(engine, namespace, name, ask=from_api)
            uid = "" if run is None else run["metadata"]["uid"]
            if not (from_api or (uid and bearer_fits(make_run_token(self._key, namespace, uid), said))):
                return _say(401, "give the token that this OpRun's container has in MAZE_TOKEN as the bearer token")
            if run is None:
                return _say(404, f"there is no OpRun '{name}' in namespace '{namespace}'")
            attempt = _attempt(request.query.get("attempt"))
            posted = parse_event(await request.read(), datetime.now(UTC), uuid.uuid4().hex)
            reply = await take_event(engine, run, posted, attempt)
        except InvalidEvent as error:
            return _say(400, str(error))
        except (KubeError, StoreError) as error:
            log.warning("%s: %s", request.path, error)
            return _later(str(error))
        if reply.status == 503:
            return _later(reply.detail)
        if reply.status == 200:
            return web.json_response(OpEventAnswer(id=reply.id, state=reply.state))
        return _say(reply.status, reply.detail)

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, request: web.Request) -> web.Response:
        ready = self.engine is not None and self.engine.ready
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _attempt(text: str | None) -> int | None:
    if text is None:
        return None
    if text.isdecimal():
        return int(text[:9])
    raise InvalidEvent("attempt must be the number of an attempt, like 1")


def _owns(worker: RunWorker, attempt: AttemptId) -> bool:
    status = worker.task_status(attempt.task)
    return status is not None and status.attempt == attempt.attempt and status.phase in ACTIVE


def _say(status: int, detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=status)


def _later(detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=503, headers={"Retry-After": "1"})
