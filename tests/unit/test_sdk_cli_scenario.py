"""What a user types after `maze scenario`, and what the program makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from maze._cli_scenario import InputError, describe, read_definition, read_inputs
from maze._scenarios import parse_events

SCHEMA = {"properties": {"zip": {"type": "string"}, "n": {"type": "integer"}}}


def test_inputs_are_json_where_they_can_be_and_are_no_texts() -> None:
    given = ["zip=00123", "n=5", "url=https://x/?a=b", 'list=[1, "a"]', "empty=", "yes=true"]
    assert read_inputs(given, SCHEMA) == {
        "zip": "00123",
        "n": 5,
        "url": "https://x/?a=b",
        "list": [1, "a"],
        "empty": "",
        "yes": True,
    }


def test_inputs_are_a_json_object_or_several_of_these_in_order() -> None:
    assert read_inputs(['{"n": 1, "m": {"a": []}}', "n=2"], {}) == {"n": 2, "m": {"a": []}}


@pytest.mark.parametrize("text", ["n", "=1", "{n: 1}"])
def test_inputs_that_are_none_are_named(text: str) -> None:
    with pytest.raises(InputError, match="--input"):
        read_inputs([text], SCHEMA)


@pytest.mark.parametrize(("content", "why"), [("[]", "JSON object"), ("{", "not JSON"), (None, "can't be read")])
def test_files_that_are_no_definitions_are_named(tmp_path: Path, content: str | None, why: str) -> None:
    file = tmp_path / "scenario.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=f"scenario.json.*{why}"):
        read_definition(file)


def test_progress_is_a_line_for_each_step() -> None:
    events = [
        {"type": "run_started"},
        {"type": "step_started", "index": 0, "step_name": "a"},
        {"type": "step_finished", "index": 0, "step_name": "a", "status": "success", "message": ""},
        {"type": "step_finished", "index": 1, "step_name": "b", "status": "failed", "message": "no"},
        {"type": "run_finished", "status": "failed", "message": "step 'b' failed: no"},
    ]
    assert [describe(event) for event in events] == [
        "",
        "  1. a …",
        "✓ 1. a success",
        "✗ 2. b failed: no",
        "run failed: step 'b' failed: no",
    ]


def test_events_are_read_from_the_stream_without_comments_and_halves() -> None:
    stream = b': hello\n\nid: 7\nevent: x\ndata: {"a":\ndata:  1}\n\nretry: 5\nid: 8\ndata: {"cut": 1}'
    assert list(parse_events(iter(stream.split(b"\n")))) == [(7, {"a": 1})]
