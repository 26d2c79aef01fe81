"""A task that has ended as a row, and what is asked for and answered. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from maze_api.errors import Unavailable
from maze_api.task_describe import item_json, task_json
from maze_api.task_view import TaskState, TaskView
from maze_crds import names
from maze_io.kube import Object

WANTED = "wanted"
DONE = "done"

Row = dict[str, Any]


class ArchiveDown(Unavailable):
    """The database does not answer; a later call may succeed."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tasks a list asks for; None: all."""

    state: TaskState | None = None
    problem_id: str | None = None
    worker_id: str | None = None


@dataclass(frozen=True, slots=True)
class Archived:
    """One task. `answer`: the text of the JSON that GET answers; `run`: the Run as it was at its end."""

    answer: str
    run: Object
    request_sha256: str | None


def wants_archiving(obj: Object) -> bool:
    """Whether nobody has said yet that this task is in the archive. Runs made with kubectl say nothing."""
    return (obj["metadata"].get("annotations") or {}).get(names.ANNOTATION_ARCHIVE) != DONE


def build_row(namespace: str, task: TaskView, result: Any) -> Row:
    """Everything that is kept of a task.

    Args:
        result: what it has become, as GET answers it.

    Raises:
        ValueError: the result is no JSON.
    """
    metadata = task.obj["metadata"]
    annotations = metadata.get("annotations") or {}
    request = annotations.get(names.ANNOTATION_REQUEST)
    answer = task_json(task, result)
    json.dumps(answer, allow_nan=False)
    kept = {
        key: metadata[key] for key in ("name", "namespace", "uid", "creationTimestamp", "labels") if key in metadata
    }
    run = {
        "metadata": {**kept, "annotations": annotations},
        "spec": task.obj["spec"],
        "status": task.obj.get("status") or {},
    }
    return {
        "namespace": namespace,
        "id": task.id,
        "uid": task.uid,
        "problem_id": as_text(task.problem_id),
        "status": task.state.value,
        "worker_id": None if task.worker_id is None else as_text(task.worker_id),
        "created_at": task.created_at.astimezone(UTC),
        "completed_at": completed(task),
        "request_sha256": request and as_text(request),
        "item": item_json(task),
        "answer": answer,
        "run": run,
    }


def completed(task: TaskView) -> datetime | None:
    return None if task.completed_at is None else task.completed_at.astimezone(UTC)


def as_text(value: str) -> str:
    """As PostgreSQL's text can hold it. Only to be searched: the JSON beside it has the value as it is."""
    return value.replace("\x00", "\ufffd").encode(errors="replace").decode()
