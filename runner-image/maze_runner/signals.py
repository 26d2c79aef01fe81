"""SIGTERM ends the runner wherever it is; SIGCHLD wakes it up."""

from __future__ import annotations

import os
import signal

from maze_runner.limits import REPORT_GRACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Optional

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGALRM)


class Terminated(BaseException):
    """The pod is being deleted."""


class Signals:
    """While `reporting`, SIGTERM leaves some time: a result that is there already should not be lost to a drained node."""

    def __init__(self) -> None:
        self.reporting = False
        self.stopping = False
        """SIGTERM came while reporting: nothing new is begun."""
        self.wake, self._wake_end = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(self._wake_end, False)

    def install(self) -> None:
        signal.set_wakeup_fd(self._wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGALRM, self._out_of_time)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._terminate)

    def clear_wake(self) -> None:
        try:
            while os.read(self.wake, 512):
                pass
        except BlockingIOError:
            pass

    def reset_in_child(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in HANDLED:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        os.close(self.wake)
        os.close(self._wake_end)

    def _terminate(self, number: int, frame: Optional[FrameType]) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        if not self.reporting:
            raise Terminated
        self.stopping = True
        signal.setitimer(signal.ITIMER_REAL, REPORT_GRACE)

    def _out_of_time(self, number: int, frame: Optional[FrameType]) -> None:
        if self.stopping:  # else a task sent it
            raise Terminated
