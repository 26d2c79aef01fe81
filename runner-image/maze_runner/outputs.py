"""What a child left becomes the outputs of a result: small ones inside it, large ones in the object store."""

# ruff: noqa: PTH202
# pathlib would take a good part of the start.
from __future__ import annotations

import hashlib
import json
import os
import time
from binascii import b2a_base64

from maze_runner.failures import STORAGE, Failed
from maze_runner.limits import CHUNK, INLINE_LIMIT, INLINE_TOTAL, UPLOAD_PATIENCE
from maze_runner.retry import retry
from maze_runner.wire import HttpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Set

    from maze_runner.operator import Operator
    from maze_runner.wire import Connections

    Json = Dict[str, Any]


def store_outputs(lease: Json, entries: List[Json], operator: Operator, connections: Connections) -> Dict[str, Json]:
    """protocol.Output by key. Those that do not fit into the result are in the object store afterwards.

    Raises:
        Failed: UploadFailed.
    """
    sizes = {entry["key"]: os.path.getsize(entry["file"]) for entry in entries}
    inline = plan_inline(sizes)
    large = {entry["key"]: entry["file"] for entry in entries if entry["key"] not in inline}
    if large:
        _upload(lease, large, operator, connections)
    return {entry["key"]: _describe(entry, sizes[entry["key"]], entry["key"] in inline) for entry in entries}


def plan_inline(sizes: Dict[str, int]) -> Set[str]:
    """Keys that travel inside the result: the smallest first, so that as many as possible do."""
    chosen: Set[str] = set()
    total = 0
    for key, size in sorted(sizes.items(), key=lambda item: item[1]):
        total += size
        if size > INLINE_LIMIT or total > INLINE_TOTAL:
            break
        chosen.add(key)
    return chosen


def _describe(entry: Json, size: int, inline: bool) -> Json:
    output: Json = {"encoding": entry["encoding"], "size": size}
    if inline:
        with open(entry["file"], "rb") as file:
            data = file.read()
        output["sha256"] = hashlib.sha256(data).hexdigest()
        if entry["encoding"] == "json":
            output["value"] = json.loads(data)
        else:
            output["data"] = b2a_base64(data, newline=False).decode()
    else:
        output["sha256"] = file_sha256(entry["file"])
        output["key"] = True
    for field in ("display", "rendered", "fileName"):
        if field in entry:
            output[field] = entry[field]
    return output


def file_sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            piece = file.read(CHUNK)
            if not piece:
                return digest.hexdigest()
            digest.update(piece)


def _upload(lease: Json, files: Dict[str, str], operator: Operator, connections: Connections) -> None:
    urls = operator.uploads(lease, list(files))
    for key, path in files.items():
        put = _Put(lease, key, path, urls, operator, connections)
        try:
            retry(f"storing output '{key}'", put, until=time.monotonic() + UPLOAD_PATIENCE)
        except HttpError as error:
            raise Failed(STORAGE, "UploadFailed", f"output '{key}' could not be stored: {error}") from error


class _Put:
    """One try to store one output. When its URL is refused it may have expired, so the next try gets a new one."""

    def __init__(
        self, lease: Json, key: str, path: str, urls: Dict[str, str], operator: Operator, connections: Connections
    ) -> None:
        self._lease, self._key, self._path, self._urls = lease, key, path, urls
        self._operator, self._connections = operator, connections

    def __call__(self) -> None:
        try:
            self._connections.put_file(self._urls[self._key], self._path)
        except HttpError as error:
            if error.status in (401, 403):
                self._urls.update(self._operator.uploads(self._lease, [self._key]))
            raise
