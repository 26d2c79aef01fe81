"""Runs made with the Kubernetes API alone: what a user of kubectl gets."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from cluster import ROOT, Cluster, kubectl, python, task_of
from maze_io.store import ObjectStore

EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_does_what_it_says(cluster: Cluster, example: Path) -> None:
    expected = re.search(r"^# expect: (\S+) (\S+)$", example.read_text(), re.MULTILINE)
    assert expected, "an example says what it ends as"
    kubectl("delete", "--ignore-not-found", "-f", str(example))
    try:
        kubectl("apply", "-f", str(example))
        status = cluster.ended(expected[1])
        assert status["phase"] == expected[2], status
        shown = kubectl("get", "runs", "-n", "maze", expected[1])
        assert status["phase"] in shown
        assert status["progress"] in shown
    finally:
        kubectl("delete", "--ignore-not-found", "-f", str(example))


def test_the_edges_of_a_diamond_are_honoured_by_the_start_times(cluster: Cluster) -> None:
    source = "def f(p): return {}"
    name = cluster.run(
        python("a", source),
        python("b", source, dependsOn=["a"]),
        python("c", source, dependsOn=["a"]),
        python("d", source, dependsOn=["b", "c"]),
    )
    status = cluster.ended(name)
    assert status["phase"] == "Succeeded"
    for earlier, later in (("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")):
        assert task_of(status, earlier)["completionTime"] <= task_of(status, later)["startTime"]
        assert task_of(status, earlier)["endEvent"] < task_of(status, later)["startEvent"]


def test_64_mb_pass_between_tasks_unharmed(cluster: Cluster, store: ObjectStore) -> None:
    make = """
import hashlib, random
def make(p):
    data = random.Random(1).randbytes(64 * 1024 * 1024)
    return {"data": data, "sha256": hashlib.sha256(data).hexdigest()}
"""
    check = """
import hashlib
def check(p):
    return {"same": hashlib.sha256(p["data"]).hexdigest() == p["sha256"], "size": len(p["data"])}
"""
    inputs = {"data": {"from": "make.output.data"}, "sha256": {"from": "make.output.sha256"}}
    name = cluster.run(python("make", make), python("check", check, inputs=inputs))
    assert cluster.ended(name)["phase"] == "Succeeded"
    outputs = cluster.result(store, name, "check")["outputs"]
    assert (outputs["same"]["value"], outputs["size"]["value"]) == (True, 64 * 1024 * 1024)


def test_output_of_a_task_is_kept_after_its_pod_is_gone(cluster: Cluster, store: ObjectStore) -> None:
    source = """
