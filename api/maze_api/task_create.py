"""From a request to the Run that is a task, once and only once for one Idempotency-Key."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from maze_api.archive.record import WANTED
from maze_api.cache import Runs
from maze_api.errors import Invalid
from maze_api.settings import Settings
from maze_api.task_bodies import CreateTask
from maze_api.task_serving import Serving, require_fitting
from maze_crds import names
from maze_crds.base import API_VERSION, format_time
from maze_io.kube import KubeError, Object, runs_path

if TYPE_CHECKING:
    from maze_api.archive.store import Archive

_KEYS = uuid.UUID("6d617a65-0000-5000-8000-7461736b7300")


class Clock:
    """Times that never repeat within this process, so that they order what it makes."""

    def __init__(self) -> None:
        self._last = datetime.fromtimestamp(0, UTC)

    def next(self) -> datetime:
        self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
        return self._last


def keyed_id(namespace: str, key: str) -> str:
    """The id of the one task that a key can make."""
    return str(uuid.uuid5(_KEYS, f"{namespace}\n{key}"))


def inputs_of(body: CreateTask, settings: Settings) -> dict[str, Any]:
    """The parameters, defaults filled in, and the problem.

    Raises:
        Invalid: a parameter contradicts problem_id.
    """
    given = body.parameters.given() if body.parameters else {}
    if given.get("problem_id", body.problem_id) != body.problem_id:
        raise Invalid(
            "parameters.problem_id differs from problem_id, which every Workflow gets as an input; leave it out"
        )
    defaults = {"max_steps": settings.task_max_steps, "timeout": settings.task_timeout_seconds}
    return {**defaults, **given, "problem_id": body.problem_id}


def task_object(
    task_id: str, body: CreateTask, settings: Settings, workflow: str | None, queued: datetime, keyed: bool
) -> Object:
    """The Run as Kubernetes takes it. `workflow`: name of the one that serves it; `keyed`: made with an Idempotency-Key."""
    inputs = inputs_of(body, settings)
    given = sorted(body.parameters.given()) if body.parameters else []
    annotations = {names.ANNOTATION_PARAMETERS: json.dumps(given)}
    if settings.database_url is not None:
        annotations[names.ANNOTATION_ARCHIVE] = WANTED
    if keyed:
        annotations[names.ANNOTATION_REQUEST] = body.fingerprint()
    spec: dict[str, Any] = {
        "problemId": body.problem_id,
        "inputs": inputs,
        "timeoutSeconds": inputs["timeout"],
        "priority": body.priority,
        "queuedTime": format_time(queued),
        "ttlSecondsAfterFinished": settings.run_ttl_seconds,
    }
    if workflow is not None:
        spec["workflowRef"] = {"name": workflow}
    labels = {names.LABEL_PROBLEM: "true"}
    metadata = {"name": task_id, "namespace": settings.namespace, "labels": labels, "annotations": annotations}
    return {"apiVersion": API_VERSION, "kind": "Run", "metadata": metadata, "spec": spec}


def require_same(obj: Object, body: CreateTask, key: str) -> Object:
    """The task that the key has made before.

    Raises:
        Invalid: it was made by another request.
    """
    if (obj["metadata"].get("annotations") or {}).get(names.ANNOTATION_REQUEST) != body.fingerprint():
        raise Invalid(
            f"Idempotency-Key '{key}' was used for another request, which made task '{obj['metadata']['name']}';"
            " send the same body, or take a new key"
        )
    return obj


class Creation:
    """Makes tasks."""

    def __init__(self, runs: Runs, serving: Serving, settings: Settings, archive: Archive | None = None) -> None:
        self._runs, self._serving, self._settings, self._archive = runs, serving, settings, archive
        self._clock = Clock()

    async def create(self, body: CreateTask, key: str | None) -> Object:
        """The Run of the new task, or of the one that the same key and body have made before.

        Raises:
            Invalid: nobody serves it, its parameters don't fit, or the key is another request's.
            Unavailable: the archive, which may know the key, does not answer.
            KubeError: refused, or not reachable.
        """
        if key is None:
            return await self._runs.create(await self._build(str(uuid.uuid4()), body, False))
        task_id = keyed_id(self._settings.namespace, key)
        known = await self._known(task_id)
        if known is not None:
            return require_same(known, body, key)
        try:
            made = await self._runs.create(await self._build(task_id, body, True))
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise
            made = await self._runs.kube.get(runs_path(self._settings.namespace, task_id))
            self._runs.put(made)
        return require_same(made, body, key)

    async def _known(self, task_id: str) -> Object | None:
        """First of all: a repeat succeeds though meanwhile nobody serves the problem any more."""
        if self._runs.object(task_id) is None:
            await self._runs.fetch(task_id)
        known = self._runs.object(task_id)
        if known is None and self._archive is not None:
            kept = await self._archive.find(task_id)
            known = kept.run if kept is not None else None
        return known

    async def _build(self, task_id: str, body: CreateTask, keyed: bool) -> Object:
        inputs = inputs_of(body, self._settings)
        workflow = await self._serving.workflow_for(body.problem_id)
        if workflow is not None:
            require_fitting(workflow, inputs)
        name = workflow["metadata"]["name"] if workflow is not None else None
        return task_object(task_id, body, self._settings, name, self._clock.next(), keyed)
