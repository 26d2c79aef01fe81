"""A WebSocket that tells a stream of messages and closes after the last one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

from maze_api import metrics
from maze_io.store import StoreError

log = logging.getLogger(__name__)

INTERNAL_ERROR = 1011
CLOSE_REASON_BYTES = 120
"""A close frame holds at most 123 bytes of reason."""


class RunGone(Exception):
    """The Run was deleted while it was read."""


async def tell(socket: WebSocket, messages: AsyncGenerator[dict[str, Any], None], what: str) -> None:
    """Accept, send all messages as JSON, close with 1000; or stop as soon as the client leaves.

    Close 1011 with the reason: the Run was deleted, or a result can't be read. `what`: names the stream in the log.
    """
    await socket.accept()
    sending = asyncio.create_task(_send(socket, messages, what))
    leaving = asyncio.create_task(_until_left(socket))
    with metrics.STREAMS.track_inprogress():
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)


async def _send(socket: WebSocket, messages: AsyncGenerator[dict[str, Any], None], what: str) -> None:
    try:
        async with contextlib.aclosing(messages):
            async for message in messages:
                await socket.send_text(json.dumps(message, ensure_ascii=False))
        await socket.close()
    except WebSocketDisconnect:
        return
    except (RunGone, StoreError) as error:
        log.warning("stream of %s broken: %s", what, error)
        reason = str(error).encode()[:CLOSE_REASON_BYTES].decode(errors="ignore")
        await socket.close(INTERNAL_ERROR, reason)
    except Exception:
        log.exception("stream of %s failed", what)
        await socket.close(INTERNAL_ERROR, "the api failed; its log tells more")


async def _until_left(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
