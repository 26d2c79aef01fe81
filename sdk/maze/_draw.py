"""The graph of a workflow as an image, by graphviz or by matplotlib; both are extras (`pip install maze-sdk[draw]`)."""

from __future__ import annotations

import importlib
import textwrap
from pathlib import Path
from typing import Any, Dict, List, Tuple

from maze._errors import DrawingUnavailable, InvalidTask
from maze._graph import Edges, Nodes, levels

FORMATS = ("png", "pdf", "svg", "jpg", "jpeg")
METHODS = ("auto", "graphviz", "matplotlib")
LABEL_WIDTH = 22
FILL, LINE = "#e8f0fe", "#3b5b92"

Point = Tuple[float, float]


def draw(nodes: Nodes, edges: Edges, path: str, method: str, figsize: Tuple[float, float], dpi: int) -> str:
    """See MaWorkflow.draw_graph."""
    target = Path(path)
    ending = target.suffix.lower().lstrip(".")
    if ending not in FORMATS:
        raise InvalidTask(f"output_path is {path!r}, but must end with one of: {', '.join(FORMATS)}")
    if method not in METHODS:
        raise InvalidTask(f"method is {method!r}, but must be one of: {', '.join(METHODS)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    if method == "matplotlib":
        _by_matplotlib(nodes, edges, target, ending, figsize, dpi)
    else:
        try:
            _by_graphviz(nodes, edges, target, ending, dpi)
        except DrawingUnavailable:
            if method == "graphviz":
                raise
            _by_matplotlib(nodes, edges, target, ending, figsize, dpi)
    return path


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DrawingUnavailable(
            f"draw_graph needs graphviz or matplotlib, and '{error.name or name}' is not installed: "
            "pip install graphviz (and the program dot, Debian package graphviz), or pip install matplotlib"
        ) from error


def _by_graphviz(nodes: Nodes, edges: Edges, target: Path, ending: str, dpi: int) -> None:
    library = _library("graphviz")
    scale = {"dpi": str(dpi)} if ending in ("png", "jpg", "jpeg") else {}
    graph = library.Digraph(graph_attr={"rankdir": "TB", **scale})
    graph.attr("node", shape="box", style="rounded,filled", fillcolor=FILL, color=LINE, fontname="Helvetica")
    graph.attr("edge", color=LINE)
    for task_id, node in nodes.items():
        graph.node(task_id, label=library.escape(_label(node)))
    for source, end in edges:
        graph.edge(source, end)
    try:
        image: bytes = graph.pipe(format=ending)
    except library.ExecutableNotFound as error:
        raise DrawingUnavailable(
            "graphviz needs its program dot, which is not on the PATH (Debian package graphviz); "
            'or take method="matplotlib"'
        ) from error
    target.write_bytes(image)


def _by_matplotlib(
    nodes: Nodes, edges: Edges, target: Path, ending: str, figsize: Tuple[float, float], dpi: int
) -> None:
    figure = _library("matplotlib.figure").Figure(figsize=figsize)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    places = layout(nodes, edges)
    axes.set_xlim(-0.5, max((x for x, _ in places.values()), default=0) + 0.5)
    axes.set_ylim(-max((y for _, y in places.values()), default=0) - 0.5, 0.5)
    widest = max((sum(y == level for _, y in places.values()) for _, level in places.values()), default=1)
    size = max(3.0, min(11.0, 8.0 * figsize[0] / widest / 1.6))
    for source, end in edges:
        (x1, y1), (x2, y2) = places[source], places[end]
        arrow = {"arrowstyle": "-|>", "color": LINE, "shrinkA": 2 * size, "shrinkB": 2 * size}
        axes.annotate("", xy=(x2, -y2), xytext=(x1, -y1), arrowprops=arrow, zorder=1)
    box = {"boxstyle": "round,pad=0.5", "facecolor": FILL, "edgecolor": LINE}
    for task_id, (x, y) in places.items():
        axes.text(
            x,
            -y,
            _label(nodes[task_id]).replace("$", r"\$"),
            ha="center",
            va="center",
            fontsize=size,
            bbox=box,
            zorder=2,
        )
    figure.savefig(target, format=ending, dpi=dpi)


def layout(nodes: Nodes, edges: Edges) -> Dict[str, Point]:
    """(column, row) of each task: the row is its level, and in it tasks stand near those they wait for. Rows are centred."""
    rows: Dict[int, List[str]] = {}
    for task_id, level in levels(nodes, edges).items():
        rows.setdefault(level, []).append(task_id)
    before: Dict[str, List[str]] = {task_id: [] for task_id in nodes}
    for source, end in edges:
        before[end].append(source)
    widest = max((len(row) for row in rows.values()), default=0)
    places: Dict[str, Point] = {}
    for level in sorted(rows):

        def wish(task_id: str) -> float:
            return sum(places[source][0] for source in before[task_id]) / max(1, len(before[task_id]))

        row = sorted(rows[level], key=wish)
        for number, task_id in enumerate(row):
            places[task_id] = ((number + 0.5) * widest / len(row) - 0.5, float(level - 1))
    return places


def _label(node: Dict[str, Any]) -> str:
    return "\n".join(textwrap.wrap(str(node["name"]), LABEL_WIDTH)[:3]) or " "
