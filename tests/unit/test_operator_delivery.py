"""Delivery of events: what is due, the CloudEvent it becomes, and when a sink that does not take it is asked again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from hypothesis import given
from hypothesis import strategies as st

from maze_crds.oprun import PAGE
from maze_operator.core.delivery import (
    FIRST_WAIT,
    LONGEST_WAIT,
    LONGEST_WISH,
    Delivered,
    as_attribute,
    due_in_status,
    extensions,
    is_taken,
    make_message,
    page_of,
    view_delivered,
    wait_after,
    wished_wait,
)

Json = dict[str, Any]
NOW = datetime(2026, 5, 4, 3, 2, 1, 5000, tzinfo=UTC)
TIME = "2026-05-04T03:02:01.005000Z"


def entry(number: int, kind: str = "STARTED", **more: Any) -> Json:
    return {"id": number, "type": kind, "time": TIME, "attempt": 1, **more}


def a_run(first: int = 0, count: int = 1, topic: str = "t", attributes: Json | None = None, **op: Any) -> Json:
    asked = {"topic": topic} | ({"attributes": attributes} if attributes is not None else {})
    events = [entry(first + n) for n in range(count)]
    return {
        "metadata": {"name": "my-run", "uid": "the-uid"},
        "spec": {"opRun": {"eventDelivery": asked}},
        "status": {"op": {"nextEvent": first + count, "events": events, **op}},
    }


class TestWhatIsDue:
    def test_a_run_tells_how_far_its_delivery_is(self) -> None:
        run = a_run(count=3, delivered=1, deliveryProblem="the sink answered 503")
        assert view_delivered(run) == Delivered(3, 1, "the sink answered 503")
        assert view_delivered(a_run(count=2)) == Delivered(2, 0, None)

    @pytest.mark.parametrize(
        "run",
        [
            {"metadata": {}, "spec": {}, "status": {"op": {"nextEvent": 1}}},
            {"metadata": {}, "spec": {"opRun": {}}, "status": {"op": {"nextEvent": 1}}},
            {"metadata": {}, "spec": {"opRun": {"eventDelivery": {"topic": "t"}}}},
            {"metadata": {}, "spec": {"opRun": {"eventDelivery": {"topic": "t"}}}, "status": {}},
            {**a_run(), "metadata": {"deletionTimestamp": TIME}},
        ],
        ids=["no OpRun", "not asked for", "not seen yet", "no op yet", "being deleted"],
    )
    def test_nothing_is_delivered_of_a_run_that(self, run: Json) -> None:
        assert view_delivered(run) is None

    def test_what_comes_next_is_in_the_status_or_in_a_page(self) -> None:
        run = a_run(first=PAGE, count=4)
        due = due_in_status(run, PAGE + 2)
        assert due is not None
        assert [event["id"] for event in due] == [PAGE + 2, PAGE + 3]
        assert due_in_status(run, PAGE - 1) is None
        assert due_in_status(a_run(count=0, nextEvent=1), 0) is None

    def test_a_page_has_the_events_whose_ids_begin_with_its_number(self) -> None:
        assert [page_of(event) for event in (0, PAGE - 1, PAGE, 3 * PAGE + 5)] == [0, 0, 1, 3]


def parsed(run: Json, event: Json, msg: str | int = "", payload: Json | None = None) -> tuple[Json, Json]:
    """Attributes and data, as a receiver with the same package gets them."""
    message = make_message(run, event, msg, payload)
    assert message.headers == {"content-type": "application/cloudevents+json"}
    found = from_http_event(HTTPMessage(message.headers, message.body))
    data = found.get_data()
    assert isinstance(data, dict)
    return dict(found.get_attributes()), data


class TestTheCloudEvent:
    def test_an_event_with_all_it_has(self) -> None:
        run = a_run(topic="orders", attributes={"tenant": "a", "Cost-Center": "7"}, state="RUNNING")
        attributes, data = parsed(run, entry(4, "PROGRESS", attempt=2), 40, {"step": [1, None]})
        assert attributes == {
            "specversion": "1.0",
            "id": "the-uid/4",
            "source": "/runs/my-run",
            "type": "dev.maze.oprun.progress",
            "subject": "my-run",
            "time": NOW,
            "datacontenttype": "application/json",
            "topic": "orders",
            "tenant": "a",
        }
        assert data == {
            "run_id": "my-run",
            "topic": "orders",
            "attributes": {"tenant": "a", "Cost-Center": "7"},
            "attempt": 2,
            "event": {
                "id": 4,
                "type": "PROGRESS",
                "t": TIME,
                "msg": 40,
                "state": "RUNNING",
                "payload": {"step": [1, None]},
            },
        }

    def test_what_the_status_leaves_out_has_its_default(self) -> None:
        _, data = parsed(a_run(), entry(0))
        assert data["attributes"] == {}
        assert data["event"] == {
            "id": 0,
            "type": "STARTED",
            "t": TIME,
            "msg": "",
            "state": "PENDING",
            "payload": {},
        }

    def test_types_of_users_are_in_small_letters_too(self) -> None:
        attributes, data = parsed(a_run(), entry(0, "My.Own_Type-1"))
        assert attributes["type"] == "dev.maze.oprun.my.own_type-1"
        assert data["event"]["type"] == "My.Own_Type-1"

    @pytest.mark.parametrize(
        "topic", ["a b", 'quo"te', "100%25", "ü/日本/🎉", "x" * 1024, "日" * 1024, "a: b; c=d", "trailing "]
    )
    def test_a_topic_of_any_text_arrives_as_it_is(self, topic: str) -> None:
        attributes, data = parsed(a_run(topic=topic), entry(0))
        assert (attributes["topic"], data["topic"]) == (topic, topic)

    def test_what_an_attribute_may_not_hold_is_marked_there_and_whole_in_the_data(self) -> None:
        topic = "a\r\nb\x00\x7f\x85\ufffe\U0001ffff"
        attributes, data = parsed(a_run(topic=topic), entry(0))
        assert attributes["topic"] == "a��b�����"
        assert data["topic"] == topic
        assert as_attribute("\ud800") == "�"

    def test_only_attributes_that_can_be_extensions_become_some(self) -> None:
        usable = {"tenant": "a", "a1": "", "0": "b", "x" * 20: "long"}
        refused = dict.fromkeys(("Tenant", "a-b", "a_b", "x" * 21, "ü", "a b", "a\n"), "no")
        reserved = dict.fromkeys(
            (
                "id",
                "source",
                "type",
                "specversion",
                "time",
                "subject",
                "data",
                "dataschema",
                "datacontenttype",
                "topic",
            ),
            "no",
        )
        assert extensions({**usable, **refused, **reserved}) == usable
        attributes, data = parsed(a_run(attributes={**usable, **refused, **reserved}), entry(0))
        assert usable.items() <= attributes.items()
        assert (attributes["id"], attributes["topic"]) == ("the-uid/0", "t")
        assert data["attributes"] == {**usable, **refused, **reserved}

    @given(
        topic=st.text(min_size=1, max_size=50),
        attributes=st.dictionaries(st.text(min_size=1, max_size=25), st.text(max_size=30), max_size=6),
        msg=st.text(max_size=30) | st.integers(0, 100),
        payload=st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=5), max_size=3),
    )
    def test_whatever_a_user_gives_can_be_sent_and_parsed(
        self, topic: str, attributes: Json, msg: str | int, payload: Json
    ) -> None:
        _, data = parsed(a_run(topic=topic, attributes=attributes), entry(0), msg, payload)
        assert (data["topic"], data["attributes"]) == (topic, attributes)
        assert (data["event"]["msg"], data["event"]["payload"]) == (msg, payload)

    def test_the_body_is_plain_json(self) -> None:
        body = json.loads(make_message(a_run(topic="ü"), entry(0), "", None).body)
        assert (body["topic"], body["time"]) == ("ü", TIME)


class TestWhenToTryAgain:
    @pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
    def test_a_yes(self, status: int) -> None:
        assert is_taken(status)

    @pytest.mark.parametrize("status", [100, 301, 307, 400, 404, 410, 429, 500, 503])
    def test_a_no(self, status: int) -> None:
        assert not is_taken(status)

    def test_waits_double_up_to_a_minute(self) -> None:
        waits = [wait_after(failures, 0, 0) for failures in range(1, 10)]
        assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
        assert wait_after(1_000_000, 0, 0) == LONGEST_WAIT

    @given(failures=st.integers(1, 10_000), chance=st.floats(0, 1))
    def test_chance_spreads_waits_over_their_second_half(self, failures: int, chance: float) -> None:
        longest = wait_after(failures, 0, 0)
        assert longest / 2 <= wait_after(failures, 0, chance) <= longest
        assert FIRST_WAIT / 2 <= wait_after(failures, 0, chance) <= LONGEST_WAIT

    def test_the_sink_may_ask_for_longer_but_not_for_shorter_waits(self) -> None:
        assert wait_after(1, 7, 1) == 7
        assert wait_after(8, 7, 0) == LONGEST_WAIT

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            ("0", 0),
            ("120", 120),
            (" 3 ", 3),
            ("99999999", LONGEST_WISH),
            ("9" * 5000, LONGEST_WISH),
            (format_datetime(NOW.replace(microsecond=0) + timedelta(seconds=30), usegmt=True), 29.995),
            (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
            ("Mon, 04 May 2026 03:02:02 -0000", 0.995),
            ("Mon, 04 May 2099 03:02:02 GMT", LONGEST_WISH),
            (None, 0),
            ("", 0),
            ("soon", 0),
            ("-5", 0),
            ("1.5", 0),
            ("٣", 0),
            ("Mon, 99 May 2026 99:99:99 GMT", 0),
        ],
    )
    def test_retry_after(self, header: str | None, seconds: float) -> None:
        assert wished_wait(header, NOW) == pytest.approx(seconds)
