"""The table of `bench/scale.py`. Pure: no I/O. Each part is measured by itself, and so are both sides of each ratio in it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from report import COUNT, RATE, SECONDS, Goal, Row, footer, show
from report import MEMORY as MIB

from maze_cluster.kwok import END_SECONDS

Json = dict[str, Any]
KIB, PERCENT = "KiB", "%"


@dataclass(frozen=True)
class Sizes:
    """How much of everything is measured."""

    tasks: int = 10_000
    """Of a large Run."""
    pods: int = 1_000
    """Of a Run that is compared with as many bare pods, again and again."""
    chain: int = 2_000
    runs: int = 1_000
    """At once, of ten container tasks each."""
    warm_runs: int = 50
    """At once, of ten tiny Python tasks each: these have real pods."""
    per_second: float = 20.0
    seconds: float = 300.0
    """Of a steady stream of Runs."""
    nodes: int = 20
    """Fake ones."""


SMALL = "the same shape of 100"
BARE = "{pods} bare pods there"
AS_FAST, AS_DEAR = Goal(0.85, of_ratio=True, at_least=True), Goal(1.5, of_ratio=True)
NONE = Goal(0)
OBJECT, ETCD = Goal(512 * 1024), Goal(5000.0)
"""Bytes: of one object, and put into etcd for each task (50 MB for 10,000)."""
LINE = Goal(199)
"""Characters that are still read in one line."""


def _pods(part: str, title: str) -> tuple[Row, ...]:
    run, bare = f"{part}.run", f"{part}.bare"
    what = f"{{pods}} container tasks on fake nodes, {title}"
    return (
        Row(f"{what}: pods per second", f"{run}.rate", RATE, f"{bare}.rate", BARE, AS_FAST),
        Row(f"{what}: slowest to fastest", f"{run}.spread", PERCENT, f"{bare}.spread", BARE),
        Row(f"{what}: bytes put into etcd for each", f"{run}.put", KIB, f"{bare}.put", BARE),
        Row(f"{what}: of these, Maze's own objects", f"{run}.own_put", KIB),
        Row(f"{what}: Maze's writes for each", f"{run}.writes", COUNT),
        Row(f"{what}: CPU of the operator for each", f"{run}.cpu.operator", SECONDS),
        Row(f"{what}: CPU of the whole system for each", f"{run}.cpu.all", SECONDS, f"{bare}.cpu.all", BARE),
    )


def _shape(shape: str, title: str, each: str = "task", bytes_goal: str = "") -> tuple[Row, ...]:
    """`bytes_goal`: which bytes have one, "put" or "own_put": where each task has a pod, most bytes are those of the pods."""
    small = f"{shape}.small"
    goals = {bytes_goal: ETCD}
    return (
        Row(f"{title}: {each}s per second", f"{shape}.rate", RATE, f"{small}.rate", SMALL),
        Row(f"{title}: time of a {each}", f"{shape}.task", SECONDS, f"{small}.task", SMALL, AS_DEAR),
        Row(
            f"{title}: CPU of the operator for a {each}",
            f"{shape}.cpu.operator",
            SECONDS,
            f"{small}.cpu.operator",
            SMALL,
            AS_DEAR,
        ),
        *(
            Row(f"{title}: {what}", f"{shape}.{key}", KIB, f"{small}.{key}", SMALL, goals.get(key))
            for key, what in (
                ("put", f"bytes put into etcd for a {each}"),
                ("own_put", "of these, Maze's own objects"),
            )
        ),
        Row(f"{title}: Maze's writes for a {each}", f"{shape}.writes", COUNT, f"{small}.writes", SMALL),
        Row(f"{title}: its last pod has ended → it has", f"{shape}.told_late", SECONDS),
        Row(f"{title}: largest object of Maze's", f"{shape}.largest", KIB, goal=OBJECT),
        Row(f"{title}: replay of all its events", f"{shape}.replay", SECONDS),
        Row(f"{title}: numbers of events that are wrong", f"{shape}.replay_wrong", COUNT, goal=NONE),
        Row(f"{title}: characters of a line of kubectl get run", f"{shape}.line", COUNT, goal=LINE),
    )


def _fair(key: str, title: str, beside: str) -> Row:
    return Row(
        f"{title}, beside {beside}: created → it runs", f"{key}.beside", SECONDS, f"{key}.alone", "alone", Goal(2)
    )


def _namespaces(key: str, title: str) -> tuple[Row, ...]:
    return (
        _fair(key, title, "{warm_runs} Runs in another namespace"),
        Row(f"{title}: created → its pod is seen", f"{key}.first_pod", SECONDS),
        Row(f"{title}: of the {{warm_runs}} Runs, those that had not begun by then", f"{key}.waiting", COUNT),
    )


def _gone(part: str, title: str, seconds: float) -> tuple[Row, ...]:
    return (
        Row(f"{title}: until the next task begins", f"{part}.silence", SECONDS, goal=Goal(seconds)),
        Row(f"{title}: tasks that had not begun", f"{part}.live", COUNT),
        Row(f"{title}: tasks that ran twice", f"{part}.repeated", COUNT, goal=NONE),
        Row(f"{title}: tasks that never ran", f"{part}.missing", COUNT, goal=NONE),
    )


MANY = "{runs} Runs of 10 container tasks at once"
STREAM = "{per_second} Runs a second for {seconds} s"
ROWS: dict[str, tuple[Row, ...]] = {
    "pods": _pods("pods", "limits lifted"),
    "pods_default": _pods("pods_default", "the scheduler's default limits"),
    "pods_flat": _shape("pods_flat", "{tasks} container tasks, flat", "pod", "own_put"),
    "pods_layers": _shape("pods_layers", "{tasks} container tasks in layers", "pod", "own_put"),
    "pods_chain": _shape("pods_chain", "chain of {chain} container tasks", "pod"),
    "flat": _shape("flat", "{tasks} tasks, flat", bytes_goal="put"),
    "layers": _shape("layers", "{tasks} tasks in layers", bytes_goal="put"),
    "chain": _shape("chain", "chain of {chain}"),
    "many": (
        Row(f"{MANY}: pods per second", "many.rate", RATE, "many.bare.rate", "as many bare pods"),
        Row(f"{MANY}: all have succeeded", "many.seconds", SECONDS, "many.bare.seconds", "as many bare pods"),
        Row(f"{MANY}: Runs per second", "many.runs_rate", RATE),
    ),
    "warm": (
        Row(
            "{warm_runs} Runs of 10 tiny tasks at once: all have succeeded",
            "warm.seconds",
            SECONDS,
            "warm.bare.ended",
            "{warm_runs} bare pods",
        ),
    ),
    "stream": (
        Row(f"{STREAM}: created → ended, p50", "stream.p50", SECONDS),
        Row(f"{STREAM}: created → ended, p99", "stream.p99", SECONDS),
        Row(f"{STREAM}: created per second", "stream.rate", RATE),
        Row(f"{STREAM}: Runs open and older than 5 s at the end", "stream.backlog", COUNT),
    ),
    "fair": (_fair("fair", "1 task", "a Run of {tasks}"),),
    "fair_namespaces": (
        *_namespaces("fair_namespaces", "the only Run of a namespace"),
        *_namespaces("fair_namespaces.spares", "the only Run of a namespace with spare pods"),
    ),
    "fair_pods": (_fair("fair_pods", "1 pod", "a Run of {tasks} pods"),),
    "recovery": _gone("recovery", "operator killed in a Run of {tasks}", 10),
    "standby": (
        *_gone("standby", "operator hangs in a Run of {tasks}", 15),
        Row("operator hangs: until another one leads", "standby.leads", SECONDS),
    ),
    "memory": (
        Row("memory of the operator for 1,000 tasks that wait", "memory.waiting", MIB),
        Row("memory of the operator for 1,000 tasks, at most", "memory.working", MIB),
        Row("memory of the operator with {tasks} tasks, at most", "memory.most", MIB, "memory.before", "before"),
    ),
}
"""Part -> its rows."""
SHORT_SECONDS = 0.1
FAKE = {
    **dict.fromkeys(("many", "stream", "fair_pods"), END_SECONDS),
    # A longer life would be most of the time of a small Run, and of a chain, and at the end of each both cores would wait for the
    # last pods: what pods cost would not be seen.
    **dict.fromkeys(("pods", "pods_default", "pods_flat", "pods_layers", "pods_chain"), SHORT_SECONDS),
}
"""Part that needs fake nodes -> how long a pod lives on them."""
GROUPS = {"kwok": tuple(FAKE), "work": ("flat", "layers", "chain")}


def read_parts(text: str) -> tuple[str, ...]:
    """Names of parts or groups, with commas. Raises argparse.ArgumentTypeError for what is none."""
    wanted = [part for name in text.split(",") for part in GROUPS.get(name, (name,))]
    if unknown := set(wanted) - set(ROWS):
        raise argparse.ArgumentTypeError(f"there is no part {', '.join(sorted(unknown))}")
    return tuple(part for part in ROWS if part in wanted)


def build_part(measures: Mapping[str, float], sizes: Sizes, machine: Json) -> Json:
    """What is written as JSON for one part."""
    return {"sizes": asdict(sizes), "machine": machine, "measures": dict(measures)}


def table(parts: Mapping[str, Json], notes: list[str]) -> str:
    """Markdown; rows that were not measured are left out. `parts`: part -> build_part."""
    lines = ["| work | Maze | reference | | ratio | goal | |", "|---|---|---|---|---|---|---|"]
    for part, rows in ROWS.items():
        if part in parts:
            lines += [_line(row, parts[part]) for row in rows if row.key in parts[part]["measures"]]
    last = list(parts.values())[-1:]
    about = [footer({**one, "rounds": [one], "scale": "one", "notes": notes})[1:] for one in last]
    return "\n".join([*lines, "", *(about[0] if about else notes)])


def _line(row: Row, part: Json) -> str:
    measures = part["measures"]
    names = {key: f"{value:,g}" for key, value in part["sizes"].items()}
    found, reference = measures[row.key], measures.get(row.against)
    ratio = found / reference if reference else None
    cells = [row.title.format_map(names), _show(found, row.unit)]
    cells += ["", ""] if reference is None else [_show(reference, row.unit), row.reference.format_map(names)]
    cells += ["" if ratio is None else f"{ratio:.2f}", *_goal(row, found, ratio)]
    return f"| {' | '.join(cells)} |"


def _goal(row: Row, found: float, ratio: float | None) -> list[str]:
    value = ratio if row.goal and row.goal.of_ratio else found
    if row.goal is None or value is None:
        return ["", ""]
    wanted = f"ratio {row.goal.value:g}" if row.goal.of_ratio else _show(row.goal.value, row.unit)
    return [f"{'≥' if row.goal.at_least else '≤'} {wanted}", "met" if row.goal.is_met(value) else "NOT MET"]


def _show(value: float, unit: str) -> str:
    if unit == KIB:
        return f"{value / 1024:.1f} KiB"
    if unit == COUNT:
        return f"{value:.3g}" if value % 1 else f"{value:.0f}"
    return show(value, unit)


def missed(parts: Mapping[str, Json]) -> list[str]:
    """Titles of the rows whose goal is not met."""
    found = []
    for part, made in parts.items():
        for row in ROWS[part]:
            if row.key in made["measures"] and "NOT MET" in (line := _line(row, made)):
                found.append(line.split(" | ")[0].removeprefix("| "))
    return found
