"""Gates are compared with the results of a benchmark."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from check import GATES, GateError, judge, main, read_gates, table
from report import ROWS

RATIO = {"name": "cold task", "of": "a", "against": "b", "at_most": 2}
RATE = {"name": "rate", "of": "r", "at_least": 10}


def gates(*entries: dict[str, Any]) -> str:
    return json.dumps({"scale": "default", "gates": entries})


def results(*rounds: dict[str, float], scale: str = "default") -> dict[str, Any]:
    return {"scale": scale, "rounds": list(rounds)}


@pytest.mark.parametrize(
    ("measured", "passed"),
    [
        pytest.param({"a": 2.0, "b": 1.0, "r": 10.0}, [True, True], id="at the gates"),
        pytest.param({"a": 2.1, "b": 1.0, "r": 9.9}, [False, False], id="over one and under the other"),
        pytest.param({"a": 0.1, "b": 1.0, "r": 1000.0}, [True, True], id="far better"),
        pytest.param({"a": 1.0, "r": 11.0}, [False, True], id="a ratio without its reference is not measured"),
        pytest.param({}, [False, False], id="what is not measured is not passed"),
    ],
)
def test_gates(measured: dict[str, float], passed: list[bool]) -> None:
    scale, found = read_gates(gates(RATIO, RATE))
    assert [one.passed for one in judge(found, scale, results(measured))] == passed


def test_the_table_says_what_was_missed_and_what_was_not_measured() -> None:
    scale, found = read_gates(gates(RATIO, RATE, {**RATE, "name": "another", "of": "x"}))
    lines = table(judge(found, scale, results({"a": 1.2, "b": 1.0, "r": 2.0}))).splitlines()[2:]
    assert lines == [
        "| cold task | 1.2 | ≤ 2 | passed |",
        "| rate | 2 | ≥ 10 | MISSED |",
        "| another | – | ≥ 10 | NOT MEASURED |",
    ]


def test_results_of_another_size_are_refused() -> None:
    scale, found = read_gates(gates(RATIO))
    with pytest.raises(GateError, match="of the quick one"):
        judge(found, scale, results({"a": 1.0, "b": 1.0}, scale="quick"))


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"name": "x", "of": "a"}, "x: give one of"),
        ({"name": "x", "of": "a", "at_most": 1, "at_least": 1}, "x: give one of"),
        ({"name": "x", "of": "a", "atmost": 1}, "x: nothing is called atmost"),
        ({"name": "x", "of": "a", "at_most": 1, "goal": 1}, "x: nothing is called goal"),
        ({"name": "x", "at_most": 1}, "x: `of` names no measure"),
    ],
)
def test_gates_that_make_no_sense_are_refused(entry: dict[str, Any], text: str) -> None:
    with pytest.raises(GateError, match=text):
        read_gates(gates(entry))


def test_the_gates_are_about_what_the_table_shows() -> None:
    """So that everyone sees what a gate compares, and a measure that changes its name takes its gate along."""
    _, found = read_gates(GATES.read_text())
    shown = {(row.key, row.against) for row in ROWS}
    keys = {key for pair in shown for key in pair}
    assert found
    for gate in found:
        assert gate.limit.against is None or (gate.limit.of, gate.limit.against) in shown, gate.name
        assert gate.limit.of in keys, gate.name


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.json"
    assert main([str(path)]) == 2
    assert "measure first" in capsys.readouterr().err
    _, found = read_gates(GATES.read_text())
    path.write_text(json.dumps(results({})))
    assert main([str(path)]) == 1
    seen = capsys.readouterr()
    assert f"{len(found)} of {len(found)} gates are not passed" in seen.err
    assert seen.out.count("NOT MEASURED") == len(found)
    path.write_text(json.dumps(results({}, scale="quick")))
    assert main([str(path)]) == 2
