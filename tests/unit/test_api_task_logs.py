"""If these fail, a task's log loses lines, or tells the wrong level or time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze_api.task_logs import Entry, Level, chosen, parse, parse_any_time, without_cut_line

T0 = datetime(2026, 1, 1, tzinfo=UTC)
T1 = datetime(2025, 1, 1, 10, 0, 0, 123000, tzinfo=UTC)


def one(line: str) -> Entry:
    (entry,) = parse(line, T0)
    return entry


@pytest.mark.parametrize(
    ("line", "level", "message", "context", "time"),
    [
        ("just a line", "info", "just a line", {}, T0),
        ("  indented: as it is", "info", "  indented: as it is", {}, T0),
        ("INFO:search:step 1: 5", "info", "step 1: 5", {"logger": "search"}, T0),
        ("WARNING:a.b:careful", "warning", "careful", {"logger": "a.b"}, T0),
        ("2025-01-01 10:00:00,123 - my.name - ERROR - no luck", "error", "no luck", {"logger": "my.name"}, T1),
        ("2025-01-01 10:00:00,123 DEBUG maze.x: hi: there", "debug", "hi: there", {"logger": "maze.x"}, T1),
        ("2025-01-01 10:00:00,123 INFO hi there", "info", "hi there", {}, T1),
        ("[2025-01-01 10:00:00,123] [CRITICAL] down", "critical", "down", {}, T1),
        ("2025-01-01 10:00:00.123 | SUCCESS  | m:f:12 - done", "info", "done", {"logger": "m:f:12"}, T1),
        ("2025-01-01T10:00:00.123Z starting", "info", "starting", {}, T1),
        ("2025-01-01T12:00:00.123+02:00 WARN hot", "warning", "hot", {}, T1),
        ("2025-01-01 10:00:00,123", "info", "2025-01-01 10:00:00,123", {}, T1),
        ("2025-99-01 10:00:00 no such time", "info", "2025-99-01 10:00:00 no such time", {}, T0),
        ("ERROR: bad", "error", "bad", {}, T0),
        ("[WARN] hot", "warning", "hot", {}, T0),
        ("FATAL the end", "critical", "the end", {}, T0),
        ("INFORMATION is power", "info", "INFORMATION is power", {}, T0),
        ("Error: this is prose", "info", "Error: this is prose", {}, T0),
        ('{"level": "WARN", "msg": "m", "step": 3}', "warning", "m", {"step": 3}, T0),
        ('{"severity": "fatal", "message": "m"}', "critical", "m", {}, T0),
        ('{"levelname": "DEBUG", "event": "e", "name": "x"}', "debug", "e", {"name": "x"}, T0),
        ('{"level": 40, "message": {"a": 1}}', "error", '{"a": 1}', {}, T0),
        ('{"level": "odd", "message": "m"}', "info", "m", {"level": "odd"}, T0),
        ('{"message": "m", "timestamp": "2025-01-01T10:00:00.123Z"}', "info", "m", {}, T1),
        ('{"message": "m", "time": "2025-01-01 10:00:00,123"}', "info", "m", {}, T1),
        ('{"message": "m", "ts": 1735725600.123}', "info", "m", {}, T1),
        ('{"message": "m", "ts": 1735725600123}', "info", "m", {}, T1),
        ('{"message": "m", "time": "soon"}', "info", "m", {"time": "soon"}, T0),
        ('{"result": 1}', "info", '{"result": 1}', {}, T0),
        ('{"message": "m", "x": NaN, "y": 1e999}', "info", "m", {"x": "NaN", "y": "1e999"}, T0),
        ('{"message": ', "info", '{"message": ', {}, T0),
        ('["message"]', "info", '["message"]', {}, T0),
        ("windows\r", "info", "windows", {}, T0),
    ],
)
def test_what_a_line_says(line: str, level: str, message: str, context: dict[str, object], time: datetime) -> None:
    assert one(line) == Entry(time, Level(level), message, context)


def test_a_line_without_a_time_has_that_of_the_entry_before() -> None:
    entries = parse("first\n2025-01-01 10:00:00,123 INFO x\nplain\n", T0)
    assert [entry.timestamp for entry in entries] == [T0, T1, T1]


TRACEBACK = """Traceback (most recent call last):
  File "f.py", line 1, in f

    raise ValueError("x")
    ^^^^^^^^^^^^^^^^^^^^^
