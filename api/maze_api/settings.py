"""Settings, all from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from maze_io.store import StoreSettings

DEFAULT_MAX_BODY = 64 * 1024 * 1024
DEFAULT_RUN_TTL = 7 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Settings:
    """What an api process needs to know.

    Attributes:
        store: where payloads and drafts are (MAZE_S3_*).
        namespace: where Runs are made and watched (MAZE_NAMESPACE).
        control_namespace: where the operator's Lease is (POD_NAMESPACE).
        max_body_bytes: largest request body (MAZE_MAX_BODY_BYTES).
        runner_python: MAJOR.MINOR of the Python in the image for tasks (MAZE_RUNNER_PYTHON).
        run_ttl_seconds: how long a Run stays after its end (MAZE_RUN_TTL_SECONDS).
        host, port: where to listen (MAZE_API_HOST, MAZE_API_PORT).
        log_level: a name that `logging` knows (MAZE_LOG_LEVEL).
    """

    store: StoreSettings
    namespace: str = "maze"
    control_namespace: str = "maze-system"
    max_body_bytes: int = DEFAULT_MAX_BODY
    runner_python: str = "3.11"
    run_ttl_seconds: int = DEFAULT_RUN_TTL
    host: str = "0.0.0.0"
    port: int = 8000
    log_level: str = "INFO"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the environment.

        Raises:
            ValueError: a variable is missing or is not a number; the text names it.
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
            log_level=(environ.get("MAZE_LOG_LEVEL") or "INFO").upper(),
        )


def _version(environ: Mapping[str, str], name: str, default: str) -> str:
    text = environ.get(name) or default
    if not re.fullmatch(r"3\.[0-9]+", text):
        raise ValueError(f"{name} is '{text}', but must be a version of Python such as {default}")
    return text


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, "")
    if not text:
        return default
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{name} is '{text}', but must be a whole number from 1")
    return int(text)
