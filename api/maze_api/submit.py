"""From a draft to the Run object. Pure; what `fit` gives beside it is to be uploaded first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from maze_api.errors import BadRequest, TooLarge, validation_text
from maze_api.wire import Upload
from maze_crds import names
from maze_crds.base import API_VERSION, MAX_STORED_TASKS, MAX_TASKS
from maze_crds.graph import check_workflow
from maze_crds.workflow import Payload, Task, WorkflowSpec

RUN_BYTES = 256 * 1024
"""Bytes of the tasks that are written into a Run: no object of ours is larger than 512 KiB with its status."""
STORED_BYTES = 32 * 1024 * 1024
"""Bytes of a list of tasks in the object store; the operator has it in memory while the Run works."""


@dataclass(frozen=True, slots=True)
class DraftTask:
    """One task of a draft. `task` is None until it was saved; `created` orders them (nanoseconds)."""

    id: str
    name: str | None
    created: int
    task: Task | None

    def to_json(self) -> bytes:
        saved = None if self.task is None else dump(self.task)
        return json.dumps({"id": self.id, "name": self.name, "created": self.created, "task": saved}).encode()

    @classmethod
    def from_json(cls, raw: bytes) -> DraftTask:
        data = json.loads(raw)
        task = None if data["task"] is None else Task.model_validate(data["task"])
        return cls(data["id"], data["name"], data["created"], task)

    @property
    def label(self) -> str:
        return f"'{self.name}' ({self.id})" if self.name else self.id


def dump(model: Task | WorkflowSpec) -> dict[str, Any]:
    """JSON with what was set only: an explicit null value stays, everything unsaid is left out."""
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)


def build_workflow(tasks: Sequence[DraftTask], edges: Iterable[tuple[str, str]]) -> WorkflowSpec:
    """The draft as a workflow that can run.

    Raises:
        BadRequest: no tasks, a task never saved, or whatever check_workflow finds; all problems in one text.
    """
    if not tasks:
        raise BadRequest("workflow has no tasks: call add_task first")
    if len(tasks) > MAX_STORED_TASKS:
        raise BadRequest(
            f"workflow has {len(tasks)} tasks, more than {MAX_STORED_TASKS}; split it into several workflows"
        )
    unsaved = [task.label for task in tasks if task.task is None]
    if unsaved:
        raise BadRequest(f"added, but never saved: {', '.join(unsaved[:10])}; call save_task, or delete with del_task")
    known = {task.id for task in tasks}
    sources: dict[str, list[str]] = {}
    for source, target in edges:
        if source in known and target in known:
            sources.setdefault(target, []).append(source)
    complete = [
        task.task.model_copy(update={"depends_on": sorted(sources[task.id])}) if task.id in sources else task.task
        for task in tasks
        if task.task is not None
    ]
    try:
        spec = WorkflowSpec(tasks=complete)
    except ValidationError as error:
        raise BadRequest(validation_text([dict(item) for item in error.errors()])) from error
    problems = check_workflow(spec)
    if problems:
        raise BadRequest("; ".join(_with_names(problem, tasks) for problem in problems[:10]))
    return spec


def _with_names(problem: str, tasks: Iterable[DraftTask]) -> str:
    for task in tasks:
        if task.name and task.id in problem:
            problem = problem.replace(task.id, f"{task.name} ({task.id})")
    return problem


def fit(spec: WorkflowSpec, limit: int = RUN_BYTES, most: int = STORED_BYTES) -> tuple[dict[str, Any], list[Upload]]:
    """The workflow as JSON of about `limit` bytes at most; a longer list of tasks goes to the object store.

    Raises:
        TooLarge: the list has more than `most` bytes.
    """
    body = dump(spec)
    tasks = json.dumps(body["tasks"], separators=(",", ":")).encode()
    if len(tasks) <= limit and len(spec.tasks) <= MAX_TASKS:
        return body, []
    if len(tasks) > most:
        raise TooLarge(
            f"the tasks of the workflow need {len(tasks)} bytes, more than {most}; split it into several workflows, or "
            "give large inputs as payloads (PUT /api/maze/payloads)"
        )
    sha256 = hashlib.sha256(tasks).hexdigest()
    stored = Payload(key=names.payload_key(sha256), sha256=sha256, size=len(tasks))
    del body["tasks"]
    return {**body, "tasksFrom": stored.model_dump(by_alias=True)}, [Upload(key=stored.key, data=tasks)]


def run_object(
    run_id: str, namespace: str, workflow_id: str, workflow: dict[str, Any], keep_seconds: int | None = None
) -> dict[str, Any]:
    """The Run as Kubernetes takes it. `keep_seconds`: how long it stays after its end; None: until it is deleted."""
    spec: dict[str, Any] = {"workflow": workflow}
    if keep_seconds is not None:
        spec["ttlSecondsAfterFinished"] = keep_seconds
    return {
        "apiVersion": API_VERSION,
        "kind": "Run",
        "metadata": {"name": run_id, "namespace": namespace, "labels": {names.LABEL_WORKFLOW_ID: workflow_id}},
        "spec": spec,
    }
