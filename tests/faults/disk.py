"""A full disk for a process in a container, and its own again: `python disk.py fill|free PID FOLDER SCRATCH`.

FOLDER, as the process sees it, gets an overlay whose upper layer has no byte and no inode left. What was there can be
read as before, and nothing can be written: so there is nothing to lose when the overlay goes. SCRATCH: a folder for the
layer. Only the process's own mount namespace is changed. Run as a process of its own, which enters that namespace.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path

CLONE_NEWNS = 0x20000
MNT_DETACH = 2
LIBC = ctypes.CDLL(None, use_errno=True)
LIMITS = "size=64k,nr_inodes=16"


def fill(folder: str, scratch: Path) -> None:
    scratch.mkdir(exist_ok=True)
    _mount("tmpfs", str(scratch), LIMITS)
    upper, inner = scratch / "upper", scratch / "work"
    upper.mkdir()
    inner.mkdir()
    owner = Path(folder).stat()
    os.chown(upper, owner.st_uid, owner.st_gid)
    upper.chmod(owner.st_mode & 0o777)
    _mount("overlay", folder, f"lowerdir={folder},upperdir={upper},workdir={inner}")
    _exhaust(scratch)


def free(folder: str, scratch: Path, mounted: Mapping[str, str]) -> None:
    """Also what `fill` has left half done. mounted: the kind of file system that is mounted last, by folder."""
    for target, kind in ((folder, "overlay"), (str(scratch), "tmpfs")):
        if mounted.get(target) == kind:
            _must(LIBC.umount2(target.encode(), MNT_DETACH), target)
    if scratch.is_dir():
        scratch.rmdir()


def _exhaust(scratch: Path) -> None:
    try:
        (scratch / "bytes").write_bytes(b"x" * 1024 * 1024)
    except OSError as full:
        print(full)
    try:
        for number in range(1000):
            (scratch / str(number)).touch()
    except OSError as full:
        print(full)
    else:
        raise SystemExit("the disk does not get full")


def _mount(kind: str, target: str, options: str) -> None:
    _must(LIBC.mount(kind.encode(), target.encode(), kind.encode(), 0, options.encode()), f"{kind} on {target}")


def _must(code: int, what: str) -> None:
    if code:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def main() -> None:
    what, pid, folder, scratch = sys.argv[1:]
    mounts = [line.split() for line in Path(f"/proc/{pid}/mounts").read_text().splitlines()]
    with open(f"/proc/{pid}/ns/mnt") as namespace:
        _must(LIBC.setns(namespace.fileno(), CLONE_NEWNS), "setns")
    if what == "fill":
        fill(folder, Path(scratch))
    else:
        free(folder, Path(scratch), {words[1]: words[2] for words in mounts})


if __name__ == "__main__":
    main()
