"""The forked child: makes the world that a task expects, calls the function, leaves the outputs in files."""

# ruff: noqa: PTH104, PTH109, PTH112
# pathlib would take a good part of the start.
from __future__ import annotations

import contextlib
import json
import os
import sys

from maze_runner.code import load_input, load_pickle, load_source, pickle_source_by_value
from maze_runner.encode import describe, encode_json, write_pickle
from maze_runner.failures import INFRASTRUCTURE, USER_ERROR, Failed, clean
from maze_runner.operator import VARIABLES
from maze_runner.standin import install
from maze_runner.trace import format_user_traceback, say_exception

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

    Json = Dict[str, Any]

OUTCOME = "outcome.json"
"""{"outputs": [{"key", "encoding", "file", "display"?}]} or {"failure"}; renamed into place, so it is whole."""
_DISK_FULL = (28, 122)
"""ENOSPC, EDQUOT."""


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

    started_in = os.getcwd()
    _enable_site_packages()
    os.chdir(work)
    if sys.path and sys.path[0] in ("", started_in):
        del sys.path[0]
    sys.path.insert(0, work)
    for name in (*VARIABLES, "MAZE_WORKDIR"):
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


def _enable_site_packages() -> None:
    """What -S and -I left out, so that the parent starts fast and from its own files only."""
    if not sys.flags.no_site:
        return
    import site

    paths = os.environ.get("PYTHONPATH", "") if sys.flags.ignore_environment else ""
    sys.path[1:1] = [path for path in paths.split(os.pathsep) if path and path not in sys.path]
    site.main()
    if sys.flags.isolated and not os.environ.get("PYTHONNOUSERSITE"):
        users = site.getusersitepackages()
        if os.path.isdir(users):
            site.addsitedir(users)


def execute(lease: Json, files: Dict[str, str], folder: str) -> Json:
    """The outcome, whatever user code does short of ending the process."""
    try:
        function = _load(lease, files)
        params = {key: _value(key, given, files) for key, given in lease["inputs"].items()}
        returned = function(params)
        check_result(returned, lease["outputs"])
        return {"outputs": _encode(returned, lease["outputs"] or list(returned), folder)}
    except Failed as error:
        _print(error.failure.get("traceback") or f"{error.failure['message']}\n")
        return {"failure": error.failure}
    except SystemExit as error:
        return {"failure": _exited(error.code).failure}
    except BaseException as error:  # noqa: BLE001 - user code runs here
        text = format_user_traceback(error)
        _print(text)
        return {"failure": Failed(USER_ERROR, "UserException", say_exception(error), text).failure}


def _load(lease: Json, files: Dict[str, str]) -> Any:
    if "code" in files:
        return load_pickle(files["code"], lease.get("pythonVersion"))
    return load_source(lease["source"], lease.get("function"), lease["task"])


def _value(key: str, given: Json, files: Dict[str, str]) -> Any:
    if "stored" not in given:
        return given.get("value")
    return load_input(key, given.get("encoding", "json"), files[f"input:{key}"])


def check_result(returned: Any, declared: List[str]) -> None:
    """Refuse what is not a dict of outputs.

    Raises:
        Failed: WrongResultType or MissingOutput.
    """
    if not isinstance(returned, dict):
        got = "None (is there a return?)" if returned is None else describe(returned, 200)
        message = f'the function must return a dict of outputs, such as {{"result": 1}}, but it returned {got}'
        raise Failed(USER_ERROR, "WrongResultType", message)
    for key in returned:
        if not isinstance(key, str) or clean(key) != key:
            message = f"the keys of the returned dict must be text, but one is {describe(key, 200)}"
            raise Failed(USER_ERROR, "WrongResultType", message)
    missing = [key for key in declared if key not in returned]
    if missing:
        present = ", ".join(f"'{key}'" for key in returned) or "nothing"
        names = ", ".join(f"'{key}'" for key in missing)
        raise Failed(USER_ERROR, "MissingOutput", f"the function returned no output {names}; it returned {present}")


def _encode(returned: Dict[str, Any], keys: List[str], folder: str) -> List[Json]:
    pickle_source_by_value()
    outputs = []
    for number, key in enumerate(keys):
        value = returned[key]
        entry: Json = {"key": str(key), "encoding": "json", "file": f"{folder}/out-{number}"}
        try:
            encoded = encode_json(value)
            with open(entry["file"], "wb") as file:
                if encoded is not None:
                    file.write(encoded)
                else:
                    write_pickle(value, file)
                    entry.update(encoding="pickle", display=clean(describe(value)))
        except Exception as error:  # noqa: BLE001 - pickling runs user code
            if isinstance(error, OSError) and error.errno in _DISK_FULL:
                raise Failed(INFRASTRUCTURE, "DiskFull", f"output '{key}' could not be written: {error}") from None
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            message = f"output '{key}' is a {kind}, which can't be sent to other tasks: {say_exception(error)}"
            raise Failed(USER_ERROR, "NotSerializable", message, format_user_traceback(error)) from None
        outputs.append(entry)
    return outputs


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
