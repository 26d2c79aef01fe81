"""The tools of the installation's MCP server, asked for when somebody wants to know."""

from __future__ import annotations

import asyncio
import importlib

from maze_api.errors import ApiError
from maze_api.scenario_bodies import ToolSummary
from maze_tools.client import ServerUnreachable, list_tools


class BadGateway(ApiError):
    """The MCP server does not answer, or not as one."""

    status = 502


async def fetch_tools(url: str | None) -> list[ToolSummary]:
    """In the order of the server.

    Raises:
        BadGateway: none is configured, or it does not answer; says why.
    """
    if url is None:
        raise BadGateway("no MCP server is configured; set MCP_SERVER_URL of the api")
    await asyncio.to_thread(importlib.import_module, "mcp.client.streamable_http")  # loading it takes a second
    try:
        return [ToolSummary(**tool) for tool in await list_tools(url)]
    except ServerUnreachable as error:
        raise BadGateway(str(error)) from error
