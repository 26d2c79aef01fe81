"""Tasks as the JSON of the Task Executor. Pure."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from maze_api.task_view import TaskView
from maze_crds import names
from maze_crds.base import format_time

Json = dict[str, Any]


def created_json(task: TaskView) -> Json:
    """What creating answers."""
    return {
        "id": task.id,
        "problem_id": task.problem_id,
        "status": task.state.value,
        "parameters": parameters_of(task),
        "priority": task.priority,
        "created_at": format_time(task.created_at),
        "updated_at": format_time(task.updated_at),
    }


def item_json(task: TaskView) -> Json:
    """One task of a list."""
    return {
        "id": task.id,
        "problem_id": task.problem_id,
        "status": task.state.value,
        "worker_id": task.worker_id,
        "priority": task.priority,
        "created_at": format_time(task.created_at),
        "updated_at": format_time(task.updated_at),
        "started_at": show_time(task.started_at),
        "completed_at": show_time(task.completed_at),
    }


def task_json(task: TaskView, result: Any) -> Json:
    """Everything about a task. `result`: of one that has ended, else None."""
    status = task.obj.get("status") or {}
    return {
        **item_json(task),
        "parameters": parameters_of(task),
        "result": result,
        "attempt": attempt_of(task),
        "reason": status.get("reason"),
        "message": status.get("message"),
    }


def attempt_of(task: TaskView) -> int:
    """How many workers have had it, the one that has claimed it just now included."""
    assignments: list[Json] = (task.obj.get("status") or {}).get("assignments") or []
    noted = bool(assignments) and (task.ended or not assignments[-1].get("end"))
    return len(assignments) + (task.worker_id is not None and not noted)


def parameters_of(task: TaskView) -> Json:
    """The parameters as they were given, and the defaults of those that were not."""
    annotations = task.obj["metadata"].get("annotations") or {}
    given = _names(annotations.get(names.ANNOTATION_PARAMETERS))
    return {key: value for key, value in task.inputs.items() if key != "problem_id" or key in given}


def _names(text: str | None) -> list[str]:
    """What ANNOTATION_PARAMETERS says; Runs made with kubectl have none, or anything."""
    try:
        said = json.loads(text) if text else []
    except ValueError:
        return []
    return [name for name in said if isinstance(name, str)] if isinstance(said, list) else []


def show_time(value: datetime | None) -> str | None:
    return None if value is None else format_time(value)
