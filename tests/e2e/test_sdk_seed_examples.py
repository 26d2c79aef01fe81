"""The examples of the SDK's reference, as they are written there, on real pods."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cluster import Cluster
from maze import MaClient, MaTask, MaWorkflow, MazeError, TaskOutput, get_task_metadata, task


@task(inputs=["text"], outputs=["result"])
def process_text(params: dict[str, Any]) -> dict[str, Any]:
    text = params["text"]
    return {"result": text.upper()}


@task(inputs=["text"], outputs=["result"], resources={"cpu": 1, "cpu_mem": 128})
def uppercase_text(params: dict[str, Any]) -> dict[str, Any]:
    text = params["text"]
    return {"result": text.upper()}


@task(
    inputs=["a", "b"],
    outputs=["sum", "product", "difference"],
    resources={"cpu": 2, "cpu_mem": 256, "gpu": 0, "gpu_mem": 0},
)
def calculate(params: dict[str, Any]) -> dict[str, Any]:
    a = params["a"]
    b = params["b"]
    return {"sum": a + b, "product": a * b, "difference": a - b}


@task(inputs=["data"], outputs=["result"], resources={"gpu_mem": 4096})
def auto_gpu_task(params: dict[str, Any]) -> dict[str, Any]:
    return {"result": "processed"}


@task(inputs=["x"], outputs=["y"])
def minimal_task(params: dict[str, Any]) -> dict[str, Any]:
    return {"y": params["x"] * 2}


@task(
    inputs=["count", "rate"],
    outputs=["total"],
    resources={"cpu": 1, "cpu_mem": 128},
    data_types={"count": "int", "rate": "float", "total": "float"},
)
def calculate_total(params: dict[str, Any]) -> dict[str, Any]:
    count = params["count"]
    rate = params["rate"]
    return {"total": count * rate}


@task(inputs=["x"], outputs=["y"])
def failing(params: dict[str, Any]) -> dict[str, Any]:
    raise RuntimeError("on purpose")


@pytest.fixture
def client(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[MaClient]:
    started = MaWorkflow.run

    def run(self: MaWorkflow) -> str:
        run_id = started(self)
        cluster.adopt(run_id)
        return run_id

    monkeypatch.setattr(MaWorkflow, "run", run)
    return MaClient()  # type: ignore[return-value]


@pytest.fixture
def workflow(client: MaClient) -> MaWorkflow:
    return client.create_workflow()


def test_client(client: MaClient) -> None:
    assert client.server_url == "http://localhost:8000"
    workflow = client.create_workflow()
    assert workflow.workflow_id
    assert workflow.server_url == "http://localhost:8000"


def test_add_task_references_and_names(workflow: MaWorkflow) -> None:
    task1 = workflow.add_task(process_text, inputs={"text": "hello"})
    task2 = workflow.add_task(process_text, inputs={"text": task1.outputs["result"]}, task_name="Custom Task Name")
    assert isinstance(task1, MaTask)
    assert (task1.task_name, task2.task_name) == ("process_text", "Custom Task Name")
    assert workflow.get_tasks() == [
        {"id": task1.task_id, "name": "process_text"},
        {"id": task2.task_id, "name": "Custom Task Name"},
    ]
    assert workflow.get_graph_info()["edges"] == [[task1.task_id, task2.task_id]]


def test_edges(workflow: MaWorkflow) -> None:
    task1 = workflow.add_task(minimal_task, inputs={"x": 1})
    task2 = workflow.add_task(minimal_task, inputs={"x": 2})
    workflow.add_edge(task1, task2)
    with pytest.raises(MazeError, match="cycle"):
        workflow.add_edge(task2, task1)
    workflow.del_edge(task1, task2)
    workflow.add_edge(task2, task1)
    run_id = workflow.run()
    order = [m["data"]["task_id"] for m in workflow.get_results(run_id, verbose=False) if m["type"] == "start_task"]
    assert order == [task2.task_id, task1.task_id]


def test_get_results(workflow: MaWorkflow, capsys: pytest.CaptureFixture[str]) -> None:
    task1 = workflow.add_task(process_text, inputs={"text": "hello"})
    run_id = workflow.run()
    messages = workflow.get_results(run_id, verbose=True)
    assert "{'type': 'start_task', 'data': {" in capsys.readouterr().out
    assert [message["type"] for message in messages] == ["start_task", "finish_task", "finish_workflow"]
    assert messages[0]["data"]["workflow_id"] == workflow.workflow_id
    assert messages[0]["data"]["node_ip"]
    task_results = {
        message["data"]["task_id"]: message["data"]["result"]
        for message in messages
        if message["type"] == "finish_task"
    }
    assert task_results == {task1.task_id: {"result": "HELLO"}}
    assert workflow.get_results(run_id, verbose=False) == messages
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="no run"):
        workflow.get_results("no-such-run", verbose=False)


def test_show_results(client: MaClient, capsys: pytest.CaptureFixture[str]) -> None:
    workflow = client.create_workflow()
    task1 = workflow.add_task(process_text, inputs={"text": "hello world"})
    run_id = workflow.run()
    result = workflow.show_results(run_id)
    assert capsys.readouterr().out.splitlines() == [
        "🔗 Connected to server, starting workflow execution...",
        f"▶ Task started: task_{task1.task_id[:8]}",
        f"✓ Task completed: task_{task1.task_id[:8]}",
        "  result: HELLO WORLD",
        "✅ Workflow execution completed!",
    ]
    assert result == {
        "task_results": {task1.task_id: {"result": "HELLO WORLD"}},
        "workflow_completed": True,
        "has_exception": False,
        "exception_tasks": [],
    }


def test_show_results_of_a_failure_and_of_several_runs(workflow: MaWorkflow) -> None:
    good = workflow.add_task(minimal_task, inputs={"x": 1})
    bad = workflow.add_task(failing, inputs={"x": 1})
    run_id1, run_id2 = workflow.run(), workflow.run()
    assert run_id1 != run_id2
    for run_id in (run_id1, run_id2):
        result = workflow.show_results(run_id)
        assert result["has_exception"]
        assert result["exception_tasks"] == [bad.task_id]
        assert result["task_results"] == {good.task_id: {"y": 2}}
    assert workflow.list_cached_runs() == [run_id1, run_id2]


def test_cached_results(workflow: MaWorkflow) -> None:
    task1 = workflow.add_task(minimal_task, inputs={"x": 4})
    bad = workflow.add_task(failing, inputs={"x": 1})
    run_id = workflow.run()
    with pytest.raises(ValueError, match=run_id):
        workflow.get_task_result(run_id, task1.task_id)
    workflow.get_results(run_id, verbose=False)
    assert workflow.get_task_result(run_id, task1.task_id) == {"y": 8}
    assert workflow.get_task_result(run_id, bad.task_id) is None
    assert workflow.list_cached_runs() == [run_id]
    workflow.clear_cache(run_id)
    assert workflow.list_cached_runs() == []
    workflow.show_results(run_id)
    workflow.clear_cache()
    assert workflow.list_cached_runs() == []


def test_graph(workflow: MaWorkflow, capsys: pytest.CaptureFixture[str]) -> None:
    task1 = workflow.add_task(process_text, inputs={"text": "x"})
    task2 = workflow.add_task(process_text, inputs={"text": task1.outputs["result"]})
    workflow.print_graph()
    printed = capsys.readouterr().out
    assert "Workflow Structure Visualization" in printed
    assert f"• task_{task1.task_id[:8]}... [process_text]" in printed
    assert f"task_{task1.task_id[:8]}... → task_{task2.task_id[:8]}..." in printed
    assert workflow.get_graph_mermaid().splitlines() == [
        "graph TD",
        f'    task_{task1.task_id[:8]}["process_text"]',
        f'    task_{task2.task_id[:8]}["process_text"]',
        f"    task_{task1.task_id[:8]} --> task_{task2.task_id[:8]}",
    ]
    info = workflow.get_graph_info()
    assert info["nodes"][task1.task_id] == {
        "name": "process_text",
        "func_name": "process_text",
        "inputs": ["text"],
        "outputs": ["result"],
        "resources": {"cpu": 1, "cpu_mem": 0, "gpu": 0, "gpu_mem": 0},
    }
    assert info["stats"] == {"total_nodes": 2, "total_edges": 1, "max_depth": 2}


def test_tasks_and_outputs(workflow: MaWorkflow) -> None:
    task1 = workflow.add_task(calculate, inputs={"a": 6, "b": 3})
    output = task1.outputs["sum"]
    assert isinstance(output, TaskOutput)
    assert output.to_reference_string() == f"{task1.task_id}.output.sum"
    assert list(task1.outputs.keys()) == ["sum", "product", "difference"]
    with pytest.raises(KeyError):
        task1.outputs["quotient"]
    gone = workflow.add_task(minimal_task, inputs={"x": 1})
    gone.delete()
    assert [each["id"] for each in workflow.get_tasks()] == [task1.task_id]
    run_id = workflow.run()
    workflow.get_results(run_id, verbose=False)
    assert workflow.get_task_result(run_id, task1.task_id) == {"sum": 9, "product": 18, "difference": 3}


def test_decorator_examples_run(workflow: MaWorkflow) -> None:
    upper = workflow.add_task(uppercase_text, inputs={"text": "x"})
    total = workflow.add_task(calculate_total, inputs={"count": 3, "rate": 1.5})
    run_id = workflow.run()
    workflow.get_results(run_id, verbose=False)
    assert workflow.get_task_result(run_id, upper.task_id) == {"result": "X"}
    assert workflow.get_task_result(run_id, total.task_id) == {"total": 4.5}


def test_decorator_resources() -> None:
    assert get_task_metadata(uppercase_text).resources == {"cpu": 1, "cpu_mem": 128, "gpu": 0, "gpu_mem": 0}
    assert get_task_metadata(auto_gpu_task).resources == {"cpu": 1, "cpu_mem": 0, "gpu": 1, "gpu_mem": 4096}
    assert get_task_metadata(minimal_task).resources == {"cpu": 1, "cpu_mem": 0, "gpu": 0, "gpu_mem": 0}
