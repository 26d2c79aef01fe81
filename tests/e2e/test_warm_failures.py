"""Tasks that fail in a pod that they share: told apart, and harmless to the tasks after them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cluster import Cluster, kubectl, python, task_of
from maze_crds.quantity import parse_quantity
from maze_io.store import ObjectStore
from warm import QUICK, await_running, held, phases, pods_in, release, require_one_story, token_in

SMALL = {"memory": "128Mi"}
EATS = "def f(p):\n    return {'size': len(bytearray(160 * 1024 * 1024))}"
WAYS: dict[str, tuple[str, str, str, str, dict[str, Any]]] = {
    "raises": ("def f(p): raise KeyError('lost')", "UserError", "UserException", "KeyError: 'lost'", {}),
    "exits": ("import os\ndef f(p): os._exit(7)", "UserError", "Exited", "code 7", {}),
    "leaves": ("import sys\ndef f(p): sys.exit(3)", "UserError", "Exited", "code 3", {}),
    "crashes": ("import os\ndef f(p): os.kill(os.getpid(), 11)", "UserError", "Killed", "SIGSEGV", {}),
    "kills": ("import os\ndef f(p): os.kill(os.getpid(), 9)", "UserError", "Killed", "SIGKILL", {}),
    "hangs": ("import time\ndef f(p): time.sleep(600)", "Timeout", "TimedOut", "1 s", {"timeoutSeconds": 1}),
    "eats": (EATS, "OutOfMemory", "OOMKilled", "memory", {}),
}
NO_IMAGE = "maze/no-such-image:1"


@pytest.fixture(scope="module", autouse=True)
def no_image() -> Iterator[tuple[Cluster, str]]:
    """A Run whose image can't be pulled, started before all else here: it takes a while to be given up."""
    made = Cluster()
    tasks = [{"name": f"t{n}", "python": {"source": QUICK, "image": NO_IMAGE}} for n in range(2)]
    yield made, made.run(*tasks, python("other", QUICK))
    made.clean()
    made.close()


def test_whatever_way_a_task_ends_the_next_one_runs_in_the_same_pod(cluster: Cluster) -> None:
    tasks = [python(task, source, **more) for task, (source, _, _, _, more) in WAYS.items()]
    name = cluster.run(
        python("first", QUICK), *tasks, python("last", QUICK), parallelism=1, defaults={"resources": SMALL}
    )
    status = cluster.ended(name, 180)
    assert status["phase"] == "Failed"
    for task, (_, cause, reason, words, _) in WAYS.items():
        found = task_of(status, task)
        assert (task, found["phase"], found["cause"], found["reason"]) == (task, "Failed", cause, reason)
        assert words in found["message"]
    assert [task_of(status, task)["phase"] for task in ("first", "last")] == ["Succeeded"] * 2
    assert len(pods_in(status)) == 1
    assert {task["attempt"] for task in status["tasks"]} == {1}
    require_one_story(status)


def test_a_task_that_needs_more_memory_gets_it_in_a_larger_pod(cluster: Cluster, store: ObjectStore) -> None:
    retry = {"outOfMemory": 1, "memoryFactor": 2, "backoffSeconds": 0}
    name = cluster.run(python("t", EATS, resources=SMALL, retry=retry))
    status = cluster.ended(name)
    assert status["phase"] == "Succeeded", status
    task = task_of(status, "t")
    assert [(each["cause"], each["reason"]) for each in task["failedAttempts"]] == [("OutOfMemory", "OOMKilled")]
    pod = cluster.core.read_namespaced_pod(task["pod"], cluster.namespace)
    assert parse_quantity(pod.spec.containers[0].resources.limits["memory"]) == 256 * 1024**2
    assert cluster.result(store, name, "t")["outputs"]["size"]["value"] == 160 * 1024**2
    require_one_story(status)


def test_a_task_whose_shared_pod_is_deleted_runs_again_in_another_one(cluster: Cluster, store: ObjectStore) -> None:
    retry = {"backoffSeconds": 0}
    name = cluster.run(python("before", QUICK), held("t", dependsOn=["before"], retry=retry))
    (pod,) = pods_in(await_running(cluster, name, "t"), "t")
    lost = token_in(cluster, pod)
    kubectl("delete", "pod", "-n", cluster.namespace, pod, "--grace-period=1")
    (other,) = pods_in(await_running(cluster, name, "t", attempt=2), "t")
    assert other != pod
    release(cluster, other)
    status = cluster.ended(name)
    assert status["phase"] == "Succeeded", status
    assert task_of(status, "before")["attempt"] == 1
    assert [each["cause"] for each in task_of(status, "t")["failedAttempts"]] == ["Infrastructure"]
    assert cluster.result(store, name, "t")["outputs"]["token"]["value"] != lost
    require_one_story(status)


def test_all_tasks_that_wait_for_a_pod_with_no_place_say_why(cluster: Cluster) -> None:
    huge = [python(f"t{n}", QUICK, resources={"cpu": "100000"}) for n in range(3)]
    name = cluster.run(*huge, python("other", QUICK))
    run = cluster.await_run(name, lambda run: waits(run, 3) == {"Unschedulable"} and succeeded(run) == {"other"})
    assert all("Insufficient cpu" in task_of(run["status"], f"t{n}")["message"] for n in range(3))
    cluster.patch_run(name, {"desiredState": "Cancelled"})
    assert cluster.ended(name)["phase"] == "Cancelled"


def test_an_image_that_can_not_be_pulled_is_named_on_all_its_tasks_and_fails_them(
    no_image: tuple[Cluster, str],
) -> None:
    cluster, name = no_image
    status = cluster.ended(name, 60 + pull_timeout(cluster))
    assert status["phase"] == "Failed"
    assert task_of(status, "other")["phase"] == "Succeeded"
    for n in range(2):
        task = task_of(status, f"t{n}")
        assert (task["phase"], task["cause"], task["reason"]) == ("Failed", "UserError", "ImagePullFailed")
        assert "no-such-image" in task["message"]
        assert "startTime" not in task


def waits(run: dict[str, Any], count: int) -> set[str | None]:
    """Why the tasks t0, t1 … wait."""
    tasks = run.get("status", {}).get("tasks", ())
    return {task.get("reason") for task in tasks if task["name"] in {f"t{n}" for n in range(count)}}


def succeeded(run: dict[str, Any]) -> set[str]:
    return {task for task, phase in phases(run).items() if phase == "Succeeded"}


def pull_timeout(cluster: Cluster) -> float:
    """Seconds, as the operator is set up."""
    deployment = cluster.apps.read_namespaced_deployment("maze-operator", "maze-system")
    settings = {entry.name: entry.value for entry in deployment.spec.template.spec.containers[0].env}
    return float(settings.get("MAZE_IMAGE_PULL_TIMEOUT_SECONDS") or 300)
