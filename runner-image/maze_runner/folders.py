"""The folders of an attempt, and how they are cleared. shutil and pathlib would take a good part of the start."""

# ruff: noqa: PTH101, PTH102, PTH106, PTH108
from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import List, Optional, Tuple


class Folders:
    """`work` is the task's; `files` holds code, inputs, outputs and the log.

    They are used again for the next attempt while they are as they were made: making and removing folders takes longer
    than all else that is done for a small task.
    """

    def __init__(self, base: str, shared: Sequence[str] = ()) -> None:
        """Everything in `shared` is removed after each attempt."""
        self._own = f"{base}/maze-{os.urandom(6).hex()}"
        self.work, self.files = f"{self._own}/work", f"{self._own}/files"
        self._shared = shared
        self._made: Optional[List[Tuple[int, ...]]] = None

    def prepare(self) -> None:
        """Make them, empty.

        Raises:
            OSError: there is no room for them.
        """
        if self._made is None:
            for path in (self._own, self.work, self.files):
                os.mkdir(path, 0o700)
            self._made = self._look()

    def clear(self) -> None:
        """Remove what an attempt left there and in the shared folders."""
        for path in self._shared:
            empty_folder(path, self._own)
        if self._made is None:
            return
        if self._look() != self._made or not all(empty_folder(path) for path in (self.work, self.files)):
            self.remove()

    def remove(self) -> None:
        remove_tree(self._own)
        self._made = None

    def _look(self) -> Optional[List[Tuple[int, ...]]]:
        """What must not have changed; the size of a folder tells that very many files were in it."""
        try:
            found = [os.lstat(path) for path in (self._own, self.work, self.files)]
        except OSError:
            return None
        return [(each.st_ino, each.st_dev, each.st_mode, each.st_size) for each in found]


def remove_tree(path: str) -> None:
    """Remove a folder with all that is in it, or what a task put in its place; what can't go, stays."""
    with contextlib.suppress(OSError):
        os.unlink(path)
        return
    empty_folder(path)
    with contextlib.suppress(OSError):
        os.rmdir(path)


def empty_folder(path: str, keep: str = "") -> bool:
    """Remove everything in a folder but the path `keep`, also where a task took the right to do so away. Links are not
    followed. False: something is still there."""
    pending, left = [path], 0
    folders: List[str] = []
    while pending:
        for entry in _entries(pending.pop()):
            if entry.path == keep:
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
                folders.append(entry.path)
            else:
                left += not _gone(os.unlink, entry.path)
    return left + sum(not _gone(os.rmdir, folder) for folder in reversed(folders)) == 0


def _gone(remove: Callable[[str], None], path: str) -> bool:
    try:
        remove(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _entries(folder: str) -> List[os.DirEntry[str]]:
    for again in (True, False):
        try:
            with os.scandir(folder) as found:
                entries = list(found)
            if not entries or os.access(folder, os.W_OK | os.X_OK):
                return entries
        except OSError:
            pass
        if again:
            with contextlib.suppress(OSError):
                os.chmod(folder, 0o700)
    return []
