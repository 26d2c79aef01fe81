"""The pod's own log, which is this process's standard output."""

from __future__ import annotations

import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional


class Live:
    """What can't be written is lost: nobody reads it any more."""

    def __init__(self, fd: int = 1) -> None:
        self._fd: Optional[int] = fd
        self._line_ended = True

    def write(self, data: bytes) -> None:
        if data:
            self._line_ended = data.endswith(b"\n")
        while data and self._fd is not None:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                select.select([], [self._fd], [], 1.0)
            except OSError:
                self._fd = None

    def mark(self, marker: str) -> None:
        """A line of its own, whatever was written before."""
        self.write((b"" if self._line_ended else b"\n") + marker.encode("utf-8", "backslashreplace") + b"\n")
