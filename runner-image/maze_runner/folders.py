"""Removes what tasks left in folders. shutil would take a good part of the start."""

# ruff: noqa: PTH101, PTH106, PTH108
from __future__ import annotations

import contextlib
import os


def remove_tree(path: str) -> None:
    """Remove a folder with all that is in it, also where a task took the right to do so away; what can't go, stays."""
    empty_folder(path)
    with contextlib.suppress(OSError):
        os.rmdir(path)


def empty_folder(path: str) -> None:
    """Remove everything in a folder."""
    pending, found = [path], []
    while pending:
        folder = pending.pop()
        for entry in _entries(folder):
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
                found.append(entry.path)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
    for folder in reversed(found):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _entries(folder: str) -> list[os.DirEntry[str]]:
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
