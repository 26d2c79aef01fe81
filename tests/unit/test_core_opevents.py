"""Which posted events are valid, what is kept of them where, and that no value can spoil the status of a Run."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import T0
from maze_crds.base import format_time
from maze_crds.oprun import EVENT_LIMIT, EventType, OpEvent
from maze_crds.plainjson import INT64, MAX_DEPTH, fits_object, read_json
from maze_operator.core.opevents import (
    KEY_LIMIT,
    SHOWN,
    WORKER_LIMIT,
    InvalidEvent,
    cut_event,
    outputs_result,
    parse_event,
    read_event,
)
from maze_operator.core.outputs import container_result
from maze_operator.core.values import Ended, Posted

Json = dict[str, Any]

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)


def read(body: Any) -> Posted:
    return read_event(body, T0, "fresh")


def nested(levels: int) -> Any:
    """That many lists around a number."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


PLAIN = Posted(key="fresh", type="NOTE", time=T0)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"type": "NOTE"}, {}),
        ({"type": "NOTE", "msg": "hello", "payload": {"a": 1}}, {"msg": "hello", "payload": {"a": 1}}),
        ({"type": "NOTE", "msg": 7, "payload": None, "key": "k"}, {"msg": 7, "key": "k"}),
        ({"type": "NOTE", "payload": {}, "unknown": 1}, {"payload": {}}),
        ({"type": "a.b_c-9"}, {"type": "a.b_c-9"}),
        ({"type": "x" * 64, "key": "k" * KEY_LIMIT}, {"type": "x" * 64, "key": "k" * KEY_LIMIT}),
        ({"type": "PROGRESS", "msg": 0}, {"type": "PROGRESS", "msg": 0}),
        ({"type": "PROGRESS", "msg": 100}, {"type": "PROGRESS", "msg": 100}),
        ({"type": "PROGRESS", "msg": "42"}, {"type": "PROGRESS", "msg": 42}),
        ({"type": "PROGRESS", "msg": "007"}, {"type": "PROGRESS", "msg": 7}),
        ({"type": "STARTED"}, {"type": "STARTED"}),
        (
            {"type": "STARTED", "payload": {"worker_id": "w", "gpu_id": 1}},
            {"type": "STARTED", "worker": "w", "gpu": 1, "payload": {"worker_id": "w", "gpu_id": 1}},
        ),
        (
            {"type": "STARTED", "payload": {"worker_id": "w", "gpu_id": None}},
            {"type": "STARTED", "worker": "w", "payload": {"worker_id": "w", "gpu_id": None}},
        ),
        ({"type": "COMPLETED"}, {"type": "COMPLETED", "result": outputs_result({}, T0)}),
        (
            {"type": "COMPLETED", "payload": {"outputs": {"x": [1]}}},
            {"type": "COMPLETED", "result": outputs_result({"x": [1]}, T0), "payload": {"outputs": {"x": [1]}}},
        ),
        ({"type": "FAILED", "msg": "why"}, {"type": "FAILED", "msg": "why", "error": "why"}),
        (
            {"type": "FAILED", "msg": "m", "payload": {"error_message": "why"}},
            {"type": "FAILED", "msg": "m", "error": "why", "payload": {"error_message": "why"}},
        ),
        ({"type": "FAILED", "msg": 3}, {"type": "FAILED", "msg": 3, "error": "3"}),
        ({"type": "CANCELLED"}, {"type": "CANCELLED"}),
        ({"type": "RETRIED"}, {"type": "RETRIED"}),
        (
            {"type": "RETRIED", "payload": {"force": True}},
            {"type": "RETRIED", "force": True, "payload": {"force": True}},
        ),
    ],
)
def test_what_a_valid_event_means(body: Json, expected: Json) -> None:
    assert read(body) == Posted(**{"key": "fresh", "type": "NOTE", "time": T0, **expected})


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ([], "must be a JSON object"),
        ("NOTE", "must be a JSON object"),
        ({}, "there is none"),
        ({"type": None}, "it is null"),
        ({"type": ""}, "1 to 64"),
        ({"type": "x" * 65}, "1 to 64"),
        ({"type": "two words"}, 'it is "two words"'),
        ({"type": "Ümlaut"}, "letters, digits"),
        ({"type": "NOTE\n"}, "letters, digits"),
        ({"type": "completed"}, "write COMPLETED"),
        ({"type": "Progress", "msg": 1}, "write PROGRESS"),
        ({"type": "NOTE", "msg": True}, "msg must be text or a whole number, not true"),
        ({"type": "NOTE", "msg": 1.0}, "not 1.0"),
        ({"type": "NOTE", "msg": None}, "not null"),
        ({"type": "NOTE", "msg": ["x"]}, 'not ["x"]'),
        ({"type": "NOTE", "msg": 2**63}, "write it as text"),
        ({"type": "NOTE", "payload": []}, "payload must be a JSON object or null, not []"),
        ({"type": "NOTE", "payload": "x"}, 'not "x"'),
        ({"type": "NOTE", "key": ""}, "1 to 100 characters"),
        ({"type": "NOTE", "key": "k" * 101}, "1 to 100 characters"),
        ({"type": "NOTE", "key": 1}, "not 1"),
        ({"type": "PROGRESS"}, "from 0 to 100, not null"),
        ({"type": "PROGRESS", "msg": -1}, "not -1"),
        ({"type": "PROGRESS", "msg": 101}, "not 101"),
        ({"type": "PROGRESS", "msg": "101"}, 'not "101"'),
        ({"type": "PROGRESS", "msg": "half"}, 'not "half"'),
        ({"type": "PROGRESS", "msg": "٤٢"}, "from 0 to 100"),
        ({"type": "PROGRESS", "msg": " 5"}, "from 0 to 100"),
        ({"type": "PROGRESS", "msg": True}, "not true"),
        ({"type": "STARTED", "payload": {"worker_id": 1}}, "payload.worker_id must be text, not 1"),
        ({"type": "STARTED", "payload": {"worker_id": "w" * (WORKER_LIMIT + 1)}}, "at most 253"),
        ({"type": "STARTED", "payload": {"gpu_id": "0"}}, 'payload.gpu_id must be a whole number, not "0"'),
        ({"type": "STARTED", "payload": {"gpu_id": True}}, "not true"),
        ({"type": "STARTED", "payload": {"gpu_id": 10**30}}, "number of a GPU"),
        ({"type": "COMPLETED", "payload": {"outputs": [1]}}, "payload.outputs must be a JSON object"),
        ({"type": "FAILED", "payload": {"error_message": {}}}, "payload.error_message must be text"),
        ({"type": "RETRIED", "payload": {"force": 1}}, "payload.force must be true or false, not 1"),
    ],
)
def test_what_is_not_valid_and_what_to_write_instead(body: Any, text: str) -> None:
    with pytest.raises(InvalidEvent, match=re.escape(text)):
        read(body)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is no JSON"),
        (b"\xff\xfe\xff", "is no JSON"),
        (b'{"type": "NOTE", "payload": {"a": NaN}}', "NaN"),
        (b'{"type": "NOTE", "payload": {"a": -Infinity}}', "infinite"),
        (b'{"type": "NOTE", "payload": {"a": 1e999}}', "infinite"),
        (b'{"type": "NOTE", "msg": "\\ud800"}', "surrogate"),
        (b'{"type": "NOTE", "payload": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "nested too deeply"),
    ],
)
def test_a_body_that_can_not_be_kept_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(InvalidEvent, match=text):
        parse_event(data, T0, "fresh")


