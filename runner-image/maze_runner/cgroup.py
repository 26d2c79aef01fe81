"""How often the kernel killed a process of this container for lack of memory."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List

ROOT = "/sys/fs/cgroup"


def oom_kills(root: str = ROOT, membership: str = "/proc/self/cgroup") -> int:
    """The count so far, 0 where it can't be read. Only its growth means something."""
    try:
        with open(membership) as file:
            lines = file.read().splitlines()
    except OSError:
        lines = []
    return sum(_first_count(paths) for paths in candidates(lines, root))


def candidates(lines: List[str], root: str) -> List[List[str]]:
    """Files to look at, per cgroup version; the first that exists counts.

    `lines` are those of /proc/self/cgroup. Inside a container the path in them may be the host's, which is not mounted:
    then the root of the mount is this container's own group.
    """
    unified, memory = "/", "/"
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            unified = path
        elif "memory" in controllers.split(","):
            memory = path
    own, old = unified.rstrip("/"), memory.rstrip("/")
    return [
        [f"{root}{own}/memory.events", f"{root}/unified{own}/memory.events", f"{root}/memory.events"],
        [f"{root}/memory{old}/memory.oom_control", f"{root}/memory/memory.oom_control"],
    ]


def _first_count(paths: List[str]) -> int:
    for path in paths:
        try:
            with open(path) as file:
                text = file.read()
        except OSError:
            continue
        return parse_oom_kill(text)
    return 0


def parse_oom_kill(text: str) -> int:
    """The number after `oom_kill` in memory.events or memory.oom_control."""
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill" and number.strip().isdigit():
            return int(number)
    return 0
