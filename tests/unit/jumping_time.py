"""An event loop whose time jumps to the next timer, and the operator's code in that time."""

from __future__ import annotations

import asyncio
import selectors
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from builders import T0


class Loop(asyncio.SelectorEventLoop):
    """Whenever nothing is ready the time is that of the next timer."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        return self.now


class _Jump(selectors.SelectSelector):
    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everything waits, and nothing will ever happen"
        self._loop.now += timeout
        return []


def seconds() -> float:
    return asyncio.get_running_loop().time()


class _Datetime(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return T0 + timedelta(seconds=seconds())


@contextmanager
def loops_time() -> Iterator[None]:
    """The operator asks its event loop what time it is, instead of the machine."""
    time = SimpleNamespace(monotonic=seconds, thread_time=lambda: 0.0)
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("maze_operator.")]
    clocks = {"time": time, "datetime": _Datetime}
    patches = [
        patch.object(module, name, clock)
        for module in modules
        for name, clock in clocks.items()
        if getattr(module, name, None) in (sys.modules["time"], datetime)
    ]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()