def test_a_long_value_is_not_repeated_to_who_sent_it() -> None:
    with pytest.raises(InvalidEvent, match="x…") as caught:
        read({"type": "NOTE", "msg": ["x" * 10_000]})
    assert len(str(caught.value)) < 200


def test_results_of_events_are_like_those_of_containers() -> None:
    data = '{"ü":[1,null]}'.encode()
    assert outputs_result({"a": {"ü": [1, None]}}, T0) == {
        "startTime": format_time(T0),
        "completionTime": format_time(T0),
        "outputs": {
            "a": {
                "encoding": "json",
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "value": {"ü": [1, None]},
            }
        },
    }


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}', '{"a": ' + "[" * 2000 + "}"])
def test_a_container_whose_outputs_can_not_be_kept_is_told_so(text: str) -> None:
    ended = Ended(succeeded=True, exit_code=0, termination_message=text)
    assert container_result(ended, ["a"], "", "")["failure"]["reason"] == "OutputNotJSON"
    assert container_result(ended, [], "", "") == {"startTime": "", "completionTime": "", "outputs": {}}


# -- what stays in the status


def sized(size: int) -> Posted:
    """Its `{"msg", "payload"}` is so many bytes of JSON."""
    empty = len('{"msg":"","payload":null}')
    return Posted(key="k", type="NOTE", time=T0, msg="x" * (size - empty))


def test_an_event_at_the_limit_stays_and_a_larger_one_is_cut() -> None:
    assert cut_event(sized(EVENT_LIMIT)) is None
    large = sized(EVENT_LIMIT + 1)
    cut = cut_event(large)
    assert cut is not None
    assert json.loads(cut.data) == {"msg": large.msg, "payload": None}
    assert (cut.posted.msg, cut.posted.payload) == ("x" * SHOWN, None)
    assert cut.posted.stored == hashlib.sha256(cut.data).hexdigest()


@pytest.mark.parametrize(
    "payload",
    [{"a": 2**63}, {"a": [-(2**63) - 1]}, {"a": 10**400}, {"a": nested(MAX_DEPTH)}],
)
def test_what_the_api_server_would_change_or_refuse_is_kept_in_the_store(payload: Json) -> None:
    cut = cut_event(Posted(key="k", type="PROGRESS", time=T0, msg=5, payload=payload))
    assert cut is not None
    assert json.loads(cut.data) == {"msg": 5, "payload": payload}
    assert cut.posted.msg == 5


@pytest.mark.parametrize("payload", [{"a": 2**63 - 1}, {"a": -(2**63)}, {"a": nested(MAX_DEPTH - 3)}, {}])
def test_the_rest_stays_as_it_is(payload: Json) -> None:
    assert cut_event(Posted(key="k", type="NOTE", time=T0, payload=payload)) is None


@given(st.sampled_from([*EventType, "NOTE"]), values, st.none() | st.dictionaries(st.text(), values, max_size=4))
def test_any_body_is_either_refused_or_becomes_an_event_that_the_status_can_hold(
    kind: str, msg: Any, payload: Any
) -> None:
    data = json.dumps({"type": kind, "msg": msg, "payload": payload}, allow_nan=False).encode()
    try:
        posted = parse_event(data, T0, "fresh")
    except InvalidEvent:
        return
    cut = cut_event(posted)
    kept = cut.posted if cut else posted
    assert cut is not None or (kept.msg, kept.payload) == (posted.msg, posted.payload)
    if cut is not None:
        assert json.loads(cut.data) == {"msg": posted.msg, "payload": posted.payload}
    event = OpEvent(id=0, type=kept.type, time=T0, attempt=1, msg=kept.msg, payload=kept.payload, stored=kept.stored)
    shown = event.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    assert fits_object(shown)
    assert OpEvent.model_validate(json.loads(json.dumps(shown))) == event
    if kind == EventType.PROGRESS:
        assert 0 <= int(kept.msg) <= 100


@given(st.dictionaries(st.text(), values, max_size=5))
def test_outputs_are_kept_whole(outputs: Json) -> None:
    body = {"type": "COMPLETED", "payload": {"outputs": outputs}}
    posted = parse_event(json.dumps(body).encode(), T0, "fresh")
    assert posted.result is not None
    assert {key: output["value"] for key, output in posted.result["outputs"].items()} == outputs


@given(values)
def test_what_fits_an_object_has_no_number_that_it_changes(value: Any) -> None:
    def whole(one: Any) -> bool:
        if isinstance(one, dict):
            return all(map(whole, one.values()))
        if isinstance(one, list):
            return all(map(whole, one))
        return not isinstance(one, int) or one in INT64

    assert fits_object(value) == whole(value)
    assert read_json(json.dumps(value)) == value
