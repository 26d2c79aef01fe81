"""The pure translation of what Maze clients send into tasks of a Workflow."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from maze_api.bodies import AddLangGraphBody, InputParam, PayloadBody, ResourcesBody, SaveTaskBody
from maze_api.errors import BadRequest, validation_text
from maze_crds import names
from maze_crds.graph import parse_reference
from maze_crds.workflow import EnvVar, Input, InputPayload, Payload, PythonExecutor, Resources, Retry, Task

INLINE_VALUE = 65536
"""Encoded bytes up to which a literal input is kept in the Run itself; larger ones go to the object store."""

SOURCE_LIMIT = 262144
"""Characters of python.source, as in the custom resource."""


class Upload(BaseModel):
    """Bytes to put into the object store before the task refers to them."""

    model_config = ConfigDict(frozen=True)
    key: str
    data: bytes


def translate(body: SaveTaskBody, name: str | None, image_python: str) -> tuple[Task, list[Upload]]:
    """The task as a Workflow has it, and what must be uploaded for it.

    Args:
        image_python: MAJOR.MINOR of the Python in the image that a task gets which names none.

    Raises:
        BadRequest: says which field is wrong and how.
    """
    uploads: list[Upload] = []
    outputs = [parameter.key for parameter in body.task_output.output_params.values()]
    if len(set(outputs)) != len(outputs):
        raise BadRequest(f"task_output declares a key twice: {', '.join(outputs)}")
    reserved = [key for key in body.env if key.startswith("MAZE_")]
    if reserved:
        raise BadRequest(f"env sets {', '.join(sorted(reserved))}, but names that begin with MAZE_ are Maze's own")
    fields: dict[str, Any] = {"python": _executor(body, uploads, image_python)}
    if inputs := _inputs(body, uploads):
        fields["inputs"] = inputs
    if outputs:
        fields["outputs"] = outputs
    if body.timeout is not None:
        fields["timeout_seconds"] = body.timeout
    if body.retries is not None:
        fields["retry"] = Retry(limit=body.retries)
    if body.isolation is not None:
        fields["isolation"] = body.isolation
    if body.env:
        fields["env"] = [EnvVar(name=key, value=value) for key, value in body.env.items()]
    return _task(body.task_id, name, body.resources, fields), uploads


def translate_langgraph(body: AddLangGraphBody, task_id: str, image_python: str) -> tuple[Task, Upload]:
    """A task that takes the inputs `args` and `kwargs`, and has the output `result`.

    Raises:
        BadRequest: as translate.
    """
    uploads: list[Upload] = []
    python = _pickled(body.code_ser, body.python_version, None, uploads, image_python)
    python = python.model_copy(update={"call": "Arguments"})
    fields = {"python": python, "outputs": ["result"]}
    return _task(task_id, body.task_name, body.resources, fields), uploads[0]


def arguments(args: str, kwargs: str) -> tuple[dict[str, Input], list[Upload]]:
    """The inputs of one call, from base64 cloudpickles.

    Raises:
        BadRequest: not base64, or not pickles.
    """
    uploads: list[Upload] = []
    inputs = {}
    for key, text in (("args", args), ("kwargs", kwargs)):
        data = decode_pickle(text, key, "send base64.b64encode(cloudpickle.dumps(…)) of the arguments")
        payload = _upload(uploads, data, names.payload_key(hashlib.sha256(data).hexdigest()))
        inputs[key] = Input(payload=InputPayload(**payload, encoding="pickle"))
    return inputs, uploads


def _task(task_id: str, name: str | None, asked: ResourcesBody, fields: dict[str, Any]) -> Task:
    if name:
        fields["display_name"] = name
    if found := resources(asked):
        fields["resources"] = found
    try:
        return Task(name=task_id, **fields)
    except ValidationError as error:
        raise BadRequest(validation_text([dict(item) for item in error.errors()])) from error


def _executor(body: SaveTaskBody, uploads: list[Upload], image_python: str) -> PythonExecutor:
    if body.code_ser is not None:
        return _pickled(body.code_ser, body.python_version, body.image, uploads, image_python)
    if not body.code_str or not body.code_str.strip():
        raise BadRequest("the task has no code: give code_ser (a base64 cloudpickle) or code_str (Python source)")
    if len(body.code_str) > SOURCE_LIMIT:
        raise BadRequest(
            f"code_str has {len(body.code_str)} characters, more than {SOURCE_LIMIT}; send the function as code_ser"
        )
    return PythonExecutor(source=body.code_str, **_said(image=body.image))


def _pickled(
    code_ser: str, made_by: str | None, image: str | None, uploads: list[Upload], image_python: str
) -> PythonExecutor:
    if made_by is not None and image is None and made_by != image_python:
        raise BadRequest(
            f"the function was pickled by Python {made_by}, but tasks run in Python {image_python} here, which can't load"
            f" it; run your client with Python {image_python}, or give the task an image that has Python {made_by}"
        )
    code = decode_pickle(code_ser, "code_ser", "send base64.b64encode(cloudpickle.dumps(function))")
    payload = _upload(uploads, code, names.code_key(hashlib.sha256(code).hexdigest()))
    return PythonExecutor(code=Payload(**payload), **_said(python_version=made_by, image=image))


def _said(**fields: str | None) -> dict[str, Any]:
    """Without what was not said, so that it stays unsaid in the Run."""
    return {name: value for name, value in fields.items() if value is not None}


def decode_pickle(text: str, field: str, advice: str) -> bytes:
    """The pickle in a base64 field. It is looked at, never loaded.

    Raises:
        BadRequest: not base64, or not a pickle; names the field and ends with the advice.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{field} is not base64: {error}; {advice}") from error
    if not is_pickle(data):
        raise BadRequest(f"{field} is base64, but not of a pickle; {advice}")
    return data


