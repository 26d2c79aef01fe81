"""Spare pods that the operator keeps in a namespace: how many, and awaiting that all of them can be claimed."""

from __future__ import annotations

import asyncio
import json
import re

from seen import BenchError, Seen

from maze_io.kube import Kube, KubeError, resource_path

SYSTEM = "maze-system"
OPERATOR = "maze-operator"
PAUSE = 0.2
SECONDS = 120.0
READY = re.compile(r"^maze_operator_spare_pods_ready ([0-9.e+]+)$", re.MULTILINE)


async def read_settings(kube: Kube) -> dict[str, str]:
    """The operator's environment, as far as it is written in its Deployment."""
    operator = await kube.get(resource_path("apps/v1", "deployments", SYSTEM, OPERATOR))
    env = operator["spec"]["template"]["spec"]["containers"][0]["env"]
    return {one["name"]: one.get("value", "") for one in env}


def kept_in(namespace: str, settings: dict[str, str]) -> int:
    """How many spares the operator is to keep there. The metric counts all that there are, so elsewhere it may keep none.

    Raises:
        BenchError: it keeps some elsewhere.
    """
    kinds = json.loads(settings.get("MAZE_SPARE_PODS") or "[]")
    count: int = sum(kind["count"] for kind in kinds if kind["namespace"] == namespace)
    if count != sum(kind["count"] for kind in kinds):
        raise BenchError(f"spare pods are kept in other namespaces than {namespace}: this can't see when all are ready")
    return count


async def all_ready(kube: Kube, seen: Seen, count: int) -> None:
    """Returns when there are so many, no more, and their runners wait for work.

    Raises:
        BenchError: it takes too long.
    """
    said = "nothing"
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                await seen.until(lambda: len(seen.spares()) == count, f"{count} spare pods", SECONDS)
                said = await _ready(kube)
                if float(said or 0) == count == len(seen.spares()):
                    return
                await asyncio.sleep(PAUSE)
    except TimeoutError:
        raise BenchError(
            f"after {SECONDS:.0f} s not yet {count} spare pods that are ready: {said or 'no metric'}"
        ) from None


async def _ready(kube: Kube) -> str:
    """What the operator's metric says, "" while nobody answers."""
    path = f"{resource_path('v1', 'services', SYSTEM, f'{OPERATOR}:report')}/proxy/metrics"
    try:
        text = b"".join([chunk async for chunk in kube.stream(path)]).decode()
    except KubeError:
        return ""
    found = READY.search(text)
    return found[1] if found else ""
