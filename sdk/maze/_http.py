"""The one place that talks to the server: calls by REST, results by WebSocket."""

from __future__ import annotations

import json
import time
from typing import Any, Dict, Iterator, Optional
from urllib.parse import quote

import requests
import websocket

from maze._errors import NotFound, RequestFailed, ServerUnreachable, StreamBroken, UnknownRun

CONNECT_SECONDS = 5
CALL_SECONDS = 120
SILENCE_SECONDS = 60
"""A stream on which nothing came for this long (the server pings every 20 s) is dead, and opened again."""
RETRY_SECONDS = (0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0)
"""Waits before a broken stream is opened again; a message that comes starts them from the first."""
CLOSED_NORMALLY = 1000
ABNORMAL = 1006

Json = Dict[str, Any]


def call(session: requests.Session, server_url: str, method: str, path: str, body: Optional[Json] = None) -> Json:
    """One REST call.

    Raises:
        ServerUnreachable: nobody answers there.
        RequestFailed: anything but a success; NotFound for 404.
    """
    try:
        answer = session.request(method, server_url + path, json=body, timeout=(CONNECT_SECONDS, CALL_SECONDS))
    except requests.RequestException as error:
        raise ServerUnreachable(server_url, _reason(error)) from error
    content = _decoded(answer.content)
    if answer.status_code == 200 and content.get("status") == "success":
        return content
    detail = content.get("detail") or content.get("message") or answer.text[:500] or answer.reason
    kind = NotFound if answer.status_code == 404 else RequestFailed
    raise kind(path, answer.status_code, str(detail), answer.headers.get("X-Request-ID"))


def messages(server_url: str, workflow_id: str, run_id: str) -> Iterator[Json]:
    """The messages of a run as they come, each once and in order, over as many connections as it takes.

    Every connection tells the stream from its start, so what was seen is skipped.

    Raises:
        UnknownRun: the server knows no such run.
        ServerUnreachable, StreamBroken: the stream could not be read to its end.
    """
    seen = 0
    failures = 0
    while True:
        try:
            for number, message in enumerate(_connection(server_url, workflow_id, run_id)):
                if number >= seen:
                    seen, failures = number + 1, 0
                    yield message
                    if message.get("type") == "finish_workflow":
                        return
        except (ServerUnreachable, StreamBroken):
            if failures == len(RETRY_SECONDS):
                raise
            time.sleep(RETRY_SECONDS[failures])
            failures += 1


def _connection(server_url: str, workflow_id: str, run_id: str) -> Iterator[Json]:
    """One reading from the start; ends by finish_workflow or an error."""
    url = f"ws{server_url[4:]}/get_workflow_res/{quote(workflow_id, safe='')}/{quote(run_id, safe='')}"
    try:
        socket = websocket.create_connection(url, timeout=CONNECT_SECONDS)
    except websocket.WebSocketBadStatusException as error:
        raise _refused(run_id, error) from error
    except (websocket.WebSocketException, OSError) as error:
        raise ServerUnreachable(server_url, _reason(error)) from error
    try:
        socket.settimeout(SILENCE_SECONDS)
        while True:
            opcode, data = socket.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                raise _closed(run_id, data)
            message: Json = json.loads(data)
            yield message
            if message.get("type") == "finish_workflow":
                return
    except (websocket.WebSocketException, OSError) as error:
        raise StreamBroken(f"the results of run '{run_id}' stopped coming: {_reason(error)}") from error
    finally:
        socket.close(timeout=1)


def _refused(run_id: str, error: websocket.WebSocketBadStatusException) -> Exception:
    detail = _decoded(error.resp_body or b"").get("detail")
    if error.status_code == 404:
        return UnknownRun(str(detail or f"the server knows no run '{run_id}'"))
    if error.status_code == 503:
        return StreamBroken(f"the server can't show run '{run_id}' now: {detail}; try again later")
    return RequestFailed("get_workflow_res", int(error.status_code), str(detail or error))


def _closed(run_id: str, data: bytes) -> StreamBroken:
    code = int.from_bytes(data[:2], "big") if len(data) >= 2 else ABNORMAL
    reason = data[2:].decode(errors="replace") or f"closed with code {code}"
    return StreamBroken(f"the results of run '{run_id}' ended before the run did: {reason}")


def _decoded(raw: bytes) -> Json:
    try:
        content = json.loads(raw)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _reason(error: BaseException) -> str:
    """The innermost cause; requests wraps it in several layers of text."""
    inner: BaseException = error
    while inner.args and isinstance(inner.args[0], BaseException):
        inner = inner.args[0]
    reason = getattr(inner, "reason", None)
    text = str(reason if isinstance(reason, BaseException) else inner)
    return text.rsplit(": ", 1)[-1] or type(inner).__name__
