"""Runs other programs: no shell, their output kept for the error message."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import ClusterError

TAIL_LINES = 25


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The last `lines` lines of `text`, indented for an error message."""
    return "\n".join("    " + line for line in text.strip().splitlines()[-lines:])


def run(
    argv: Sequence[str | Path],
    *,
    hint: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
) -> str:
    """Run `argv` and return its standard output.

    Raises ClusterError with the command, its last output lines and `hint` (what to do) when it fails or is missing.
    """
    done = attempt(argv, env=env, cwd=cwd, stdin=stdin)
    if done.returncode:
        output = tail(done.stdout + "\n" + done.stderr)
        command = " ".join(str(part) for part in argv[:6])
        raise ClusterError(f"`{command}` failed with exit code {done.returncode}:\n{output}\n{hint}".rstrip())
    return done.stdout


def attempt(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `argv` and return its outcome, whatever it is; a missing program counts as exit code 127."""
    command = [str(part) for part in argv]
    try:
        return subprocess.run(
            command, env=env, cwd=cwd, input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))
