"""Functions and values as bytes that load where only Python, cloudpickle and the image's packages are."""

from __future__ import annotations

import functools
import io
import pickle
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any, List

import cloudpickle

from maze._errors import InvalidTask, ResultNotLoadable

STANDARD_LIBRARY = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
INSTALLED = frozenset({"site-packages", "dist-packages"})
OWN = __name__.partition(".")[0]


def dumps(value: Any, what: str = "") -> bytes:
    """The value, with what it uses of the user's own modules, which do not exist in a pod.

    Args:
        what: how errors call it; default: the task of that function's name.

    Raises:
        InvalidTask: something in it can't be pickled.
    """
    by_value = [module for module in list(sys.modules.values()) if is_users(module)]
    registered: List[ModuleType] = []
    try:
        for module in by_value:
            if module.__name__ not in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.register_pickle_by_value(module)
                registered.append(module)
        data: bytes = cloudpickle.dumps(value)
    except Exception as error:
        called = what or f"task '{getattr(value, '__name__', repr(value))}'"
        raise InvalidTask(
            f"{called} can't be sent to the cluster: {error}; make such objects inside the function"
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
    return _is_users_file(file)


@functools.lru_cache(maxsize=None)
def _is_users_file(file: str) -> bool:
    return not file.startswith(STANDARD_LIBRARY) and not INSTALLED.intersection(Path(file).parts)


def loads(data: bytes, what: str) -> Any:
    """The object in a pickle that a task made. It runs what that task put into it.

    Raises:
        ResultNotLoadable: names the module that is missing here.
    """
    try:
        return _Unpickler(io.BytesIO(data), what).load()
    except ResultNotLoadable:
        raise
    except ImportError as error:
        raise ResultNotLoadable(
            f"{what} needs the module '{error.name}', which can't be imported here: {error}"
        ) from error
    except Exception as error:
        raise ResultNotLoadable(f"{what} can't be loaded: {type(error).__name__}: {error}") from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, what: str) -> None:
        super().__init__(file)
        self._what = what

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError) as error:
            raise ResultNotLoadable(
                f"{self._what} needs '{name}' of the module '{module}', which can't be imported here ({error}); "
                "install what the task's image has, or let the task return plain values"
            ) from error
