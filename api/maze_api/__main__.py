"""`python -m maze_api`: serve on MAZE_API_HOST:MAZE_API_PORT (0.0.0.0:8000)."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable

import uvicorn

from maze_api.app import create_app
from maze_api.errors import request_id
from maze_api.listen import BACKLOG, listen
from maze_api.settings import Settings


def configure_logs(level: str) -> None:
    """One line per record on stderr, with the request id."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"))

    def add_request_id(record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True

    handler.addFilter(add_request_id)
    logging.basicConfig(level=level, handlers=[handler])
    server = logging.getLogger("uvicorn.error")
    server.setLevel(max(logging.WARNING, logging.getLogger().level))  # our access log has the rest
    # uvicorn says this for every handshake that was refused with an answer of ours.
    server.addFilter(lambda record: "without completing handshake" not in record.getMessage())


class Server(uvicorn.Server):
    """Ends event streams as soon as it is asked to stop: they would go on for as long as it waits for them."""

    def __init__(self, config: uvicorn.Config, end_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_streams = end_streams

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._end_streams()
        await super().shutdown(sockets)


def main() -> int:
    try:
        settings = Settings.from_env()
    except ValueError as error:
        sys.stderr.write(f"maze-api: {error}\n")
        return 2
    configure_logs(settings.log_level)
    try:
        listening = listen(settings.host, settings.port)
    except OSError as error:
        sys.stderr.write(f"maze-api: {error}\n")
        return 1
    logging.getLogger("maze_api").info("serving on %s:%d, Runs in %s", settings.host, settings.port, settings.namespace)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws_per_message_deflate=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
        backlog=BACKLOG,
    )
    Server(config, lambda: app.state.services.feeds.close()).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    sys.exit(main())
