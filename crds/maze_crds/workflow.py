"""Workflow: a template of tasks. Every task has exactly one executor: `python`, `container` or `tool`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, WithJsonSchema, model_validator

from maze_crds.base import MAX_STORED_TASKS, MAX_TASKS, QUANTITY_PATTERN, REFERENCE_PATTERN, Key, Model, TaskName
from maze_crds.problems import Globs

AnyJson = Annotated[JsonValue, WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True, "nullable": True})]
JsonSchema = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]
Quantity = Annotated[
    str,
    Field(coerce_numbers_to_str=True, pattern=QUANTITY_PATTERN),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": QUANTITY_PATTERN,
        }
    ),
]


class Payload(Model):
    """Bytes in the object store, named by content."""

    key: Annotated[str, Field(min_length=1, max_length=1024, description="Object key in the Maze bucket.")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0, description="Bytes.")]


class InputPayload(Payload):
    """A literal input in the object store."""

    encoding: Annotated[
        Literal["json", "pickle", "file"],
        Field(description="json: UTF-8 JSON; pickle: a cloudpickle; file: the bytes of a file."),
    ] = "json"
    file_name: Annotated[
        str | None,
        Field(
            min_length=1, max_length=255, pattern=r"^([^/.]|\.[^/.]|\.\.[^/])[^/]*$", description="For encoding file."
        ),
    ] = None


class Input(Model):
    """Where one input comes from: exactly one of `value`, `from`, `payload` and `template` (the schema asks for one)."""

    value: Annotated[AnyJson, Field(description="A literal JSON value.")] = None
    from_: Annotated[
        str | None,
        Field(alias="from", pattern=REFERENCE_PATTERN, max_length=400, description="input.KEY or TASK.output.KEY"),
    ] = None
    payload: Annotated[
        InputPayload | None, Field(description="A literal that is too large for this object, or is not JSON.")
    ] = None
    template: Annotated[
        AnyJson,
        Field(description='Nested JSON in which every object {"from": REFERENCE} stands for what it refers to.'),
    ] = None

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})


class PythonExecutor(Model):
    """A Python function of one dict that returns a dict: a pickle in the object store, or source text."""

    code: Annotated[Payload | None, Field(description="A cloudpickle of the function.")] = None
    source: Annotated[
        str | None,
        Field(min_length=1, max_length=262144, description="Python source; its first function is called."),
    ] = None
    function: Annotated[
        str | None, Field(max_length=253, description="Which function of `source` to call; default: the first.")
    ] = None
    call: Annotated[
        Literal["Params", "Arguments"] | None,
        Field(
            description="Params (default): function(inputs) returns a dict of outputs. Arguments: function(*args,"
            " **kwargs) with the inputs named so; what it returns is the output 'result'."
        ),
    ] = None
    python_version: Annotated[
        str | None, Field(pattern=r"^3\.[0-9]+$", description="MAJOR.MINOR that made the pickle.")
    ] = None
    image: Annotated[
        str | None, Field(min_length=1, max_length=500, description="Any image with Python 3.9 or newer.")
    ] = None

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {"rule": "has(self.code) != has(self.source)", "message": "give exactly one of code and source"}
            ]
        }
    )


class ContainerExecutor(Model):
    """Any image. Inputs arrive as JSON in MAZE_INPUTS; outputs are a JSON object in the termination message."""

    image: Annotated[
        str, Field(min_length=1, max_length=500, description="maze/runner: the image for Python tasks, as installed.")
    ]
    command: Annotated[list[str] | None, Field(max_length=256)] = None
    args: Annotated[list[str] | None, Field(max_length=256)] = None


class ToolServer(Model):
    """Where an MCP server is: at a URL (streamable HTTP), or a program that speaks over its standard streams."""

    url: Annotated[str | None, Field(min_length=1, max_length=2048, pattern=r"^https?://")] = None
    command: Annotated[str | None, Field(min_length=1, max_length=4096)] = None
    args: Annotated[list[str] | None, Field(max_length=256)] = None
    env: Annotated[dict[str, str] | None, Field(max_length=256, description="Of the program.")] = None

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {"rule": "has(self.url) != has(self.command)", "message": "give exactly one of url and command"},
                {
                    "rule": "has(self.command) || (!has(self.args) && !has(self.env))",
                    "message": "args and env are for a server that is started by command",
                },
            ]
        }
    )


class ToolExecutor(Model):
    """A tool of an MCP server. Its arguments are the inputs; its structured result gives the outputs."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    server: Annotated[ToolServer | None, Field(description="Default: the server of the installation.")] = None
    required_inputs: Annotated[
        list[Key] | None, Field(max_length=256, description="Inputs that must be there and not null or empty.")
    ] = None
    image: Annotated[
        str | None, Field(min_length=1, max_length=500, description="Python 3.10 or newer with the package mcp 2.")
    ] = None


