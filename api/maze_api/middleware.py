"""What happens to every call: a request id, limits on body and rate, an access log line, and no unanswered exception."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from dataclasses import dataclass
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maze_api import errors, metrics
from maze_api.ratelimit import RateLimit

log = logging.getLogger("maze_api.access")

ACCEPTED_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
HEADER = b"x-request-id"
HEALTH = frozenset({"/health", "/ready", "/metrics"})
"""Asked by machines all the time: neither limited nor logged."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WS"})
"""That metrics tell apart; a client may invent others."""
CARRIERS = frozenset(
    {
        "/save_task",
        "/save_task_and_add_edge",
        "/add_langgraph_task",
        "/run_langgraph_task",
        "/api/maze/payloads",
        "/api/maze/tasks",
    }
)
"""Calls that bring code or payloads."""


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """`most` bytes; `setting`: the environment variable that says so."""

    most: int
    setting: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller may send. `rate`: None is as often as it likes."""

    max_json_bytes: int
    max_body_bytes: int
    rate: RateLimit | None = None

    def of_body(self, path: str) -> BodyLimit:
        """The limit of a call's body."""
        if path in CARRIERS:
            return BodyLimit(self.max_body_bytes, "MAZE_MAX_BODY_BYTES")
        return BodyLimit(self.max_json_bytes, "MAZE_MAX_JSON_BYTES")

    def require_rate(self, path: str, address: str) -> None:
        """Count a call.

        Raises:
            TooMany: this client has made too many.
        """
        wait = self.rate.wait_seconds(address) if self.rate is not None and path not in HEALTH else 0
        if self.rate is not None and wait:
            raise errors.TooMany(
                f"more than {self.rate.per_minute} requests in a minute from {address}; try again in {wait} s, "
                "or raise MAZE_RATE_LIMIT_PER_MINUTE of the api",
                wait,
            )


class Envelope:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(HEADER, b"")
        name = given.decode() if ACCEPTED_ID.fullmatch(given) else uuid.uuid4().hex
        token = errors.request_id.set(name)
        try:
            await _Call(self._app, self._limits, scope, receive, send, name).serve()
        finally:
            errors.request_id.reset(token)


class _Call:
    def __init__(self, app: ASGIApp, limits: Limits, scope: Scope, receive: Receive, send: Send, name: str) -> None:
        self._app = app
        self._limits = limits
        self._limit = limits.of_body(scope["path"])
        self._scope = scope
        self._receive = receive
        self._send = send
        self._id = name.encode()
        self._read = 0
        self._refused: errors.TooLarge | None = None
        self._status = 0

    async def serve(self) -> None:
        began = time.monotonic()
        try:
            self._limits.require_rate(self._scope["path"], (self._scope.get("client") or ("unknown", 0))[0])
            self._refuse_announced()
            await self._app(self._scope, self.receive, self.send)
        except (errors.TooLarge, errors.TooMany) as error:
            await self._answer(error)
        except Exception:
            log.exception("%s failed", self._scope["path"])
            if self._scope["type"] != "http":
                raise
            await self._answer(errors.ApiError("the api failed; its log tells more under this request id"))
        finally:
            self._record(time.monotonic() - began)

    def _refuse_announced(self) -> None:
        length = dict(self._scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limit.most:
            raise self._too_large(f"{int(length)} bytes")

    def _too_large(self, size: str) -> errors.TooLarge:
        return errors.TooLarge(
            f"the request body has {size}, more than the {self._limit.most} that are allowed; "
            f"send less, or raise {self._limit.setting} of the api",
            {"Connection": "close"},
        )

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            if self._read > self._limit.most:
                self._refused = self._too_large(f"more than {self._limit.most} bytes")
                raise self._refused
        return message

    async def send(self, message: Message) -> None:
        if self._refused is not None:  # FastAPI would say that the body could not be parsed
            await self._answer(self._refused)
        else:
            await self._pass_on(message)

    async def _pass_on(self, message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start", "websocket.accept"):
            message["headers"] = [*message.get("headers", ()), (HEADER, self._id)]
            self._status = message.get("status", HTTPStatus.SWITCHING_PROTOCOLS)
        await self._send(message)

    async def _answer(self, error: errors.ApiError) -> None:
        if self._status:
            return  # the answer has begun; the server closes the connection
        raw = json.dumps(errors.body(error.status, error.detail)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]
        headers += [(key.lower().encode(), value.encode()) for key, value in error.headers.items()]
        kind = "http" if self._scope["type"] == "http" else "websocket.http"
        await self._pass_on({"type": f"{kind}.response.start", "status": error.status, "headers": headers})
        await self._pass_on({"type": f"{kind}.response.body", "body": raw})

    def _record(self, seconds: float) -> None:
        path = self._scope["path"]
        route = getattr(self._scope.get("route"), "path", path if path in HEALTH else "unknown")
        method = self._scope.get("method", "WS")
        method = method if method in METHODS else "other"
        metrics.REQUESTS.labels(method, route, str(int(self._status))).inc()
        metrics.SECONDS.labels(method, route).observe(seconds)
        level = logging.DEBUG if path in HEALTH else logging.INFO
        log.log(level, "%s %s %d %.1f ms", method, path, self._status, seconds * 1000)
