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
class Row:
    """One line: `key` against `against`. `{...}` in the titles is filled in from the sizes."""

    title: str
    key: str
    unit: str
    against: str | None = None
    reference: str = ""


BARE = "one bare pod"
BARES = "{fan_out} bare pods at once"
FEW = "with {few} Runs"
ROWS = (
    Row("1 task, from a cold start: created → its code runs", "one.began", SECONDS, "bare_one.began", BARE),
    Row("1 task: created → its pod is seen", "one.first_pod", SECONDS),
    Row("1 task: created → its pod is seen running", "one.running", SECONDS, "bare_one.running", BARE),
    Row("1 task: created → ended", "one.ended", SECONDS, "bare_one.ended", f"{BARE}, succeeded"),
    Row("chain of {chain}: created → ended", "chain.ended", SECONDS, "bare_one.ended", f"{BARE}, succeeded"),
    Row("fan-out of {fan_out}: created → ended", "fan_out.ended", SECONDS, "bare_many.ended", f"{BARES}, succeeded"),
    Row("fan-out of {tiny} tiny tasks: tasks per second", "tiny.rate", RATE, "bare_many.rate", BARES),
    Row("map of 3 stages over {items} items of {item_mb} MB", "map.ended", SECONDS, "bare_many.ended", BARES),
    Row("{large_mib} MiB through 3 tasks", "large.ended", SECONDS, "bare_one.ended", f"{BARE}, succeeded"),
    Row("writes by the operator for 1 task", "one.writes", COUNT),
    Row("writes by the operator for each of {chain} in a chain", "chain.writes", COUNT, "one.writes", "1 task"),
    Row("writes by the operator for each of {fan_out} at once", "fan_out.writes", COUNT, "one.writes", "1 task"),
    *(
        Row(
            f"api with {{many}} Runs: {kind}, {part}", f"api.many.{kind}.{part}", SECONDS, f"api.few.{kind}.{part}", FEW
        )
        for kind in ("create", "get", "list")
        for part in ("p50", "p99")
    ),
    Row("memory of an api process with {many} Runs", "api.many.memory", MEMORY, "api.few.memory", FEW),
    Row(
        "memory of the operator with {many} Runs more",
        "memory.many.maze-operator",
        MEMORY,
        "memory.maze-operator",
        "before",
    ),
    Row(
        "memory of the cluster's api with {many} Runs elsewhere",
        "memory.many.maze-api",
        MEMORY,
        "memory.maze-api",
        "before",
    ),
    Row("the original client, chain of {chain}", "original.chain", SECONDS, "ray.chain", "Maze on Ray"),
    Row("the original client, fan-out of {fan_out}", "original.fan_out", SECONDS, "ray.fan_out", "Maze on Ray"),
)


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
    """Markdown; rows that were not measured are left out."""
    rounds, names = results["rounds"], _names(results["sizes"])
    lines = ["| work | Maze | reference | | ratio |", "|---|---|---|---|---|"]
    for row in ROWS:
        found = middle(rounds, row.key)
        if found is None:
            continue
        reference = middle(rounds, row.against) if row.against else None
        ratio = middle_ratio(rounds, row.key, row.against) if row.against else None
        cells = [row.title.format_map(names), show(found, row.unit)]
        cells += [show(reference, row.unit), row.reference.format_map(names)] if reference is not None else ["", ""]
        lines.append(f"| {' | '.join(cells)} | {'' if ratio is None else f'{ratio:.2f}'} |")
    return "\n".join([*lines, "", *footer(results)])


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
