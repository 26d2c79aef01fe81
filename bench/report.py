"""From rounds to medians, ratios and a table. Pure: no I/O.

A round is `{"WORKLOAD.MEASURE": number}`; a measure may be missing in some of them. A ratio is taken inside each round, from two
numbers that were measured one after the other on the same machine, and then the median of the rounds: so it says more than
any of the numbers, which change with the machine and with what else it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Json = dict[str, Any]
Round = Mapping[str, float]

SECONDS, RATE, COUNT, MEMORY = "s", "/s", "", "MiB"


@dataclass(frozen=True)
class Goal:
    """What a row is to reach at the default size: the number itself (in the row's unit), or its ratio to the reference."""

    value: float
    of_ratio: bool = False
    at_least: bool = False

    def is_met(self, found: float) -> bool:
        return found >= self.value if self.at_least else found <= self.value


@dataclass(frozen=True)
class Row:
    """One line: `key` against `against`. `{...}` in the titles is filled in from the sizes."""

    title: str
    key: str
    unit: str
    against: str | None = None
    reference: str = ""
    goal: Goal | None = None


BARE = "one bare pod"
BARES = "{fan_out} bare pods at once"
BARE_END, BARES_END = f"{BARE}, succeeded", f"{BARES}, succeeded"
FEW = "with {few} Runs"
CLIENT, SAME, RAY = "the original client", "the same Run, made through Kubernetes' API", "Maze on Ray"
WITHOUT, WITH = "without spare pods", "with spare pods"
TINY = "fan-out of {tiny} tiny tasks"
COLD_START, AS_FAST = Goal(1.3, of_ratio=True), Goal(1.25, of_ratio=True)
FAN_OUT, RATE_GOAL, WARM_WRITES = Goal(1.5), Goal(150, at_least=True), Goal(0.2)
ROWS = (
    Row(f"1 task, {WITHOUT}: created → its code runs", "one.began", SECONDS, "bare_one.began", BARE, COLD_START),
    Row(f"1 task, {WITHOUT}: created → seen running", "one.running", SECONDS, "bare_one.running", BARE, COLD_START),
    Row(f"1 task, {WITHOUT}: created → its pod is seen", "one.first_pod", SECONDS),
    Row(f"1 task, {WITHOUT}: created → ended", "one.ended", SECONDS, "bare_one.ended", BARE_END),
    Row(f"1 task, {WITH}: created → its code runs", "warm_one.began", SECONDS, "bare_one.began", BARE),
    Row(f"1 task, {WITH}: created → ended", "warm_one.ended", SECONDS, "bare_one.ended", BARE_END),
    Row(f"chain of {{chain}}, {WITHOUT}", "chain.ended", SECONDS, "bare_one.ended", BARE_END, Goal(1.5)),
    Row(f"chain of {{chain}}, {WITH}", "warm_chain.ended", SECONDS, "bare_one.ended", BARE_END, Goal(0.2)),
    Row(f"fan-out of {{fan_out}}, {WITHOUT}", "fan_out.ended", SECONDS, "bare_many.ended", BARES_END, FAN_OUT),
    Row(f"fan-out of {{fan_out}}, {WITH}", "warm_fan_out.ended", SECONDS, "bare_many.ended", BARES_END, FAN_OUT),
    *(
        Row(f"{TINY}, {spares}: tasks per second", key, RATE, against, reference, goal)
        for spares, key in ((WITHOUT, "tiny.rate"), (WITH, "warm_tiny.rate"))
        for against, reference, goal in (
            ("bare_many.rate", BARES, RATE_GOAL),
            ("loop.rate", "the runner's loop without Kubernetes", None),
        )
    ),
    Row("map of 3 stages over {items} items of {item_mb} MB", "map.ended", SECONDS, "bare_many.ended", BARES_END),
    Row("{large_mib} MiB through 3 tasks", "large.ended", SECONDS, "bare_one.ended", BARE_END),
    Row(f"our writes for 1 task, {WITHOUT}", "one.writes", COUNT, goal=Goal(3)),
    Row(f"our writes for 1 task, {WITH}, with the new spare", "warm_one.writes", COUNT),
    Row(f"our writes for each of {{chain}} in a chain, {WITHOUT}", "chain.writes", COUNT, "one.writes", "1 task"),
    Row(f"our writes for each of {{fan_out}} at once, {WITHOUT}", "fan_out.writes", COUNT, "one.writes", "1 task"),
    Row(
        f"our writes for each of {{tiny}} tiny tasks, {WITHOUT}",
        "tiny.writes",
        COUNT,
        "one.writes",
        "1 task",
        WARM_WRITES,
    ),
    Row(
        f"our writes for each of {{tiny}} tiny tasks, {WITH}",
        "warm_tiny.writes",
        COUNT,
        "one.writes",
        "1 task",
        WARM_WRITES,
    ),
    *(
        Row(
            f"api with {{many}} Runs: {kind}, {part}", f"api.many.{kind}.{part}", SECONDS, f"api.few.{kind}.{part}", FEW
        )
        for kind in ("create", "get", "list")
        for part in ("p50", "p99")
    ),
    Row("memory of an api process with {many} Runs", "api.many.memory", MEMORY, "api.few.memory", FEW),
    *(
        Row(
            f"memory of the cluster's {part} with {{many}} Runs more", f"memory.many.maze-{part}", MEMORY, key, "before"
        )
        for part in ("api", "operator")
        for key in (f"memory.maze-{part}",)
    ),
    *(
        row
        for kind, title in (("chain", "chain of {chain}"), ("fan_out", "fan-out of {fan_out}"))
        for row in (
            Row(f"{CLIENT}, {title}: until its Run is made", f"client.{kind}_made", SECONDS),
            Row(
                f"{CLIENT}, {title}: told of the end",
                f"client.{kind}_told",
                SECONDS,
                f"same_{kind}.ended",
                SAME,
                AS_FAST,
            ),
            Row(f"{CLIENT}, {title}: it returns", f"client.{kind}_seconds", SECONDS, f"ray.{kind}_seconds", RAY),
        )
    ),
)


SECOND_REFERENCES = ("loop.rate",)
"""Of rows that are there once more with another reference."""


def middle(rounds: Sequence[Round], key: str) -> float | None:
    """The median of the rounds that have it."""
    found = [one[key] for one in rounds if key in one]
    return median(found) if found else None


def middle_ratio(rounds: Sequence[Round], key: str, against: str) -> float | None:
    """The median of what `key` is to `against` in each round that has both."""
    found = [one[key] / one[against] for one in rounds if key in one and one.get(against)]
    return median(found) if found else None


def combine(samples: Sequence[Round]) -> dict[str, float]:
    """Several samples of the same measures as one: their medians."""
    keys = sorted({key for one in samples for key in one})
    return {key: median([one[key] for one in samples if key in one]) for key in keys}


def build_results(rounds: Sequence[Round], scale: str, sizes: Json, machine: Json, notes: Sequence[str]) -> Json:
    """What is written as JSON, and all that `check.py` reads."""
    ratios = {
        f"{row.key}/{row.against}": ratio
        for row in ROWS
        if row.against and (ratio := middle_ratio(rounds, row.key, row.against)) is not None
    }
    return {
        "machine": machine,
        "scale": scale,
        "sizes": sizes,
        "notes": list(notes),
        "medians": combine(rounds),
        "ratios": ratios,
        "rounds": [dict(one) for one in rounds],
    }


def table(results: Json) -> str:
    """Markdown; rows that were not measured are left out, as are those whose only point is a reference that was not."""
    rounds, names = results["rounds"], _names(results["sizes"])
    lines = ["| work | Maze | reference | | ratio | goal | |", "|---|---|---|---|---|---|---|"]
    for row in ROWS:
        found = middle(rounds, row.key)
        ratio = middle_ratio(rounds, row.key, row.against) if row.against else None
        if found is None or (ratio is None and row.against in SECOND_REFERENCES):
            continue
        reference = middle(rounds, row.against) if row.against else None
        cells = [row.title.format_map(names), show(found, row.unit)]
        cells += [show(reference, row.unit), row.reference.format_map(names)] if reference is not None else ["", ""]
        cells += ["" if ratio is None else f"{ratio:.2f}", *_goal_cells(row, found, ratio, results["scale"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *footer(results)])


def _goal_cells(row: Row, found: float, ratio: float | None, scale: str) -> list[str]:
    """The goal and whether it is met. A goal is about the work of the default size."""
    value = ratio if row.goal and row.goal.of_ratio else found
    if row.goal is None or value is None or scale != "default":
        return ["", ""]
    wanted = f"ratio {row.goal.value:g}" if row.goal.of_ratio else f"{row.goal.value:g}{_gap(row.unit)}{row.unit}"
    return [f"{'≥' if row.goal.at_least else '≤'} {wanted}", "met" if row.goal.is_met(value) else "NOT MET"]


def _gap(unit: str) -> str:
    return " " if unit == SECONDS else ""


def footer(results: Json) -> list[str]:
    machine = results["machine"]
    count = len(results["rounds"])
    return [
        f"Medians of {count} round{'' if count == 1 else 's'} ({results['scale']} size);"
        " a ratio is the median of the rounds' ratios.",
        f"On {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}, Python {machine['python']},"
        f" load {' '.join(map(str, machine['load']))} before it began, commit {machine['commit']}, {machine['time']}.",
        *results["notes"],
    ]


def show(value: float, unit: str) -> str:
    """With as many digits as mean something."""
    if unit == MEMORY:
        return f"{value / 2**20:.0f} MiB"
    if unit == SECONDS and value < 0.1:
        return f"{value * 1000:.1f} ms"
    return f"{value:.2f} {unit}".rstrip() if unit != RATE else f"{value:.1f}/s"


def _names(sizes: Json) -> Json:
    more = {"item_mb": f"{sizes['item_bytes'] / 1e6:g}", "large_mib": f"{sizes['large_bytes'] / 2**20:g}"}
    return {key: f"{value:,}" for key, value in sizes.items()} | more
