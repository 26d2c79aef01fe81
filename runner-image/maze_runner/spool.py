"""What a task prints: at once to the pod's log, and the first part of it to a file that is kept."""

from __future__ import annotations

import os

from maze_runner.limits import LOG_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from maze_runner.live import Live

_CUT = f"\nmaze: the log is cut here, after {LOG_LIMIT // 1024**2} MiB; all of it is in the pod's own log\n".encode()


class Spool:
    """A file system that is full costs the kept log, not the task."""

    def __init__(self, path: str, live: Live, limit: int = LOG_LIMIT) -> None:
        self.path = path
        self.size = 0
        self._live = live
        self._limit = limit
        self._fd: Optional[int] = None
        self._closed = False

    def write(self, data: bytes) -> None:
        self._live.write(data)
        if self._closed:
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
        self._closed = True
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _keep(self, data: bytes) -> None:
        if self._fd is None:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        while data:
            written = os.write(self._fd, data)
            self.size += written
            data = data[written:]
