"""What a server has, for those who ask from a service."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from maze_tools.call import connect, list_all, say_error, say_where

SECONDS = 10.0
"""How long a server may take to answer."""


class ServerUnreachable(RuntimeError):
    """The server did not answer, or not as an MCP server does; the text names it and says why."""


async def list_tools(server: str | dict[str, Any], seconds: float = SECONDS) -> list[dict[str, Any]]:
    """The tools of a server: [{"name", "description", "input_schema"}], in its own order.

    Args:
        server: its URL (streamable HTTP), or {"url"} or {"command", "args"?, "env"?}.

    Raises:
        ServerUnreachable: no list within `seconds`.
    """
    import anyio

    await anyio.to_thread.run_sync(import_module, "mcp.client")  # takes seconds, which nobody else should wait for
    where = {"url": server} if isinstance(server, str) else server
    tools: list[Any] | None = None
    with anyio.move_on_after(seconds):
        try:
            async with connect(where) as client:
                tools = await list_all(client)
        except Exception as error:
            if tools is None:  # else only the goodbye failed
                text = f"the MCP server {say_where(where)} can't be asked for its tools: {say_error(error)}"
                raise ServerUnreachable(text) from error
    if tools is None:
        raise ServerUnreachable(f"the MCP server {say_where(where)} did not answer within {seconds:g} seconds")
    return [
        {"name": tool.name, "description": tool.description or "", "input_schema": tool.input_schema} for tool in tools
    ]
