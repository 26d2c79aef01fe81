"""Progress as plain lines: readable in a terminal and in a CI log, never a spinner."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

TICK_SECONDS = 15.0


def say(text: str) -> None:
    """Print one line of progress at once."""
    print(f"==> {text}", flush=True)


def detail(text: str) -> None:
    """Print a line that belongs to the last `say`."""
    print(f"    {text}", flush=True)


def format_seconds(seconds: float) -> str:
    """`7 s`, `0.4 s` or `3 min 20 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@contextmanager
def ticking(what: str, usual: str) -> Iterator[None]:
    """Say that `what` starts and how long it usually takes, then a line with the time gone every 15 s, then the total."""
    say(f"{what} (usually {usual})")
    started = time.monotonic()
    done = threading.Event()

    def tick() -> None:
        while not done.wait(TICK_SECONDS):
            detail(f"… {format_seconds(time.monotonic() - started)} so far")

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    detail(f"done in {format_seconds(time.monotonic() - started)}")
