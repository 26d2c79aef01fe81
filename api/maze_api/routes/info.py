"""What is here, and is it well: for `maze doctor`, and for clients that compare versions."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request

from maze_api.deps import Services, ServicesDep
from maze_io.kube import KubeError, resource_path, runs_path
from maze_io.store import StoreError

router = APIRouter(prefix="/api/maze")

CHECK_SECONDS = 3.0
OPERATOR_LEASE = "maze-operator"


@router.get("/info")
async def info(request: Request, found: ServicesDep) -> dict[str, Any]:
    """Versions, limits, and one check for each part that this api needs. Always 200: a part that is down says so."""
    kubernetes, store, operator = await asyncio.gather(
        _checked(_kubernetes(found)), _checked(_store(found)), _checked(_operator(found))
    )
    return {
        "version": request.app.version,
        "python": found.settings.runner_python,
        "namespace": found.settings.namespace,
        "limits": {"max_body_bytes": found.settings.max_body_bytes},
        "checks": {"kubernetes": kubernetes, "store": store, "operator": operator},
    }


async def _checked(check: Coroutine[Any, Any, str]) -> dict[str, Any]:
    try:
        return {"ok": True, "detail": await asyncio.wait_for(check, CHECK_SECONDS)}
    except TimeoutError:
        return {"ok": False, "detail": f"no answer within {CHECK_SECONDS:.0f} s"}
    except (KubeError, StoreError, NotWell) as error:
        return {"ok": False, "detail": str(error)}


class NotWell(Exception):
    """A part answers, but does not work."""


async def _kubernetes(found: Services) -> str:
    await found.runs.kube.get(runs_path(found.settings.namespace), {"limit": 1})
    if not found.runs.synced:
        raise NotWell("the Runs could not be listed yet; the api's log tells why")
    return f"Runs in namespace {found.settings.namespace} can be read"


async def _store(found: Services) -> str:
    await found.store.run(found.store.store.check)
    return f"bucket {found.store.store.bucket} at {found.store.store.settings.endpoint} answers"


async def _operator(found: Services) -> str:
    namespace = found.settings.control_namespace
    path = resource_path("coordination.k8s.io/v1", "leases", namespace, OPERATOR_LEASE)
    try:
        lease = await found.runs.kube.get(path)
    except KubeError as error:
        if not error.not_found:
            raise
        raise NotWell(f"no operator has ever led: there is no Lease {namespace}/{OPERATOR_LEASE}") from error
    problem = stale(lease["spec"], datetime.now(UTC))
    if problem:
        raise NotWell(f"{problem}: Runs wait until one does; look at Deployment maze-operator in {namespace}")
    return f"{lease['spec']['holderIdentity']} leads"


def stale(spec: dict[str, Any], now: datetime) -> str | None:
    """Why a Lease says that nobody leads, or None."""
    if not spec.get("holderIdentity") or not spec.get("renewTime"):
        return "no operator leads"
    renewed = datetime.fromisoformat(spec["renewTime"])
    if now <= renewed + timedelta(seconds=spec.get("leaseDurationSeconds") or 0):
        return None
    return f"operator {spec['holderIdentity']} has not renewed its Lease since {spec['renewTime']}"
