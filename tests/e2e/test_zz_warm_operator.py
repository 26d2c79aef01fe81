"""The operator dies, or is away, while tasks run in pods that they share: they go on, and are recorded once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster import Cluster, awaited, kubectl, python, task_of
from maze_crds import names
from maze_io.store import ObjectStore
from test_parts_die import kill_pods_of
from test_spares import metric
from warm import QUICK, await_running, chain, held, pods_in, release, require_one_story, token_in

OPERATOR = "maze-operator"
HOP = "import time\ndef f(p):\n    time.sleep(0.2)\n    return {}"


def started(cluster: Cluster) -> float:
    return metric(cluster, "process_start_time_seconds")


def await_operator(cluster: Cluster, since: float = 0.0) -> float:
    """Until one answers that was started later; when that was, in seconds since 1970."""
    seen: float = awaited(lambda: started(cluster), lambda seen: seen > since)
    return seen


def operator_pods(cluster: Cluster) -> list[str]:
    selector = f"app.kubernetes.io/name={OPERATOR}"
    found = cluster.core.list_namespaced_pod("maze-system", label_selector=selector).items
    return [pod.metadata.name for pod in found]


@pytest.fixture
def scale(cluster: Cluster) -> Iterator[str]:
    """There is one operator again afterwards."""
    yield OPERATOR
    kubectl("scale", "-n", "maze-system", f"deployment/{OPERATOR}", "--replicas=1")
    await_operator(cluster)


def test_a_task_goes_on_while_the_operator_dies_and_is_recorded_once(cluster: Cluster, store: ObjectStore) -> None:
    name = cluster.run(
        python("before", QUICK), held("t", dependsOn=["before"]), python("after", QUICK, dependsOn=["t"])
    )
    began = task_of(await_running(cluster, name, "t"), "t")
    token, since = token_in(cluster, began["pod"]), await_operator(cluster)
    kill_pods_of(OPERATOR)
    await_operator(cluster, since)
    release(cluster, began["pod"])
    status = cluster.ended(name)
    assert status["phase"] == "Succeeded", status
    assert [task["attempt"] for task in status["tasks"]] == [1, 1, 1]
    assert pods_in(status) == {began["pod"]}
    task = task_of(status, "t")
    assert (task["startTime"], task["startEvent"]) == (began["startTime"], began["startEvent"])
    assert cluster.result(store, name, "t")["outputs"]["token"]["value"] == token
    require_one_story(status)


def test_a_task_that_ends_while_the_operator_is_away_is_recorded_when_it_is_back(
    cluster: Cluster, store: ObjectStore, scale: str
) -> None:
    name = cluster.run(held("t"), python("after", QUICK, dependsOn=["t"]))
    began = task_of(await_running(cluster, name, "t"), "t")
    token = token_in(cluster, began["pod"])
    kubectl("scale", "-n", "maze-system", f"deployment/{scale}", "--replicas=0")
    awaited(lambda: operator_pods(cluster), lambda left: not left)
    release(cluster, began["pod"])
    key = names.result_key(cluster.get_run(name)["metadata"]["uid"], "t", 1)
    awaited(lambda: store.get(key), lambda found: found is not None)
    assert task_of(cluster.get_run(name)["status"], "t") == began
    kubectl("scale", "-n", "maze-system", f"deployment/{scale}", "--replicas=1")
    status = cluster.ended(name, 180)
    assert status["phase"] == "Succeeded", status
    assert [task["attempt"] for task in status["tasks"]] == [1, 1]
    assert task_of(status, "t")["pod"] == began["pod"]
    assert cluster.result(store, name, "t")["outputs"]["token"]["value"] == token
    require_one_story(status)


def test_a_chain_goes_on_through_two_deaths_of_the_operator(cluster: Cluster) -> None:
    """The held task in its middle keeps it from its end while the first new operator starts."""
    tasks = [held(f"t{n}") if n == 15 else python(f"t{n}", HOP) for n in range(30)]
    name = cluster.run(*chain(*tasks))
    for count in (5, 20):
        cluster.await_run(name, lambda run, count=count: succeeded(run) >= count)
        since = await_operator(cluster)
        kill_pods_of(OPERATOR)
        await_operator(cluster, since)
        if count == 5:
            release(cluster, *pods_in(await_running(cluster, name, "t15"), "t15"))
    status = cluster.ended(name)
    assert status["phase"] == "Succeeded", status
    assert {task["attempt"] for task in status["tasks"]} == {1}
    # of a task that began and ended between two writes of the status only its result is left to a new operator
    assert len({task["pod"] for task in status["tasks"] if "pod" in task}) == 1
    require_one_story(status)


def succeeded(run: dict) -> int:  # type: ignore[type-arg]
    count: int = run.get("status", {}).get("counts", {}).get("succeeded", 0)
    return count
