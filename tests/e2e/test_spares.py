"""Pods that are kept ready: who gets one, in what size, and when they go."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from cluster import Cluster, awaited, python, task_of
from maze_crds import names
from maze_crds.quantity import parse_quantity
from maze_io.store import ObjectStore

Json = dict[str, Any]

READS_LIMITS = """
import pathlib, time
def first(*names):
    for name in names:
        path = pathlib.Path("/sys/fs/cgroup", name)
        if path.exists():
            return path.read_text().split()
def read():
    cpu = first("cpu.max") or first("cpu/cpu.cfs_quota_us") + first("cpu/cpu.cfs_period_us")
    memory = first("memory.max", "memory/memory.limit_in_bytes")
    return {"cpu": cpu, "memory": memory[0]}
AT_ONCE = read()
def f(p):
    return {"at_once": AT_ONCE, "then": read()}
"""
NOTHING = "def f(p):\n    return {}"


class Kept:
    """The spares of the namespace, as the operator is set up to keep them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        deployment = cluster.apps.read_namespaced_deployment("maze-operator", "maze-system")
        env = deployment.spec.template.spec.containers[0].env
        self.settings = {entry.name: entry.value or "" for entry in env}
        kinds = json.loads(self.settings.get("MAZE_SPARE_PODS") or "[]")
        self.count = sum(kind["count"] for kind in kinds if kind["namespace"] == cluster.namespace)
        if not self.count or self.count != sum(kind["count"] for kind in kinds):
            pytest.skip("MAZE_SPARE_PODS keeps no spares, or some in another namespace")

    def pods(self) -> list[Any]:
        found = self.cluster.core.list_namespaced_pod(self.cluster.namespace, label_selector=names.LABEL_SPARE)
        return list(found.items)

    def names(self) -> set[str]:
        return {pod.metadata.name for pod in self.pods()}

    def ready(self) -> float:
        return metric(self.cluster, "maze_operator_spare_pods_ready")

    def all_ready(self) -> set[str]:
        """Await that as many as the settings say can be claimed; their names."""
        awaited(lambda: (self.ready(), len(self.pods())), lambda seen: seen == (self.count, self.count))
        return self.names()


@pytest.fixture
def kept(cluster: Cluster) -> Kept:
    made = Kept(cluster)
    made.all_ready()
    return made


