"""`python -m maze_api`: serve on MAZE_API_HOST:MAZE_API_PORT (0.0.0.0:8000)."""

from __future__ import annotations

import logging
import sys

import uvicorn

from maze_api.app import create_app
from maze_api.errors import request_id
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


def main() -> int:
    try:
        settings = Settings.from_env()
    except ValueError as error:
        sys.stderr.write(f"maze-api: {error}\n")
        return 2
    configure_logs(settings.log_level)
    logging.getLogger("maze_api").info("serving on %s:%d, Runs in %s", settings.host, settings.port, settings.namespace)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        ws_per_message_deflate=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
