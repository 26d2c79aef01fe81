"""Is the process sound, can it serve, and what has it done."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse

from maze_api.deps import ServicesDep
from maze_io.store import StoreError

router = APIRouter()

STORE_SECONDS = 3.0


@router.get("/health")
async def health(request: Request, found: ServicesDep) -> JSONResponse:
    """200 unless this process can only be helped by a restart."""
    body = {
        "status": "unhealthy" if found.problem else "healthy",
        "version": request.app.version,
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if found.problem:
        body["detail"] = found.problem
    return JSONResponse(body, 503 if found.problem else 200)


@router.get("/ready")
async def ready(found: ServicesDep) -> JSONResponse:
    """200 once the Runs are known and the object store answers; 503 names what is missing."""
    store_problem: str | None = None
    try:
        await asyncio.wait_for(found.store.run(found.store.store.check), STORE_SECONDS)
    except (StoreError, TimeoutError) as error:
        store_problem = str(error) or f"the object store did not answer within {STORE_SECONDS:.0f} s"
    is_ready = found.runs.synced and store_problem is None
    body: dict[str, Any] = {"ready": is_ready, "kubernetes": found.runs.synced, "store": store_problem is None}
    if not found.runs.synced:
        body["detail"] = "the Runs could not be listed yet; the log tells why"
    elif store_problem:
        body["detail"] = store_problem
    return JSONResponse(body, 200 if is_ready else 503)


@router.get("/metrics")
async def metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
