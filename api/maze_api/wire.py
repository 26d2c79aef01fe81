"""The bodies of the Maze protocol, and the pure translation of one saved task into a task of a Workflow."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from maze_api.errors import BadRequest, validation_text
from maze_crds import names
from maze_crds.base import Key
from maze_crds.graph import parse_reference
from maze_crds.workflow import Input, InputPayload, PythonExecutor, Resources, Task

INLINE_VALUE = 65536
"""Encoded bytes up to which a literal input is kept in the Run itself; larger ones go to the object store."""

SOURCE_LIMIT = 262144
"""Characters of python.source, as in the custom resource."""

MEGABYTES = 1_000_000_000
"""Largest sensible cpu_mem and gpu_mem, so that a typo in units is an error and not a pod that waits for ever."""

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Megabytes = Annotated[float, Field(ge=0, le=MEGABYTES, allow_inf_nan=False)]


class Body(BaseModel):
    """Fields that newer clients send are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


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


class InputParam(Body):
    key: Key
    input_schema: Literal["from_user", "from_task"] = "from_user"
    data_type: str = "str"
    value: JsonValue = None


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


class SaveTaskBody(TaskBody):
    code_str: str | None = None
    code_ser: str | None = None
    task_input: TaskInput = TaskInput()
    task_output: TaskOutput = TaskOutput()
    resources: ResourcesBody = ResourcesBody()
    python_version: Annotated[str | None, Field(pattern=r"^3\.[0-9]+$")] = None
    """MAJOR.MINOR that made code_ser; the original client does not send it."""


class Upload(BaseModel):
    """Bytes to put into the object store before the task refers to them."""

    model_config = ConfigDict(frozen=True)
    key: str
    data: bytes


def translate(body: SaveTaskBody, name: str | None) -> tuple[Task, list[Upload]]:
    """The task as a Workflow has it, and what must be uploaded for it.

    Raises:
        BadRequest: says which field is wrong and how.
    """
    uploads: list[Upload] = []
    outputs = [parameter.key for parameter in body.task_output.output_params.values()]
    if len(set(outputs)) != len(outputs):
        raise BadRequest(f"task_output declares a key twice: {', '.join(outputs)}")
    try:
        fields: dict[str, Any] = {"name": body.task_id, "python": _executor(body, uploads)}
        if name:
            fields["display_name"] = name
        if inputs := _inputs(body, uploads):
            fields["inputs"] = inputs
        if outputs:
            fields["outputs"] = outputs
        if asked := resources(body.resources):
            fields["resources"] = asked
        return Task(**fields), uploads
    except ValidationError as error:
        raise BadRequest(validation_text([dict(item) for item in error.errors()])) from error


def _executor(body: SaveTaskBody, uploads: list[Upload]) -> PythonExecutor:
    if body.code_ser is not None:
        code = decode_code(body.code_ser)
        payload = _upload(uploads, code, names.code_key(hashlib.sha256(code).hexdigest()))
        if body.python_version is None:
            return PythonExecutor(code=payload)
        return PythonExecutor(code=payload, python_version=body.python_version)
    if not body.code_str or not body.code_str.strip():
        raise BadRequest("the task has no code: give code_ser (a base64 cloudpickle) or code_str (Python source)")
    if len(body.code_str) > SOURCE_LIMIT:
        raise BadRequest(
            f"code_str has {len(body.code_str)} characters, more than {SOURCE_LIMIT}; send the function as code_ser"
        )
    return PythonExecutor(source=body.code_str)


def decode_code(text: str) -> bytes:
    """The pickle in `code_ser`. It is looked at, never loaded.

    Raises:
        BadRequest: not base64, or not a pickle.
    """
    try:
        code = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"code_ser is not base64: {error}") from error
    if len(code) < 3 or code[0] != 0x80 or not code.endswith(b"."):
        raise BadRequest("code_ser is base64, but not of a pickle; send base64.b64encode(cloudpickle.dumps(function))")
    return code


def _inputs(body: SaveTaskBody, uploads: list[Upload]) -> dict[str, Input]:
    made: dict[str, Input] = {}
    for parameter in body.task_input.input_params.values():
        if parameter.key in made:
            raise BadRequest(f"task_input gives the key '{parameter.key}' twice")
        if parameter.input_schema == "from_task":
            made[parameter.key] = Input(from_=_reference(parameter))
        else:
            made[parameter.key] = literal(parameter.value, body.workflow_id, uploads)
    return made


def _reference(parameter: InputParam) -> str:
    text = parameter.value
    try:
        if not isinstance(text, str) or parse_reference(text).task is None:
            raise ValueError(f"{json.dumps(text)[:100]} is not a reference")
    except ValueError as error:
        raise BadRequest(f"input '{parameter.key}': {error}; from_task needs '<task_id>.output.<key>'") from error
    return text


def literal(value: JsonValue, workflow_id: str, uploads: list[Upload], limit: int = INLINE_VALUE) -> Input:
    """A value given by the user: in the Run, or in the object store where it has more than `limit` encoded bytes."""
    encoded = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    if len(encoded) <= limit:
        return Input(value=value)
    return Input(payload=_upload(uploads, encoded, input_key(workflow_id, encoded)))


def input_key(workflow_id: str, encoded: bytes) -> str:
    """Named by content: a later change of the draft can't change a started Run."""
    return f"{names.draft_prefix(workflow_id)}inputs/{hashlib.sha256(encoded).hexdigest()}"


def _upload(uploads: list[Upload], data: bytes, key: str) -> InputPayload:
    uploads.append(Upload(key=key, data=data))
    return InputPayload(key=key, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def resources(body: ResourcesBody) -> Resources | None:
    """Kubernetes quantities; GPU memory asks for a GPU, as the SDK's decorator does."""
    gpu = 1.0 if body.gpu_mem and not body.gpu else body.gpu
    asked: dict[str, str] = {}
    for field, amount, unit in (
        ("cpu", body.cpu, ""),
        ("memory", body.cpu_mem, "M"),
        ("gpu", gpu, ""),
        ("gpu_memory", body.gpu_mem, "M"),
    ):
        if amount:
            asked[field] = f"{amount:.3f}".rstrip("0").rstrip(".") + unit
    return Resources(**asked) if asked else None


def references(task: Task) -> list[str]:
    """Ids of the tasks whose outputs this one takes, each once."""
    found = (parse_reference(source.from_).task for source in task.inputs.values() if source.from_ is not None)
    return list(dict.fromkeys(name for name in found if name is not None))
