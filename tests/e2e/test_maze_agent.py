"""Users of the original Maze change nothing but the address: its client, as it was published, against the running system.

It gets an environment of its own from tests/clients/requirements.lock, made once for each content of that file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import GROUP, Cluster
from maze_crds import names

API = os.environ.get("MAZE_API", "http://127.0.0.1:8000")
CLIENTS = Path(__file__).resolve().parents[1] / "clients"
LOCK = CLIENTS / "requirements.lock"
CACHE = Path(os.environ.get("MAZE_CACHE") or Path.home() / ".cache/maze") / "clients"
SECONDS = 60

Scenario = Callable[[str], Any]


@pytest.fixture(scope="session")
def client_python() -> Path:
    """The interpreter of an environment with the original client and nothing of ours."""
    content = LOCK.read_bytes() + sys.version.encode()
    folder = CACHE / hashlib.sha256(content).hexdigest()[:16]
    python = folder / "bin/python"
    if not (folder / ".ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=False, symlinks=True)
        install = ["install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(LOCK)]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--python", str(python), *install],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / ".ready").touch()
    return python


@pytest.fixture
def scenario(client_python: Path, cluster: Cluster) -> Iterator[Scenario]:
    """Runs one scenario of original_client.py; what it returned. Its Runs are deleted afterwards."""
    made: list[str] = []

    def run(name: str) -> Any:
        done = subprocess.run(
            [str(client_python), str(CLIENTS / "original_client.py"), name],
            env={"MAZE_API": API, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        made.extend(found["workflows"])
        return found["returned"]

    yield run
    for workflow_id in made:
        selector = f"{names.LABEL_WORKFLOW_ID}={workflow_id}"
        cluster.custom.delete_collection_namespaced_custom_object(
            *GROUP, cluster.namespace, "runs", label_selector=selector
        )


def test_a_chain(scenario: Scenario) -> None:
    found = scenario("chain")
    assert found["last"] == {"text": "HELLO! end", "length": 10}
    assert found["summary"] == {
        "task_results": None,
        "workflow_completed": True,
        "has_exception": False,
        "exception_tasks": [],
    }


def test_a_diamond_in_its_order_with_the_fields_that_the_original_sends(scenario: Scenario) -> None:
    found = scenario("diamond")
    assert found["ordered"] is True
    assert found["result"] == {"text": "X! X!", "length": 5}
    assert {"gpu_id", "node_id", "node_ip", "task_id", "workflow_id"} <= set(found["start"])
    assert found["end"][0] == "finish_workflow"
    assert "run_id" in found["end"][1]


def test_a_fan_out(scenario: Scenario) -> None:
    assert scenario("fan_out") == [0, 1, 4, 9, 16, 25]


def test_a_failing_task_stops_what_depends_on_it_and_the_stream_still_ends(scenario: Scenario) -> None:
    found = scenario("failing")
    assert found["kinds"] == [["start_task", "task_exception"], [], ["start_task", "finish_task"]]
    assert found["last"] == "finish_workflow"
    assert found["text"].startswith("Traceback")
    assert "ValueError: this one fails" in found["text"]
    assert found["named"] is True
    assert found["completed"] is True


def test_deleted_tasks_and_edges_and_a_cycle(scenario: Scenario) -> None:
    found = scenario("deleting")
    assert "cycle" in found["refused"]
    assert found["left"] == ["first", "third"]
    assert found["order"] == [True, False], "the third comes before the first, whose way over the second is gone"


def test_repeated_runs(scenario: Scenario) -> None:
    assert scenario("repeated") == {"different": 3, "cached": True, "same": True}


def test_several_readers_of_one_stream(scenario: Scenario) -> None:
    assert scenario("readers") == {"readers": 4, "same": True, "messages": 5}


def test_tasks_made_by_hand_and_results_that_are_not_json(scenario: Scenario) -> None:
    found = scenario("by_hand")
    assert found["area"] == 12
    assert found["common"] == [["l", 2]]
    assert found["odd"] == "builtins.set: {1, 2}"
    assert found["unset"] is None


def test_refusals_have_words(scenario: Scenario) -> None:
    run, tasks, empty = scenario("refusals")
    assert "there is no workflow" in run
    assert "there is no workflow" in tasks
    assert "workflow has no tasks" in empty


def test_langgraph_nodes(scenario: Scenario) -> None:
    found = scenario("langgraph")
    assert found["one"] == {"text": "hello world", "pair": [1, 2]}
    assert found["concurrent"] == ["0!", "1!", "2!", "3!"]
    assert found["large"] == 200_000
    assert "RuntimeError: no way" in found["raised"]
