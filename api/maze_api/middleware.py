"""What happens to every call: a request id, the limit on the body, an access log line, and no unanswered exception."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maze_api import errors, metrics

log = logging.getLogger("maze_api.access")

ACCEPTED_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
HEADER = b"x-request-id"


class Envelope:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._limit = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(HEADER, b"")
        name = given.decode() if ACCEPTED_ID.fullmatch(given) else uuid.uuid4().hex
        token = errors.request_id.set(name)
        try:
            await _Call(self._app, self._limit, scope, receive, send, name).serve()
        finally:
            errors.request_id.reset(token)


class _Call:
    def __init__(self, app: ASGIApp, limit: int, scope: Scope, receive: Receive, send: Send, name: str) -> None:
        self._app = app
        self._limit = limit
        self._scope = scope
        self._receive = receive
        self._send = send
        self._id = name.encode()
        self._read = 0
        self._status = 0

    async def serve(self) -> None:
        began = time.monotonic()
        try:
            self._refuse_announced()
            await self._app(self._scope, self.receive, self.send)
        except errors.TooLarge as error:
            await self._answer(error.status, error.detail)
        except Exception:
            log.exception("%s failed", self._scope["path"])
            if self._scope["type"] != "http":
                raise
            await self._answer(500, "the api failed; its log tells more under this request id")
        finally:
            self._record(time.monotonic() - began)

    def _refuse_announced(self) -> None:
        length = dict(self._scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limit:
            raise self._too_large(f"{int(length)} bytes")

    def _too_large(self, size: str) -> errors.TooLarge:
        return errors.TooLarge(
            f"the request body has {size}, more than the {self._limit} that are allowed; "
            "send less, or raise MAZE_MAX_BODY_BYTES of the api"
        )

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            if self._read > self._limit:
                raise self._too_large(f"more than {self._limit} bytes")
        return message

    async def send(self, message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start", "websocket.accept"):
            message["headers"] = [*message.get("headers", ()), (HEADER, self._id)]
            self._status = message.get("status", HTTPStatus.SWITCHING_PROTOCOLS)
        await self._send(message)

    async def _answer(self, status: int, detail: str) -> None:
        if self._status:
            return  # the answer has begun; the server closes the connection
        raw = json.dumps(errors.body(status, detail)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]
        if status == errors.TooLarge.status:
            headers.append((b"connection", b"close"))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": raw})

    def _record(self, seconds: float) -> None:
        route = getattr(self._scope.get("route"), "path", "unknown")
        method = self._scope.get("method", "WS")
        metrics.REQUESTS.labels(method, route, str(int(self._status))).inc()
        metrics.SECONDS.labels(method, route).observe(seconds)
        level = logging.DEBUG if route in ("/health", "/ready", "/metrics") else logging.INFO
        log.log(level, "%s %s %d %.1f ms", method, self._scope["path"], self._status, seconds * 1000)
