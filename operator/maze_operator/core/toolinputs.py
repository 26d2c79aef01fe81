"""What a tool task needs before it gets a pod: its required inputs, and a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maze_crds.workflow import Task, ToolServer
from maze_operator.core.outputs import InputMissing, Upstream, lease_inputs
from maze_operator.core.podspec import PodNotPossible
from maze_operator.core.values import Settings

REASON = "RequiredInputMissing"


def check_required(task: Task, run_inputs: Mapping[str, Any], upstream: Upstream) -> None:
    """Do nothing where every required input is there; tasks of other kinds have none.

    Raises:
        InputMissing: with reason RequiredInputMissing; names all that are missing.
    """
    required = task.tool.required_inputs if task.tool is not None else None
    found = {key: _why_missing(task, key, run_inputs, upstream) for key in required or ()}
    missing = {key: why for key, why in found.items() if why is not None}
    if missing:
        raise InputMissing(_say(task, missing), REASON)


def _why_missing(task: Task, key: str, run_inputs: Mapping[str, Any], upstream: Upstream) -> str | None:
    if key not in task.inputs:
        return "the step does not take it from anywhere"
    alone = task.model_copy(update={"inputs": {key: task.inputs[key]}})
    try:
        leased = lease_inputs(alone, run_inputs, upstream, lambda key: key, lambda task, key: key).get(key)
    except InputMissing as error:
        return str(error)
    if leased is None:
        return "the Run does not give it"
    if "value" in leased and is_empty(leased["value"]):
        return "it is null" if leased["value"] is None else "it is empty"
    return None


def is_empty(value: Any) -> bool:
    """null, and text, lists and objects with nothing in them; 0 and false are values."""
    return value is None or (isinstance(value, str | list | dict) and not value)


def choose_server(task: Task, settings: Settings) -> ToolServer:
    """Where the tool is.

    Raises:
        PodNotPossible: the task names no server, and the installation has none.
    """
    assert task.tool is not None
    if task.tool.server is not None:
        return task.tool.server
    if settings.mcp_server_url is None:
        raise PodNotPossible(
            "ToolServerNotConfigured",
            f"tool '{task.tool.name}' names no server, and this installation has none; give tool.server, or set"
            " MCP_SERVER_URL on the operator",
        )
    return ToolServer.model_construct(url=settings.mcp_server_url)


def _say(task: Task, missing: Mapping[str, str]) -> str:
    fields = ", ".join(f"'{key}'" for key in missing)
    what = "required input field" if len(missing) == 1 else "required input fields"
    why = "; ".join(f"{key}: {text}" for key, text in missing.items())
    return f"step '{task.display_name or task.name}' is missing {what} {fields} ({why})"
