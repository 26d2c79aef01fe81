"""A node is lost, or emptied to be taken away. What ran on it runs again elsewhere, and nothing else is disturbed.

The nodes are kwok's: the scheduler, the node controller and the pod collector of Kubernetes take them for real, and a
container on one of them runs for RUN_SECONDS.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from invariants import broken, end_of, living_pods, told_events
from kubernetes.client import V1Eviction, V1ObjectMeta
from stage import Stage

from cluster import awaited, python, stopped
from maze_cluster.kwok import GPU_MEMORY_MIB, fake_nodes
from maze_crds import names
from test_runs import runner_image

Json = dict[str, Any]
DISRUPTIONS = ("DeletionByPodGC", "DeletionByTaintManager", "EvictionByEvictionAPI")
"""Kubernetes' words on a pod that it is about to delete; it may be gone before they are seen."""
TASKS = 6
RUN_SECONDS = 4
RETRY = {"infrastructure": 3, "backoffSeconds": 0.2}
DRAIN_SECONDS = 30
COLLECTOR_SECONDS = 30
"""The pod collector looks every 20 s."""
QUARANTINE_SECONDS = 100
"""And it gives a node that is missing 40 s to come back."""
OUT_OF_SERVICE = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}


@pytest.fixture
def nodes(stage: Stage) -> Iterator[None]:
    with fake_nodes(stage.machine.layout, 2, RUN_SECONDS):
        yield


def start(stage: Stage) -> tuple[str, str]:
    """A Run whose containers all run on fake nodes, and one of these nodes."""
    container = {"image": runner_image(stage.cluster), "command": ["true"]}
    far = {"container": container, "resources": {"gpuMemory": f"{GPU_MEMORY_MIB}Mi"}, "retry": RETRY}
    tasks = [{"name": f"far{n}", **far} for n in range(TASKS)]
    near = python("near", "def f(p):\n    return {}", dependsOn=[task["name"] for task in tasks])
    name = stage.cluster.run(*tasks, near)
    awaited(lambda: running(stage, name), lambda seen: len(seen) == TASKS, 30)
    return name, running(stage, name)["far0"]


def running(stage: Stage, name: str) -> dict[str, str]:
    """The node of each task of a Run whose pod runs, by the task's name."""
    pods = stage.cluster.pods_of(name)
    return {pod.metadata.labels[names.LABEL_TASK]: pod.spec.node_name for pod in pods if pod.status.phase == "Running"}


def running_on(stage: Stage, name: str, node: str) -> set[str]:
    """Tasks."""
    return {task for task, where in running(stage, name).items() if where == node}


def await_empty(stage: Stage, name: str, node: str, seconds: float) -> None:
    """Returns when nothing of the Run runs there."""
    awaited(lambda: running_on(stage, name, node), lambda left: not left, seconds)


def require_retried(stage: Stage, name: str, lost: set[str]) -> None:
    """These tasks were lost with their node once, and nothing else happened."""
    run = end_of(stage.cluster, name, 60)
    status = run["status"]
    awaited(lambda: living_pods(stage.cluster, name), lambda left: not left, 20)
    assert not (wrong := broken(run, None, (), told_events(name))), wrong
    assert status["phase"] == "Succeeded", status
    failures = {task["name"]: task.get("failedAttempts", []) for task in status["tasks"]}
    assert {task for task, failed in failures.items() if failed} == lost
    why = {(each["cause"], each["reason"]) for failed in failures.values() for each in failed}
    assert why <= {("Infrastructure", "PodLost"), *(("Infrastructure", reason) for reason in DISRUPTIONS)}
    assert {len(failed) for failed in failures.values()} <= {0, 1}


def test_node_lost(stage: Stage, nodes: None) -> None:
    """It is silent, and somebody who knows says that it is out of service. Before that, a pod on it may still run."""
    name, node = start(stage)
    with stopped(stage.machine.record("kwok").pid):
        lost = running_on(stage, name, node)
        silence(stage, node)
        stage.cluster.core.patch_node(node, {"spec": {"taints": [OUT_OF_SERVICE]}})
        await_empty(stage, name, node, COLLECTOR_SECONDS)
    require_retried(stage, name, lost)


def silence(stage: Stage, node: str) -> None:
    """What the node controller finds after 50 s without a heartbeat, at once."""
    now = datetime.now(UTC).isoformat()
    condition = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "lastTransitionTime": now}
    stage.cluster.core.patch_node_status(node, {"status": {"conditions": [condition]}})


def test_node_drained(stage: Stage, nodes: None) -> None:
    """Its pods are evicted, as an autoscaler or `kubectl drain` does it, and it goes."""
    name, node = start(stage)
    stage.cluster.core.patch_node(node, {"spec": {"unschedulable": True}})
    with stopped(stage.machine.record("kwok").pid):
        pods = [
            pod for pod in stage.cluster.pods_of(name) if pod.spec.node_name == node and pod.status.phase == "Running"
        ]
        for pod in pods:
            eviction = V1Eviction(metadata=V1ObjectMeta(name=pod.metadata.name))
            stage.cluster.core.create_namespaced_pod_eviction(pod.metadata.name, "maze", eviction)
    lost = {pod.metadata.labels[names.LABEL_TASK] for pod in pods}
    await_empty(stage, name, node, DRAIN_SECONDS)
    stage.cluster.core.delete_node(node)
    require_retried(stage, name, lost)


def test_node_gone(stage: Stage, nodes: None) -> None:
    """Its object is deleted, as a cloud does it with a machine that is no more; its pods are collected later."""
    name, node = start(stage)
    with stopped(stage.machine.record("kwok").pid):
        lost = running_on(stage, name, node)
        stage.cluster.core.delete_node(node)
        await_empty(stage, name, node, QUARANTINE_SECONDS)
    require_retried(stage, name, lost)
