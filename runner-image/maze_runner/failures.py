"""Failures as maze_crds.protocol has them, and the exception that carries one."""

from __future__ import annotations

from maze_runner.limits import MESSAGE_LIMIT, TRACEBACK_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

USER_ERROR = "UserError"
OUT_OF_MEMORY = "OutOfMemory"
TIMEOUT = "Timeout"
INFRASTRUCTURE = "Infrastructure"
STORAGE = "Storage"


def build_failure(
    cause: str, reason: str, message: str, traceback: Optional[str] = None, exit_code: Optional[int] = None
) -> Dict[str, Any]:
    """A protocol.Failure: the message becomes one line, message and traceback are cut."""
    failure: Dict[str, Any] = {"cause": cause, "reason": reason, "message": clean(cut(one_line(message)))}
    if traceback is not None:
        failure["traceback"] = clean(cut(traceback, TRACEBACK_LIMIT))
    if exit_code is not None:
        failure["exitCode"] = exit_code
    return failure


class Failed(Exception):
    """The attempt ends with this failure."""

    def __init__(
        self,
        cause: str,
        reason: str,
        message: str,
        traceback: Optional[str] = None,
        exit_code: Optional[int] = None,
    ) -> None:
        super().__init__(message)
        self.failure = build_failure(cause, reason, message, traceback, exit_code)


def one_line(text: str) -> str:
    return " ".join(text.split())


def cut(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """At most `limit` characters: the middle goes, because tracebacks say most at both ends."""
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{text[:half]} ... {text[len(text) - half :]}"


def clean(text: str) -> str:
    """Text that UTF-8 can hold: lone surrogates are shown as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
