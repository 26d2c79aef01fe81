"""JSON from outside, which may hold more than what follows can keep."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

MAX_DEPTH = 32
"""Of a value in a Kubernetes object. Pydantic reads about 250 levels."""
TOO_DEEP = "it is nested too deeply"
INT64 = range(-(2**63), 2**63)
"""What the API server keeps of whole numbers: larger ones become floating point, or are refused."""


def read_json(text: str | bytes) -> Any:
    """A value that can be written as JSON again.

    Raises:
        ValueError: not JSON, or it holds NaN, an infinite number, half a character, or thousands of levels.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    encode_json(value)
    return value


def encode_json(value: Any) -> bytes:
    """Compact UTF-8.

    Raises:
        ValueError: what JSON or UTF-8 does not have is in it.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except UnicodeEncodeError:
        raise ValueError("a text in it has half of a surrogate pair, such as \\ud800 alone") from None
    except ValueError:
        raise ValueError("it contains NaN or an infinite number, which JSON does not have") from None


def fits_object(value: Any) -> bool:
    """Whether a Kubernetes object gives it back unchanged."""
    level: Iterable[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, int) and one not in INT64:
                return False
            if isinstance(one, dict):
                inner += one.values()
            elif isinstance(one, list):
                inner += one
        if not inner:
            return True
        level = inner
    return False
