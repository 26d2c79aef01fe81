"""Compares the results of a benchmark with the gates: `python3 bench/check.py [RESULTS]`; exit code 1 where one is missed.

A gate is a ratio of two numbers of one run, or a count, so that it holds on a faster and on a slower machine: what was
measured when it was set, and a margin. Goals are another thing: the table of the benchmark has them (`report.py`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import Round, middle, middle_ratio

GATES = Path(__file__).with_name("gates.json")
RESULTS = Path(__file__).with_name("results.json")
SIDES = ("at_most", "at_least")
Json = dict[str, Any]


class GateError(Exception):
    """The gates can't be understood, or are not for these results."""


@dataclass(frozen=True)
class Limit:
    """`against`: name of the measure that it is a ratio to; None: the number itself."""

    of: str
    against: str | None
    side: str
    value: float

    def measure(self, rounds: Sequence[Round]) -> float | None:
        return middle_ratio(rounds, self.of, self.against) if self.against else middle(rounds, self.of)

    def holds(self, found: float) -> bool:
        return found <= self.value if self.side == "at_most" else found >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.side == 'at_most' else '≥'} {self.value:g}"


@dataclass(frozen=True)
class Gate:
    name: str
    limit: Limit


@dataclass(frozen=True)
class Verdict:
    """`found`: what the gate's limit is about; None: not measured."""

    gate: Gate
    found: float | None

    @property
    def passed(self) -> bool:
        return self.found is not None and self.gate.limit.holds(self.found)


def read_gates(text: str) -> tuple[str, list[Gate]]:
    """The scale that they are for, and the gates.

    Raises:
        GateError: an entry is not as it must be; the text names it.
    """
    content = json.loads(text)
    return content["scale"], [_gate(one) for one in content["gates"]]


def _gate(entry: Json) -> Gate:
    name = entry.get("name", "a gate without a name")
    if unknown := set(entry) - {"name", "of", "against", *SIDES}:
        raise GateError(f"{name}: nothing is called {', '.join(sorted(unknown))}")
    if "of" not in entry:
        raise GateError(f"{name}: `of` names no measure")
    sides = [side for side in SIDES if side in entry]
    if len(sides) != 1:
        raise GateError(f"{name}: give one of {' and '.join(SIDES)}")
    return Gate(name, Limit(entry["of"], entry.get("against"), sides[0], float(entry[sides[0]])))


def judge(gates: Sequence[Gate], scale: str, results: Mapping[str, Any]) -> list[Verdict]:
    """In the order of the gates.

    Raises:
        GateError: the results are of another scale.
    """
    if results["scale"] != scale:
        raise GateError(f"the gates are for the {scale} size, and these results are of the {results['scale']} one")
    rounds = results["rounds"]
    return [Verdict(gate, gate.limit.measure(rounds)) for gate in gates]


def table(verdicts: Sequence[Verdict]) -> str:
    lines = ["| gate | is | must be | |", "|---|---|---|---|"]
    for one in verdicts:
        word = "passed" if one.passed else "MISSED" if one.found is not None else "NOT MEASURED"
        lines.append(f"| {one.gate.name} | {_show(one.found)} | {one.gate.limit} | {word} |")
    return "\n".join(lines)


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def main(arguments: Sequence[str]) -> int:
    path = Path(arguments[0]) if arguments else RESULTS
    try:
        results = json.loads(path.read_text())
        scale, gates = read_gates(GATES.read_text())
        verdicts = judge(gates, scale, results)
    except FileNotFoundError:
        print(f"there is no {path}: measure first, with `python3 bench/run.py`", file=sys.stderr)
        return 2
    except GateError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(verdicts))
    missed = [one.gate.name for one in verdicts if not one.passed]
    if missed:
        print(f"{len(missed)} of {len(verdicts)} gates are not passed: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
