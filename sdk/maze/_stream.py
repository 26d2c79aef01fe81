"""The result stream of a run: one WebSocket after the other, until all messages are there."""

from __future__ import annotations

import json
import re
import time
from typing import Any, Dict, Iterator, Optional
from urllib.parse import quote

import websocket

from maze._errors import MazeError, RunNotEnded, ServerUnreachable, StreamBroken, UnknownRun, refusal

CONNECT_SECONDS = 5
SILENCE_SECONDS = 60
"""A stream on which nothing came for this long (the server pings every 20 s) is dead, and opened again."""
RETRY_SECONDS = (0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0)
"""Waits before a broken stream is opened again; a message that comes starts them from the first."""
ABNORMAL = 1006
NOISE = (websocket.ABNF.OPCODE_PING, websocket.ABNF.OPCODE_PONG)

Json = Dict[str, Any]


class Deadline:
    """A moment; `left` is what remains until then, at most SILENCE_SECONDS."""

    def __init__(self, run_id: str, seconds: Optional[float]) -> None:
        self._run_id = run_id
        self._seconds = seconds
        self._at = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float:
        """Raises: RunNotEnded, when it has passed."""
        if self._at is None:
            return SILENCE_SECONDS
        left = self._at - time.monotonic()
        if left <= 0:
            raise RunNotEnded(f"run '{self._run_id}' has not ended within {self._seconds:g} s; it goes on")
        return min(left, SILENCE_SECONDS)


def messages(server_url: str, workflow_id: str, run_id: str, timeout: Optional[float] = None) -> Iterator[Json]:
    """The messages of a run as they come, each once and in order, over as many connections as it takes.

    Every connection tells the stream from its start, so what was seen is skipped.

    Raises:
        UnknownRun: the server knows no such run.
        RunNotEnded: `timeout` seconds have passed.
        ServerUnreachable, StreamBroken: the stream could not be read to its end.
    """
    seen = 0
    failures = 0
    deadline = Deadline(run_id, timeout)
    while True:
        try:
            for number, message in enumerate(_connection(server_url, workflow_id, run_id, deadline)):
                if number >= seen:
                    seen, failures = number + 1, 0
                    yield message
                    if message.get("type") == "finish_workflow":
                        return
        except (ServerUnreachable, StreamBroken):
            if failures == len(RETRY_SECONDS):
                raise
            time.sleep(min(RETRY_SECONDS[failures], deadline.left()))
            failures += 1


def _connection(server_url: str, workflow_id: str, run_id: str, deadline: Deadline) -> Iterator[Json]:
    """One reading from the start; ends by finish_workflow or an error."""
    url = f"ws{server_url[4:]}/get_workflow_res/{quote(workflow_id, safe='')}/{quote(run_id, safe='')}"
    try:
        socket = websocket.create_connection(url, timeout=min(CONNECT_SECONDS, deadline.left()))
    except websocket.WebSocketBadStatusException as error:
        raise _refused(run_id, error) from error
    except (websocket.WebSocketException, OSError) as error:
        deadline.left()
        raise ServerUnreachable(server_url, reason(error)) from error
    try:
        while True:
            socket.settimeout(deadline.left())
            opcode, frame = socket.recv_data_frame(control_frame=True)
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                raise _closed(run_id, frame.data)
            if opcode in NOISE:
                continue
            message: Json = json.loads(frame.data)
            yield message
            if message.get("type") == "finish_workflow":
                return
    except (websocket.WebSocketException, OSError) as error:
        if isinstance(error, MazeError):
            raise
        deadline.left()
        raise StreamBroken(f"the results of run '{run_id}' stopped coming: {reason(error)}") from error
    finally:
        socket.close(timeout=1)
        socket.shutdown()  # type: ignore[no-untyped-call]  # a connection that was reset is left open by close()


def _refused(run_id: str, error: websocket.WebSocketBadStatusException) -> Exception:
    try:
        detail = json.loads(error.resp_body or b"{}").get("detail")
    except (ValueError, AttributeError):
        detail = None
    if error.status_code == 404:
        return UnknownRun(str(detail or f"the server knows no run '{run_id}'"))
    if error.status_code == 503:
        return StreamBroken(f"the server can't show run '{run_id}' now: {detail}; try again later")
    return refusal("get_workflow_res", int(error.status_code), str(detail or error))


def _closed(run_id: str, data: bytes) -> StreamBroken:
    code = int.from_bytes(data[:2], "big") if len(data) >= 2 else ABNORMAL
    why = data[2:].decode(errors="replace") or f"closed with code {code}"
    return StreamBroken(f"the results of run '{run_id}' ended before the run did: {why}")


def reason(error: BaseException) -> str:
    """The innermost cause; requests wraps it in several layers of text."""
    inner: BaseException = error
    while True:
        causes = [argument for argument in inner.args if isinstance(argument, BaseException)]
        if not causes:
            break
        inner = causes[-1]
    cause = getattr(inner, "reason", None)
    text = str(cause if isinstance(cause, BaseException) else inner)
    return re.sub(r"\[Errno \d+\] ", "", text.rsplit(": ", 1)[-1]) or type(inner).__name__
