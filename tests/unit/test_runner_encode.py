"""JSON gives back the very same object, or is not used: nothing may change its type on the way to the next task."""

from __future__ import annotations

import io
import json
import math
import pickle
from collections import OrderedDict
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze_runner.encode import describe, encode_json, write_pickle

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
