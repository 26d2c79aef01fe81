"""JSON gives back the very same object, or is not used: nothing may change its type on the way to the next task."""

from __future__ import annotations

import io
import json
import math
import pickle
from collections import Counter, OrderedDict
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze_runner.encode import describe, encode_json, render_json, write_pickle

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)) | st.binary()
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.tuples(inner, inner)
        | st.sets(st.integers(), max_size=1)
    ),
    max_leaves=20,
)


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return bool(one == other)


def survives_json(value: Any) -> bool:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError):
        return False
    return same(json.loads(text), value)


@given(trees)
def test_json_is_used_exactly_where_it_gives_back_the_same(value: Any) -> None:
    encoded = encode_json(value)
    assert (encoded is not None) == survives_json(value)
    if encoded is not None:
        assert same(json.loads(encoded), value)
        assert encoded == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@given(trees)
def test_everything_else_survives_as_a_pickle(value: Any) -> None:
    file = io.BytesIO()
    write_pickle(value, file)
    assert repr(pickle.loads(file.getvalue())) == repr(value)


class Color(IntEnum):
    RED = 1


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def doubling() -> Any:
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        *(Color.RED, OrderedDict(a=1), (1,), float("nan"), "\ud800", {1: 2}, {"a": {True: 1}}, b"", 1 << 20000),
        *(nested(150), nested(100_000), endless(), doubling()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_would_change_or_choke_on_is_pickled(value: Any) -> None:
    assert encode_json(value) is None


def test_rows_that_are_one_object_are_still_json() -> None:
    assert encode_json([[0] * 2] * 2) == b"[[0,0],[0,0]]", "users would see a stand-in instead of their matrix"


class Shy:
    def __repr__(self) -> str:
        raise OSError("no")


@given(trees)
def test_a_stand_in_names_the_type_and_is_short(value: Any) -> None:
    shown = describe(value, 50)
    assert len(shown) <= 50
    assert shown.startswith(f"builtins.{type(value).__name__}")


def test_a_stand_in_never_costs_the_value() -> None:
    assert describe(Shy()).endswith(".Shy: <its repr raised OSError>")
    assert describe({1, 2}) == "builtins.set: {1, 2}"
    assert len(describe(b"x" * 10_000_000)) == 2000
    assert len(describe(endless())) < 2000


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Counter("abca").most_common(), [["a", 2], ["b", 1], ["c", 1]]),
        ({2: (), None: "x", True: 1.5}, {"2": [], "null": "x", "true": 1.5}),
        ([Color.RED, OrderedDict(a=(1,))], [1, {"a": [1]}]),
        ((), []),
    ],
)
def test_people_see_the_json_of_what_only_a_pickle_keeps_as_it_is(value: Any, shown: Any) -> None:
    rendered = render_json(value, 1000)
    assert rendered is not None
    assert json.loads(rendered) == shown


class Rude(dict[str, int]):
    def items(self) -> Any:
        raise OSError("no")


@pytest.mark.parametrize(
    "value",
    [(float("nan"),), ({1, 2},), {(1, 2): 3}, ("\ud800",), (1 << 20000,), nested(150), endless(), Rude(a=1), (b"",)],
    ids=lambda value: type(value).__name__,
)
def test_what_json_can_not_show_is_not_tried_to_the_end(value: Any) -> None:
    assert render_json(value, 100_000) is None


def test_showing_stops_at_the_limit() -> None:
    assert render_json(doubling(), 65536) is None, "a value of a few bytes would be written out as 2^60 lists"
    assert render_json(("x" * 96,), 100) == b'["' + b"x" * 96 + b'"]'
    assert render_json(("x" * 97,), 100) is None
    assert render_json(("ä" * 49,), 100) is None


@given(trees)
def test_what_is_shown_is_what_json_makes_of_it(value: Any) -> None:
    rendered = render_json(value, 65536)
    if rendered is not None:
        assert json.loads(rendered) == json.loads(json.dumps(value, allow_nan=False))
