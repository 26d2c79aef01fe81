"""The example server as an ASGI application that is safe from DNS rebinding.

A web page whose own host name suddenly points at this server could use it with the visitor's rights. Such a request
names that host. So only localhost, addresses, and names that the server was told are answered; and a browser's Origin
must be one of these, too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send


def make_app(server: MCPServer[Any], names: Collection[str]) -> ASGIApp:
    """Streamable HTTP at /mcp, and GET /health for everybody."""
    server.custom_route("/health", methods=["GET"])(_health)
    # The package's own check knows no addresses; ours is in front of it.
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    return KnownHosts(server.streamable_http_app(stateless_http=True, transport_security=security), names)


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


class KnownHosts:
    """Answers 421 where the Host header names somebody else, and 403 where the Origin does."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app, self._names = app, frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/health":
            request = Request(scope)
            origin = request.headers.get("origin")
            if not is_known(f"//{request.headers.get('host', '')}", self._names):
                text = "this server is not known by this host name; start it with --name to allow it\n"
                await PlainTextResponse(text, 421)(scope, receive, send)
                return
            if origin is not None and not is_known(origin, self._names):
                await PlainTextResponse("pages of this origin may not use this server\n", 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def is_known(url: str, names: Collection[str]) -> bool:
    """Whether the host in it is localhost, an address, or one of `names` (lower case)."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
        if host == "localhost" or host in names:
            return True
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
