"""kopf watches the Runs. It gets a thread and loop of its own, because it cancels what it finds in its loop when it ends."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import kopf

from maze_crds.base import GROUP, VERSION

log = logging.getLogger(__name__)
Saw = Callable[[str | None, dict[str, Any]], None]


class _NoDiffBase(kopf.DiffBaseStorage):
    """Nothing here compares with an earlier body, and the default deep-copies it for every event."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        return None


def watch_runs(saw: Saw, loop: asyncio.AbstractEventLoop, died: Callable[[], None]) -> Callable[[], None]:
    """Call `saw(kind, run)` in `loop` for every event of every Run; returns what stops it.

    `died` is called in `loop` if kopf ends by itself.
    """
    registry = kopf.OperatorRegistry()
    stopping = threading.Event()

    def on_event(event: Any, **_: Any) -> None:
        loop.call_soon_threadsafe(saw, event["type"], dict(event["object"]))

    kopf.on.login(registry=registry)(kopf.login_via_client)
    kopf.on.event(GROUP, VERSION, "runs", registry=registry)(on_event)

    def run() -> None:
        try:
            asyncio.run(
                kopf.operator(
                    registry=registry,
                    settings=_settings(),
                    clusterwide=True,
                    standalone=True,
                    stop_flag=stopping,
                )
            )
        except Exception:
            log.exception("the watch engine failed")
        if not stopping.is_set():
            loop.call_soon_threadsafe(died)

    threading.Thread(target=run, name="kopf", daemon=True).start()
    return stopping.set


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 300
    settings.watching.connect_timeout = 5
    return settings
