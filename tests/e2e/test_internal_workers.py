"""Internal workers, by custom resources alone."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from itertools import pairwise

import pytest
from kubernetes import client

from cluster import GROUP, kubectl, task_of
from maze_crds import names
from maze_io.store import ObjectStore
from place import Place, own_place

PRINTS = {"image": "maze/runner", "command": ["sh", "-c", "echo it began; exec sleep 600"]}
ENDS = {"image": "maze/runner", "command": ["sh", "-c", "echo it ends; exit 3"]}
W1, W2, W3 = (f"worker-00{number}-kind" for number in (1, 2, 3))


@pytest.fixture
def place() -> Iterator[Place]:
    with own_place() as made:
        yield made


def test_one_worker_takes_what_waits_in_order_and_one_at_a_time(place: Place) -> None:
    place.pool(replicas=1, running=False)
    assert place.pool_now()["status"]["members"] == [W1]
    place.task("nobody-can", seconds=-1, priority=9)
    expected = ["urgent", "first", "second", "patient"]
    for name, seconds, priority in (("patient", 0, -1), ("second", 1.000001, 0), ("first", 1, 0), ("urgent", 5, 3)):
        place.task(name, "quick", seconds=seconds, priority=priority)
    for name in (*expected, "nobody-can"):
        place.waits(name)
    place.pool(running=True)
    ended = {name: place.ended(name) for name in expected}
    held = []
    for name, status in ended.items():
        assert (name, status["phase"], status["worker"]) == (name, "Succeeded", W1)
        (only,) = status["assignments"]
        assert (only["internal"], only["end"]) == (True, "Completed")
        assert (only["startEvent"], only["endEvent"]) == (1, status["endEvent"])
        held.append((only["startTime"], only["endTime"]))
    assert held == sorted(held)
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(held))
    assert "assignments" not in place.get_run("nobody-can")["status"], "it has no workflow"

    place.until(lambda: place.workers()[W1].get("status", {}).get("tasksCompleted") == 4, "four are counted")
    place.until(lambda: place.states() == {W1: "idle"}, "the worker is idle")
    place.until(
        lambda: metric(place, "maze_operator_assignments_total", 'end="Completed"', 'worker="internal"'), "a metric"
    )
    place.until(lambda: metric(place, "maze_operator_pod_start_seconds_count"), "a metric of pods")


def metric(place: Place, name: str, *labels: str) -> float:
    """The value of the operator's metric; 0 where there is none yet."""
    spec = place.core.read_namespaced_service("maze-operator", "maze-system").spec
    try:
        with urllib.request.urlopen(f"http://{spec.cluster_ip}:{spec.ports[0].port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0.0
    found = [line for line in lines if line.startswith(name) and all(label in line for label in labels)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


def test_workers_come_go_drain_and_pause(place: Place) -> None:
    place.pool(replicas=2)
    place.until(lambda: set(place.workers()) == {W1, W2}, "two workers")
    found = place.workers()[W2]
    assert found["metadata"]["labels"] == {names.LABEL_INTERNAL: "true"}
    assert (found["spec"]["internal"], found["spec"]["backendType"]) == (True, "kind")

    holders = {place.assigned(place.task(name, "holds", seconds=at)): name for at, name in enumerate(("a", "b"))}
    assert set(holders) == {W1, W2}
    place.task("c", "holds", seconds=2)
    place.waits("c")
    kubectl("scale", "-n", place.namespace, "workerpools.maze.dev/internal", "--replicas=3")
    assert place.assigned("c") == W3
    place.until(lambda: place.states() == dict.fromkeys((W1, W2, W3), "busy"), "all are busy")
    place.until(lambda: place.scale() == (3, 3), "the scale of the pool")

    kubectl("scale", "-n", place.namespace, "workerpools.maze.dev/internal", "--replicas=1")
    place.until(place.settled, "the operator sees the scaling")
    assert place.pool_now()["status"] == {"members": [W1], "replicas": 3, "observedGeneration": 3}
    place.task("d", "holds", seconds=3)
    place.waits("d")
    for worker, name in ((W2, holders[W2]), (W3, "c")):
        assert place.cancel(name)["assignments"][-1]["end"] == "Cancelled"
        place.until(lambda gone=worker: gone not in place.workers(), "a drained worker goes")  # type: ignore[misc]
    assert place.assignments("d") == [], "only the member takes something new"
    place.cancel(holders[W1])
    assert place.assigned("d") == W1

    place.pool(running=False)
    place.task("e", "quick", seconds=4)
    place.waits("e")
    assert place.cancel("d")["phase"] == "Cancelled"
    place.until(lambda: place.states() == {W1: "idle"}, "it is idle")
    assert place.assignments("e") == []
    place.pool(running=True)
    assert place.ended("e")["worker"] == W1

    place.custom.delete_namespaced_custom_object(*GROUP, place.namespace, "workerpools", "internal")
    place.until(lambda: place.workers() == {}, "workers go with their pool")


def test_an_id_that_an_external_worker_has_is_left_to_it(place: Place) -> None:
    place.make("workers", "Worker", W1, {"workerId": W1, "backendType": "kind"})
    place.pool(replicas=2)
    place.until(lambda: set(place.workers()) == {W1, W2, W3}, "two more")
    expected = {"members": [W2, W3], "replicas": 2, "observedGeneration": 1}
    place.until(lambda: place.pool_now()["status"] == expected, "the pool has two others")
    place.custom.delete_namespaced_custom_object(*GROUP, place.namespace, "workers", W1)
    place.until(lambda: place.pool_now()["status"]["members"] == [W1, W2], "the pool takes its id back")
    place.until(lambda: set(place.workers()) == {W1, W2}, "its last worker goes")
    assert place.workers()[W1]["spec"]["internal"] is True


def test_what_a_container_printed_is_kept_when_it_is_stopped(place: Place, store: ObjectStore) -> None:
    place.make("workflows", "Workflow", "prints", {"tasks": [{"name": "t", "container": PRINTS}]})
    place.pool(replicas=2)
    place.task("overdue", "prints", timeoutSeconds=10)
    place.task("cancelled", "prints", seconds=1)
    place.until(lambda: "it began" in printed(place, "cancelled"), "the container prints")
    status = place.cancel("cancelled")
    assert (status["phase"], status["assignments"][-1]["end"]) == ("Cancelled", "Cancelled")
    place.until(lambda: place.pods_of("cancelled") == [], "its pod goes")
    assert kept(place, store, "cancelled") == "it began\n"

    status = place.ended("overdue")
    (only,) = status["assignments"]
    assert (status["phase"], status["reason"], only["end"]) == ("Failed", "TimedOut", "TimedOut")
    place.until(lambda: place.pods_of("overdue") == [], "its pod goes")
    if "startTime" in task_of(status, "t"):  # a busy machine may not have started the pod in time
        assert kept(place, store, "overdue") in ("it began\n", "")
    counted = lambda: sum(one.get("status", {}).get("tasksFailed", 0) for one in place.workers().values())  # noqa: E731
    place.until(lambda: counted() == 1, "the overdue one is counted as failed")


def test_what_a_container_printed_outlives_its_pod(place: Place, store: ObjectStore) -> None:
    place.make("workflows", "Workflow", "ends", {"tasks": [{"name": "t", "container": ENDS}]})
    place.pool(replicas=1)
    place.task("r", "ends")
    status = place.ended("r")
    assert (status["phase"], status["assignments"][-1]["end"]) == ("Failed", "Failed")
    kept(place, store, "r")
    for pod in place.pods_of("r"):
        place.core.delete_namespaced_pod(pod.metadata.name, place.namespace, grace_period_seconds=0)
    place.until(lambda: place.pods_of("r") == [], "its pod goes")
    assert kept(place, store, "r") == "it ends\n"


def kept(place: Place, store: ObjectStore, run: str) -> str:
    """The stored log of its task `t`; a busy machine may store it a little later."""
    key = names.log_key(place.get_run(run)["metadata"]["uid"], "t", 1)
    place.until(lambda: store.get(key) is not None, f"the log of {run} is stored")
    return place.log(store, run, "t")


def printed(place: Place, run: str) -> str:
    for pod in place.pods_of(run):
        try:
            found: str | None = place.core.read_namespaced_pod_log(pod.metadata.name, place.namespace)
        except client.ApiException as error:
            if error.status not in (400, 404):  # not started yet
                raise
        else:
            return found or ""  # the client makes None of an empty body
    return ""
