"""Gets the code and the inputs of an attempt into files, and checks that they are what was sent."""

from __future__ import annotations

import hashlib
from binascii import a2b_base64

from maze_runner.failures import STORAGE, Failed
from maze_runner.limits import DOWNLOAD_TRIES
from maze_runner.retry import retry
from maze_runner.wire import HttpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

    from maze_runner.wire import Connections

    Json = Dict[str, Any]


def fetch_payloads(lease: Json, folder: str, connections: Connections, deadline: Optional[float]) -> Dict[str, str]:
    """Files of everything that is not in the lease as a value: "code", and "input:KEY" by key.

    `deadline` is a time.monotonic() after which nothing is tried again; None: no limit.

    Raises:
        Failed: a payload can't be had, or is not the one that was meant.
    """
    wanted = {}
    if "code" in lease:
        wanted["code"] = ("code", lease["code"])
    for key, given in lease.get("inputs", {}).items():
        if "stored" in given:
            wanted[f"input:{key}"] = (f"input '{key}'", given["stored"])
    files = {}
    for number, (place, (what, stored)) in enumerate(wanted.items()):
        files[place] = f"{folder}/in-{number}"
        fetch(what, stored, files[place], connections, deadline)
    return files


def fetch(what: str, stored: Json, path: str, connections: Connections, deadline: Optional[float]) -> None:
    """One payload into a file. `what` names it for people.

    Raises:
        Failed: as fetch_payloads.
    """
    if "data" in stored:
        writer = CheckedFile(what, stored, path)
        writer.write(a2b_base64(stored["data"]))
        writer.finish()
        return

    def download() -> None:
        writer = CheckedFile(what, stored, path)
        try:
            connections.get_to(stored["url"], writer.write)
            writer.finish()
        finally:
            writer.close()

    try:
        retry(f"downloading {what}", download, until=deadline, tries=DOWNLOAD_TRIES)
    except HttpError as error:
        raise Failed(STORAGE, "DownloadFailed", f"{what} could not be downloaded: {error}") from error


class CheckedFile:
    """Takes the bytes of a payload, and refuses them where size or SHA-256 are not those that were announced."""

    def __init__(self, what: str, stored: Json, path: str) -> None:
        self._what, self._stored = what, stored
        self._file = open(path, "wb")  # noqa: SIM115 - closed by close()
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._stored["size"]:
            self._refuse(f"is larger than the {self._stored['size']} bytes that were stored")
        self._digest.update(piece)
        self._file.write(piece)

    def finish(self) -> None:
        if self._size != self._stored["size"]:
            self._refuse(f"has {self._size} bytes instead of {self._stored['size']}")
        found = self._digest.hexdigest()
        if found != self._stored["sha256"]:
            self._refuse(f"has SHA-256 {found} instead of {self._stored['sha256']}")
        self.close()

    def close(self) -> None:
        self._file.close()

    def _refuse(self, problem: str) -> None:
        raise Failed(STORAGE, "ChecksumMismatch", f"{self._what} was changed in the object store: it {problem}")
