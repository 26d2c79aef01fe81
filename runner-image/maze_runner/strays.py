"""Finds and kills the processes that a task left behind."""

# ruff: noqa: PTH208
# pathlib would take a good part of the start.
from __future__ import annotations

import contextlib
import os
import signal
import time
from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Tuple

    Row = Tuple[str, int, int, int]
    """State, parent, process group, session."""

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 1.0
"""Seconds for killed processes to be gone."""


@lru_cache(maxsize=None)
def adopt_orphans() -> bool:
    """Make processes that lose their parent fall to this one. They do anyway where it is number 1, as in most pods.

    False: they do not.
    """
    if os.getpid() == 1:
        return True
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    return False


def kill_strays(leader: int, adopting: bool) -> None:
    """Kill everything in the session or group of `leader`, and every descendant of this process.

    Processes that made themselves independent have fallen to this one, see adopt_orphans. What was started into the pod
    from outside (kubectl exec) has no parent in it, and stays. `adopting` as adopt_orphans said: then a process without
    children has no descendants, and /proc need not be read.
    """
    until = time.monotonic() + PATIENCE
    while _reap() or not adopting:
        strays = find_strays(_table(), leader, os.getpid())
        for pid in strays:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not strays or time.monotonic() > until:
            return
        time.sleep(0.002)


def find_strays(table: Dict[int, Row], leader: int, own: int) -> List[int]:
    """Process ids among `table` (of /proc) that are the task's and still alive."""
    ours = {own}
    grown = True
    while grown:
        found = {pid for pid, row in table.items() if row[1] in ours} - ours
        grown = bool(found)
        ours |= found
    return [
        pid
        for pid, (state, _, group, session) in table.items()
        if pid != own and state not in "ZX" and (pid in ours or leader in (group, session))
    ]


def parse_stat(text: str) -> Optional[Row]:
    """The fields of /proc/PID/stat that matter here. The command's name may hold spaces and parentheses."""
    fields = text.rpartition(")")[2].split()
    if len(fields) < 4:
        return None
    return fields[0], int(fields[1]), int(fields[2]), int(fields[3])


def _table() -> Dict[int, Row]:
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    row = parse_stat(file.read())
            except OSError:
                continue
            if row is not None:
                table[int(name)] = row
    return table


def _reap() -> bool:
    """Whether there are children that live."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True
