"""The program `maze`, as a user types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster import Cluster

WORKFLOW = """
from maze import task

@task(inputs=["x"], outputs=["y"])
def double(params):
    print("doubling", params["x"])
    return {"y": 2 * params["x"]}

@task(inputs=["x"], outputs=["y"])
def divide(params):
    return {"y": 1 / params["x"]}

def main(client):
    workflow = client.create_workflow()
    first = workflow.add_task(double, inputs={"x": START})
    workflow.add_task(divide, inputs={"x": first.outputs["y"]})
    return workflow
"""


def maze(*arguments: str, fails: int = 0) -> str:
    """What the program prints, with the exit code that is expected."""
    program = Path(sys.executable).parent / "maze"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == fails, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "wf.py"
    made.write_text(WORKFLOW.replace("START", "1"))
    return made


def test_a_file_is_run_and_its_run_looked_at(cluster: Cluster, file: Path) -> None:
    shown = maze("run", str(file))
    run_id = shown.split()[1]
    cluster.adopt(run_id)
    assert "Workflow execution completed" in shown
    assert run_id in maze("ls")
    assert "Succeeded" in maze("get", run_id[:8])
    assert maze("logs", run_id, "double", "-f") == "doubling 1\n"
    assert "[divide]" in maze("graph", str(file))
    assert "-->" in maze("graph", run_id, "--mermaid")
    assert "has ended already" in maze("cancel", run_id, fails=1)
    assert "name one task" in maze("logs", run_id, fails=2)


def test_a_run_that_fails_is_seen_in_the_exit_code_and_told(cluster: Cluster, file: Path) -> None:
    file.write_text(WORKFLOW.replace("START", "0"))
    shown = maze("run", str(file), fails=1)
    run_id = shown.split()[1]
    cluster.adopt(run_id)
    assert "ZeroDivisionError" in shown
    assert "UserException" in maze("get", run_id)


def test_the_doctor_finds_this_system_well() -> None:
    shown = maze("doctor")
    assert [line[0] for line in shown.splitlines()] == ["✓"] * 5


@pytest.mark.parametrize(
    ("arguments", "fails", "words"),
    [
        (("get", "no-such-run"), 1, "no run 'no-such-run'"),
        (("run", "no-such-file.py"), 2, "no Python file"),
        (("ls", "-s", "http://127.0.0.1:9"), 1, "make up"),
        (("doctor", "-s", "http://127.0.0.1:9"), 1, "make up"),
    ],
)
def test_mistakes_are_one_line_that_says_what_to_do(arguments: tuple[str, ...], fails: int, words: str) -> None:
    assert words in maze(*arguments, fails=fails)
