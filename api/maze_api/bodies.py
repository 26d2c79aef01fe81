"""The bodies of the Maze protocol, and what newer clients may add to them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from maze_crds.base import Key
from maze_crds.workflow import Isolation

ENV_NAME = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"
PYTHON_VERSION = r"^3\.[0-9]+$"

MEGABYTES = 1_000_000_000
"""Largest sensible cpu_mem and gpu_mem, so that a typo in units is an error and not a pod that waits for ever."""

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Megabytes = Annotated[float, Field(ge=0, le=MEGABYTES, allow_inf_nan=False)]


class Body(BaseModel):
    """Fields that newer clients send are ignored.

    Any limit on text makes Pydantic refuse lone surrogates, which JSON can spell and UTF-8 can't hold.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", str_max_length=2**30)


class WorkflowBody(Body):
    workflow_id: str


class TaskBody(WorkflowBody):
    task_id: str


class AddTaskBody(WorkflowBody):
    task_type: Literal["code"] = "code"
    task_name: Annotated[str | None, Field(max_length=500)] = None


class EdgeBody(WorkflowBody):
    source_task_id: str
    target_task_id: str


FileName = Annotated[str, Field(min_length=1, max_length=255)]


class PayloadBody(Body):
    """What PUT /api/maze/payloads answered."""

    key: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    encoding: Literal["json", "pickle", "file"]
    file_name: FileName | None = None


class InputParam(Body):
    """`payload` may stand in place of `value`: a literal that is large or is not JSON."""

    key: Key
    input_schema: Literal["from_user", "from_task"] = "from_user"
    data_type: str = "str"
    value: JsonValue = None
    payload: PayloadBody | None = None


class OutputParam(Body):
    key: Key
    data_type: str = "str"


class TaskInput(Body):
    input_params: dict[str, InputParam] = Field(default_factory=dict)


class TaskOutput(Body):
    output_params: dict[str, OutputParam] = Field(default_factory=dict)


class ResourcesBody(Body):
    """Cores, megabytes, GPUs, megabytes; 0: nothing asked for."""

    cpu: Amount = 0
    cpu_mem: Megabytes = 0
    gpu: Amount = 0
    gpu_mem: Megabytes = 0


class ContentBody(Body):
    """What a task is, but for its inputs. The original client sends nothing from `python_version` on."""

    code_str: str | None = None
    code_ser: str | None = None
    task_output: TaskOutput = TaskOutput()
    resources: ResourcesBody = ResourcesBody()
    python_version: Annotated[str | None, Field(pattern=PYTHON_VERSION)] = None
    """MAJOR.MINOR that made code_ser."""
    image: Annotated[str | None, Field(min_length=1, max_length=500)] = None
    """Any image with Python 3.9 or newer; None: that of this installation."""
    timeout: Annotated[int | None, Field(ge=1, le=604800)] = None
    """Seconds that one attempt may run."""
    retries: Annotated[int | None, Field(ge=0, le=100)] = None
    """How many times the task is tried again after its own failure."""
    isolation: Isolation | None = None
    """"task": each attempt gets a pod of its own."""
    env: dict[Annotated[str, Field(pattern=ENV_NAME, max_length=253)], Annotated[str, Field(max_length=32768)]] = Field(
        default_factory=dict, max_length=256
    )


class SaveTaskBody(ContentBody, TaskBody):
    task_input: TaskInput = TaskInput()


class NewTask(Body):
    task_name: Annotated[str | None, Field(max_length=500)] = None
    task_input: TaskInput = TaskInput()


class AddTasksBody(ContentBody, WorkflowBody):
    """Tasks that differ in their inputs only."""

    tasks: Annotated[list[NewTask], Field(min_length=1, max_length=1000)]


class AddLangGraphBody(WorkflowBody):
    """A task that is called with arguments, by run_langgraph_task."""

    task_type: Literal["langgraph"] = "langgraph"
    task_name: Annotated[str | None, Field(max_length=500)] = None
    code_ser: str
    resources: ResourcesBody = ResourcesBody()
    python_version: Annotated[str | None, Field(pattern=PYTHON_VERSION)] = None


class RunLangGraphBody(TaskBody):
    """Base64 cloudpickles of a tuple and of a dict."""

    args: str
    keywords: Annotated[str, Field(alias="kwargs")]
