"""Pictures of a workflow are real pictures, in the format that the name asks for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from maze import MaWorkflow, task
from maze.testing import LocalClient

MAGIC = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<", "jpg": b"\xff\xd8\xff"}


@task(inputs=["x"], outputs=["y"])
def step(params: dict[str, Any]) -> dict[str, Any]:
    return {"y": params["x"]}


@pytest.fixture
def workflow() -> MaWorkflow:
    made = LocalClient().create_workflow()
    first = made.add_task(step, inputs={"x": 1})
    made.add_task(step, inputs={"x": first.outputs["y"]}, task_name="second")
    return made


@pytest.mark.parametrize("method", ["auto", "matplotlib", "graphviz"])
@pytest.mark.parametrize("suffix", sorted(MAGIC))
def test_the_graph_is_drawn(workflow: MaWorkflow, tmp_path: Path, suffix: str, method: str) -> None:
    if method == "graphviz" and shutil.which("dot") is None:
        pytest.skip("needs the program dot (Debian: graphviz)")
    path = tmp_path / f"graph.{suffix}"
    assert workflow.draw_graph(str(path), method=method, figsize=(4, 3), dpi=50) == str(path)
    assert path.read_bytes().startswith(MAGIC[suffix])


def test_a_format_that_is_not_known_is_refused(workflow: MaWorkflow, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="png, pdf, svg, jpg"):
        workflow.draw_graph(str(tmp_path / "graph.gif"))
