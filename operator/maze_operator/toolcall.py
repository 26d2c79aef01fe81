"""The code of a step that is a tool: the text of maze_tools.call, and what to call. Nothing of it runs here."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from maze_crds.workflow import Task
from maze_operator.core.toolinputs import choose_server
from maze_operator.core.values import Settings

FUNCTION = "maze_step"

_TAIL = """

MAZE_CALL = json.loads({call!r})


def {function}(inputs):
    return call_tool(MAZE_CALL, inputs)
"""


def call_lease(task: Task, settings: Settings) -> Any:
    """The part of a protocol.Lease that says what to execute.

    Raises:
        PodNotPossible: no server to call.
    """
    assert task.tool is not None
    server = choose_server(task, settings)
    call = {
        "step": task.display_name or task.name,
        "tool": task.tool.name,
        "server": server.model_dump(exclude_none=True),
        "required": task.tool.required_inputs or [],
        "outputs": task.outputs or [],
    }
    return {"source": read_call_source() + _TAIL.format(call=json.dumps(call), function=FUNCTION), "function": FUNCTION}


@cache
def read_call_source() -> str:
    return resources.files("maze_tools").joinpath("call.py").read_text(encoding="utf-8")
