"""A scenario definition as people write it: JSON in snake_case. `scenario.py` makes a Workflow of it.

Every field that a Workflow's tool task has can be said here, too, so that the two notations are one thing. Unknown
fields are refused, because one that changes what a step does must not be overlooked; fields for other programs start
with `x-`, and are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from maze_crds import templates
from maze_crds.base import MAX_TASKS, Key, TaskName
from maze_crds.graph import parse_reference
from maze_crds.inputs import schema_problems
from maze_crds.problems import Globs
from maze_crds.workflow import Isolation, Resources, Retry, Timeout, ToolServer

SCENARIO_ID = r"^[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?$"
SCHEMA_VERSION = "1"
"""The only one that there is."""
MAX_LEVELS = 100
"""Of objects and lists inside each other."""
PRIVATE = "x-"


def _as_written(name: str) -> str:
    return name


class StepRetry(Retry):
    """The fields of a task's retry, in snake_case."""

    model_config = ConfigDict(alias_generator=_as_written)


class StepResources(Resources):
    """The fields of a task's resources, in snake_case."""

    model_config = ConfigDict(alias_generator=_as_written)


class Server(ToolServer):
    """Where an MCP server is: `url`, or `command` with `args` and `env`."""

    @model_validator(mode="after")
    def _one_way(self) -> Server:
        if (self.url is None) == (self.command is None):
            raise ValueError("give exactly one of url and command")
        if self.url is not None and (self.args is not None or self.env is not None):
            raise ValueError("args and env are for a server that is started by command")
        return self


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_max_length=2**20)

    @model_validator(mode="before")
    @classmethod
    def _without_private(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {key: value for key, value in given.items() if not str(key).startswith(PRIVATE)}


class Defaults(_Part):
    """What steps take that say nothing themselves."""

    resources: StepResources | None = None
    retry: StepRetry | None = None
    timeout_seconds: Timeout | None = None
    image: Annotated[str | None, Field(min_length=1, max_length=500)] = None
    isolation: Isolation | None = None


class Step(_Part):
    """One call of a tool. Without `depends_on` it starts when all steps before it have ended well."""

    name: TaskName
    type: Literal["tool"] = "tool"
    tool: Annotated[str, Field(min_length=1, max_length=253)]
    input: Annotated[dict[Key, JsonValue], Field(max_length=256)] = Field(default_factory=dict)
    required_input_fields: Annotated[list[Key] | None, Field(max_length=256)] = None
    server: Server | None = None
    timeout_seconds: Timeout | None = None
    retry: Annotated[StepRetry | None, Field(description="Or how many times, which is its limit.")] = None
    depends_on: Annotated[list[TaskName] | None, Field(max_length=MAX_TASKS)] = None
    outputs: Annotated[list[Key] | None, Field(max_length=256)] = None
    output: Key | None = None
    display_name: Annotated[str | None, Field(max_length=500)] = None
    image: Annotated[str | None, Field(min_length=1, max_length=500)] = None
    resources: StepResources | None = None
    env: Annotated[dict[str, str] | None, Field(max_length=256)] = None
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    isolation: Isolation | None = None

    @field_validator("name")
    @classmethod
    def _free_name(cls, name: str) -> str:
        if name == "input":
            raise ValueError("the name 'input' is taken by the input of the run")
        return name

    @field_validator("input")
    @classmethod
    def _references(cls, given: dict[str, JsonValue]) -> dict[str, JsonValue]:
        problems = [problem for text in templates.references(given) if (problem := _not_a_reference(text))]
        if problems:
            raise ValueError("; ".join(problems))
        return given

    @field_validator("retry", mode="before")
    @classmethod
    def _a_limit(cls, retry: Any) -> Any:
        return {"limit": retry} if isinstance(retry, int) and not isinstance(retry, bool) else retry

    @model_validator(mode="after")
    def _one_spelling(self) -> Step:
        if self.output is not None and self.outputs is not None:
            raise ValueError("give one of output and outputs")
        return self


class Definition(_Part):
    """The whole file."""

    schema_version: Literal["1"] = "1"
    scenario_id: Annotated[str, Field(min_length=1, max_length=200, pattern=SCENARIO_ID)]
    name: Annotated[str | None, Field(max_length=500)] = None
    description: Annotated[str | None, Field(max_length=4096)] = None
    input_schema: dict[str, Any] | None = None
    server: Server | None = None
    defaults: Defaults | None = None
    parallelism: Annotated[int | None, Field(ge=1, le=10000)] = None
    problems: Globs | None = None
    steps: Annotated[list[Step], Field(min_length=1, max_length=MAX_TASKS)]

    @field_validator("input_schema")
    @classmethod
    def _a_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is not None and (problems := schema_problems(schema)):
            raise ValueError("not a JSON Schema: " + "; ".join(problems))
        return schema


def _not_a_reference(text: str) -> str | None:
    try:
        parse_reference(text)
    except ValueError:
        return f"'{text[:100]}' is not a reference: write input.KEY or STEP.output.KEY"
    return None


def unstorable(value: Any) -> list[str]:
    """Why Kubernetes would not keep this JSON value as it is: one sentence with the place each, at most 20."""
    return [problem for _, problem in zip(range(20), _unstorable(value), strict=False)]


def _unstorable(root: Any) -> Iterator[str]:
    stack: list[tuple[str, int, Any]] = [("", 0, root)]
    while stack:
        place, level, value = stack.pop()
        problem = _unstorable_leaf(value)
        if problem is not None:
            yield f"{place or 'it'} {problem}"
        elif level > MAX_LEVELS:
            yield f"{place[:80]}… is more than {MAX_LEVELS} levels deep"
        elif isinstance(value, dict):
            for key, child in reversed(value.items()):
                if _unstorable_leaf(key) is not None:
                    yield f"{place or 'it'} has a key with half of a character"
                else:
                    stack.append((f"{place}.{key}" if place else key, level + 1, child))
        elif isinstance(value, list):
            stack += [(f"{place}[{n}]", level + 1, child) for n, child in reversed(list(enumerate(value)))]


def _unstorable_leaf(value: Any) -> str | None:
    if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        return "has half of a character (a lone surrogate) in its text"
    if isinstance(value, float) and not math.isfinite(value):
        return "is a number that JSON does not have"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "is a number of more than 64 bits; send it as text"
    return None
