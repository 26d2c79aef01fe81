"""Loops that end only with the process: what goes wrong in one is told, and it is begun again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds before a loop that has failed is begun again."""


async def forever(what: str, work: Callable[[], Awaitable[None]], pause: float = PAUSE) -> None:
    """Await `work()` again and again until this is cancelled. `what` is said in our log."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s failed; it is begun again", what)
        else:
            log.warning("%s ended; it is begun again", what)
        await asyncio.sleep(pause)
