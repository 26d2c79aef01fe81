"""What the end of a child means. Pure: wait status and what was seen go in, a failure comes out."""

from __future__ import annotations

import os
import signal

from maze_runner.failures import OUT_OF_MEMORY, TIMEOUT, USER_ERROR, build_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

    Json = Dict[str, Any]

OOM_NOTE = "(while it ran, a process of this task was killed for lack of memory)"


def classify_end(status: int, outcome: Optional[Json], limit: Optional[float], oom: bool) -> Optional[Json]:
    """The failure of an attempt, or None when it succeeded.

    Args:
        status: as os.waitpid gives it.
        outcome: what the child left; None when it could not leave anything.
        limit: its time limit in seconds when it was killed for that, else None.
        oom: the kernel killed a process in this container for lack of memory.
    """
    if limit is not None:
        return build_failure(TIMEOUT, "TimedOut", f"took longer than its limit of {limit:g} s and was stopped")
    if outcome is not None:
        return _with_note(outcome.get("failure"), oom)
    if os.WIFSIGNALED(status):
        return classify_signal(os.WTERMSIG(status), oom)
    return classify_exit(os.WEXITSTATUS(status))


def classify_signal(number: int, oom: bool) -> Json:
    code = 128 + number
    if number == signal.SIGKILL and oom:
        message = "was killed because it used more memory than its limit; ask for more memory"
        return build_failure(OUT_OF_MEMORY, "OOMKilled", message, exit_code=code)
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = {"SIGSEGV": " (a crash in native code; the log has the stack)"}.get(name, "")
    return build_failure(USER_ERROR, "Killed", f"was killed by {name}{hint}", exit_code=code)


def classify_exit(code: int) -> Json:
    if code == 0:
        message = "ended without returning a result: the process exited with code 0 before the function returned"
    else:
        message = f"the process exited with code {code} before the function returned"
    return build_failure(USER_ERROR, "Exited", message, exit_code=code)


def _with_note(failure: Optional[Json], oom: bool) -> Optional[Json]:
    """A worker process that was killed for memory shows up as a puzzling exception in its parent."""
    if failure is None or not oom:
        return failure
    return {**failure, "message": f"{failure['message']} {OOM_NOTE}"}


def refuse_version(wanted: Optional[str], own: str) -> Optional[Json]:
    """The failure of a pickle that another Python made (MAJOR.MINOR); functions do not survive that."""
    if wanted is None or wanted == own:
        return None
    message = (
        f"the function was pickled by Python {wanted}, but the image of this task has Python {own};"
        f" use an image with Python {wanted}, or submit from Python {own}"
    )
    return build_failure(USER_ERROR, "CodeNotLoadable", message)
