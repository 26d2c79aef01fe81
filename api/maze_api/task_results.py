"""What became of a task that has ended: what its workflow returned, or what an external worker reported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from maze_api.events import FETCH_LIMIT, shown, wanted
from maze_api.task_view import TaskState, TaskView
from maze_crds import names
from maze_crds.graph import dependencies
from maze_crds.protocol import Result
from maze_crds.workflow import WorkflowSpec
from maze_io.kube import Kube, KubeError, Object, resource_path
from maze_io.store import AsyncStore

Json = dict[str, Any]


class Results:
    """Reads results from the object store."""

    def __init__(self, kube: Kube, store: AsyncStore, namespace: str) -> None:
        self._kube, self._store, self._namespace = kube, store, namespace

    async def of(self, task: TaskView) -> Any:
        """The result as clients see it; None: the task has not ended.

        Raises:
            StoreError, KubeError: out of reach.
        """
        if not task.ended:
            return None
        status = task.obj.get("status") or {}
        external = task.internal is False
        number = len(status.get("assignments") or ())
        if task.state is not TaskState.COMPLETED:
            found = await self._read(task.uid, names.EXTERNAL_TASK, number) if external else None
            said = found.get("failure") if found is not None else None
            message = said["message"] if said is not None else status.get("message")
            return failed_result(task, message, status.get("reason"))
        if external:
            return (await self._outputs(task.uid, names.EXTERNAL_TASK, number)).get("result")
        attempts = {entry["name"]: entry.get("attempt") or 0 for entry in status.get("tasks") or ()}
        last = await self._last_steps(task, list(attempts))
        outputs = {name: await self._outputs(task.uid, name, attempts.get(name, 0)) for name in last}
        return completed_result(task, outputs)

    async def _read(self, uid: str, name: str, attempt: int) -> Result | None:
        raw = await self._store.get(names.result_key(uid, name, attempt)) if attempt else None
        found: Result | None = json.loads(raw) if raw is not None else None
        return found

    async def _outputs(self, uid: str, name: str, attempt: int) -> Json:
        """All outputs of one attempt as JSON by key; those of more than FETCH_LIMIT bytes have stand-ins."""
        found = await self._read(uid, name, attempt)
        made: Json = {}
        for key, output in (found["outputs"] if found is not None else {}).items():
            stored = None
            if wanted(output, FETCH_LIMIT):
                stored = await self._store.get(names.output_key(uid, name, attempt, key))
            made[key] = shown(output, stored)
        return made

    async def _last_steps(self, task: TaskView, steps: Sequence[str]) -> list[str]:
        """Steps that no other step waits for. Of the workflow as the Run keeps it."""
        if len(steps) < 2:
            return list(steps)
        spec = task.obj["spec"].get("workflow") or await self._kept(task.uid)
        try:
            return last_steps(WorkflowSpec.model_validate(spec)) if spec else list(steps)
        except ValidationError:
            return list(steps)  # made by a newer version

    async def _kept(self, uid: str) -> Object | None:
        path = resource_path("apps/v1", "controllerrevisions", self._namespace, names.revision_name(uid))
        try:
            found: Object = (await self._kube.get(path))["data"]
        except KubeError as error:
            if error.not_found:
                return None
            raise
        return found


def last_steps(spec: WorkflowSpec) -> list[str]:
    """Names of the tasks that no other one waits for, in the order of the workflow."""
    awaited = {name for step in spec.tasks for name in dependencies(step)}
    return [step.name for step in spec.tasks if step.name not in awaited]


def completed_result(task: TaskView, outputs: Mapping[str, Json]) -> Json:
    """`{success, output, metrics}`.

    Outputs of these names are taken as they are, and other ones beside `output` are kept; without an `output` it is all
    the others together. A workflow that ends in several steps has the outputs of each by its name.
    """
    found = dict(next(iter(outputs.values()))) if len(outputs) == 1 else dict(outputs)
    success, metrics = found.pop("success", True), found.pop("metrics", {})
    timed = {**duration(task), **metrics} if isinstance(metrics, dict) else metrics
    if "output" in found:
        return {**found, "success": success, "output": found["output"], "metrics": timed}
    return {"success": success, "output": found, "metrics": timed}


def failed_result(task: TaskView, message: str | None, reason: str | None) -> Json:
    """`{success: false, output, error, metrics}`: what happened in words, and in one word."""
    said = message or f"the task is {task.state.value}"
    return {"success": False, "output": said, "error": reason or task.state.value, "metrics": duration(task)}


def duration(task: TaskView) -> Json:
    """From when the worker got it to its end."""
    if task.started_at is None or task.completed_at is None:
        return {}
    return {"duration_seconds": round((task.completed_at - task.started_at).total_seconds(), 3)}
