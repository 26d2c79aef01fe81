"""The inputs of a task as Python values. Runs in the child, as unpickling runs user code."""

from __future__ import annotations

import os

from maze_runner.code import advice, read_pickle
from maze_runner.failures import USER_ERROR, Failed
from maze_runner.trace import format_user_traceback, say_exception

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

    Json = Dict[str, Any]

FILES = "inputs"
"""Folder in the working directory for inputs that are files, each in a numbered one, so that names do not clash."""


def load_inputs(given: Dict[str, Json], files: Dict[str, str]) -> Dict[str, Any]:
    """Values by key. `files` are those that fetch_payloads made.

    Raises:
        Failed: InputNotLoadable.
    """
    params = {}
    for number, (key, entry) in enumerate(given.items()):
        if "stored" not in entry:
            params[key] = entry.get("value")
            continue
        try:
            params[key] = _load(entry, files[f"input:{key}"], number)
        except Exception as error:  # noqa: BLE001 - user code runs here
            message = f"input '{key}' can't be loaded: {say_exception(error)}{advice(error)}"
            raise Failed(USER_ERROR, "InputNotLoadable", message, format_user_traceback(error)) from None
    return params


def _load(entry: Json, path: str, number: int) -> Any:
    encoding = entry.get("encoding", "json")
    if encoding == "pickle":
        return read_pickle(path)
    if encoding == "file":
        return place_file(path, entry.get("fileName", "file"), f"{FILES}/{number}")
    import json

    with open(path, encoding="utf-8") as file:
        return json.load(file)


def place_file(path: str, name: str, folder: str) -> Any:
    """Move a file to `folder` of the working directory under its own name; its absolute pathlib.Path.

    Raises:
        ValueError: the name is no name of a file in a folder.
        OSError: it can't be moved, or the system does not take the name.
    """
    from pathlib import Path

    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} is not a file name")
    target = Path.cwd() / folder / name
    target.parent.mkdir(parents=True)
    os.rename(path, target)  # noqa: PTH104
    return target
