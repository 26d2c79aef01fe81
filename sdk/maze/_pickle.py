"""Functions as bytes that load where only Python, cloudpickle and the image's packages are."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, List

import cloudpickle

from maze._errors import InvalidTask

STANDARD_LIBRARY = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
INSTALLED = frozenset({"site-packages", "dist-packages"})
OWN = __name__.partition(".")[0]


def dumps(function: Callable[..., Any]) -> bytes:
    """The function by value, with what it uses from the user's own modules, which do not exist in a pod.

    Raises:
        InvalidTask: something it uses can't be pickled.
    """
    by_value = [module for module in list(sys.modules.values()) if is_users(module)]
    registered: List[ModuleType] = []
    try:
        for module in by_value:
            if module.__name__ not in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.register_pickle_by_value(module)
                registered.append(module)
        data: bytes = cloudpickle.dumps(function)
    except Exception as error:
        name = getattr(function, "__name__", repr(function))
        raise InvalidTask(
            f"task '{name}' can't be sent to the cluster: {error}; make such objects inside the function"
        ) from error
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)
    return data


def is_users(module: ModuleType) -> bool:
    """True for modules that are files of the user's own: not installed, not of Python, not of Maze."""
    name = getattr(module, "__name__", "")
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or sys.modules.get(name) is not module:
        return False
    if name == "__main__" or name.partition(".")[0] == OWN:
        return False
    return not file.startswith(STANDARD_LIBRARY) and not INSTALLED.intersection(Path(file).parts)
