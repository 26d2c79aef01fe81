"""What a function returned, as files that the parent can store. Runs in the child, as pickling runs user code."""

from __future__ import annotations

import os
import stat
import sys

from maze_runner.code import pickle_source_by_value
from maze_runner.encode import describe, encode_json, render_json, write_pickle
from maze_runner.failures import INFRASTRUCTURE, USER_ERROR, Failed, clean
from maze_runner.limits import CHUNK, RENDERED_LIMIT, RENDERED_TOTAL
from maze_runner.trace import format_user_traceback, say_exception

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

    Json = Dict[str, Any]

_DISK_FULL = (28, 122)
"""ENOSPC, EDQUOT."""
_PICKLE_TO_RENDER = 4 * RENDERED_LIMIT
"""A larger pickle is not tried as JSON: hardly any of them would fit, and one long text would be written out whole."""


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


def write_outputs(returned: Dict[str, Any], keys: List[str], folder: str) -> List[Json]:
    """A file for each key in `folder`, and how it is encoded: the entries of child.OUTCOME.

    Raises:
        Failed: NotSerializable or DiskFull; names the output.
    """
    entries = []
    room = RENDERED_TOTAL
    for number, key in enumerate(keys):
        value = returned[key]
        entry: Json = {"key": str(key), "file": f"{folder}/out-{number}"}
        try:
            described, used = _write(value, entry["file"], min(room, RENDERED_LIMIT))
        except Exception as error:  # noqa: BLE001 - pickling runs user code
            if isinstance(error, OSError) and error.errno in _DISK_FULL:
                raise Failed(INFRASTRUCTURE, "DiskFull", f"output '{key}' could not be written: {error}") from None
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            message = f"output '{key}' is a {kind}, which can't be sent to other tasks: {say_exception(error)}"
            raise Failed(USER_ERROR, "NotSerializable", message, format_user_traceback(error)) from None
        room -= used
        entries.append({**entry, **described})
    return entries


def _write(value: Any, path: str, room: int) -> Tuple[Json, int]:
    """The bytes of one value into a file; what there is to say about them, and how much of `room` that took.

    `room`: bytes of JSON that are left for showing what is pickled.
    """
    encoded = encode_json(value)
    if encoded is not None:
        with open(path, "wb") as file:
            file.write(encoded)
        return {"encoding": "json"}, 0
    if is_file(value):
        return {"encoding": "file", "fileName": _copy_file(value, path)}, 0
    pickle_source_by_value()
    with open(path, "wb") as file:
        write_pickle(value, file)
        size = file.tell()
    entry: Json = {"encoding": "pickle", "display": clean(describe(value))}
    shown = render_json(value, room) if size <= _PICKLE_TO_RENDER else None
    if shown is None:
        return entry, 0
    import json

    return {**entry, "rendered": json.loads(shown)}, len(shown)


def is_file(value: Any) -> bool:
    """Whether the value is a pathlib path of a regular file that exists. Links are followed."""
    pathlib = sys.modules.get("pathlib")  # without it there can't be one
    if pathlib is None or not isinstance(value, pathlib.PurePath):
        return False
    try:
        return stat.S_ISREG(os.stat(value).st_mode)  # noqa: PTH116
    except (OSError, ValueError):
        return False


def _copy_file(source: Any, path: str) -> str:
    """Copy the bytes as they are now: nothing that the task left running can change them later. Returns the file's name."""
    with open(source, "rb") as original, open(path, "wb") as file:
        while True:
            piece = original.read(CHUNK)
            if not piece:
                break
            file.write(piece)
    return clean(str(source.name))
