"""How a value travels: JSON where it gives back the very same object, a file for a path of one, else a pickle.

Standard library only: the local runner's child process loads this file alone.
"""

from __future__ import annotations

import contextlib
import json
from math import isfinite
from pathlib import Path
from typing import Any, List, Optional, Set, Tuple

JSON_DEPTH = 100
"""Deeper nesting is pickled: a parser on the way might refuse it."""
INT_BITS = 63
"""Larger whole numbers are pickled: JSON parsers on the way make floats of them."""
SHOWN = 2000
"""Characters of a readable stand-in."""


def is_plain(value: Any) -> bool:
    """None, bool, int, finite float, str, list, dict with str keys: of exactly these types, so that JSON gives them back.

    A list inside itself is not plain. A subclass (an IntEnum, numpy.float64) is not either: it arrives as itself.
    """
    pending: List[Tuple[Any, int]] = [(value, 0)]
    seen: Set[int] = set()
    while pending:
        item, depth = pending.pop()
        kind = type(item)
        if kind is not list and kind is not dict:
            if not _is_leaf(item):
                return False
            continue
        if depth >= JSON_DEPTH or id(item) in seen:
            return False
        if item:
            seen.add(id(item))
        if kind is dict and not all(type(key) is str and _is_leaf(key) for key in item):
            return False
        pending.extend((child, depth + 1) for child in (item.values() if kind is dict else item))
    return True


def _is_leaf(item: Any) -> bool:
    kind = type(item)
    if kind is int:
        return int(item).bit_length() <= INT_BITS
    if kind is str:
        return str(item).isascii() or _is_utf8(item)
    return item is None or kind is bool or (kind is float and isfinite(item))


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def encode_json(value: Any) -> bytes:
    """Compact UTF-8, as all parts of Maze write it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")


def is_file(value: Any) -> bool:
    """A pathlib.Path of a regular file."""
    try:
        return isinstance(value, Path) and value.is_file()
    except (OSError, ValueError):
        return False


def stand_in(value: Any) -> Any:
    """What people are shown of a value that is no JSON: what json makes of it, or its type and repr, cut."""
    shown: Optional[str] = None
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        shown = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if shown is not None and len(shown) <= SHOWN:
        return json.loads(shown)
    kind = type(value)
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - user code
        text = f"<its repr raised {type(error).__name__}>"
    return f"{kind.__module__}.{kind.__qualname__}: {text}"[:SHOWN]
