"""From a request to the Run that is an OpRun."""

from __future__ import annotations

import hashlib
import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any

from maze_api.cache import Runs
from maze_api.oprun_bodies import ConstraintsBody, OpRunCreate
from maze_api.oprun_view import OpView, view_op
from maze_api.settings import Settings
from maze_api.task_create import Clock
from maze_crds import names
from maze_crds.base import API_VERSION, format_time
from maze_crds.oprun import OpRunSpec
from maze_crds.plainjson import encode_json, fits_object
from maze_crds.quantity import format_cpu
from maze_crds.workflow import Payload
from maze_io.kube import Object
from maze_io.store import AsyncStore

INLINE_INPUTS = 64 * 1024
"""Bytes of JSON that travel in the Run."""
MOST_INPUTS, LONGEST_KEY = 256, 253
"""Of the inputs of a Run."""
TASK = "op"
Json = dict[str, Any]


class OpCreation:
    """Makes OpRuns."""

    def __init__(self, runs: Runs, store: AsyncStore, settings: Settings) -> None:
        self._runs, self._store, self._settings = runs, store, settings
        self._clock = Clock()

    async def create(self, body: OpRunCreate) -> OpView:
        """The new OpRun.

        Raises:
            StoreError: large inputs can't be put anywhere.
            KubeError: refused, or not reachable.
        """
        inputs = body.inputs or {}
        payload = None
        if not fits_run(inputs):
            data = encode_json(inputs)
            digest = hashlib.sha256(data).hexdigest()
            payload = Payload(key=names.payload_key(digest), sha256=digest, size=len(data))
            await self._store.put(payload.key, data)
        made = op_object(str(uuid.uuid4()), body, payload, self._settings, self._clock.next())
        return view_op(await self._runs.create(made))


def fits_run(inputs: Json) -> bool:
    """Whether the Run itself can hold the inputs."""
    if len(inputs) > MOST_INPUTS or not all(0 < len(key) <= LONGEST_KEY for key in inputs):
        return False
    return fits_object(inputs) and len(encode_json(inputs)) <= INLINE_INPUTS


def op_object(run_id: str, body: OpRunCreate, payload: Payload | None, settings: Settings, created: datetime) -> Object:
    """The Run as Kubernetes takes it. `payload`: where the inputs are, if not in it."""
    task: Json = {"name": TASK, "container": {"image": body.image}}
    resources = build_resources(body.constraints or ConstraintsBody())
    if resources:
        task["resources"] = resources
    op = OpRunSpec(
        max_attempts=body.retry_policy.max_attempts if body.retry_policy else 1,
        inputs=payload,
        event_delivery=body.event_delivery.wish() if body.event_delivery else None,
    )
    spec = {
        "workflow": {"tasks": [task]},
        "inputs": (body.inputs or {}) if payload is None else {},
        "opRun": op.model_dump(by_alias=True, exclude_none=True),
        "priority": body.priority,
        "queuedTime": format_time(created),
        "ttlSecondsAfterFinished": settings.run_ttl_seconds,
    }
    metadata = {"name": run_id, "namespace": settings.namespace}
    return {"apiVersion": API_VERSION, "kind": "Run", "metadata": metadata, "spec": spec}


def build_resources(constraints: ConstraintsBody) -> Json:
    """vram_mb asks for one GPU with that much memory."""
    made = {}
    if constraints.cpu:
        made["cpu"] = format_cpu(Decimal(str(constraints.cpu)))
    if constraints.ram_mb:
        made["memory"] = f"{constraints.ram_mb}Mi"
    if constraints.vram_mb:
        made |= {"gpu": "1", "gpuMemory": f"{constraints.vram_mb}Mi"}
    return made
