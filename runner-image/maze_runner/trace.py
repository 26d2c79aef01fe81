"""Exceptions of user code as text, without the runner's own frames."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Optional

REASON_LIMIT = 64
"""Characters."""

_OWN = __file__.rsplit("/", 1)[0] + "/"


def say_exception(error: BaseException) -> str:
    """`ValueError: text`, on one line; never fails."""
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__", "maze_task"):
        name = f"{kind.__module__}.{name}"
    text = say_text(error)
    return f"{name}: {text}" if text else name


def say_text(error: BaseException) -> str:
    """The text alone, on one line; never fails."""
    try:
        return " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - the user's __str__ may do anything
        return "<its text can't be shown>"


def named_reason(error: BaseException) -> Optional[str]:
    """The reason that an exception gives itself by an attribute `maze_reason`: one CamelCase word. Its text is then all
    there is to say: no traceback."""
    try:
        reason = getattr(error, "maze_reason", None)
    except Exception:  # noqa: BLE001 - as above
        return None
    if not isinstance(reason, str) or not (reason.isascii() and reason.isalnum() and len(reason) <= REASON_LIMIT):
        return None
    return reason if reason[0].isupper() else None


def format_user_traceback(error: BaseException) -> str:
    """The whole traceback as Python prints it, from the first frame that is not the runner's."""
    import traceback

    try:
        return "".join(traceback.format_exception(type(error), error, _users_part(error.__traceback__)))
    except Exception:  # noqa: BLE001 - as above
        return say_exception(error)


def _users_part(found: Optional[TracebackType]) -> Optional[TracebackType]:
    while found is not None and found.tb_frame.f_code.co_filename.startswith(_OWN):
        found = found.tb_next
    return found
