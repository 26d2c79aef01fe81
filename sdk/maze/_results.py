"""From messages to what `show_results` prints and returns. Pure."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List

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
