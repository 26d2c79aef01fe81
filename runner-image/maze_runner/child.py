"""The forked child: makes the world that a task expects, calls the function, leaves the outputs in files."""

# ruff: noqa: PTH104
# pathlib would take a good part of the start.
from __future__ import annotations

import contextlib
import json
import os
import sys

from maze_runner.code import load_pickle, load_source
from maze_runner.failures import USER_ERROR, Failed
from maze_runner.inputs import load_inputs
from maze_runner.operator import VARIABLES
from maze_runner.returned import check_result, write_outputs
from maze_runner.standin import install
from maze_runner.trace import format_user_traceback, named_reason, say_exception, say_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Dict, Optional

    Json = Dict[str, Any]

OUTCOME = "outcome.json"
"""{"outputs": [{"key", "encoding", "file", "display"?, "rendered"?, "fileName"?}]} or {"failure"}; renamed into place, so it
is whole."""


def run(lease: Json, files: Dict[str, str], work: str, folder: str) -> None:
    """Execute the task in `work`; outputs and outcome go to `folder`. Never returns: the process ends."""
    own = os.getpid()
    try:
        enter_world(work)
        outcome = execute(lease, files, folder)
        if os.getpid() != own:  # user code forked, and this is the copy
            os._exit(0)
        with open(f"{folder}/{OUTCOME}.part", "w", encoding="utf-8") as file:
            json.dump(outcome, file)
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)
        os.rename(f"{folder}/{OUTCOME}.part", f"{folder}/{OUTCOME}")
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - nothing may return into the parent's frames
        _print(format_user_traceback(error))
    finally:
        os._exit(70)


def enter_world(work: str) -> None:
    """Working directory, environment, streams, and the modules that a Python started in this image would find."""
    import faulthandler
    from types import ModuleType

    os.chdir(work)
    sys.path.insert(0, work)
    for name in (*VARIABLES, "MAZE_WORKDIR", "MAZE_CLEAN"):
        os.environ.pop(name, None)
    os.environ.update(HOME=work, TMPDIR=work)
    sys.modules["__main__"] = ModuleType("__main__")
    sys.argv = [""]
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(  # type: ignore[misc]  # noqa: SIM115
        1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
    sys.stderr = sys.__stderr__ = open(  # type: ignore[misc]  # noqa: SIM115
        2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
    faulthandler.enable(2)
    install()


def execute(lease: Json, files: Dict[str, str], folder: str) -> Json:
    """The outcome, whatever user code does short of ending the process."""
    try:
        function = _load(lease, files)
        params = load_inputs(lease["inputs"], files)
        returned = call(function, params, lease.get("call"))
        check_result(returned, lease["outputs"])
        return {"outputs": write_outputs(returned, lease["outputs"] or list(returned), folder)}
    except Failed as error:
        _print(error.failure.get("traceback") or f"{error.failure['message']}\n")
        return {"failure": error.failure}
    except SystemExit as error:
        return {"failure": _exited(error.code).failure}
    except BaseException as error:  # noqa: BLE001 - user code runs here
        reason = named_reason(error)
        if reason is not None:
            _print(f"{say_text(error)}\n")
            return {"failure": Failed(USER_ERROR, reason, say_text(error)).failure}
        text = format_user_traceback(error)
        _print(text)
        return {"failure": Failed(USER_ERROR, "UserException", say_exception(error), text).failure}


def _load(lease: Json, files: Dict[str, str]) -> Callable[..., Any]:
    if "code" in files:
        return load_pickle(files["code"], lease.get("pythonVersion"))
    return load_source(lease["source"], lease.get("function"), lease["task"])


def call(function: Callable[..., Any], params: Dict[str, Any], how: Optional[str]) -> Any:
    """What the function returns; with `how` "Arguments" as the output 'result'. See PythonExecutor.call.

    Raises:
        Failed: WrongArguments, where the inputs named args and kwargs are not a sequence and a dict.
    """
    if how != "Arguments":
        return function(params)
    args, kwargs = params.get("args", ()), params.get("kwargs", {})
    if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
        got = f"{type(args).__name__} and {type(kwargs).__name__}"
        message = f"the inputs 'args' and 'kwargs' must be a tuple or list and a dict, but are {got}"
        raise Failed(USER_ERROR, "WrongArguments", message)
    return {"result": function(*args, **kwargs)}


def _exited(code: Any) -> Failed:
    """SystemExit as the interpreter understands it: None is 0, text is printed and is 1."""
    if code is not None and not isinstance(code, int):
        _print(f"{code}\n")
    status = 0 if code is None else code & 0xFF if isinstance(code, int) else 1
    from maze_runner.classify import classify_exit

    failure = classify_exit(status)
    return Failed(failure["cause"], failure["reason"], failure["message"], exit_code=status)


def _print(text: str) -> None:
    """To the log, even where user code replaced or closed sys.stderr."""
    _flush(sys.stdout)
    _flush(sys.stderr)
    data = text.encode("utf-8", "backslashreplace")
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(2, data) :]


def _flush(stream: Any) -> None:
    with contextlib.suppress(Exception):  # user code may have put anything there
        stream.flush()
