"""What the SDK gives beyond the seed document, on real pods (and once without a cluster)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import Cluster
from maze import InvalidTask, MaClient, MaWorkflow, RunCancelled, RunFailed, RunNotEnded, task
from maze.testing import LocalClient

API = os.environ.get("MAZE_API", "http://127.0.0.1:8000")


@task(inputs=["x"], outputs=["y"], data_types={"x": "int"})
def square(params: dict[str, Any]) -> dict[str, Any]:
    print("squaring", params["x"])
    return {"y": params["x"] ** 2}


@task(inputs=["ys"], outputs=["total", "pair", "report"])
def summarise(params: dict[str, Any]) -> dict[str, Any]:
    from pathlib import Path

    report = Path("report.txt")
    report.write_text(f"sum {sum(params['ys'])}")
    return {"total": sum(params["ys"]), "pair": (1, {2, 3}), "report": report}


@task(inputs=["file"], outputs=["text"], timeout=60, retries=1, env={"COLOR": "blue"})
def read(params: dict[str, Any]) -> dict[str, Any]:
    import os

    return {"text": f"{params['file'].name}: {params['file'].read_text()} {os.environ['COLOR']}"}


@task(inputs=[], outputs=[], timeout=1)
def sleep(params: dict[str, Any]) -> None:
    import time

    time.sleep(600)


@task(inputs=[], outputs=[])
def sleep_long(params: dict[str, Any]) -> None:
    import time

    time.sleep(600)


@pytest.fixture
def workflow(cluster: Cluster) -> Iterator[MaWorkflow]:
    made = MaClient(API).create_workflow()
    yield made
    for run in MaClient(API).runs(workflow_id=made.workflow_id):
        cluster.delete_run(run["run_id"])


def test_a_task_is_mapped_over_a_list_and_its_outputs_are_gathered(workflow: MaWorkflow, tmp_path: Path) -> None:
    parts = workflow.map(square, [1, 2, 3, 4])
    total = workflow.add_task(summarise, inputs={"ys": [part.outputs["y"] for part in parts]})
    run_id = workflow.run()
    assert workflow.wait(run_id)["workflow_completed"]
    result = workflow.result(run_id, total, output_dir=str(tmp_path))
    assert (result["total"], result["pair"]) == (30, (1, {2, 3}))
    assert Path(result["report"]).read_text() == "sum 30"


def test_files_go_in_come_out_and_are_downloaded(
    workflow: MaWorkflow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tmp_path / "given.txt"
    given.write_text("hello")
    first = workflow.add_task(read, inputs={"file": given})
    made = workflow.add_task(summarise, inputs={"ys": [1, 2]})
    second = workflow.add_task(read, inputs={"file": made.outputs["report"]})
    run_id = workflow.run()
    summary = workflow.show_results(run_id, output_dir=str(tmp_path / "out"))
    assert summary["task_results"][first.task_id] == {"text": "given.txt: hello blue"}
    assert summary["task_results"][second.task_id] == {"text": "report.txt: sum 3 blue"}
    (saved,) = (tmp_path / "out").rglob("report.txt")
    assert saved.read_text() == "sum 3"
    assert str(saved) in capsys.readouterr().out


def test_what_a_task_printed_can_be_read(workflow: MaWorkflow) -> None:
    made = workflow.add_task(square, inputs={"x": 5})
    run_id = workflow.run()
    assert list(workflow.logs(run_id, made, follow=True)) == ["squaring 5"]
    assert workflow.status(run_id)["status"] in ("Running", "Succeeded")


def test_a_run_is_cancelled_and_waiting_says_so(workflow: MaWorkflow) -> None:
    workflow.add_task(sleep_long)
    run_id = workflow.run()
    with pytest.raises(RunNotEnded, match="has not ended"):
        workflow.wait(run_id, timeout=0.5)
    workflow.cancel(run_id)
    with pytest.raises(RunCancelled):
        workflow.wait(run_id)


def test_a_timeout_fails_the_run_and_waiting_says_why(workflow: MaWorkflow) -> None:
    workflow.add_task(sleep)
    run_id = workflow.run()
    with pytest.raises(RunFailed, match="TimedOut"):
        workflow.wait(run_id)


def test_a_value_of_another_type_than_declared_is_refused_before_anything_runs(workflow: MaWorkflow) -> None:
    with pytest.raises(InvalidTask, match="declared as int, but is str"):
        workflow.add_task(square, inputs={"x": "five"})
    assert workflow.get_tasks() == []


@pytest.mark.parametrize("terminal", [True, False])
def test_waiting_shows_a_progress_bar_on_a_terminal_only(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1" if terminal else "0")
    workflow = LocalClient().create_workflow()
    workflow.map(square, [1, 2])
    workflow.wait(workflow.run())
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("2/2" in shown.err) is terminal
    assert bool(shown.err) is terminal


def test_the_same_workflow_runs_without_a_cluster(tmp_path: Path) -> None:
    workflow = LocalClient().create_workflow()
    parts = workflow.map(square, [1, 2])
    total = workflow.add_task(summarise, inputs={"ys": [part.outputs["y"] for part in parts]})
    run_id = workflow.run()
    assert workflow.wait(run_id)["workflow_completed"]
    assert workflow.result(run_id, total, output_dir=str(tmp_path))["total"] == 5
