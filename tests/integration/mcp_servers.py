"""Real MCP servers as processes: the example server, and an odd one that does what servers also do.

python tests/integration/mcp_servers.py PORT      the odd one over streamable HTTP
python tests/integration/mcp_servers.py --stdio   the same over standard streams
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WAIT = 60.0
EXAMPLE_STDIO = {"command": sys.executable, "args": ["-m", "maze_tools.server", "--stdio"]}
ODD_STDIO = {"command": sys.executable, "args": [str(Path(__file__)), "--stdio"]}


@contextmanager
def example_server(port: int | None = None) -> Iterator[str]:
    """The example server; its URL."""
    with _serving(["-m", "maze_tools.server", "--host", "127.0.0.1", "--port"], port) as url:
        yield url


@contextmanager
def odd_server() -> Iterator[str]:
    with _serving([str(Path(__file__))]) as url:
        yield url


@contextmanager
def _serving(arguments: list[str], port: int | None = None) -> Iterator[str]:
    if port is None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
    process = subprocess.Popen([sys.executable, *arguments, str(port)], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + WAIT
        while not _listens(port):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < until, "the server does not listen"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def main() -> None:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.utilities.types import Image
    from mcp.shared.exceptions import MCPError

    server = MCPServer("odd", log_level="ERROR")

    @server.tool(structured_output=False)
    def text() -> str:
        return "only words"

    @server.tool(structured_output=False)
    def json_text() -> str:
        return '{"answer": 42}'

    @server.tool(structured_output=False)
    def picture() -> Any:
        return Image(data=b"\x89PNG", format="png")

    @server.tool()
    def large() -> str:
        """More than MCP clients read in one event unless told so."""
        return "x" * (3 * 1024 * 1024)

    @server.tool()
    def protocol_error() -> str:
        raise MCPError(code=-32042, message="the quota is used up")

    @server.tool()
    def die() -> str:
        os._exit(3)

    @server.tool()
    def environment(name: str) -> dict[str, str | None]:
        return {"value": os.environ.get(name)}

    if sys.argv[1] == "--stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]), stateless_http=True)


if __name__ == "__main__":
    main()
