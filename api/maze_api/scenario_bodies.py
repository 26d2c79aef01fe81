"""What the scenario routes take and answer: the reference's models, field by field in its order."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from maze_api.bodies import Body
from maze_crds.base import Key

State = Literal["running", "success", "failed", "cancelled"]


class ScenarioRunRequest(Body):
    scenario_id: Annotated[str, Field(min_length=1, max_length=253)]
    input: Annotated[dict[Key, JsonValue], Field(max_length=256)] = Field(default_factory=dict)


class RunSubmitResponse(Body):
    run_id: str
    scenario_id: str
    status: State
    input: dict[str, Any]
    started_at: str


class StepState(Body):
    """One step that has ended; `node_id` is its name."""

    node_id: str
    status: Literal["success", "failed", "cancelled"]
    started_at: str | None = None
    finished_at: str | None = None
    message: str = ""


class ScenarioRunResponse(Body):
    scenario_id: str
    status: State
    message: str
    input: dict[str, Any]
    steps: list[StepState]
    run_id: str


class ScenarioSummary(Body):
    scenario_id: str
    name: str
    description: str
    input_schema: dict[str, Any]


class ToolSummary(Body):
    name: str
    description: str
    input_schema: dict[str, Any]
