"""Forks a child, copies what it prints, and makes sure that nothing of it is left."""

from __future__ import annotations

import os
import select
import signal
import time

from maze_runner.limits import DRAIN, KILL_GRACE
from maze_runner.strays import adopt_orphans, kill_strays

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional, Tuple

    from maze_runner.holding import Holding
    from maze_runner.signals import Signals
    from maze_runner.spool import Spool


class Child:
    """A process in a session of its own, whose output comes through a pipe."""

    def __init__(self, body: Callable[[], None], signals: Signals) -> None:
        """`body` runs in the child; when it returns or raises, the child is gone. SIGTERM waits until `supervise`."""
        self._signals = signals
        self._adopting = adopt_orphans()
        self.output, write_end = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.output)
                _enter(write_end, signals)
                body()
            finally:
                os._exit(70)
        os.close(write_end)

    def supervise(self, spool: Spool, deadline: Optional[float], holding: Optional[Holding] = None) -> Tuple[int, bool]:
        """Wait for its end, at most until `deadline` (a time.monotonic()): then it is terminated, and soon killed.

        Returns its wait status, and whether it was over time.

        Raises:
            NotOurs: see Holding. The child still runs; clean_up ends it.
        """
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM, signal.SIGINT])
        over_time, kill_at = False, None
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return status, over_time
            if holding is not None:
                holding.tick()
            now = time.monotonic()
            if kill_at is not None and now >= kill_at:
                self.send(signal.SIGKILL)
                kill_at = now + KILL_GRACE
            elif deadline is not None and now >= deadline and not over_time:
                over_time, kill_at = True, now + KILL_GRACE
                self.send(signal.SIGTERM)
            due = None if holding is None else holding.due
            times = [each for each in (kill_at if over_time else deadline, due) if each is not None]
            self._copy(spool, max(0.0, min(times) - now) if times else None, holding)

    def send(self, number: int) -> None:
        """A signal to its process group; to itself where the group is not there yet."""
        for send in (os.killpg, os.kill):
            try:
                send(self.pid, number)
            except ProcessLookupError:
                continue
            return

    def clean_up(self, spool: Spool) -> None:
        """Kill it if it still runs, and what it left behind, and read the output that is still on its way."""
        kill_strays(self.pid, self._adopting)
        until = time.monotonic() + DRAIN
        while self.output >= 0:
            left = until - time.monotonic()
            if left <= 0:
                break
            self._copy(spool, left)
        self._close()

    def _copy(self, spool: Spool, seconds: Optional[float], holding: Optional[Holding] = None) -> None:
        """Wait until there is output, a signal, or the end of the connection to the operator; copy what is there."""
        reading = [self._signals.wake] + ([self.output] if self.output >= 0 else [])
        watched = None if holding is None else holding.socket
        if watched is not None:
            reading.append(watched)
        ready = select.select(reading, [], [], seconds)[0]
        if holding is not None and watched in ready:
            holding.lost()
        if self._signals.wake in ready:
            self._signals.clear_wake()
        if self.output in ready:
            data = os.read(self.output, 65536)
            if data:
                spool.write(data)
            else:
                self._close()

    def _close(self) -> None:
        if self.output >= 0:
            os.close(self.output)
            self.output = -1


def _enter(write_end: int, signals: Signals) -> None:
    """The child's first steps: its own session, standard streams, and the first to go when memory is short."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(write_end, 1)
    os.dup2(write_end, 2)
    for fd in (null, write_end):
        if fd > 2:
            os.close(fd)
    signals.reset_in_child()
    try:
        adjust = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(adjust, b"1000")
        os.close(adjust)
    except OSError:
        pass
