"""The structure of a workflow as text and as data. Pure."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

Node = Dict[str, Any]
"""name, func_name, inputs, outputs, resources"""
Nodes = Mapping[str, Node]
Edges = Sequence[Tuple[str, str]]
"""(source task id, target task id)"""

WIDTH = 62
TITLE = "Workflow Structure Visualization"


def short(task_id: str) -> str:
    """`task_` and the first eight characters of the id."""
    return "task_" + task_id.replace("task_", "", 1)[:8]


def text(nodes: Nodes, edges: Edges) -> str:
    """What `print_graph` prints."""
    lines = ["╔" + "═" * WIDTH + "╗", "║" + TITLE.center(WIDTH) + "║", "╚" + "═" * WIDTH + "╝", ""]
    lines.append("Nodes (Tasks):")
    lines += [f"  • {short(task_id)}... [{node['name']}]" for task_id, node in nodes.items()] or ["  (none)"]
    lines += ["", "Dependencies (Edges):"]
    lines += [f"  {short(source)}... → {short(target)}..." for source, target in edges] or ["  (none)"]
    return "\n".join(lines)


def mermaid(nodes: Nodes, edges: Edges) -> str:
    """Mermaid's flowchart syntax."""
    lines = ["graph TD"]
    for task_id, node in nodes.items():
        label = str(node["name"]).replace('"', "#quot;").replace("\n", " ")
        lines.append(f'    {short(task_id)}["{label}"]')
    lines += [f"    {short(source)} --> {short(target)}" for source, target in edges]
    return "\n".join(lines)


def info(nodes: Nodes, edges: Edges) -> Dict[str, Any]:
    """`{"nodes": {id: node}, "edges": [[source, target]], "stats": {total_nodes, total_edges, max_depth}}`."""
    return {
        "nodes": {task_id: dict(node) for task_id, node in nodes.items()},
        "edges": [[source, target] for source, target in edges],
        "stats": {"total_nodes": len(nodes), "total_edges": len(edges), "max_depth": depth(nodes, edges)},
    }


def depth(nodes: Nodes, edges: Edges) -> int:
    """Tasks on the longest path."""
    return max(levels(nodes, edges).values(), default=0)


def levels(nodes: Nodes, edges: Edges) -> Dict[str, int]:
    """For each task, how many tasks are on the longest path that ends with it.

    Edges of a workflow have no cycle: the server refuses those that would close one.
    """
    targets: Dict[str, List[str]] = {task_id: [] for task_id in nodes}
    missing = dict.fromkeys(nodes, 0)
    for source, target in edges:
        if source in targets and target in missing:
            targets[source].append(target)
            missing[target] += 1
    level = dict.fromkeys(nodes, 1)
    ready = [task_id for task_id, count in missing.items() if count == 0]
    while ready:
        source = ready.pop()
        for target in targets[source]:
            level[target] = max(level[target], level[source] + 1)
            missing[target] -= 1
            if missing[target] == 0:
                ready.append(target)
    return level
