"""Outputs of tasks as Python objects and as files of this machine, each compared with its SHA-256."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import IO, Any, Dict, Iterable, List, Mapping, Tuple

from maze import _pickle
from maze._backend import Backend, Json
from maze._errors import ResultNotLoadable

UNSAFE = re.compile(r"[^\w.,+=@()\[\]{} -]")
NAME_LIMIT = 150
"""Characters of a folder's name; file systems end at 255 bytes."""


class Hashing(io.BytesIO):
    """Takes what is written, passes it on, and hashes it; keeps nothing itself."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: Any) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def require(self, expected: str, what: str) -> None:
        """Raises: ResultNotLoadable, where something else was written."""
        if self._hash.hexdigest() != expected:
            raise ResultNotLoadable(f"{what} arrived with the SHA-256 {self._hash.hexdigest()}, not {expected}")


def values(backend: Backend, run_id: str, task_id: str, told: Mapping[str, Json], folder: Path) -> Dict[str, Any]:
    """All outputs of a task, of which `told` tells: JSON and pickles as objects, files as their paths in `folder`.

    Raises:
        ResultNotLoadable: an object that can't be made here, or bytes that are not those that were stored.
    """
    paths = file_names(told)
    return {
        key: (
            save_file(backend, run_id, task_id, key, item, folder / paths[key])
            if key in paths
            else load(backend, run_id, task_id, key, item)
        )
        for key, item in told.items()
    }


def load(backend: Backend, run_id: str, task_id: str, key: str, told: Json) -> Any:
    """One output that is no file."""
    what = f"output '{key}' of task '{task_id}'"
    buffer = io.BytesIO()
    hashing = Hashing(buffer)
    backend.fetch_output(run_id, task_id, key, hashing)
    hashing.require(told["sha256"], what)
    if told["encoding"] == "json":
        return json.loads(buffer.getvalue())
    return _pickle.loads(buffer.getvalue(), what)


def save_file(backend: Backend, run_id: str, task_id: str, key: str, told: Json, path: Path) -> Path:
    """One output that is a file, at `path`, once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            hashing = Hashing(file)
            backend.fetch_output(run_id, task_id, key, hashing)
        hashing.require(told["sha256"], f"output '{key}' of task '{task_id}'")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def file_names(told: Mapping[str, Json]) -> Dict[str, str]:
    """A file name for each output that is a file: its own, with the key before it where two have the same."""
    files = {key: safe(item.get("file_name") or key) for key, item in told.items() if item["encoding"] == "file"}
    often = Counter(files.values())
    return {key: name if often[name] == 1 else safe(f"{key}-{name}") for key, name in files.items()}


def folder_names(tasks: Iterable[Tuple[str, str]]) -> Dict[str, str]:
    """A folder's name for each (id, name): the task's name, with a part of the id where two have the same."""
    named: List[Tuple[str, str]] = [(task_id, safe(name or task_id)) for task_id, name in tasks]
    often = Counter(name for _, name in named)
    return {task_id: name if often[name] == 1 else f"{name}-{task_id[:8]}" for task_id, name in named}


def safe(name: str) -> str:
    """A name that stays inside its folder, on every system."""
    return UNSAFE.sub("_", name).strip(". ")[:NAME_LIMIT] or "_"