import sys
def talk(p):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    return {}
"""
    name = cluster.run(python("talk", source))
    assert cluster.ended(name)["phase"] == "Succeeded"
    (pod,) = cluster.pods_of(name)
    kubectl(
        "wait", "-n", "maze", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{pod.metadata.name}", "--timeout=30s"
    )
    assert "to stdout" in kubectl("logs", "-n", "maze", pod.metadata.name)
    kubectl("delete", "pod", "-n", "maze", pod.metadata.name, "--grace-period=0", "--force")
    log = cluster.log(store, name, "talk")
    assert "to stdout" in log
    assert "to stderr" in log
    assert cluster.get_run(name)["status"]["phase"] == "Succeeded"


def test_a_container_task_takes_inputs_and_gives_outputs(cluster: Cluster, store: ObjectStore) -> None:
    image = runner_image(cluster)
    script = (
        "import json, os; p = json.loads(os.environ['MAZE_INPUTS']);"
        " json.dump({'sum': p['a'] + p['b'], 'dollars': p['text']}, open('/dev/termination-log', 'w'))"
    )
    add = {
        "name": "add",
        "container": {"image": image, "command": ["python3", "-c", script]},
        "inputs": {"a": {"value": 1}, "b": {"from": "one.output.n"}, "text": {"value": "$(HOME) $$ $5"}},
        "outputs": ["sum", "dollars"],
    }
    double = python("double", "def f(p): return {'twice': 2 * p['x']}", inputs={"x": {"from": "add.output.sum"}})
    name = cluster.run(python("one", "def f(p): return {'n': 41}"), add, double)
    assert cluster.ended(name)["phase"] == "Succeeded"
    assert cluster.result(store, name, "double")["outputs"]["twice"]["value"] == 84
    assert cluster.result(store, name, "add")["outputs"]["dollars"]["value"] == "$(HOME) $$ $5"


def test_python_runs_in_images_that_know_nothing_of_maze(cluster: Cluster, store: ObjectStore) -> None:
    """The S3 credentials of the api are not in its image; all that matters is that it has Python and no runner."""
    deployment = cluster.apps.read_namespaced_deployment("maze-api", "maze-system")
    image = deployment.spec.template.spec.containers[0].image
    source = "import importlib.util\ndef f(p): return {'runner': importlib.util.find_spec('maze_runner') is not None}"
    task = {"name": "t", "python": {"source": source, "image": image}}
    name = cluster.run(task)
    status = cluster.ended(name)
    assert status["phase"] == "Succeeded", status
    (pod,) = cluster.pods_of(name)
    assert any(volume.config_map for volume in pod.spec.volumes)


def test_a_workflow_that_changes_does_not_change_a_run_that_has_started(cluster: Cluster, store: ObjectStore) -> None:
    def spec(answer: int) -> str:
        return f"def f(p):\n    import time\n    return {{'answer': {answer}}}"

    workflow = "test-changing"
    body = {
        "apiVersion": "maze.dev/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": workflow},
        "spec": {"tasks": [python("first", spec(0)), python("t", spec(1), dependsOn=["first"])]},
    }
    path = ("maze.dev", "v1alpha1", "maze", "workflows")
    cluster.custom.create_namespaced_custom_object(*path, body)
    try:
        name = cluster.create_run({"workflowRef": {"name": workflow}})
        cluster.await_run(name, lambda run: run.get("status", {}).get("tasks"))
        change = {"spec": {"tasks": [python("first", spec(0)), python("t", spec(2), dependsOn=["first"])]}}
        cluster.custom.patch_namespaced_custom_object(*path, workflow, change)
        assert cluster.ended(name)["phase"] == "Succeeded"
        assert cluster.result(store, name, "t")["outputs"]["answer"]["value"] == 1
    finally:
        cluster.custom.delete_namespaced_custom_object(*path, workflow)


def test_parallelism_is_honoured(cluster: Cluster) -> None:
    source = "import time\ndef f(p):\n    time.sleep(0.3)\n    return {}"
    name = cluster.run(*(python(f"t{n}", source) for n in range(4)), parallelism=1)
    status = cluster.ended(name)
    spans = sorted((task["startTime"], task["completionTime"]) for task in status["tasks"])
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))


def test_cancel_stops_running_pods(cluster: Cluster) -> None:
    name = cluster.run(
        python("long", "import time\ndef f(p): time.sleep(600)"), python("never", "x = 1", dependsOn=["long"])
    )
    cluster.await_run(name, lambda run: running(run, "long"))
    cluster.patch_run(name, {"desiredState": "Cancelled"})
    status = cluster.ended(name, seconds=15)
    assert status["phase"] == "Cancelled"
    assert [task["phase"] for task in status["tasks"]] == ["Cancelled", "Cancelled"]
    kubectl("wait", "-n", "maze", "--for=delete", "pod", "-l", f"maze.dev/run={name}", "--timeout=20s")


def test_a_suspended_run_makes_no_pods_until_it_is_resumed(cluster: Cluster) -> None:
    name = cluster.run(python("t", "def f(p): return {}"), desiredState="Suspended")
    cluster.await_run(name, lambda run: run.get("status", {}).get("reason") == "Suspended")
    assert cluster.pods_of(name) == []
    cluster.patch_run(name, {"desiredState": "Running"})
    assert cluster.ended(name)["phase"] == "Succeeded"


def test_a_run_is_deleted_after_its_ttl_with_its_pods_and_data(cluster: Cluster, store: ObjectStore) -> None:
    name = cluster.run(python("t", "def f(p): return {}"), ttlSecondsAfterFinished=1)
    uid = cluster.get_run(name)["metadata"]["uid"]
    kubectl("wait", "-n", "maze", "--for=delete", f"runs.maze.dev/{name}", "--timeout=60s")
    kubectl("wait", "-n", "maze", "--for=delete", "pod", "-l", f"maze.dev/run={name}", "--timeout=30s")
    await_gone(store, f"runs/{uid}/")


def await_gone(store: ObjectStore, prefix: str) -> None:
    import time

    deadline = time.monotonic() + 20
    while store.list_keys(prefix):
        assert time.monotonic() < deadline, f"{prefix} is still there"


def running(run: dict, task: str) -> bool:  # type: ignore[type-arg]
    tasks = run.get("status", {}).get("tasks", ())
    return any(entry["name"] == task and entry["phase"] == "Running" for entry in tasks)


def runner_image(cluster: Cluster) -> str:
    deployment = cluster.apps.read_namespaced_deployment("maze-operator", "maze-system")
    env = deployment.spec.template.spec.containers[0].env
    return str(next(entry.value for entry in env if entry.name == "MAZE_RUNNER_IMAGE"))
