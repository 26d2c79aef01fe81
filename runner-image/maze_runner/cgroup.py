"""The limits of this container that are in force, and how often the kernel killed for lack of memory."""

from __future__ import annotations

import os
import time

from maze_runner.failures import INFRASTRUCTURE, Failed
from maze_runner.limits import LIMITS_PATIENCE, LIMITS_POLL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Tuple

ROOT = "/sys/fs/cgroup"


class Cgroup:
    """This container's own. What was found once is not looked for again, as every attempt asks."""

    def __init__(self, root: str = ROOT, membership: str = "/proc/self/cgroup") -> None:
        self._root, self._membership = root, membership
        self._counters: Optional[List[int]] = None
        self._in_force: Dict[str, int] = {}

    def oom_kills(self) -> int:
        """How often the kernel killed for lack of memory, 0 where that can't be read. Only its growth means something."""
        if self._counters is None:
            found = (_first_open(paths) for paths in candidates(_lines(self._membership), self._root))
            self._counters = [each for each in found if each is not None]
        return sum(parse_oom_kill(os.pread(each, 4096, 0).decode()) for each in self._counters)

    def close(self) -> None:
        for each in self._counters or ():
            os.close(each)
        self._counters = []

    def wait_for_limits(self, limits: Dict[str, int], patience: float = LIMITS_PATIENCE) -> None:
        """Return once the kernel enforces a protocol.Limits here. What can't be read is taken as in force.

        Raises:
            Failed: LimitsNotInForce, after `patience` seconds.
        """
        if limits == self._in_force:
            return
        lines = _lines(self._membership)
        until = time.monotonic() + patience
        while True:
            missing = find_missing(limits, read_cpu(lines, self._root), read_memory(lines, self._root))
            if missing is None:
                self._in_force = limits
                return
            if time.monotonic() > until:
                message = f"the pod was to be resized, but {missing} after {patience:g} s"
                raise Failed(INFRASTRUCTURE, "LimitsNotInForce", message)
            time.sleep(LIMITS_POLL)


def candidates(lines: List[str], root: str) -> List[List[str]]:
    """Files to look at, per cgroup version; the first that exists counts.

    `lines` are those of /proc/self/cgroup. Inside a container the path in them may be the host's, which is not mounted:
    then the root of the mount is this container's own group.
    """
    return [new_files(lines, root, "memory.events"), old_files(lines, root, "memory", "memory.oom_control")]


def new_files(lines: List[str], root: str, name: str) -> List[str]:
    """Where a file of version 2 may be, in the order of looking."""
    own = _group(lines, "")
    return [f"{root}{own}/{name}", f"{root}/unified{own}/{name}", f"{root}/{name}"]


def old_files(lines: List[str], root: str, controller: str, name: str) -> List[str]:
    """The same of version 1."""
    return [f"{root}/{controller}{_group(lines, controller)}/{name}", f"{root}/{controller}/{name}"]


def _group(lines: List[str], controller: str) -> str:
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(","):
            return path.rstrip("/")
    return ""


def _lines(membership: str) -> List[str]:
    return (_first_text([membership]) or "").splitlines()


def _first_text(paths: List[str]) -> Optional[str]:
    for path in paths:
        try:
            with open(path) as file:
                return file.read()
        except OSError:
            continue
    return None


def _first_open(paths: List[str]) -> Optional[int]:
    for path in paths:
        try:
            return os.open(path, os.O_RDONLY)
        except OSError:
            continue
    return None


def parse_oom_kill(text: str) -> int:
    """The number after `oom_kill` in memory.events or memory.oom_control."""
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill" and number.strip().isdigit():
            return int(number)
    return 0


def find_missing(limits: Dict[str, int], cpu: Optional[Tuple[float, float]], memory: Optional[float]) -> Optional[str]:
    """What is not as it should be, in words; None when all is. See read_cpu and read_memory."""
    if "cpuMillis" in limits and cpu is not None:
        quota, period = cpu
        wanted = max(limits["cpuMillis"] / 1000, LEAST_QUOTA / period)
        if abs(quota / period - wanted) > 0.01 * wanted:
            return f"its CPU limit is {quota / period:g} instead of {wanted:g}"
    if "memory" in limits and memory is not None and not limits["memory"] - PAGE < memory <= limits["memory"]:
        return f"its memory limit is {memory:.0f} bytes instead of {limits['memory']}"
    return None


LEAST_QUOTA = 1000
"""Microseconds; the kernel takes no less (Documentation/scheduler/sched-bwc.rst)."""
PAGE = os.sysconf("SC_PAGE_SIZE")


def read_cpu(lines: List[str], root: str) -> Optional[Tuple[float, float]]:
    """Quota (infinite: no limit) and period in microseconds; None where they can't be read."""
    text = _first_text(new_files(lines, root, "cpu.max"))
    if text is None:
        parts = [_first_text(old_files(lines, root, "cpu", f"cpu.cfs_{each}_us")) for each in ("quota", "period")]
        text = " ".join(part or "" for part in parts)
    try:
        quota, period = text.split()
        return _limit(quota), float(period)
    except ValueError:
        return None


def read_memory(lines: List[str], root: str) -> Optional[float]:
    """Bytes (infinite: no limit); None where they can't be read."""
    text = _first_text(new_files(lines, root, "memory.max"))
    if text is None:
        text = _first_text(old_files(lines, root, "memory", "memory.limit_in_bytes"))
    try:
        return _limit(text or "")
    except ValueError:
        return None


def _limit(text: str) -> float:
    return float("inf") if text.strip() in ("max", "-1") else float(text)
