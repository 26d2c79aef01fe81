"""Where CPU time goes: seconds of each part of the system between two moments, on the machine that has the node.

Processes that stay are asked themselves (/proc). Pods that come and go are not: the cgroup above all pods has what they
used, also when they are gone; what it has more than the pods that stay is the runners'. And what the machine used
more than all of them together was used by processes that came and went beside pods (runc), and by the kernel. Programs that
have nothing to do with it are told apart, as far as they stay.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PARTS = {
    "maze_operator": "operator",
    "maze_api": "api",
    "versitygw": "store",
    "kube-apiserver": "apiserver",
    "etcd": "etcd",
    "kube-controller-manager": "control",
    "kube-scheduler": "control",
    "kube-proxy": "control",
    "kubelet": "node",
    "containerd": "node",
    "containerd-shim-runc-v2": "node",
    "coredns": "coredns",
}
"""Program, or module of Python -> part. More parts: "runners", "bench" (this program), "others" and "rest"."""
TICKS = os.sysconf("SC_CLK_TCK")
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Process:
    """`seconds` of CPU until now; its children are not in it. `part` "": one of the kernel, or of a pod's that comes and goes."""

    part: str
    seconds: float
    in_pod: bool


@dataclass(frozen=True)
class Snapshot:
    """`at`, and CPU seconds since the machine started: `busy` of all, `pods` of all that are in pods.

    processes: by process id and start time.
    """

    at: float
    busy: float
    pods: float
    processes: Mapping[tuple[str, str], Process]


def spent(before: Snapshot, after: Snapshot) -> dict[str, float]:
    """Part -> CPU seconds between the two; "all" is their sum, and "wall" the seconds that passed."""
    found = dict.fromkeys([*PARTS.values(), "bench", "others", "runners", "rest"], 0.0)
    staying = 0.0
    for key, process in after.processes.items():
        seconds = process.seconds - (before.processes[key].seconds if key in before.processes else 0.0)
        if process.part:
            found[process.part] += seconds
            staying += seconds if process.in_pod else 0.0
    found["runners"] = after.pods - before.pods - staying
    found["all"] = after.busy - before.busy
    found["rest"] = found["all"] - sum(found[part] for part in found if part not in ("all", "rest"))
    return found | {"wall": after.at - before.at}


def snapshot() -> Snapshot | None:
    """None: the node's processes are not on this machine, or not to be seen."""
    processes, base = {}, None
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                start, process, group = _read(entry)
                processes[entry.name, start] = process
                if process.part == "operator" and process.in_pod:
                    base = group
    if base is None:
        return None
    return Snapshot(time.monotonic(), _busy(), _used(base), processes)


def _read(entry: Path) -> tuple[str, Process, str]:
    """Start time, the process, and the cgroup file with the CPU time of all pods ("": it is in none)."""
    stat = (entry / "stat").read_text().rpartition(")")[2].split()
    name = program((entry / "cmdline").read_bytes())
    group = pods_file((entry / "cgroup").read_text())
    return (
        stat[19],
        Process(_part(entry, name, bool(group)), (int(stat[11]) + int(stat[12])) / TICKS, bool(group)),
        group,
    )


def _part(entry: Path, name: str, in_pod: bool) -> str:
    if entry.name == str(os.getpid()):
        return "bench"
    return PARTS.get(name) or ("others" if name and not in_pod else "")


def program(command: bytes) -> str:
    """What /proc/…/cmdline is a run of: the program's name, or the module after `python -m`."""
    words = command.decode(errors="replace").split("\0")
    name = words[0].rpartition("/")[2]
    if name.startswith("python") and "-m" in words[:-1]:
        return words[words.index("-m") + 1]
    return name


def pods_file(groups: str) -> str:
    """`groups`: text of /proc/…/cgroup. The file below the cgroups' root that has the CPU time of all pods, "": in no pod.

    With cgroup v1 it is one of the controller cpuacct, and with v2 there is one hierarchy.
    """
    found = ""
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        names = path.strip("/").split("/")
        index = next((number for number, name in enumerate(names) if name.startswith("kubepods")), None)
        if index is None:
            continue
        base = "/".join(names[: index + 1])
        if "cpuacct" in controllers.split(","):
            return f"{controllers}/{base}/cpuacct.usage"
        if not controllers:
            found = f"{base}/cpu.stat"
    return found


def _used(file: str) -> float:
    text = (CGROUPS / file).read_text()
    if file.endswith("cpuacct.usage"):
        return int(text) / 1e9
    return int(dict(line.split() for line in text.splitlines())["usage_usec"]) / 1e6


def _busy() -> float:
    """Of all cores: user, nice, system, irq, softirq. Not idle, waiting for disks, or stolen."""
    values = [int(one) for one in (PROC / "stat").read_text().splitlines()[0].split()[1:8]]
    return (sum(values[:3]) + sum(values[5:7])) / TICKS
