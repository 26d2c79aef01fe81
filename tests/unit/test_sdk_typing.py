"""What a type checker sees of the SDK: a decorated function stays what it was."""

from __future__ import annotations

from pathlib import Path

from mypy import api

PROGRAM = """
from typing import Any, Dict

from maze import MaClient, task


@task(inputs=["x"], outputs=["y"])
def double(params: Dict[str, int]) -> Dict[str, int]:
    return {"y": 2 * params["x"]}


reveal_type(double)
workflow = MaClient().create_workflow()
made = workflow.add_task(double, inputs={"x": 1})
reveal_type(made)
reveal_type(made.outputs["y"])
reveal_type(workflow.map(double, [1, 2]))
run_id = workflow.run()
reveal_type(run_id)
reveal_type(workflow.get_results(run_id))
reveal_type(workflow.result(run_id, made))
workflow.add_edge(made, "not a task")
"""

SEEN = [
    "def (params: dict[str, int]) -> dict[str, int]",
    "maze._task.MaTask",
    "maze._task.TaskOutput",
    "list[maze._task.MaTask]",
    "str",
    "list[dict[str, Any]]",
    "dict[str, Any]",
]


def test_the_types_that_users_see(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    cache = f"--cache-dir={tmp_path / 'cache'}"
    output, errors, _ = api.run([str(file), "--strict", "--no-error-summary", cache, "--config-file="])
    assert errors == ""
    plain = output.replace("builtins.", "")
    revealed = [line.split('Revealed type is "')[1].rstrip('"') for line in plain.splitlines() if "Revealed" in line]
    assert revealed == SEEN
    (mistake,) = [line for line in plain.splitlines() if "error:" in line]
    assert 'incompatible type "str"; expected "MaTask"' in mistake
