"""Runs, tasks and outputs as the JSON of `/api/maze`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from maze_api.cache import RunView
from maze_crds.base import format_time
from maze_crds.graph import parse_reference
from maze_crds.protocol import Output
from maze_crds.run import TaskStatus

Json = dict[str, Any]


def run_summary(run: RunView) -> Json:
    """One line of a list: `{run_id, workflow_id, status, created_at, progress, counts}`."""
    return {
        "run_id": run.name,
        "workflow_id": run.workflow_id,
        "status": run.status.phase.value,
        "created_at": run.created,
        "progress": run.status.progress,
        "counts": run.status.counts.model_dump(),
    }


def run_detail(run: RunView) -> Json:
    """Everything about a Run and its tasks, in the order of the workflow. Times are RFC 3339 in UTC, or null."""
    status = run.status
    written = {task["name"]: task for task in run.workflow.get("tasks", ())}
    known = {task.name: task for task in status.tasks}
    order = [*written, *(name for name in known if name not in written)]
    return {
        **run_summary(run),
        "reason": status.reason,
        "message": status.message,
        "started_at": _time(status.start_time),
        "finished_at": _time(status.completion_time),
        "tasks": [task_detail(known.get(name) or TaskStatus(name=name), written.get(name, {})) for name in order],
    }


def task_detail(task: TaskStatus, written: Mapping[str, Any]) -> Json:
    """One task. `written` is its part of the Run's own workflow; {} for a Run by reference, whose tasks have no other names."""
    return {
        "task_id": task.name,
        "name": written.get("displayName") or task.name,
        "status": task.phase.value,
        "attempt": task.attempt,
        "reason": task.reason,
        "message": task.message,
        "cause": task.cause.value if task.cause else None,
        "exit_code": task.exit_code,
        "node": task.node,
        "started_at": _time(task.start_time),
        "finished_at": _time(task.completion_time),
        "depends_on": depends_on(written),
    }


def depends_on(written: Mapping[str, Any]) -> list[str]:
    """Tasks that this one waits for, by edges and by inputs, each once."""
    references = (parse_reference(given["from"]) for given in (written.get("inputs") or {}).values() if "from" in given)
    names = [*(written.get("dependsOn") or ()), *(found.task for found in references if found.task is not None)]
    return list(dict.fromkeys(names))


def output_detail(output: Output) -> Json:
    """`{encoding, size, sha256, file_name?}`; size in bytes, as the content is answered."""
    found: Json = {"encoding": output["encoding"], "size": output["size"], "sha256": output["sha256"]}
    if "fileName" in output:
        found["file_name"] = output["fileName"]
    return found


def _time(value: datetime | None) -> str | None:
    return None if value is None else format_time(value)
