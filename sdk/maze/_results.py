"""From messages to what `show_results` prints and returns. Pure."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Sequence

from maze._graph import short

Message = Dict[str, Any]

CONNECTED = "🔗 Connected to server, starting workflow execution..."
COMPLETED = "✅ Workflow execution completed!"
SHOWN = 1000
"""Characters of one value or error that are printed."""


def cut(value: Any) -> str:
    whole = str(value)
    return whole if len(whole) <= SHOWN else f"{whole[:SHOWN]}… ({len(whole)} characters)"


def reason(error: Any) -> str:
    """The line of a traceback that says what happened: its last one that is not empty."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"


def lines(message: Message, failed: int = 0) -> List[str]:
    """What is printed for one message; `failed`: tasks that have failed so far."""
    data = message.get("data", {})
    name = short(str(data.get("task_id", "")))
    kind = message.get("type")
    if kind == "start_task":
        return [f"▶ Task started: {name}"]
    if kind == "finish_task":
        result = data.get("result")
        shown = result.items() if isinstance(result, dict) else [("result", result)]
        return [f"✓ Task completed: {name}", *(f"  {key}: {cut(value)}" for key, value in shown)]
    if kind == "task_exception":
        return [f"❌ Task failed: {name}", f"  error: {cut(reason(data.get('result')))}"]
    if kind != "finish_workflow":
        return []
    if failed:
        return [f"⚠️  Workflow execution completed, {failed} task{'s' if failed > 1 else ''} failed"]
    if data.get("status", "Succeeded") != "Succeeded":
        return [f"⚠️  Workflow execution ended: {data['status']}"]
    return [COMPLETED]


def summary(messages: Iterable[Message]) -> Dict[str, Any]:
    """`{"task_results": {id: outputs}, "workflow_completed", "has_exception", "exception_tasks": [id]}`.

    workflow_completed: the run has ended, and was neither cancelled nor failed as a whole before its tasks could end.
    """
    results: Dict[str, Any] = {}
    failed: List[str] = []
    completed = False
    for message in messages:
        data = message.get("data", {})
        if message.get("type") == "finish_task":
            results[data["task_id"]] = data.get("result")
        elif message.get("type") == "task_exception":
            failed.append(data["task_id"])
        elif message.get("type") == "finish_workflow":
            status = data.get("status", "Succeeded")
            completed = status == "Succeeded" or (status == "Failed" and bool(failed))
    return {
        "task_results": results,
        "workflow_completed": completed,
        "has_exception": bool(failed),
        "exception_tasks": failed,
    }


def may_have_files(message: Message) -> bool:
    """Whether outputs of this task could be files: these are shown as text that says so."""
    result = message.get("data", {}).get("result")
    if message.get("type") != "finish_task" or not isinstance(result, dict):
        return False
    return any(isinstance(value, str) and value.startswith("<file ") for value in result.values())


def task_failure(task: Mapping[str, Any]) -> str:
    """One line about a task that did not succeed, as the server describes it."""
    reason_ = f" ({task['reason']})" if task.get("reason") else ""
    return f"task '{task.get('name') or task['task_id']}': {task['status']}{reason_}: {task.get('message') or 'no message'}"


def run_failure(run: Mapping[str, Any], failed: Sequence[Mapping[str, Any]], ended_as: str) -> str:
    """What went wrong in a run: its tasks that failed, or else what is said about the run itself."""
    lines = [f"run '{run['run_id']}' ended as {ended_as}"]
    lines += [f"  {task_failure(task)}" for task in failed[:10]]
    if len(failed) > 10:
        lines.append(f"  and {len(failed) - 10} more")
    if not failed and (run.get("message") or run.get("reason")):
        lines.append(f"  {run.get('reason') or ''}: {run.get('message') or ''}")
    return "\n".join(lines)
