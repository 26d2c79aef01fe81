"""Values as bytes: JSON where it gives back the very same object, else a pickle.

"The very same" is strict: exact types, so that a subclass of dict, a tuple or NaN is not silently turned into something
else on its way to the next task. What people are shown of a pickle (`render_json`) may be like JSON makes it.
"""

from __future__ import annotations

from math import isfinite

from maze_runner.limits import DISPLAY_LIMIT, JSON_DEPTH, JSON_INT_BITS, JSON_REPEATS, PICKLE_PROTOCOL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, List, Optional, Set, Tuple


def encode_json(value: Any) -> Optional[bytes]:
    """Compact UTF-8 JSON, or None where JSON would not give back an equal object of the same types."""
    import json

    if not is_plain(value):
        return None
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")
    except ValueError:  # a lone surrogate, which UTF-8 can't hold; or an int above the interpreter's own limit
        return None


def is_plain(value: Any) -> bool:
    """None, bool, int, finite float, str, list, dict with str keys, of exactly these types, not too deep or repetitive.

    A list inside itself is found by its depth; one that is referred to very often would be written out each time.
    """
    pending: List[Tuple[Any, int]] = [(value, 0)]
    seen: Set[int] = set()
    repeats = 0
    while pending:
        item, depth = pending.pop()
        kind = type(item)
        if kind is not list and kind is not dict:
            if not _is_plain_leaf(item):
                return False
            continue
        if id(item) in seen:
            repeats += 1 + len(item)
        seen.add(id(item))
        if depth >= JSON_DEPTH or repeats > JSON_REPEATS:
            return False
        if kind is dict and not all(type(key) is str for key in item):
            return False
        pending.extend((child, depth + 1) for child in (item.values() if kind is dict else item))
    return True


def _is_plain_leaf(item: Any) -> bool:
    if item is None or item is True or item is False:
        return True
    kind = type(item)
    if kind is int:
        return bool(item.bit_length() <= JSON_INT_BITS)
    return kind is str or (kind is float and isfinite(item))


def render_json(value: Any, limit: int) -> Optional[bytes]:
    """Compact JSON of at most `limit` bytes that shows the value as json.dumps would (tuples become lists, keys text).

    None where it can't, or where a JSON parser on the way would refuse it; never fails. Stops writing at the limit, so a
    value that is small in memory and huge when written out costs little.
    """
    import json

    pieces: List[str] = []
    left = limit
    try:
        for piece in json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).iterencode(value):
            left -= len(piece)
            if left < 0:
                return None
            pieces.append(piece)
        text = "".join(pieces)
        shown = text.encode("utf-8")
        return shown if len(shown) <= limit and is_plain(json.loads(text)) else None
    except Exception:  # noqa: BLE001 - subclasses of dict and list are user code
        return None


def write_pickle(value: Any, file: IO[bytes]) -> None:
    """Pickle `value` straight to a file; lambdas, closures and classes of scripts included.

    Raises:
        Exception: whatever the value's own pickling raises.
    """
    import cloudpickle

    cloudpickle.dump(value, file, protocol=PICKLE_PROTOCOL)


def describe(value: Any, limit: int = DISPLAY_LIMIT) -> str:
    """`module.Type: repr`, cut; never fails, and does not write out large collections."""
    import reprlib

    kind = type(value)
    shorten = reprlib.Repr()
    shorten.maxlevel = 6
    shorten.maxlist = shorten.maxtuple = shorten.maxset = shorten.maxfrozenset = shorten.maxdict = 50
    shorten.maxdeque = shorten.maxarray = 50
    shorten.maxstring = shorten.maxother = shorten.maxlong = limit
    try:
        if kind in (bytes, bytearray):
            text = repr(value[:limit])
        elif kind.__module__ in ("builtins", "collections", "array"):
            text = shorten.repr(value)
        else:
            text = repr(value)
    except Exception as error:  # noqa: BLE001 - a stand-in must not cost the value
        text = f"<its repr raised {type(error).__name__}>"
    name = f"{kind.__module__}.{kind.__qualname__}"
    shown = f"{name}: {text}"
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
