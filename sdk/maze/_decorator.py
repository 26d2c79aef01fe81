"""`@task`: what a function is told to be. It returns the function itself and does no I/O."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, TypeVar

from maze._errors import InvalidTask

F = TypeVar("F", bound=Callable[..., Any])

ATTRIBUTE = "__maze_task__"
"""Plain values only: the attribute is pickled with the function, and Maze is not installed where it is loaded."""

DEFAULT_RESOURCES: Dict[str, Any] = {"cpu": 1, "cpu_mem": 0, "gpu": 0, "gpu_mem": 0}

ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
"""As Kubernetes has it."""

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
        image, timeout, retries, env, isolation: as given, or None.
    """

    func: Callable[..., Any]
    func_name: str
    inputs: List[str]
    outputs: List[str]
    resources: Dict[str, Any]
    data_types: Dict[str, str]
    declared: List[str]
    image: Optional[str] = None
    timeout: Optional[int] = None
    retries: Optional[int] = None
    env: Optional[Dict[str, str]] = None
    isolation: Optional[str] = None


def task(
    inputs: List[str],
    outputs: List[str],
    resources: Optional[Dict[str, Any]] = None,
    data_types: Optional[Dict[str, str]] = None,
    *,
    image: Optional[str] = None,
    timeout: Optional[int] = None,
    retries: Optional[int] = None,
    env: Optional[Dict[str, str]] = None,
    isolation: Optional[str] = None,
) -> Callable[[F], F]:
    """Mark a function of one dict that returns a dict as a task. The function itself is returned unchanged.

    Args:
        inputs: keys of the dict it takes.
        outputs: keys that must be in the dict it returns.
        resources: cpu (cores, at least 1), cpu_mem (MB), gpu, gpu_mem (MB; above 0 asks for a GPU).
        data_types: key → "str", "int", "float", "bool", "list" or "dict"; values given for it are checked.
        image: container image with Python 3.9 or newer that the task runs in; default: the server's.
        timeout: seconds that one attempt may run.
        retries: how often it is tried again after it failed by itself (0 to 100).
        env: environment variables.
        isolation: "run" (default): its pod may serve other tasks of the run, too, one after the other, each in a process of its
            own. "task": each attempt gets a pod of its own.

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
        **_options(image, timeout, retries, env, isolation),
    }

    def decorate(function: F) -> F:
        if not callable(function):
            raise InvalidTask(f"@task decorates functions, not {type(function).__name__}")
        setattr(function, ATTRIBUTE, marked)
        return function

    return decorate


def _options(
    image: Optional[str],
    timeout: Optional[int],
    retries: Optional[int],
    env: Optional[Dict[str, str]],
    isolation: Optional[str],
) -> Dict[str, Any]:
    """Those that were given, checked."""
    if image is not None and not (isinstance(image, str) and image.strip()):
        raise InvalidTask(f"image must be the name of a container image, not {image!r}")
    for name, value, least, most in (("timeout", timeout, 1, 604800), ("retries", retries, 0, 100)):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and least <= value <= most):
            raise InvalidTask(f"{name} must be a whole number from {least} to {most}, not {value!r}")
    if env is not None and not isinstance(env, dict):
        raise InvalidTask(f"env must be a dict of text, not {env!r}")
    for name, text in (env or {}).items():
        if not isinstance(name, str) or not ENV_NAME.fullmatch(name):
            raise InvalidTask(f"env names the variable {name!r}, which is no name of an environment variable")
        if not isinstance(text, str):
            raise InvalidTask(f"env['{name}'] is {text!r}, but must be text")
    if isolation not in (None, "run", "task"):
        raise InvalidTask(f'isolation must be "run" or "task", not {isolation!r}')
    given = {
        "image": image,
        "timeout": timeout,
        "retries": retries,
        "env": dict(env) if env else None,
        "isolation": isolation,
    }
    return {name: value for name, value in given.items() if value is not None}


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
        image=marked.get("image"),
        timeout=marked.get("timeout"),
        retries=marked.get("retries"),
        env=marked.get("env"),
        isolation=marked.get("isolation"),
    )
