"""If these fail, graphs and results are printed in another form than the reference shows."""

from __future__ import annotations

from maze import _graph, _results

NODES = {
    "12345678-aaaa": {"name": "process_data", "func_name": "f", "inputs": ["x"], "outputs": ["y"], "resources": {}},
    "87654321-bbbb": {"name": "format_output", "func_name": "g", "inputs": [], "outputs": [], "resources": {}},
}
EDGES = [("12345678-aaaa", "87654321-bbbb")]


def test_print_graph() -> None:
    assert (
        _graph.text(NODES, EDGES)
        == """\
╔══════════════════════════════════════════════════════════════╗
║               Workflow Structure Visualization               ║
╚══════════════════════════════════════════════════════════════╝

Nodes (Tasks):
  • task_12345678... [process_data]
  • task_87654321... [format_output]

Dependencies (Edges):
  task_12345678... → task_87654321..."""
    )


def test_mermaid() -> None:
    assert (
        _graph.mermaid(NODES, EDGES)
        == """\
graph TD
    task_12345678["process_data"]
    task_87654321["format_output"]
    task_12345678 --> task_87654321"""
    )


def test_info() -> None:
    info = _graph.info(NODES, EDGES)
    assert info["nodes"]["12345678-aaaa"]["inputs"] == ["x"]
    assert info["edges"] == [["12345678-aaaa", "87654321-bbbb"]]
    assert info["stats"] == {"total_nodes": 2, "total_edges": 1, "max_depth": 2}
    assert _graph.info({}, [])["stats"]["max_depth"] == 0


def test_depth_of_a_diamond_and_of_a_long_chain() -> None:
    nodes = {name: {"name": name} for name in "abcd"}
    assert _graph.depth(nodes, [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]) == 3
    chain = {str(number): {"name": ""} for number in range(5000)}
    assert _graph.depth(chain, [(str(n), str(n + 1)) for n in range(4999)]) == 5000


def test_results_are_printed_as_the_reference_shows() -> None:
    task = {"task_id": "12345678-aaaa"}
    assert _results.lines({"type": "start_task", "data": task}) == ["▶ Task started: task_12345678"]
    assert _results.lines({"type": "finish_task", "data": {**task, "result": {"result": "HELLO WORLD"}}}) == [
        "✓ Task completed: task_12345678",
        "  result: HELLO WORLD",
    ]
    assert _results.lines({"type": "finish_workflow", "data": {}}) == ["✅ Workflow execution completed!"]


def test_a_traceback_is_shown_by_the_line_that_says_what_happened() -> None:
    text = 'Traceback (most recent call last):\n  File "x", line 1\nValueError: too small\n\n'
    message = {"type": "task_exception", "data": {"task_id": "12345678-aaaa", "result": text}}
    assert _results.lines(message) == ["❌ Task failed: task_12345678", "  error: ValueError: too small"]
    assert _results.lines({"type": "finish_workflow", "data": {}}, failed=1) == [
        "⚠️  Workflow execution completed, 1 task failed"
    ]


def test_the_summary_has_the_shape_of_the_reference() -> None:
    messages = [
        {"type": "finish_task", "data": {"task_id": "a", "result": {"y": 1}}},
        {"type": "task_exception", "data": {"task_id": "b", "result": "text"}},
        {"type": "finish_workflow", "data": {"status": "Failed"}},
    ]
    assert _results.summary(messages) == {
        "task_results": {"a": {"y": 1}},
        "workflow_completed": True,
        "has_exception": True,
        "exception_tasks": ["b"],
    }
    cancelled = [{"type": "finish_workflow", "data": {"status": "Cancelled"}}]
    assert _results.summary(cancelled)["workflow_completed"] is False
