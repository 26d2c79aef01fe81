"""How long to wait before trying again."""

from __future__ import annotations

from maze_runner.limits import BACKOFF_FIRST, BACKOFF_LAST, RETRY_AFTER_LAST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional


def plan_delay(tries: int, chance: float, retry_after: Optional[str] = None, longest: float = BACKOFF_LAST) -> float:
    """Seconds to wait after the `tries`-th failure (from 1): doubling up to `longest`, with jitter; a server's Retry-After
    wins.

    `chance` is a random number in [0, 1); it takes away up to half, so that pods do not come back all at once.
    """
    if retry_after is not None and retry_after.strip().isdigit():
        return min(float(retry_after), RETRY_AFTER_LAST)
    full = min(BACKOFF_FIRST * 2.0 ** min(tries - 1, 30), longest)
    return full * (1 - chance / 2)


def is_transient(status: int) -> bool:
    """Whether the same request may succeed later."""
    return status >= 500 or status in (408, 425, 429)
