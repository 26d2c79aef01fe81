"""Makes the user's function out of a pickle or of source text. Runs in the child, as it runs user code."""

from __future__ import annotations

import sys

from maze_runner.failures import USER_ERROR, Failed
from maze_runner.trace import format_user_traceback, say_exception

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any, Dict, List, Optional

SOURCE_MODULE = "maze_task"
"""Name of the module that source becomes. Not __main__, so that a script's `if __name__ == "__main__"` does not run."""


def load_pickle(path: str, made_by: Optional[str]) -> Callable[..., Any]:
    """The function in a cloudpickle. `made_by` is the Python that made it, MAJOR.MINOR.

    Raises:
        Failed: CodeNotLoadable.
    """
    try:
        function = read_pickle(path)
    except Exception as error:  # noqa: BLE001 - user code runs here
        own = f"{sys.version_info[0]}.{sys.version_info[1]}"
        versions = f"; it was pickled by Python {made_by}, this is Python {own}" if made_by not in (None, own) else ""
        message = f"the pickled function can't be loaded: {say_exception(error)}{advice(error)}{versions}"
        raise Failed(USER_ERROR, "CodeNotLoadable", message, format_user_traceback(error)) from None
    if not callable(function):
        message = f"what was pickled is not a function but {type(function).__name__}"
        raise Failed(USER_ERROR, "CodeNotLoadable", message)
    return function  # type: ignore[no-any-return]


def read_pickle(path: str) -> Any:
    import pickle

    with open(path, "rb") as file:
        return pickle.load(file)


def advice(error: BaseException) -> str:
    """What to add to the words about this error, or nothing."""
    return " (the image of this task does not have it)" if isinstance(error, ModuleNotFoundError) else ""


def load_source(source: str, wanted: Optional[str], task: str) -> Callable[..., Any]:
    """Execute source text and return its function `wanted`, or the first one that it defines.

    Tracebacks show its lines under the file name `<task NAME>`.

    Raises:
        Failed: CodeNotLoadable.
    """
    import ast

    text = _dedented(source)
    filename = f"<task {task}>"
    try:
        tree = ast.parse(text, filename)
        compiled = compile(tree, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError) as error:
        message = f"the source can't be compiled: {say_exception(error)}"
        raise Failed(USER_ERROR, "CodeNotLoadable", message, format_user_traceback(error)) from None
    module = _new_module(text, filename)
    try:
        exec(compiled, module.__dict__)
    except Exception as error:  # noqa: BLE001 - user code runs here
        message = f"the source can't be executed: {say_exception(error)}{advice(error)}"
        raise Failed(USER_ERROR, "CodeNotLoadable", message, format_user_traceback(error)) from None
    return _pick(module, defined_functions(tree), wanted)


def _dedented(source: str) -> str:
    """Existing clients send the text of a nested function as it stands in its file."""
    first = next((line for line in source.splitlines() if line.strip()), "")
    if not first[:1].isspace():
        return source
    import textwrap

    return textwrap.dedent(source)


def _new_module(text: str, filename: str) -> ModuleType:
    """Registered, so that dataclasses, inspect and pickle find it; its lines are kept for tracebacks."""
    import linecache
    from types import ModuleType

    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    module = ModuleType(SOURCE_MODULE)
    module.__file__ = filename
    sys.modules[SOURCE_MODULE] = module
    return module


def pickle_source_by_value() -> None:
    """No other pod can import what the source defines, so its classes and functions travel inside their pickles."""
    module = sys.modules.get(SOURCE_MODULE)
    if module is not None:
        import cloudpickle

        cloudpickle.register_pickle_by_value(module)


def defined_functions(tree: Any) -> List[str]:
    """Names of the functions that a module defines itself, in order; also those under if, try and with."""
    import ast

    found: List[str] = []

    def visit(nodes: List[Any]) -> None:
        for node in nodes:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found.append(node.name)
            elif not isinstance(node, ast.ClassDef):
                for field in ("body", "handlers", "orelse", "finalbody"):
                    inner = getattr(node, field, None)
                    visit(inner if isinstance(inner, list) else [])

    visit(tree.body)
    return found


def _pick(module: ModuleType, defined: List[str], wanted: Optional[str]) -> Callable[..., Any]:
    names: Dict[str, Any] = vars(module)
    if wanted is None:
        wanted = next((name for name in defined if callable(names.get(name))), None)
        if wanted is None:
            raise Failed(USER_ERROR, "CodeNotLoadable", "the source defines no function")
    function = names.get(wanted)
    if not callable(function):
        known = ", ".join(f"'{name}'" for name in defined) or "none"
        message = f"the source defines no function '{wanted}'; it defines {known}"
        raise Failed(USER_ERROR, "CodeNotLoadable", message)
    return function  # type: ignore[no-any-return]
