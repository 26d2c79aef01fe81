"""What a task prints: at once to the pod's log, and the first part of it to a file that is kept."""

from __future__ import annotations

import os
import select

from maze_runner.limits import LOG_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

_CUT = f"\nmaze: the log is cut here, after {LOG_LIMIT // 1024**2} MiB; all of it is in the pod's own log\n".encode()


class Spool:
    """A file system that is full costs the kept log, not the task."""

    def __init__(self, path: str, live: int = 1, limit: int = LOG_LIMIT) -> None:
        self.path = path
        self.size = 0
        self._live: Optional[int] = live
        self._limit = limit
        self._fd: Optional[int] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def write(self, data: bytes) -> None:
        self._copy(data)
        if self._fd is None:
            return
        room = self._limit - self.size
        kept = data[:room]
        if len(kept) < len(data):
            kept += _CUT
        try:
            self._keep(kept)
        except OSError:
            self.close()
        if len(data) > room:
            self.close()

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _keep(self, data: bytes) -> None:
        while data and self._fd is not None:
            written = os.write(self._fd, data)
            self.size += written
            data = data[written:]

    def _copy(self, data: bytes) -> None:
        while data and self._live is not None:
            try:
                data = data[os.write(self._live, data) :]
            except BlockingIOError:
                select.select([], [self._live], [], 1.0)
            except OSError:
                self._live = None
