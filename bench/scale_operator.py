"""The operator's processes on this machine: which of them leads, how much memory it has, and how it is ended or stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from cpu import program
from floor import Place
from machine import resident
from seen import BenchError
from spares import OPERATOR, SYSTEM

from maze_io.kube import Kube, KubeError, pods_path, resource_path

LABEL = "app.kubernetes.io/name=maze-operator"
LEASE = resource_path("coordination.k8s.io/v1", "leases", SYSTEM, OPERATOR)
DEPLOYMENT = resource_path("apps/v1", "deployments", SYSTEM, OPERATOR)
SECONDS = 120.0
PAUSE = 0.1
Json = dict[str, Any]


async def leader(kube: Kube) -> int:
    """Process id of the operator that holds the Lease.

    Raises:
        BenchError: it is not on this machine.
    """
    holder = (await kube.get(LEASE))["spec"]["holderIdentity"]
    try:
        uid = (await kube.get(pods_path(SYSTEM, holder)))["metadata"]["uid"]
    except KubeError as error:
        raise BenchError(f"the operator's Lease is held by {holder}: {error}") from error
    found = processes().get(uid)
    if found is None:
        raise BenchError(f"the operator's process is not on this machine: pod {holder}")
    return found


def processes() -> dict[str, int]:
    """Uid of the pod -> process id, of all operators in pods."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                groups = (entry / "cgroup").read_text()
                if program((entry / "cmdline").read_bytes()) == "maze_operator" and "kubepods" in groups:
                    found[_pod_uid(groups)] = int(entry.name)
    return found


def _pod_uid(groups: str) -> str:
    """From the text of /proc/…/cgroup: cgroupfs has `pod<uid>`, systemd `…-pod<uid with _>.slice`."""
    for part in groups.replace("-pod", "/pod").replace(".slice", "").split("/"):
        if part.startswith("pod") and len(part) == 39:
            return part.removeprefix("pod").replace("_", "-")
    return ""


def memory(pid: int) -> float:
    """Bytes; 0 while it is not there."""
    try:
        return resident(pid)
    except (OSError, BenchError):
        return 0.0


async def until(holds: Callable[[], Awaitable[bool]], what: str, seconds: float = SECONDS) -> None:
    """Looks until it holds: for what no watch tells.

    Raises:
        BenchError: it did not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > deadline:
            raise BenchError(f"after {seconds:.0f} s not yet: {what}")
        await asyncio.sleep(PAUSE)


@asynccontextmanager
async def standby(kube: Kube) -> AsyncIterator[None]:
    """At least two operators for as long as the block lasts, and after it as many as there were."""
    replicas = (await kube.get(DEPLOYMENT))["spec"]["replicas"]
    try:
        await _scale(kube, max(2, replicas))
        yield
    finally:
        await _scale(kube, replicas)


async def _scale(kube: Kube, replicas: int) -> None:
    await kube.patch(DEPLOYMENT, {"spec": {"replicas": replicas}})
    await settled(kube)


async def settled(kube: Kube) -> None:
    """Returns when all operators run, and one of them is ready: the one that leads."""

    async def holds() -> bool:
        wanted = (await kube.get(DEPLOYMENT))["spec"]["replicas"]
        pods = (await kube.get(pods_path(SYSTEM), {"labelSelector": LABEL}))["items"]
        return len(pods) == len(processes()) == wanted and any(is_ready(pod) for pod in pods)

    await until(holds, "all operators run, and one is ready")


async def renew(kube: Kube) -> None:
    """Operators that have seen no Run yet: their memory is what they need, and not what they once needed."""
    old = processes()
    for pod in (await kube.get(pods_path(SYSTEM), {"labelSelector": LABEL}))["items"]:
        await kube.delete(pods_path(SYSTEM, pod["metadata"]["name"]))

    async def gone() -> bool:
        return old.keys().isdisjoint(processes())

    await until(gone, "the operators are gone")
    await settled(kube)


def is_ready(pod: Json) -> bool:
    conditions = pod["status"].get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


async def sampled(pid: int, place: Place, run: str, ended: tuple[str, ...]) -> float:
    """The most memory that it is seen to have until the Run has ended; bytes."""
    most = 0.0
    while run not in place.seen.runs or place.seen.runs[run].phase not in ended:
        most = max(most, memory(pid))
        await asyncio.sleep(PAUSE)
    return max(most, memory(pid))