class EnvVar(Model):
    name: Annotated[str, Field(pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$", max_length=253)]
    value: Annotated[str, Field(max_length=32768)] = ""


class Resources(Model):
    """What a task gets; becomes requests and limits of its pod. `gpu` may be a fraction where sharing is set up."""

    cpu: Quantity | None = None
    memory: Quantity | None = None
    gpu: Quantity | None = None
    gpu_memory: Annotated[Quantity | None, Field(description="Memory that the GPU must have at least.")] = None


class Retry(Model):
    """How many times a task is tried again, counted separately for each cause."""

    limit: Annotated[int, Field(ge=0, le=100, description="After the task's own failure.")] = 0
    out_of_memory: Annotated[int, Field(ge=0, le=10, description="After being killed for memory.")] = 0
    timeout: Annotated[int, Field(ge=0, le=100)] = 0
    infrastructure: Annotated[int, Field(ge=0, le=100, description="After eviction, node or pod loss.")] = 3
    storage: Annotated[int, Field(ge=0, le=100, description="After the object store failed.")] = 3
    backoff_seconds: Annotated[float, Field(ge=0, le=3600)] = 1
    backoff_factor: Annotated[float, Field(ge=1, le=10)] = 2
    max_backoff_seconds: Annotated[float, Field(ge=0, le=86400)] = 60
    memory_factor: Annotated[
        float, Field(ge=1, le=10, description="Memory is multiplied by this after out of memory.")
    ] = 2


Timeout = Annotated[int, Field(ge=1, le=604800, description="Seconds that one attempt may run.")]


Isolation = Annotated[
    Literal["run", "task"],
    Field(
        description="run (default): a pod serves tasks of this Run that have the same image, resources and environment,"
        " one after the other, each in a process of its own. task: each attempt gets a pod of its own. Containers always do."
    ),
]


class Defaults(Model):
    """What a task takes where it says nothing itself, field by field."""

    image: Annotated[str | None, Field(min_length=1, max_length=500, description="For python tasks.")] = None
    resources: Resources | None = None
    retry: Retry | None = None
    timeout_seconds: Timeout | None = None
    isolation: Isolation | None = None


class Task(Model):
    name: TaskName
    display_name: Annotated[str | None, Field(max_length=500)] = None
    python: PythonExecutor | None = None
    container: ContainerExecutor | None = None
    tool: ToolExecutor | None = None
    inputs: Annotated[dict[Key, Input], Field(max_length=256)] = Field(default_factory=dict)
    outputs: Annotated[
        list[Key] | None, Field(max_length=256, description="Keys that must be there; none declared: any.")
    ] = None
    depends_on: Annotated[list[TaskName] | None, Field(max_length=MAX_STORED_TASKS)] = None
    env: Annotated[
        list[EnvVar] | None,
        Field(
            max_length=256,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = None
    resources: Resources | None = None
    retry: Retry | None = None
    timeout_seconds: Timeout | None = None
    priority: Annotated[int, Field(ge=-1000, le=1000, description="Higher starts first among ready tasks.")] = 0
    isolation: Isolation | None = None

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "[has(self.python), has(self.container), has(self.tool)].filter(given, given).size() == 1",
                    "message": "give exactly one executor: python, container or tool",
                },
                {"rule": "self.name != 'input'", "message": "the name 'input' is taken by run inputs"},
            ]
        }
    )


class WorkflowSpec(Model):
    """A graph of tasks; edges are `dependsOn` and references to outputs.

    In the API server a workflow has either `tasks` or `tasksFrom`; whoever reads it to execute it puts the list that
    `tasksFrom` names in place of `tasks`.
    """

    description: Annotated[str | None, Field(max_length=4096)] = None
    input_schema: Annotated[JsonSchema | None, Field(description="JSON Schema for the inputs of a Run.")] = None
    problems: Annotated[
        Globs | None, Field(description="Globs of the problem ids whose Task Executor tasks this workflow executes.")
    ] = None
    defaults: Defaults | None = None
    parallelism: Annotated[int | None, Field(ge=1, le=10000, description="Tasks at once, at most.")] = None
    tasks: Annotated[
        list[Task],
        Field(
            max_length=MAX_STORED_TASKS,
            json_schema_extra={
                "minItems": 1,
                "maxItems": MAX_TASKS,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            },
        ),
    ] = Field(default_factory=list)
    tasks_from: Annotated[
        Payload | None,
        Field(description=f"A JSON list of at most {MAX_STORED_TASKS} tasks, where it is too large for this object."),
    ] = None

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {"rule": "has(self.tasks) != has(self.tasksFrom)", "message": "give exactly one of tasks and tasksFrom"}
            ]
        }
    )

    @model_validator(mode="after")
    def _has_tasks_once(self) -> Self:
        if bool(self.tasks) == (self.tasks_from is not None):
            raise ValueError("give exactly one of tasks and tasksFrom, with at least one task")
        return self
