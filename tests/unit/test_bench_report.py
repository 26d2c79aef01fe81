"""Rounds of measures become medians, ratios and a table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from report import ROWS, build_results, combine, middle, middle_ratio, show, table

SIZES = {"singles": 3, "chain": 10, "fan_out": 50, "tiny": 1000, "items": 20, "item_bytes": 1_000_000}
SIZES |= {"large_bytes": 64 * 2**20, "few": 10, "many": 5000, "asked": 200}
MACHINE = {"cores": 2, "memory_gib": 23.4, "kernel": "6.1", "python": "3.11.2", "load": [0.1, 0.2, 0.3]}
MACHINE |= {"time": "2026-01-01T00:00:00+00:00", "commit": "abc"}


def test_a_ratio_is_taken_inside_each_round() -> None:
    """A machine that is slow for one whole round changes no ratio; a ratio of medians would be 3 here."""
    rounds = [{"a": 2.0, "b": 1.0}, {"a": 60.0, "b": 30.0}, {"a": 3.0, "b": 0.5}]
    assert middle_ratio(rounds, "a", "b") == 2.0
    assert middle(rounds, "a") == 3.0


@pytest.mark.parametrize(
    ("rounds", "ratio"),
    [
        pytest.param([], None, id="nothing was measured"),
        pytest.param([{"a": 1.0}, {"b": 1.0}], None, id="never both in one round"),
        pytest.param([{"a": 1.0, "b": 0.0}], None, id="nothing to compare with"),
        pytest.param([{"a": 1.0}, {"a": 8.0, "b": 2.0}], 4.0, id="one round has both"),
    ],
)
def test_a_ratio_needs_both_in_one_round(rounds: list[dict[str, float]], ratio: float | None) -> None:
    assert middle_ratio(rounds, "a", "b") == ratio


def test_samples_of_one_round_become_medians() -> None:
    assert combine([{"a": 1.0}, {"b": 5.0}, {"a": 9.0}, {"a": 2.0}]) == {"a": 2.0, "b": 5.0}
    assert combine([]) == {}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.234, "s", "1.23 s"),
        (0.01234, "s", "12.3 ms"),
        (12.34, "/s", "12.3/s"),
        (3.0, "", "3.00"),
        (150 * 2**20, "MiB", "150 MiB"),
    ],
)
def test_numbers_have_the_digits_that_mean_something(value: float, unit: str, text: str) -> None:
    assert show(value, unit) == text


def test_the_table_has_what_was_measured_and_where() -> None:
    rounds = [{"one.began": 0.5, "bare_one.began": 0.25, "tiny.rate": 7.5}]
    results = build_results(rounds, "quick", SIZES, MACHINE, ["A note."])
    text = table(results)
    assert "| 1 task, from a cold start: created → its code runs | 0.50 s | 0.25 s | one bare pod | 2.00 |" in text
    assert "| fan-out of 1,000 tiny tasks: tasks per second | 7.5/s |  |  |  |" in text
    assert "chain" not in text
    assert "Medians of 1 round (quick size)" in text
    assert "On 2 cores, 23.4 GiB, Linux 6.1" in text
    assert text.endswith("A note.")


def test_results_are_the_same_after_json() -> None:
    rounds = [{"one.began": 0.5, "bare_one.began": 0.25}, {"one.began": 0.7, "bare_one.began": 0.35}]
    results = build_results(rounds, "default", SIZES, MACHINE, [])
    assert json.loads(json.dumps(results)) == results
    assert results["ratios"] == {"one.began/bare_one.began": 2.0}
    assert results["medians"]["one.began"] == 0.6
    assert table(json.loads(json.dumps(results))) == table(results)


def test_every_row_has_a_title_that_the_sizes_fill_in() -> None:
    rounds = [{key: 1.0 for row in ROWS for key in (row.key, row.against) if key}]
    text = table(build_results(rounds, "default", SIZES, MACHINE, []))
    assert "{" not in text
    assert sum(line.startswith("| ") and line.endswith(" |") for line in text.splitlines()) == len(ROWS) + 1
