"""Calls one tool of an MCP server and makes a step's outputs of its answer.

The text of this file is sent to the pod of the step, so it imports nothing of ours, and the package mcp only where it is
used: an image without it gets a failure in words. Python 3.10 and newer.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

Json = dict[str, Any]

RETRY_SECONDS = 5.0
"""How long a server that can't be reached is tried again: it may be starting. A call that was sent is not repeated."""
LEAST_TRIES = 2
"""Also where one takes longer than that: a name server may have been slow."""
CONNECT_SECONDS = {"url": 30.0, "command": 60.0}
"""How long a server may take to say who it is; a program has to start first."""
CALL_SECONDS = 30 * 24 * 3600.0
"""No limit of its own: the time limit of the step ends a call that takes too long."""
TEXT_LIMIT = 2000


class StepFailed(Exception):
    """The step fails for this reason, in one CamelCase word, with the text as its message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.maze_reason = reason


class NotConnected(Exception):
    """The server could not be reached, so nothing has been asked of it."""


def call_tool(call: Json, inputs: Json) -> Json:
    """The outputs of the tool.

    Args:
        call: {"step", "tool", "server": {"url"} or {"command", "args"?, "env"?}, "required"?: [...], "outputs"?: [...]}
        inputs: the arguments of the tool, by name.

    Raises:
        StepFailed: RequiredInputMissing, InputNotJSON, ToolImageUnusable, ToolServerUnreachable, ToolNotFound, ToolError
            or MissingOutput.
    """
    check_inputs(call, inputs)
    try:
        import anyio
        from mcp import Client  # noqa: F401
    except ImportError as error:
        text = f"the image of this task can't call tools: it has no package mcp of version 2 or newer ({error})"
        raise StepFailed("ToolImageUnusable", f"{text}; leave out tool.image, or install mcp in it") from None
    print(f"calling tool '{call['tool']}' of the MCP server {say_where(call['server'])}", flush=True)
    outputs = make_outputs(anyio.run(_talk, call, inputs))
    missing = [key for key in call.get("outputs") or () if key not in outputs]
    if missing:
        text = f"tool '{call['tool']}' gave no output {_quoted(missing)}; it gave {_quoted(outputs) or 'nothing'}"
        raise StepFailed("MissingOutput", text)
    return outputs


def check_inputs(call: Json, inputs: Json) -> None:
    """Raise StepFailed where a required input is missing, null or empty, or where an input is not JSON."""
    empty = [key for key in call.get("required") or () if inputs.get(key) in (None, "", [], {})]
    if empty:
        text = f"step '{call['step']}' is missing required input {_quoted(empty)}: not given, null or empty"
        raise StepFailed("RequiredInputMissing", text)
    for key, value in inputs.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            text = f"input '{key}' is a {type(value).__name__} that is not JSON, which the arguments of tools must be"
            raise StepFailed("InputNotJSON", f"{text} ({error})") from None


def make_outputs(answer: Json) -> Json:
    """Outputs by name of a CallToolResult in JSON.

    A structured answer gives its keys (one that is no object: `result`). Without it, the text is the output `text`, and
    where it is a JSON object its keys are outputs, too. Images and the like are in `content`, as MCP sends them.
    """
    structured = answer.get("structuredContent")
    if structured is not None:
        return structured if isinstance(structured, dict) else {"result": structured}
    blocks = answer.get("content") or []
    text = _text(blocks)
    outputs: Json = {"text": text}
    if any(block.get("type") != "text" for block in blocks):
        outputs["content"] = blocks
    with contextlib.suppress(ValueError, RecursionError):
        parsed = json.loads(text)
        if isinstance(parsed, dict):
            outputs.update(parsed)
    return outputs


def say_where(server: Json) -> str:
    if server.get("url"):
        return f"at {server['url']}"
    return f"started by '{' '.join([server['command'], *(server.get('args') or ())])}'"


def say_error(error: BaseException) -> str:
    """The innermost error of a group, in words."""
    while isinstance(getattr(error, "exceptions", None), tuple) and error.exceptions:  # type: ignore[attr-defined]
        error = error.exceptions[0]  # type: ignore[attr-defined]
    return " ".join(str(error).split()) or type(error).__name__


async def _talk(call: Json, inputs: Json) -> Json:
    """The answer as JSON. A server that does not answer at all is asked again for RETRY_SECONDS."""
    import anyio

    until, delay, tries = time.monotonic() + RETRY_SECONDS, 0.2, 0
    while True:
        try:
            return await _try(call, inputs)
        except NotConnected as error:
            tries += 1
            late = tries >= LEAST_TRIES and time.monotonic() + delay > until
            if call["server"].get("command") or late:
                text = f"the MCP server {say_where(call['server'])} can't be reached: {error}"
                raise StepFailed("ToolServerUnreachable", text) from None
        await anyio.sleep(delay)
        delay = min(delay * 2, 1.0)


async def _try(call: Json, inputs: Json) -> Json:
    """One connection, one call.

    Raises:
        NotConnected: nothing was asked.
        StepFailed: what the call ended with.
    """
    import anyio

    kind = "url" if call["server"].get("url") else "command"
    answer: Json | StepFailed | None = None
    connected = False
    with anyio.CancelScope(deadline=anyio.current_time() + CONNECT_SECONDS[kind]) as scope:
        try:
            async with connect(call["server"]) as client:
                connected = True
                scope.deadline = float("inf")
                answer = await _ask(client, call, inputs)
        except Exception as error:  # noqa: BLE001 - the transports raise groups of anything
            if answer is None:  # else only the goodbye failed
                if not connected:
                    raise NotConnected(say_error(error)) from None
                text = f"the connection to the MCP server {say_where(call['server'])} broke off: {say_error(error)}"
                raise StepFailed("ToolServerUnreachable", text) from None
    if answer is None:
        raise NotConnected(f"it did not answer within {CONNECT_SECONDS[kind]:g} seconds")
    if isinstance(answer, StepFailed):
        raise answer
    return answer


async def _ask(client: Any, call: Json, inputs: Json) -> Json | StepFailed:
    """The answer, or how the call failed: returned, because what is raised here comes out in groups."""
    from mcp import MCPError
    from mcp.types import CONNECTION_CLOSED

    name = call["tool"]
    try:
        result = await client.call_tool(name, inputs, read_timeout_seconds=CALL_SECONDS)
    except MCPError as error:
        if error.code == CONNECTION_CLOSED:
            text = f"the MCP server {say_where(call['server'])} ended the connection during the call"
            return StepFailed("ToolServerUnreachable", text)
        problem = error.message
    else:
        answer: Json = result.model_dump(mode="json", by_alias=True, exclude_none=True)
        if not answer.get("isError"):
            return answer
        problem = _text(answer.get("content") or []) or "no text"
    known = await _names(client)
    if known is not None and name not in known:
        there = f"there are: {', '.join(sorted(known)[:50])}" if known else "it has none"
        return StepFailed("ToolNotFound", f"the MCP server {say_where(call['server'])} has no tool '{name}'; {there}")
    return StepFailed("ToolError", f"tool '{name}' failed: {problem[:TEXT_LIMIT]}")


async def _names(client: Any) -> set[str] | None:
    """The tools of the server; None where it does not say."""
    try:
        return {tool.name for tool in await list_all(client)}
    except Exception:  # noqa: BLE001 - this only makes an error clearer
        return None


async def list_all(client: Any) -> list[Any]:
    """Every tool of a server, whose listing may come in pages (at most 100 of them are read)."""
    tools: list[Any] = []
    cursor = None
    for _ in range(100):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if not cursor:
            break
    return tools


@contextlib.asynccontextmanager
async def connect(server: Json) -> AsyncIterator[Any]:
    """A client of a server at {"url"}, or started by {"command", "args"?, "env"?}; what it prints as an error is shown.

    Raises:
        Exception: anything, often in a group; see say_error.
    """
    from mcp import Client, StdioServerParameters

    if not server.get("url"):
        parameters = StdioServerParameters(
            command=server["command"], args=server.get("args") or [], env={**os.environ, **(server.get("env") or {})}
        )
        async with Client(parameters) as client:
            yield client
        return
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    transport = httpx2.AsyncHTTPTransport(socket_options=_keep_alive())
    mounts = None if any(name.lower().endswith("_proxy") for name in os.environ) else transport
    timeout = httpx2.Timeout(30, connect=10, read=None)
    async with (
        httpx2.AsyncClient(timeout=timeout, transport=mounts) as http,
        Client(streamable_http_client(server["url"], http_client=http, max_sse_event_size=None)) as client,
    ):
        yield client


def _keep_alive() -> list[tuple[int, int, int]]:
    """A server that vanishes without a word is noticed after about a minute, however long the call may take."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    if sys.platform == "linux":
        values = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
        options += [(socket.IPPROTO_TCP, option, value) for option, value in values]
    return options


def _text(blocks: list[Json]) -> str:
    return "\n".join(block["text"] for block in blocks if block.get("type") == "text")


def _quoted(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in list(names)[:10])
