"""Facts about the machine, and memory: of a process, and of the parts of Maze as the kubelet measures it."""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seen import BenchError

from maze_io.kube import Kube

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("maze-api", "maze-operator")
FRESH_SECONDS = 90
Json = dict[str, Any]


def read_facts() -> Json:
    """What a reader needs to know of where and when this was measured; `load`: of the last 1, 5 and 15 minutes."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": [round(one, 2) for one in os.getloadavg()],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
    }


def _commit() -> str:
    """With "+" where files have been changed since."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


async def read_parts(kube: Kube) -> dict[str, float]:
    """Part -> bytes that its pods' working sets have, measured after this was called (the kubelet takes its time)."""
    asked = time.time()
    nodes = [node["metadata"]["name"] for node in (await kube.get("/api/v1/nodes"))["items"]]
    while time.time() < asked + FRESH_SECONDS:
        found = await _read_nodes(kube, nodes)
        if found and all(at > asked for at, _ in found.values()):
            return {part: size for part, (_, size) in found.items()}
        await asyncio.sleep(2)
    raise BenchError(f"the kubelet tells nothing new of the memory of {', '.join(PARTS)} for {FRESH_SECONDS} s")


async def _read_nodes(kube: Kube, nodes: list[str]) -> dict[str, tuple[float, float]]:
    """Part -> when the oldest of its measures was taken, and the sum of them. Pods that have ended have no memory."""
    found: dict[str, tuple[float, float]] = {}
    for node in nodes:
        for pod in (await kube.get(f"/api/v1/nodes/{node}/proxy/stats/summary"))["pods"]:
            name, memory = pod["podRef"]["name"], pod.get("memory") or {}
            part = next((one for one in PARTS if name.startswith(f"{one}-")), None)
            if part and pod["podRef"]["namespace"] == "maze-system" and "workingSetBytes" in memory:
                at, size = found.get(part, (float("inf"), 0.0))
                taken = datetime.fromisoformat(memory["time"]).timestamp()
                found[part] = min(at, taken), size + memory["workingSetBytes"]
    return found


def resident(pid: int) -> float:
    """Bytes of memory that a process has."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return float(line.split()[1]) * 1024
    raise BenchError(f"/proc/{pid}/smaps_rollup has no Rss")
