"""Settings, all from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from maze_io.store import StoreSettings

DEFAULT_MAX_BODY = 64 * 1024 * 1024
DEFAULT_MAX_JSON = 1024 * 1024
DEFAULT_RUN_TTL = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Settings:
    """What an api process needs to know.

    Attributes:
        store: where payloads and drafts are (MAZE_S3_*).
        namespace: where Runs are made and watched (MAZE_NAMESPACE).
        control_namespace: where the operator's Lease is (POD_NAMESPACE).
        max_body_bytes: largest request body with code or payloads (MAZE_MAX_BODY_BYTES).
        max_json_bytes: largest request body of all other calls (MAZE_MAX_JSON_BYTES).
        runner_python: MAJOR.MINOR of the Python in the image for tasks (MAZE_RUNNER_PYTHON).
        run_ttl_seconds: how long a Run stays after its end (MAZE_RUN_TTL_SECONDS).
        host, port: where to listen (MAZE_API_HOST, MAZE_API_PORT).
        log_level: a name that `logging` knows (LOG_LEVEL).
        report_url, api_token: the operator's endpoint for reports, and what opens it (MAZE_REPORT_URL, MAZE_API_TOKEN).
        internal_workers, start_workers: the WorkerPool on a fresh installation, and again whenever the variable has
            changed (NUM_INTERNAL_WORKERS, AUTO_START_WORKERS).
        task_timeout_seconds, task_max_steps: parameters of tasks that give none (DEFAULT_TIMEOUT_MINUTES,
            DEFAULT_MAX_STEPS).
        worker_timeout_seconds: an external worker that is silent this long is offline (MAZE_WORKER_TIMEOUT_SECONDS).
        database_url: PostgreSQL for ended tasks; None: they are kept as long as their Run (DATABASE_URL).
        requests_per_minute: of one client address; None: any number (MAZE_RATE_LIMIT_PER_MINUTE).
        mcp_server_url: MCP server of the installation (MCP_SERVER_URL).
    """

    store: StoreSettings
    namespace: str = "maze"
    control_namespace: str = "maze-system"
    max_body_bytes: int = DEFAULT_MAX_BODY
    max_json_bytes: int = DEFAULT_MAX_JSON
    runner_python: str = "3.11"
    run_ttl_seconds: int = DEFAULT_RUN_TTL
    host: str = "0.0.0.0"
    port: int = 8000
    log_level: str = "INFO"
    report_url: str = ""
    api_token: str = ""
    internal_workers: int = 3
    start_workers: bool = True
    task_timeout_seconds: int = 1800
    task_max_steps: int = 30
    worker_timeout_seconds: int = 60
    database_url: str | None = None
    requests_per_minute: int | None = None
    mcp_server_url: str | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the environment.

        Raises:
            ValueError: a variable is missing, or is not what it must be; the text names it.
        """
        return cls(
            store=StoreSettings.from_env(environ),
            namespace=environ.get("MAZE_NAMESPACE") or "maze",
            control_namespace=environ.get("POD_NAMESPACE") or "maze-system",
            runner_python=_version(environ, "MAZE_RUNNER_PYTHON", "3.11"),
            run_ttl_seconds=_number(environ, "MAZE_RUN_TTL_SECONDS", DEFAULT_RUN_TTL),
            max_body_bytes=_number(environ, "MAZE_MAX_BODY_BYTES", DEFAULT_MAX_BODY),
            host=environ.get("MAZE_API_HOST") or "0.0.0.0",
            port=_number(environ, "MAZE_API_PORT", 8000),
            max_json_bytes=_number(environ, "MAZE_MAX_JSON_BYTES", DEFAULT_MAX_JSON),
            log_level=_level(environ),
            report_url=(environ.get("MAZE_REPORT_URL") or "").rstrip("/"),
            api_token=environ.get("MAZE_API_TOKEN") or "",
            internal_workers=_number(environ, "NUM_INTERNAL_WORKERS", 3, least=0),
            start_workers=_flag(environ, "AUTO_START_WORKERS", True),
            task_timeout_seconds=60 * _number(environ, "DEFAULT_TIMEOUT_MINUTES", 30),
            task_max_steps=_number(environ, "DEFAULT_MAX_STEPS", 30),
            worker_timeout_seconds=_number(environ, "MAZE_WORKER_TIMEOUT_SECONDS", 60),
            database_url=_database(environ),
            requests_per_minute=_number(environ, "MAZE_RATE_LIMIT_PER_MINUTE", 0, least=0) or None,
            mcp_server_url=environ.get("MCP_SERVER_URL") or None,
        )


def _version(environ: Mapping[str, str], name: str, default: str) -> str:
    text = environ.get(name) or default
    if not re.fullmatch(r"3\.[0-9]+", text):
        raise ValueError(f"{name} is '{text}', but must be a version of Python such as {default}")
    return text


def _number(environ: Mapping[str, str], name: str, default: int, least: int = 1) -> int:
    text = environ.get(name, "")
    if not text:
        return default
    if not text.isdigit() or int(text) < least:
        raise ValueError(f"{name} is '{text}', but must be a whole number from {least}")
    return int(text)


def _flag(environ: Mapping[str, str], name: str, default: bool) -> bool:
    text = environ.get(name, "").lower()
    if not text:
        return default
    if text not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError(f"{name} is '{text}', but must be true or false")
    return text in ("true", "1", "yes")


def _database(environ: Mapping[str, str]) -> str | None:
    url = environ.get("DATABASE_URL")
    if url:
        from maze_api.archive.url import parse_url  # the driver is only loaded where it is used

        parse_url(url)
    return url or None


def _level(environ: Mapping[str, str]) -> str:
    text = environ.get("LOG_LEVEL") or "info"
    if text.lower() not in ("debug", "info", "warning", "error"):
        raise ValueError(f"LOG_LEVEL is '{text}', but must be debug, info, warning or error")
    return text.upper()