def metric(cluster: Cluster, name: str, *labels: str) -> float:
    """Of the operator; -1 while nobody answers."""
    spec = cluster.core.read_namespaced_service("maze-operator", "maze-system").spec
    try:
        with urllib.request.urlopen(f"http://{spec.cluster_ip}:{spec.ports[0].port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return -1.0
    found = [line for line in lines if line.startswith(name) and all(label in line for label in labels)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def pod_of(cluster: Cluster, status: Json, task: str = "t") -> Any:
    return cluster.core.read_namespaced_pod(task_of(status, task)["pod"], cluster.namespace)


def test_a_run_starts_in_a_spare_and_another_one_takes_its_place(cluster: Cluster, kept: Kept) -> None:
    before = kept.names()
    name = cluster.run(python("t", NOTHING))
    status = cluster.ended(name)
    assert status["phase"] == "Succeeded"
    pod = pod_of(cluster, status)
    assert pod.metadata.name in before
    assert pod.metadata.labels[names.LABEL_RUN] == name
    assert pod.metadata.labels[names.LABEL_RUN_UID] == cluster.get_run(name)["metadata"]["uid"]
    assert names.LABEL_SPARE not in pod.metadata.labels
    assert [owner.name for owner in pod.metadata.owner_references] == [name]
    assert not pod.metadata.annotations, "it had the right size"
    assert kept.all_ready() > before - {pod.metadata.name}


def test_a_spare_takes_the_size_of_a_task_before_its_code_is_loaded(
    cluster: Cluster, kept: Kept, store: ObjectStore
) -> None:
    before = kept.names()
    resources = {"cpu": "500m", "memory": "200Mi"}
    task = {"name": "t", "python": {"source": READS_LIMITS, "function": "f"}, "resources": resources}
    name = cluster.run(task)
    status = cluster.ended(name)
    assert status["phase"] == "Succeeded", status
    assert (pod := pod_of(cluster, status)).metadata.name in before
    assert pod.metadata.annotations[names.ANNOTATION_RESIZED] == "true"
    outputs = cluster.result(store, name, "t")["outputs"]
    for moment in ("at_once", "then"):
        quota, period = outputs[moment]["value"]["cpu"]
        assert int(quota) / int(period) == 0.5
        assert int(outputs[moment]["value"]["memory"]) == 200 * 1024**2


def test_no_spare_serves_a_run_that_asks_for_something_else(cluster: Cluster, kept: Kept) -> None:
    """It does one that asks for nothing, so each of these could have had one."""
    source = {"source": NOTHING}
    others: list[tuple[Json, Json]] = [
        ({"name": "t", "python": source, "env": [{"name": "WHO", "value": "me"}]}, {}),
        ({"name": "t", "python": {**source, "image": kept.settings["MAZE_TOOLS_IMAGE"]}}, {}),
        ({"name": "t", "python": source, "isolation": "task"}, {}),
    ]
    if kept.settings.get("MAZE_PRIORITY_CLASSES"):
        others.append(({"name": "t", "python": source}, {"priority": 5}))
    for task, wishes in others:
        name = cluster.create_run({"workflow": {"tasks": [task]}, **wishes})
        status = cluster.ended(name)
        assert status["phase"] == "Succeeded", status
        assert kept.ready() == kept.count
        assert all(not pod.metadata.name.startswith("maze-spare-") for pod in cluster.pods_of(name))


@pytest.mark.parametrize("isolation", ["task", "run"])
def test_spares_make_room_for_a_task_that_fits_only_without_them(cluster: Cluster, kept: Kept, isolation: str) -> None:
    """With isolation "run" it gets a spare first, which can't take its size while the others are there."""
    before = kept.names()
    fraction = parse_quantity(kept.settings.get("MAZE_CPU_REQUEST_FRACTION") or "1")
    cpu = f"{int(_free_millicores(cluster) / fraction)}m"
    name = cluster.run(python("t", NOTHING, resources={"cpu": cpu}, isolation=isolation))
    status = cluster.ended(name)
    assert status["phase"] == "Succeeded", status
    assert not before & kept.names()
    assert not pod_of(cluster, status).metadata.name.startswith("maze-spare-")
    kept.all_ready()


def _free_millicores(cluster: Cluster) -> int:
    """Of the one node, when nothing of Runs is left on it, and without the spares."""
    (node,) = cluster.core.list_node().items
    assert node.status.allocatable
    awaited(lambda: _on_node(cluster), lambda pods: all(not _of_a_run(pod) for pod in pods))
    used = sum(_requests(pod) for pod in _on_node(cluster) if names.LABEL_SPARE not in (pod.metadata.labels or {}))
    return int(parse_quantity(node.status.allocatable["cpu"]) * 1000) - used


def _on_node(cluster: Cluster) -> list[Any]:
    pods = cluster.core.list_pod_for_all_namespaces().items
    return [pod for pod in pods if pod.status.phase not in ("Succeeded", "Failed")]


def _of_a_run(pod: Any) -> bool:
    return bool((pod.metadata.labels or {}).get(names.LABEL_RUN_UID))


def _requests(pod: Any) -> int:
    wanted = [(container.resources.requests or {}).get("cpu", "0") for container in pod.spec.containers]
    return int(sum(parse_quantity(each) for each in wanted) * 1000)


def test_spares_outlive_the_operator(cluster: Cluster, kept: Kept) -> None:
    before, started = kept.names(), metric(cluster, "process_start_time_seconds")
    selector = "app.kubernetes.io/name=maze-operator"
    cluster.core.delete_collection_namespaced_pod("maze-system", label_selector=selector, grace_period_seconds=0)
    awaited(lambda: metric(cluster, "process_start_time_seconds"), lambda seen: seen > started)
    assert kept.all_ready() == before
