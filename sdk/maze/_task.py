"""`@task`, tasks of a workflow, and references to their outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, TypeVar

import requests

from maze._errors import InvalidTask, UnknownOutput
from maze._http import call

F = TypeVar("F", bound=Callable[..., Any])

ATTRIBUTE = "__maze_task__"
"""Plain values only: the attribute is pickled with the function, and Maze is not installed where it is loaded."""

DEFAULT_RESOURCES: Dict[str, Any] = {"cpu": 1, "cpu_mem": 0, "gpu": 0, "gpu_mem": 0}

DATA_TYPES: Dict[str, Any] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "list": list,
    "dict": dict,
}


@dataclass(frozen=True)
class TaskMetadata:
    """What `@task` was told about a function.

    Attributes:
        resources: cores, MB, GPUs, MB, all four filled in.
        data_types: of every input and output; "str" where nothing was declared.
        declared: the keys whose type was declared, and is therefore checked.
    """

    func: Callable[..., Any]
    func_name: str
    inputs: List[str]
    outputs: List[str]
    resources: Dict[str, Any]
    data_types: Dict[str, str]
    declared: List[str]


def task(
    inputs: List[str],
    outputs: List[str],
    resources: Optional[Dict[str, Any]] = None,
    data_types: Optional[Dict[str, str]] = None,
) -> Callable[[F], F]:
    """Mark a function of one dict that returns a dict as a task. The function itself is returned unchanged.

    Args:
        inputs: keys of the dict it takes.
        outputs: keys that must be in the dict it returns.
        resources: cpu (cores, at least 1), cpu_mem (MB), gpu, gpu_mem (MB; above 0 asks for a GPU).
        data_types: key → "str", "int", "float", "bool", "list" or "dict"; values given for it are checked.

    Raises:
        InvalidTask: says which argument is wrong.
    """
    input_keys, output_keys = _keys("inputs", inputs), _keys("outputs", outputs)
    declared = dict(data_types or {})
    for key, name in declared.items():
        if key not in input_keys and key not in output_keys:
            raise InvalidTask(f"data_types names '{key}', which is neither an input nor an output")
        if name not in DATA_TYPES:
            raise InvalidTask(f"data_types gives '{key}' the type {name!r}; known are {', '.join(DATA_TYPES)}")
    marked = {
        "inputs": input_keys,
        "outputs": output_keys,
        "resources": normalize_resources(resources),
        "data_types": declared,
    }

    def decorate(function: F) -> F:
        if not callable(function):
            raise InvalidTask(f"@task decorates functions, not {type(function).__name__}")
        setattr(function, ATTRIBUTE, marked)
        return function

    return decorate


def _keys(what: str, keys: Iterable[str]) -> List[str]:
    if isinstance(keys, str) or not all(isinstance(key, str) and key for key in keys):
        raise InvalidTask(f'{what} must be a list of names, such as ["text"], not {keys!r}')
    found = list(keys)
    if len(set(found)) != len(found):
        raise InvalidTask(f"{what} names a key twice: {found!r}")
    return found


def normalize_resources(resources: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """All four fields: defaults filled in, cpu at least 1, gpu 1 where GPU memory is asked for.

    Raises:
        InvalidTask: an unknown field, or not a number from 0.
    """
    given = dict(resources or {})
    unknown = sorted(set(given) - set(DEFAULT_RESOURCES))
    if unknown:
        raise InvalidTask(f"resources has unknown fields {unknown}; known are {', '.join(DEFAULT_RESOURCES)}")
    for field, amount in given.items():
        number = isinstance(amount, (int, float)) and not isinstance(amount, bool)
        if not number or not math.isfinite(amount) or amount < 0:
            raise InvalidTask(f"resources['{field}'] is {amount!r}, but must be a number from 0")
    found = {**DEFAULT_RESOURCES, **given}
    found["cpu"] = max(found["cpu"], 1)
    if found["gpu_mem"] > 0 and found["gpu"] == 0:
        found["gpu"] = 1
    return found


def get_task_metadata(func: Callable[..., Any]) -> TaskMetadata:
    """What `@task` was told.

    Raises:
        InvalidTask: the function is not decorated (it is a ValueError, too).
    """
    marked = getattr(func, ATTRIBUTE, None)
    name = getattr(func, "__name__", type(func).__name__)
    if marked is None:
        raise InvalidTask(f"function '{name}' is not decorated with @task")
    types = dict.fromkeys([*marked["inputs"], *marked["outputs"]], "str")
    return TaskMetadata(
        func=func,
        func_name=name,
        inputs=list(marked["inputs"]),
        outputs=list(marked["outputs"]),
        resources=dict(marked["resources"]),
        data_types={**types, **marked["data_types"]},
        declared=list(marked["data_types"]),
    )


def check_type(key: str, type_name: str, value: Any) -> Optional[str]:
    """Why `value` is not of the declared type, or None."""
    fits = isinstance(value, DATA_TYPES[type_name]) and (type_name == "bool" or not isinstance(value, bool))
    return None if fits else f"input '{key}' is declared as {type_name}, but is {type(value).__name__}: {value!r:.100}"


def check_json(value: Any, where: str) -> Optional[str]:
    """Why `value` would not arrive as it is, or None. Names the place inside it."""
    if value is None or isinstance(value, (bool, int, str)):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{where} is {value!r}, which JSON can't hold"
    if type(value) is list:
        found = (check_json(item, f"{where}[{number}]") for number, item in enumerate(value))
        return next((problem for problem in found if problem), None)
    if type(value) is dict:
        for key, item in value.items():
            if not isinstance(key, str):
                return f"{where} has the key {key!r}; JSON keys are text"
            problem = check_json(item, f"{where}[{key!r}]")
            if problem:
                return problem
        return None
    return (
        f"{where} is a {type(value).__name__}; inputs are JSON values (None, bool, int, float, str, list, dict). "
        "Convert it, or make it in a task and pass that task's output"
    )


class TaskOutput:
    """A reference to one output of a task."""

    def __init__(self, task_id: str, output_key: str) -> None:
        self.task_id = task_id
        self.output_key = output_key

    def to_reference_string(self) -> str:
        """`"{task_id}.output.{output_key}"`"""
        return f"{self.task_id}.output.{self.output_key}"

    def __repr__(self) -> str:
        return f"TaskOutput({self.task_id!r}, {self.output_key!r})"


class TaskOutputs:
    """The outputs of a task by key."""

    def __init__(self, task_id: str, output_keys: Iterable[str]) -> None:
        self.task_id = task_id
        self._outputs = {key: TaskOutput(task_id, key) for key in output_keys}

    def __getitem__(self, key: str) -> TaskOutput:
        """The reference to an output.

        Raises:
            UnknownOutput: the task declares no such output (it is a KeyError, too).
        """
        if key not in self._outputs:
            known = ", ".join(self._outputs) or "none"
            raise UnknownOutput(f"the task has no output '{key}'; declared are: {known}")
        return self._outputs[key]

    def keys(self) -> List[str]:
        """All keys, in the order in which they were declared."""
        return list(self._outputs)

    def __repr__(self) -> str:
        return f"TaskOutputs({self.task_id!r}, {self.keys()!r})"


class MaTask:
    """A task of a workflow; made by `MaWorkflow.add_task`."""

    def __init__(
        self,
        task_id: str,
        workflow_id: str,
        server_url: str,
        task_name: Optional[str] = None,
        output_keys: Optional[List[str]] = None,
    ) -> None:
        self.task_id = task_id
        self.workflow_id = workflow_id
        self.server_url = server_url.rstrip("/")
        self.task_name = task_name
        self.outputs = TaskOutputs(task_id, output_keys or [])
        self._session: Optional[requests.Session] = None
        self._on_delete: Optional[Callable[[str], None]] = None

    def save(
        self,
        code_str: str,
        task_input: Dict[str, Any],
        task_output: Dict[str, Any],
        resources: Optional[Dict[str, Any]] = None,
    ) -> None:
        """Give a task that was added without a function its source and its parameters, as the protocol has them."""
        body = {
            "code_str": code_str,
            "code_ser": None,
            "task_input": task_input,
            "task_output": task_output,
            "resources": normalize_resources(resources),
        }
        self._post("/save_task", body)
        self.outputs = TaskOutputs(
            self.task_id, [item["key"] for item in task_output.get("output_params", {}).values()]
        )

    def delete(self) -> None:
        """Delete the task and its edges from the workflow."""
        self._post("/del_task", {})
        if self._on_delete:
            self._on_delete(self.task_id)

    def _post(self, path: str, body: Dict[str, Any]) -> None:
        session = self._session or requests.Session()
        call(session, self.server_url, "POST", path, {"workflow_id": self.workflow_id, "task_id": self.task_id, **body})

    def __repr__(self) -> str:
        return f"MaTask({self.task_id!r}, name={self.task_name!r})"
