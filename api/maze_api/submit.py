"""From a draft to the Run object: pure, but for what `fit` asks to be uploaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from maze_api.errors import BadRequest, TooLarge, validation_text
from maze_api.wire import Upload, literal
from maze_crds import names
from maze_crds.base import API_VERSION, MAX_TASKS
from maze_crds.graph import check_workflow
from maze_crds.workflow import Task, WorkflowSpec

RUN_BYTES = 1024 * 1024
"""Encoded bytes of one Run's spec; the API server stores at most about 1.5 MiB with its status."""
SPILL_VALUE = 512
"""When a Run is too large, literal inputs above this many encoded bytes go to the object store."""


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
    if len(tasks) > MAX_TASKS:
        raise BadRequest(f"workflow has {len(tasks)} tasks, more than {MAX_TASKS}; split it into several workflows")
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


def fit(spec: WorkflowSpec, workflow_id: str, limit: int = RUN_BYTES) -> tuple[dict[str, Any], list[Upload]]:
    """The workflow as JSON of at most `limit` bytes; literal inputs leave it where it would be larger.

    Raises:
        TooLarge: it is still too large.
    """
    body = dump(spec)
    if _size(body) <= limit:
        return body, []
    uploads: list[Upload] = []
    for task, built in zip(body["tasks"], spec.tasks, strict=True):
        for key, source in built.inputs.items():
            if source.from_ is None and source.payload is None:
                moved = literal(source.value, workflow_id, uploads, SPILL_VALUE)
                task["inputs"][key] = moved.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if _size(body) > limit:
        raise TooLarge(
            f"the workflow needs {_size(body)} bytes in its Run, more than {limit}; "
            "split it into several workflows, or send functions as code_ser instead of code_str"
        )
    return body, uploads


def _size(body: dict[str, Any]) -> int:
    return len(json.dumps(body, separators=(",", ":")).encode())


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
