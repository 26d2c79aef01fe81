"""Every way to fail is told apart, says what happened, and harms nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kubernetes.client import ApiException

from cluster import Cluster, kubectl, python, task_of
from maze_io.store import ObjectStore


@pytest.mark.parametrize(
    ("source", "cause", "reason", "words", "more"),
    [
        ("def f(p): raise KeyError('lost')", "UserError", "UserException", "KeyError: 'lost'", {}),
        ("import os\ndef f(p): os._exit(7)", "UserError", "Exited", "7", {}),
        ("import os\ndef f(p): os.kill(os.getpid(), 11)", "UserError", "Killed", "SIGSEGV", {}),
        ("def f(p): return bytearray(10**9)", "OutOfMemory", "OOMKilled", "memory", {"resources": {"memory": "128Mi"}}),
        ("import time\ndef f(p): time.sleep(600)", "Timeout", "TimedOut", "1 s", {"timeoutSeconds": 1}),
        ("def f(p): return {'a': 1}", "UserError", "MissingOutput", "'b'", {"outputs": ["a", "b"]}),
        ("def f(p): return 5", "UserError", "WrongResultType", "int", {}),
        ("def f(p) return", "UserError", "CodeNotLoadable", "SyntaxError", {}),
        ("def f(p): return {'x': (n for n in p)}", "UserError", "NotSerializable", "'x'", {}),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalnum() else "",
)
def test_ways_to_fail(
    cluster: Cluster, store: ObjectStore, source: str, cause: str, reason: str, words: str, more: dict[str, Any]
) -> None:
    name = cluster.run(python("t", source, **more), python("other", "def f(p): return {}"))
    status = cluster.ended(name)
    task = task_of(status, "t")
    assert (status["phase"], task["phase"]) == ("Failed", "Failed")
    assert (task["cause"], task["reason"]) == (cause, reason), task
    assert words in task["message"], task
    assert task_of(status, "other")["phase"] == "Succeeded"
    assert status["firstFailure"]["task"] == "t"
    if reason == "UserException":
        assert "raise KeyError" in cluster.result(store, name, "t")["failure"]["traceback"]


def test_a_pickle_that_is_none_is_named(cluster: Cluster, store: ObjectStore) -> None:
    import hashlib

    data = b"this is no pickle"
    digest = hashlib.sha256(data).hexdigest()
    store.put(f"code/{digest}", data)
    code = {"key": f"code/{digest}", "sha256": digest, "size": len(data)}
    name = cluster.run({"name": "t", "python": {"code": code}})
    assert task_of(cluster.ended(name), "t")["reason"] == "CodeNotLoadable"


def test_code_that_was_changed_in_the_store_is_not_run(cluster: Cluster, store: ObjectStore) -> None:
    store.put("code/test-changed", b"evil")
    code = {"key": "code/test-changed", "sha256": "0" * 64, "size": 4}
    retry = {"storage": 0}
    name = cluster.run({"name": "t", "python": {"code": code}, "retry": retry})
    task = task_of(cluster.ended(name), "t")
    assert (task["cause"], task["reason"]) == ("Storage", "ChecksumMismatch")
    assert "code" in task["message"]


def test_a_flaky_task_is_tried_again_after_its_backoff(cluster: Cluster, store: ObjectStore) -> None:
    name = cluster.run(
        python("t", "def f(p): raise OSError('flaky')", isolation="task", retry={"limit": 2, "backoffSeconds": 0.5})
    )
    task = task_of(cluster.ended(name), "t")
    assert task["attempt"] == 3
    assert [entry["attempt"] for entry in task["failedAttempts"]] == [1, 2]
    assert len(cluster.pods_of(name)) == 3


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        (
            [python("a", "x", dependsOn=["c"]), python("b", "x", dependsOn=["a"]), python("c", "x", dependsOn=["b"])],
            "a → b → c → a",
        ),
        ([python("a", "x"), python("a", "x")], "two tasks are named 'a'"),
        ([python("a", "x", inputs={"k": {"from": "nobody.output.k"}})], "no task 'nobody'"),
        ([python("a", "x", inputs={"k": {"from": "input.k"}})], "input.k, which is not given"),
    ],
)
def test_a_graph_that_can_not_run_fails_at_once_and_says_why(cluster: Cluster, tasks: list[Any], words: str) -> None:
    name = cluster.run(*tasks)
    status = cluster.ended(name, seconds=15)
    assert status["phase"] == "Failed"
    assert words in status["message"]
    assert cluster.pods_of(name) == []


def test_an_image_that_does_not_exist_is_named_on_the_task_while_it_waits_and_then_fails_it(cluster: Cluster) -> None:
    name = cluster.run({"name": "t", "container": {"image": "maze/no-such-image:1"}})
    waiting = cluster.await_run(name, lambda run: reason_of(run, "t") == "ImagePullFailed", seconds=60)
    assert "no-such-image" in task_of(waiting["status"], "t")["message"]
    cluster.patch_run(name, {"desiredState": "Cancelled"})
    assert cluster.ended(name)["phase"] == "Cancelled"


def test_a_gpu_where_there_is_none_shows_the_schedulers_words_on_the_task(cluster: Cluster) -> None:
    name = cluster.run(python("t", "def f(p): return {}", resources={"gpu": 1}), python("other", "def f(p): return {}"))
    waiting = cluster.await_run(
        name, lambda run: reason_of(run, "t") == "Unschedulable" and phase_of(run, "other") == "Succeeded"
    )
    task = task_of(waiting["status"], "t")
    assert task["phase"] == "Starting"
    assert "Insufficient nvidia.com/gpu" in task["message"]
    cluster.patch_run(name, {"desiredState": "Cancelled"})
    assert cluster.ended(name)["phase"] == "Cancelled"


def test_a_task_waits_for_a_gpu_with_enough_memory_and_runs_when_there_is_one(cluster: Cluster) -> None:
    """The node gets a GPU that the scheduler believes in; nothing in the pod uses it."""
    node = cluster.core.list_node().items[0].metadata.name
    wanted = {"gpu": 1, "gpuMemory": "4Gi"}
    name = cluster.run(python("t", "def f(p): return {}", resources=wanted))
    capacity = "/status/capacity/nvidia.com~1gpu"
    try:
        kubectl("label", "node", node, "nvidia.com/gpu.memory=2048")
        patch_node(node, {"op": "add", "path": capacity, "value": "1"})
        cluster.await_run(name, lambda run: reason_of(run, "t") == "Unschedulable")
        kubectl("label", "node", node, "nvidia.com/gpu.memory=8192", "--overwrite")
        assert cluster.ended(name)["phase"] == "Succeeded"
        (pod,) = cluster.pods_of(name)
        assert pod.spec.containers[0].resources.limits == {"nvidia.com/gpu": "1"}
    finally:
        kubectl("label", "node", node, "nvidia.com/gpu.memory-")
        patch_node(node, {"op": "remove", "path": capacity})


def patch_node(node: str, change: dict[str, Any]) -> None:
    kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps([change]))


def test_a_part_of_a_gpu_is_refused_with_what_to_set(cluster: Cluster) -> None:
    name = cluster.run(python("t", "def f(p): return {}", resources={"gpu": "0.5"}))
    task = task_of(cluster.ended(name), "t")
    assert task["reason"] == "SharedGPUNotConfigured"
    assert "MAZE_SHARED_GPU_RESOURCE" in task["message"]


def test_a_deleted_pod_is_made_up_for(cluster: Cluster) -> None:
    name = cluster.run(
        python("t", "import time\ndef f(p):\n    time.sleep(3)\n    return {}", retry={"backoffSeconds": 0})
    )
    cluster.await_run(name, lambda run: phase_of(run, "t") == "Running")
    (pod,) = cluster.pods_of(name)
    kubectl("delete", "pod", "-n", "maze", pod.metadata.name, "--grace-period=0", "--force")
    status = cluster.ended(name)
    task = task_of(status, "t")
    assert (status["phase"], task["attempt"]) == ("Succeeded", 2)
    assert task["failedAttempts"][0]["cause"] == "Infrastructure"


def test_a_run_of_a_workflow_that_is_not_there_says_so(cluster: Cluster) -> None:
    name = cluster.create_run({"workflowRef": {"name": "no-such-workflow"}})
    waiting = cluster.await_run(name, lambda run: run.get("status", {}).get("reason") == "WorkflowNotFound")
    assert "no-such-workflow" in waiting["status"]["message"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"workflow": {"tasks": []}}, "at least 1"),
        ({}, "exactly one of workflowRef and workflow"),
        ({"workflow": {"tasks": [{"name": "t"}]}}, "exactly one executor"),
        ({"workflow": {"tasks": [{"name": "t", "python": {}}]}}, "exactly one of code and source"),
        ({"workflow": {"tasks": [python("input", "x")]}}, "'input' is taken"),
        ({"workflow": {"tasks": [python("a", "x", timeoutSeconds="soon")]}}, "integer"),
        ({"workflow": {"tasks": [python("a", "x", inputs={"k": {"from": "nonsense"}})]}}, "should match"),
        ({"workflow": {"tasks": [python("a", "x", inputs={"k": {"from": "input.k", "value": 1}})]}}, "at most 1"),
        ({"workflow": {"tasks": [python("a", "x", resources={"memory": "lots"})]}}, "should match"),
    ],
)
def test_a_bad_object_is_refused_at_admission(cluster: Cluster, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiException) as refused:
        cluster.create_run(spec)
    assert refused.value.status == 422
    assert words in refused.value.body


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": {"a": 2}},
        {"workflow": {"tasks": [python("t", "def f(p): return {'changed': 1}")]}},
        {"parallelism": 3},
        {"ttlSecondsAfterFinished": 1},
    ],
)
def test_a_run_can_not_be_changed_under_way(cluster: Cluster, change: dict[str, Any]) -> None:
    name = cluster.run(python("t", "def f(p): return {}"), inputs={"a": 1}, desiredState="Suspended")
    with pytest.raises(ApiException, match="can't be changed"):
        cluster.patch_run(name, change)


def test_a_cancelled_run_can_not_be_resumed(cluster: Cluster) -> None:
    name = cluster.run(python("t", "def f(p): return {}"), desiredState="Cancelled")
    with pytest.raises(ApiException, match="stays cancelled"):
        cluster.patch_run(name, {"desiredState": "Running"})


def phase_of(run: dict[str, Any], task: str) -> str | None:
    return next((entry["phase"] for entry in run.get("status", {}).get("tasks", ()) if entry["name"] == task), None)


def reason_of(run: dict[str, Any], task: str) -> str | None:
    return next(
        (entry.get("reason") for entry in run.get("status", {}).get("tasks", ()) if entry["name"] == task), None
    )
