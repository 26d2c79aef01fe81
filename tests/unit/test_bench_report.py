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
    title = "1 task, without spare pods: created → its code runs"
    assert f"| {title} | 0.50 s | 0.25 s | one bare pod | 2.00 |  |  |" in text
    assert text.count("| fan-out of 1,000 tiny tasks, without spare pods: tasks per second | 7.5/s |  |  |  |") == 1
    assert "chain" not in text
    assert "Medians of 1 round (quick size)" in text
    assert "On 2 cores, 23.4 GiB, Linux 6.1" in text
    assert text.endswith("A note.")


@pytest.mark.parametrize(
    ("measured", "cells"),
    [
        ({"one.began": 0.26, "bare_one.began": 0.2}, "| 1.30 | ≤ ratio 1.3 | met |"),
        ({"one.began": 0.28, "bare_one.began": 0.2}, "| 1.40 | ≤ ratio 1.3 | NOT MET |"),
        ({"chain.ended": 1.5, "bare_one.ended": 0.5}, "| 3.00 | ≤ 1.5 s | met |"),
        ({"warm_chain.ended": 0.21}, "| ≤ 0.2 s | NOT MET |"),
        ({"tiny.rate": 150.0}, "| ≥ 150/s | met |"),
        ({"tiny.rate": 149.0}, "| ≥ 150/s | NOT MET |"),
        ({"one.writes": 3.5}, "| ≤ 3 | NOT MET |"),
    ],
)
def test_a_goal_is_met_or_not_and_the_table_says_which(measured: dict[str, float], cells: str) -> None:
    lines = table(build_results([measured], "default", SIZES, MACHINE, [])).splitlines()
    assert lines[2].endswith(cells)
    small = table(build_results([measured], "quick", SIZES, MACHINE, []))
    assert "met" not in small.lower(), "goals are for the work of the default size"


def test_a_row_with_a_second_reference_is_there_where_that_was_measured() -> None:
    measured = {"tiny.rate": 180.0, "bare_many.rate": 4.5}
    one = table(build_results([measured], "default", SIZES, MACHINE, []))
    both = table(build_results([measured | {"loop.rate": 360.0}], "default", SIZES, MACHINE, []))
    assert (one.count("180.0/s"), both.count("180.0/s")) == (1, 2)
    assert "| 360.0/s | the runner's loop without Kubernetes | 0.50 |" in both


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