ValueError: x"""
CHAINED = f"""{TRACEBACK}

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "f.py", line 3, in f
KeyError: 'a'"""


@pytest.mark.parametrize("traceback", [TRACEBACK, CHAINED])
def test_a_traceback_is_one_entry(traceback: str) -> None:
    entries = parse(f"before\n{traceback}\n\nafter\n", T0)
    assert [(entry.level.value, entry.message) for entry in entries] == [
        ("info", "before"),
        ("error", traceback),
        ("info", "after"),
    ]


def test_a_traceback_that_was_logged_belongs_to_its_message() -> None:
    entries = parse(f"ERROR:x:it failed\n{CHAINED}\nINFO:x:going on\n{TRACEBACK}\n{TRACEBACK}", T0)
    assert [(entry.level.value, entry.message) for entry in entries] == [
        ("error", f"it failed\n{CHAINED}"),
        ("info", "going on"),
        ("error", TRACEBACK),
        ("error", TRACEBACK),
    ]


def test_a_traceback_that_is_cut_off_swallows_nothing_else() -> None:
    cut = 'Traceback (most recent call last):\n  File "f.py", line 1\nINFO:x:something else'
    assert [entry.message for entry in parse(cut, T0)][-1] == "something else"


def test_exception_groups() -> None:
    group = """  + Exception Group Traceback (most recent call last):
  |   File "x.py", line 1, in <module>
  | ExceptionGroup: two (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: 1
    +------------------------------------"""
    assert one(group) == Entry(T0, Level.ERROR, group)


LINES = st.one_of(
    st.text(max_size=40),
    st.sampled_from([*TRACEBACK.split("\n"), *CHAINED.split("\n"), "INFO:a:b", '{"msg": "x"}', "ERROR x", ""]),
    st.dictionaries(st.sampled_from(["level", "message", "time", "x"]), st.text(max_size=5)).map(json.dumps),
    st.datetimes().map(lambda time: f"{time} INFO x"),
)


@given(st.lists(LINES, max_size=30))
def test_any_text_is_taken_and_no_line_is_lost(lines: list[str]) -> None:
    text = "\n".join(lines)
    entries = parse(text, T0)
    assert all(entry.timestamp.tzinfo is UTC for entry in entries)
    said = "\n".join(entry.message + json.dumps(entry.context) for entry in entries)
    for line in text.split("\n"):
        if line.strip() and one(line).message == line.rstrip("\r"):
            assert line.rstrip("\r") in said


@given(st.text())
def test_what_is_logged_as_json_comes_back(message: str) -> None:
    line = json.dumps({"level": "error", "message": message, "timestamp": "2025-01-01T10:00:00.123Z", "n": 1})
    assert one(line) == Entry(T1, Level.ERROR, message, {"n": 1})


@pytest.mark.timeout(60)
def test_a_long_log_takes_its_time_only_once() -> None:
    text = "Traceback (most recent call last):\n" + '  File "x"\n' * 300_000
    (entry,) = parse(text, T0)
    assert len(entry.message) == len(text) - 1
    for bad in (
        "INFO" + " " * 200_000,
        "2025-01-01 10:00:00 " + "a." * 100_000,
        "2025-01-01 10:00:00 INFO" + " " * 200_000,
    ):
        assert len(parse(bad, T0)) == 1


@pytest.mark.parametrize("value", [None, True, -5, "", "tomorrow", [], 1e300, 10**400, "0001-01-01T00:00:00+14:00"])
def test_what_is_no_time(value: object) -> None:
    assert parse_any_time(value) is None


def test_level_and_limit() -> None:
    entries = [Entry(T0 + timedelta(seconds=n), Level.INFO if n % 2 else Level.ERROR, str(n)) for n in range(6)]
    assert [entry.message for entry in chosen(entries, None, 2)] == ["4", "5"]
    assert [entry.message for entry in chosen(entries, Level.ERROR, 2)] == ["2", "4"]
    assert [entry.message for entry in chosen(entries, Level.DEBUG, 2)] == []


def test_a_cut_log_begins_with_a_whole_line() -> None:
    assert without_cut_line(b"rt\nwhole\n", True) == b"whole\n"
    assert without_cut_line(b"start\nwhole\n", False) == b"start\nwhole\n"
