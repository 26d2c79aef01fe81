"""What the program `maze` makes of the files that users write. No server is needed to see a graph, nor to be told a mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
from maze import task

@task(inputs=["x"], outputs=["y"])
def double(params):
    return {"y": 2 * params["x"]}
"""
MAIN = """
def main(client):
    workflow = client.create_workflow()
    first = workflow.add_task(double, inputs={"x": 1})
    workflow.add_task(double, inputs={"x": first.outputs["y"]}, task_name="second")
    return workflow
"""


def maze(*arguments: str) -> tuple[int, str]:
    """Exit code, and what the program prints."""
    program = Path(sys.executable).parent / "maze"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["wf.py", "json.py", "queue.py"])
def test_the_graph_of_a_file_is_shown_without_a_server(tmp_path: Path, name: str) -> None:
    """Also where the file is called like a module that Maze itself needs."""
    file = tmp_path / name
    file.write_text(HEAD + MAIN)
    code, shown = maze("graph", str(file), "-s", "http://127.0.0.1:9")
    assert code == 0, shown
    assert "[second]" in shown
    code, shown = maze("graph", str(file), "--mermaid")
    assert (code, shown.splitlines()[0]) == (0, "graph TD")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def main(client):\n    return 1 / 0\n", "wf.py, line 2: ZeroDivisionError: division by zero"),
        ("def main(client)\n", "wf.py, line 1: SyntaxError"),
        ("import no_such_module_at_all\n", "line 1: ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("def main():\n    pass\n", "main takes one argument: the client"),
        ("x = 1\n", "neither `def main(client)` that returns a workflow, nor `workflow = ...`"),
        (HEAD + MAIN.replace('"x": 1', '"z": 1'), "task 'double' has no input ['z']"),
    ],
)
def test_mistakes_in_a_file_are_one_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "wf.py"
    file.write_text(text)
    code, shown = maze("graph", str(file))
    assert code != 0
    assert words in shown
    assert len(shown.splitlines()) == 1
