"""From the status of a Run to the messages of its result stream. Pure.

Every change in a Run has a number (see maze_crds.run); the stream is the changes that Maze clients know, in the order of
these numbers. So every reader, at any time and at any replica, sees the same stream:

    first start of a task              start_task       (later attempts start silently)
    task Succeeded                     finish_task
    task Failed, no attempt left       task_exception
    Run ended                          finish_workflow
    Skipped and Cancelled tasks        nothing
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from maze_crds.protocol import Output, Result
from maze_crds.run import TERMINAL_RUNS, RunPhase, RunStatus, TaskPhase, TaskStatus

FETCH_LIMIT = 4 * 1024 * 1024
"""Encoded bytes up to which one JSON output is shown in full."""


class Kind(StrEnum):
    START_TASK = "start_task"
    FINISH_TASK = "finish_task"
    TASK_EXCEPTION = "task_exception"
    FINISH_WORKFLOW = "finish_workflow"


@dataclass(frozen=True, slots=True)
class Stub:
    """A message whose result is yet to be fetched. `task` is None for finish_workflow."""

    number: int
    kind: Kind
    task: TaskStatus | None = None
    phase: RunPhase | None = None


def messages_after(status: RunStatus, number: int) -> list[Stub]:
    """Everything that a client is told and that happened after event `number`, in order."""
    newer = (task for task in status.tasks if task.end_event is None or task.end_event > number)
    found = [stub for task in newer for stub in _of_task(task)]
    if status.phase in TERMINAL_RUNS:
        found.append(Stub(status.end_event or status.last_event or 1, Kind.FINISH_WORKFLOW, phase=status.phase))
    found.sort(key=lambda stub: (stub.number, stub.kind is Kind.FINISH_WORKFLOW))
    return [stub for stub in found if stub.number > number]


def _of_task(task: TaskStatus) -> list[Stub]:
    starts = [attempt.start_event for attempt in task.failed_attempts] + [task.start_event]
    started = [number for number in starts if number is not None]
    found = [Stub(min(started), Kind.START_TASK, task)] if started else []
    if task.end_event is not None and task.phase is TaskPhase.SUCCEEDED:
        found.append(Stub(task.end_event, Kind.FINISH_TASK, task))
    elif task.end_event is not None and task.phase is TaskPhase.FAILED:
        found.append(Stub(task.end_event, Kind.TASK_EXCEPTION, task))
    return found


def message(stub: Stub, workflow_id: str, run_id: str, result: Any = None) -> dict[str, Any]:
    """The JSON that is sent. `result`: outputs for finish_task, text for task_exception."""
    data: dict[str, Any] = {"workflow_id": workflow_id, "run_id": run_id}
    if stub.kind is Kind.FINISH_WORKFLOW:
        data["status"] = stub.phase
    elif stub.task is not None:
        data["task_id"] = stub.task.name
        if stub.kind is Kind.START_TASK:
            node = stub.task.node or ""
            data |= {"node_ip": node, "node_id": node, "gpu_id": None}
        else:
            data["result"] = result
    return {"type": stub.kind.value, "data": data}


def failure_text(task: TaskStatus, result: Result | None) -> str:
    """The traceback of what the user's function raised; else reason and message, before a traceback where there is one."""
    failure = result.get("failure") if result is not None else None
    if failure is not None:
        said, traceback = f"{failure['reason']}: {failure['message']}", failure.get("traceback")
        if traceback is None:
            return said
        return traceback if failure["reason"] == "UserException" else f"{said}\n\n{traceback}"
    return f"{task.reason or 'Failed'}: {task.message or 'no message'}"


def shown(output: Output, stored: bytes | None = None) -> Any:
    """One output as JSON. A value that is not JSON, or too large, has a readable stand-in.

    Args:
        stored: the bytes of an output that did not travel inside the result, where they were fetched.
    """
    if output["encoding"] == "json" and "value" in output:
        return output["value"]
    if output["encoding"] == "json" and stored is not None:
        return json.loads(stored)
    if output["encoding"] == "json":
        return f"<JSON of {output['size']} bytes; too large to show here>"
    if output["encoding"] == "file":
        return f"<file {output.get('fileName') or 'without name'} of {output['size']} bytes>"
    if "rendered" in output:
        return output["rendered"]
    return output.get("display") or f"<pickle of {output['size']} bytes>"


def wanted(output: Output, limit: int = FETCH_LIMIT) -> bool:
    """Whether the stored bytes of this output, at most `limit`, are needed to show it."""
    return (
        output["encoding"] == "json" and "value" not in output and bool(output.get("key")) and output["size"] <= limit
    )
