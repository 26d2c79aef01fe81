"""From the inputs a user gives to what the protocol says of them. Pure: uploads are only described."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Union

from maze._decorator import DATA_TYPES, TaskMetadata
from maze._encoding import is_file, is_plain
from maze._errors import InvalidTask
from maze._pickle import dumps
from maze._task import MaTask, TaskOutput

FITTING = {("int", "float")}
"""(declared of an output, declared of the input that takes it), besides the same."""


@dataclass(frozen=True)
class Upload:
    """A value that JSON can't hold. It stands at "payload" until it is uploaded."""

    data: Union[bytes, Path]
    encoding: str
    file_name: Optional[str] = None


@dataclass(frozen=True)
class Sent:
    """A value that was checked and uploaded already: `payload` as the server names it."""

    payload: Dict[str, Any]


@dataclass(frozen=True)
class Gathered:
    """A list with outputs of other tasks in it. It stands at "value" until a task that collects them is there."""

    items: List[Any]


def input_parameters(
    name: str, metadata: TaskMetadata, inputs: Mapping[str, Any], declared: Callable[[TaskOutput], Optional[str]]
) -> Dict[str, Any]:
    """`input_params` of the protocol. An input that was not given is "", as existing clients send it.

    Args:
        declared: the data type that the task of a reference declares for it, or None.

    Raises:
        InvalidTask: an input the task does not have, a value of another type than declared, or what can't travel.
    """
    unknown = [key for key in inputs if key not in metadata.inputs]
    if unknown:
        raise InvalidTask(f"task '{name}' has no input {unknown}; @task declares {metadata.inputs}")
    parameters: Dict[str, Any] = {}
    for number, key in enumerate(metadata.inputs, 1):
        wanted = metadata.data_types[key]
        if key in metadata.declared and key in inputs:
            check_type(f"task '{name}': input '{key}'", wanted, inputs[key], declared)
        sent = describe(f"task '{name}': input '{key}'", inputs.get(key, ""))
        parameters[str(number)] = {"key": key, "data_type": wanted, **sent}
    return parameters


def output_parameters(metadata: TaskMetadata) -> Dict[str, Any]:
    """`output_params` of the protocol."""
    return {
        str(number): {"key": key, "data_type": metadata.data_types[key]}
        for number, key in enumerate(metadata.outputs, 1)
    }


def check_type(where: str, wanted: str, value: Any, declared: Callable[[TaskOutput], Optional[str]]) -> None:
    """Raises: InvalidTask, where a value is not of the declared type, or an output is declared to be another."""
    if isinstance(value, TaskOutput):
        given = declared(value)
        if given not in (None, wanted) and (given, wanted) not in FITTING:
            raise InvalidTask(f"{where} is declared as {wanted}, but {value.output_key!r} of its task as {given}")
        return
    if isinstance(value, Sent):
        return
    if not isinstance(value, DATA_TYPES[wanted]) or (wanted != "bool" and isinstance(value, bool)):
        raise InvalidTask(f"{where} is declared as {wanted}, but is {type(value).__name__}: {reprlib.repr(value)}")


def describe(where: str, value: Any) -> Dict[str, Any]:
    """input_schema with value, or payload.

    Raises:
        InvalidTask: a path of nothing, references where none can be, or what can't be pickled.
    """
    if isinstance(value, TaskOutput):
        return {"input_schema": "from_task", "value": value.to_reference_string()}
    if isinstance(value, Sent):
        return {"input_schema": "from_user", "payload": value.payload}
    if isinstance(value, list) and any(isinstance(item, TaskOutput) for item in value):
        refuse_inside(where, [item for item in value if not isinstance(item, TaskOutput)])
        return {"input_schema": "from_task", "value": Gathered(value)}
    refuse_inside(where, value)
    if is_plain(value):
        return {"input_schema": "from_user", "value": value}
    if isinstance(value, Path):
        return {"input_schema": "from_user", "payload": _file(where, value)}
    return {"input_schema": "from_user", "payload": Upload(dumps(value, where), "pickle")}


def _file(where: str, path: Path) -> Upload:
    if is_file(path):
        return Upload(path, "file", path.name)
    problem = "is a folder; pack it into a file" if path.is_dir() else "does not exist here"
    raise InvalidTask(
        f"{where} is the path {str(path)!r}, which {problem}. For a path in the task's image, give str(path)"
    )


def refuse_inside(where: str, value: Any) -> None:
    """What would arrive as something useless: tasks, and in collections references to outputs and paths of files.

    Raises:
        InvalidTask: says what to do instead.
    """
    if isinstance(value, MaTask):
        raise InvalidTask(f"{where} is a task; give one of its outputs, such as task.outputs[{_first(value)!r}]")
    pending = list(_children(value))
    seen = {id(value)}
    while pending:
        item = pending.pop()
        if isinstance(item, (TaskOutput, MaTask)):
            raise InvalidTask(
                f"{where} holds {item!r} inside a {type(value).__name__}; outputs can be an input, or elements of a list"
            )
        if is_file(item):
            raise InvalidTask(
                f"{where} holds the file {str(item)!r} inside a {type(value).__name__}; "
                "give each file an input of its own, or use workflow.map"
            )
        children = _children(item)
        if children and id(item) not in seen:
            seen.add(id(item))
            pending.extend(children)


def _children(value: Any) -> List[Any]:
    if type(value) is dict:
        return list(value.values())
    return list(value) if type(value) in (list, tuple, set, frozenset) else []


def _first(task: MaTask) -> str:
    return next(iter(task.outputs.keys()), "key")