def is_pickle(data: bytes) -> bool:
    """Whether it begins and ends as pickles of protocol 2 and newer do."""
    return len(data) >= 3 and data[0] == 0x80 and data.endswith(b".")


def _inputs(body: SaveTaskBody, uploads: list[Upload]) -> dict[str, Input]:
    made: dict[str, Input] = {}
    for parameter in body.task_input.input_params.values():
        if parameter.key in made:
            raise BadRequest(f"task_input gives the key '{parameter.key}' twice")
        if parameter.payload is not None:
            made[parameter.key] = Input(payload=_payload(parameter, parameter.payload))
        elif parameter.input_schema == "from_task":
            made[parameter.key] = Input(from_=_reference(parameter))
        else:
            made[parameter.key] = literal(parameter.value, body.workflow_id, uploads)
    return made


def _payload(parameter: InputParam, given: PayloadBody) -> InputPayload:
    if parameter.input_schema != "from_user" or parameter.value is not None:
        raise BadRequest(f"input '{parameter.key}' has a payload, so it must be from_user and have no value")
    if given.key != names.payload_key(given.sha256):
        raise BadRequest(f"input '{parameter.key}': payload.key is none that PUT /api/maze/payloads gives")
    fields: dict[str, Any] = {"key": given.key, "sha256": given.sha256, "size": given.size, "encoding": given.encoding}
    if given.encoding == "file":
        fields["file_name"] = check_file_name(given.file_name)
    return InputPayload(**fields)


def check_file_name(name: str | None) -> str:
    """The name, where it is one of a file in a folder.

    Raises:
        BadRequest: it is not.
    """
    size = len(name.encode(errors="surrogatepass")) if name else 0
    if not name or name in (".", "..") or any(c in "/\0" or "\ud800" <= c <= "\udfff" for c in name) or size > 255:
        shown = json.dumps(name)[:100]
        raise BadRequest(f"file_name is {shown}, but must be the name of a file without folders, of at most 255 bytes")
    return name


def payload_keys(task: Task) -> list[str]:
    """Keys of payloads that clients put before they saved this task."""
    found = (source.payload.key for source in task.inputs.values() if source.payload is not None)
    return [key for key in dict.fromkeys(found) if key.startswith(names.payload_key(""))]


def _reference(parameter: InputParam) -> str:
    text = parameter.value
    try:
        if not isinstance(text, str) or parse_reference(text).task is None:
            raise ValueError(f"{json.dumps(text)[:100]} is not a reference")
    except ValueError as error:
        raise BadRequest(f"input '{parameter.key}': {error}; from_task needs '<task_id>.output.<key>'") from error
    return text


def literal(value: JsonValue, workflow_id: str, uploads: list[Upload]) -> Input:
    """A value given by the user: in the task, or in the object store where it has more than INLINE_VALUE encoded bytes.

    Raises:
        BadRequest: NaN, infinity or a lone surrogate, which no JSON document may hold.
    """
    try:
        encoded = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"an input is not JSON: {error}; send it as a payload in the encoding pickle") from error
    if len(encoded) <= INLINE_VALUE:
        return Input(value=value)
    return Input(payload=InputPayload(**_upload(uploads, encoded, input_key(workflow_id, encoded)), encoding="json"))


def input_key(workflow_id: str, encoded: bytes) -> str:
    """Named by content: a later change of the draft can't change a started Run."""
    return f"{names.draft_prefix(workflow_id)}inputs/{hashlib.sha256(encoded).hexdigest()}"


def _upload(uploads: list[Upload], data: bytes, key: str) -> dict[str, Any]:
    """The fields of a Payload."""
    uploads.append(Upload(key=key, data=data))
    return {"key": key, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


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
