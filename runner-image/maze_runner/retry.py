"""Does a call again until it works, and says so in the log once per problem."""

from __future__ import annotations

import os
import sys
import time

from maze_runner.backoff import plan_delay
from maze_runner.limits import BACKOFF_LAST
from maze_runner.wire import HttpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional, TypeVar

    T = TypeVar("T")


def log(text: str) -> None:
    """A line of the runner's own in the pod's log."""
    sys.stderr.write(f"maze: {text}\n")
    sys.stderr.flush()


def retry(
    what: str,
    call: Callable[[], T],
    until: Optional[float] = None,
    tries: Optional[int] = None,
    final: Callable[[HttpError], bool] = lambda error: False,
    longest: float = BACKOFF_LAST,
) -> T:
    """What `call` returns. Without `until` (a time.monotonic()) and `tries` it goes on forever: the pod's end ends it.

    `longest`: seconds between two tries, unless the server asks for more.

    Raises:
        HttpError: the last one, after `tries`, when the next try would be after `until`, or when it is `final`.
    """
    count, said = 0, ""
    while True:
        count += 1
        try:
            return call()
        except HttpError as error:
            delay = plan_delay(count, os.urandom(1)[0] / 256, error.retry_after, longest)
            late = until is not None and time.monotonic() + delay > until
            if final(error) or late or (tries is not None and count >= tries):
                raise
            if str(error) != said:
                said = str(error)
                log(f"{what}: {said}; trying again")
        time.sleep(delay)
