"""Our control groups: `/maze`, with the pods (kubelet's cgroupRoot) and `/maze/system`, where the components live.

Whatever process is in them is ours, even when every pid file is lost; that is how `down` leaves none behind.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from .errors import ClusterError
from .layout import CGROUP
from .process import send

ROOT = Path("/sys/fs/cgroup")


def cgroup_version() -> int:
    """2 where the unified hierarchy is mounted at /sys/fs/cgroup, else 1."""
    return 2 if (ROOT / "cgroup.controllers").exists() else 1


def hierarchies() -> list[Path]:
    """The mount points of all hierarchies."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(words[1]) for words in mounts if words[2] in ("cgroup", "cgroup2")]


def find_cgroups() -> list[Path]:
    """Our group in every hierarchy where it exists."""
    return [root / CGROUP for root in hierarchies() if (root / CGROUP).is_dir()]


def create_cgroups() -> Path:
    """Create our groups; returns the one for the components. Raises ClusterError if the machine does not allow it."""
    try:
        if cgroup_version() == 2:
            _delegate(ROOT)
            (ROOT / CGROUP).mkdir(exist_ok=True)
            _delegate(ROOT / CGROUP)
            system = ROOT / CGROUP / "system"
        else:
            for root in hierarchies():
                if "cpuset" in root.name.split(","):
                    _create_cpuset(root)
                elif root.name != "unified":
                    (root / CGROUP).mkdir(exist_ok=True)
            system = ROOT / "pids" / CGROUP / "system"
        system.mkdir(exist_ok=True)
    except OSError as error:
        raise ClusterError(
            f"cannot create control groups under {ROOT}: {error}. The embedded cluster needs a machine, or a privileged"
            " container, where root may write there."
        ) from error
    return system


def _create_cpuset(root: Path) -> None:
    """A new cpuset has no processors, and nothing can run in it until it has."""
    group = root / CGROUP
    group.mkdir(exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not (group / name).read_text().strip():
            (group / name).write_text((root / name).read_text())


def _delegate(group: Path) -> None:
    """cgroup v2: let the children of `group` use all controllers that it has."""
    have = (group / "cgroup.controllers").read_text().split()
    enabled = (group / "cgroup.subtree_control").read_text().split()
    for controller in set(have) - set(enabled):
        (group / "cgroup.subtree_control").write_text(f"+{controller}")


def list_processes() -> list[int]:
    """The pids of all processes in our groups."""
    pids: set[int] = set()
    for group in find_cgroups():
        for folder, _, _ in os.walk(group):  # which passes over what goes away meanwhile
            try:
                pids.update(int(line) for line in (Path(folder) / "cgroup.procs").read_text().split())
            except (FileNotFoundError, OSError):
                continue  # the group went away, or (v2) holds threads only
    return sorted(pids)


def kill_processes(seconds: float = 10.0) -> int:
    """SIGKILL everything in our groups until nothing is left; returns how many there were."""
    first = pids = list_processes()
    deadline = time.monotonic() + seconds
    while pids:
        for pid in pids:
            send(pid, signal.SIGKILL)
        time.sleep(0.05)
        pids = list_processes()
        if time.monotonic() > deadline:
            raise ClusterError(f"processes {pids} in control group {CGROUP} cannot be killed: see `ps -fp {pids[0]}`.")
    return len(first)


def remove_cgroups() -> None:
    """Remove our groups, children first."""
    for group in find_cgroups():
        for folder in sorted([group, *group.rglob("*/")], key=lambda path: len(path.parts), reverse=True):
            for _ in range(20):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.05)  # the kernel is still busy with the last process
                else:
                    break
