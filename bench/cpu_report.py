"""Where the CPU time of a fan-out goes, as a table, and how far its speed is from what the cores could do. Pure: no I/O."""

from __future__ import annotations

from typing import Any

from report import middle

Json = dict[str, Any]
TITLES = {
    "runners": "the runners: the pods of the Run, and spares",
    "operator": "the operator",
    "apiserver": "API server",
    "etcd": "etcd",
    "control": "controller manager, scheduler, kube-proxy",
    "node": "kubelet, containerd and its shims",
    "coredns": "CoreDNS",
    "store": "object store",
    "api": "the api",
    "bench": "this program, which watches",
    "others": "other programs on this machine",
    "rest": "the kernel, and processes that came and went (runc)",
}
COLUMNS = {"tiny": "without spare pods", "warm_tiny": "with spare pods"}


def cpu_table(results: Json) -> str:
    """Markdown: milliseconds of CPU for each task by part of the system; "" where it was not measured."""
    rounds, cores = results["rounds"], results["machine"]["cores"]
    names = [name for name in COLUMNS if middle(rounds, f"{name}.cpu.all")]
    if not names:
        return ""
    head = f"CPU ms for each of {results['sizes']['tiny']:,} tiny tasks"
    lines = [f"| {head} | {' | '.join(COLUMNS[name] for name in names)} |", f"|---|{'---|' * len(names)}"]
    for part, title in TITLES.items():
        lines.append(_line(title, [_part(results, name, part) for name in names]))
    lines.append(_line("all", [f"{_milliseconds(results, name, 'all'):.2f}" for name in names]))
    had = [f"{_milliseconds(results, name, 'wall') * cores:.2f}" for name in names]
    lines.append(_line(f"what {cores} cores had in that time", had))
    return "\n".join([*lines, "", *(_sentence(results, name) for name in names)])


def _line(title: str, cells: list[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


def _milliseconds(results: Json, name: str, part: str) -> float:
    return (middle(results["rounds"], f"{name}.cpu.{part}") or 0.0) * 1000


def _part(results: Json, name: str, part: str) -> str:
    found = _milliseconds(results, name, part)
    return f"{found:.2f} ({found / _milliseconds(results, name, 'all'):.0%})"


def _sentence(results: Json, name: str) -> str:
    """What the numbers of one column mean for the speed."""
    cores = results["machine"]["cores"]
    used, had = _milliseconds(results, name, "all"), _milliseconds(results, name, "wall") * cores
    text = (
        f"{COLUMNS[name].capitalize()}: {used:.2f} ms of CPU for each task allow {cores * 1000 / used:.0f} tasks/s on"
        f" {cores} cores; it was {cores * 1000 / had:.0f}/s, with the cores busy for {used / had:.0%} of the time."
    )
    loop = middle(results["rounds"], "loop.rate")
    if loop is None:
        return text
    return f"{text} The runner's loop alone, without Kubernetes, an operator or an object store, does {loop:.0f}/s."
