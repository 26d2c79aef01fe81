"""Tasks that share pods, for tests: they can be held until the test lets them go, so that nothing depends on their speed."""

from __future__ import annotations

from typing import Any

from cluster import Cluster, awaited, kubectl, python, task_of

Json = dict[str, Any]

HELD = """
import os, time, uuid
def held(p):
    token = uuid.uuid4().hex
    with open("/tmp/token", "w") as file:
        file.write(token)
    while not os.path.exists("/tmp/go"):
        time.sleep(0.05)
    return {"token": token}
"""
QUICK = "def quick(p):\n    return {}"


def held(name: str, **more: Any) -> Json:
    """A task that runs until `release`. Its output `token` tells this execution from another one."""
    return python(name, HELD, **more)


def chain(*tasks: Json) -> list[Json]:
    """Each after the one before it."""
    before: list[Json | None] = [None, *tasks[:-1]]
    return [
        {**task, "dependsOn": [first["name"]]} if first else task for first, task in zip(before, tasks, strict=True)
    ]


def release(cluster: Cluster, pod: str) -> None:
    """Let the held task go that runs in this pod."""
    in_pod(cluster, pod, "open('/tmp/go', 'w').close()")


def token_in(cluster: Cluster, pod: str) -> str:
    """Of the held task that runs in this pod."""
    code = "import os; print(os.path.exists('/tmp/token') and open('/tmp/token').read())"
    said: str = awaited(lambda: in_pod(cluster, pod, code).strip(), lambda said: len(said) == 32)
    return said


def in_pod(cluster: Cluster, pod: str, code: str) -> str:
    """What Python code that is started in the pod's container from outside prints."""
    return kubectl("exec", "-n", cluster.namespace, pod, "-c", "task", "--", "python3", "-c", code)


def phases(run: Json) -> dict[str, str]:
    """Of the tasks of a Run."""
    return {task["name"]: task.get("phase", "Pending") for task in run.get("status", {}).get("tasks", ())}


def await_running(cluster: Cluster, name: str, *tasks: str, attempt: int = 1) -> Json:
    """The status in which all of these run at once, in this attempt."""

    def all_run(run: Json) -> bool:
        found = {task["name"]: task for task in run.get("status", {}).get("tasks", ())}
        now = [(found[task].get("phase"), found[task].get("attempt")) for task in tasks if task in found]
        return now == [("Running", attempt)] * len(tasks)

    status: Json = cluster.await_run(name, all_run, 180)["status"]
    return status


def pods_in(status: Json, *tasks: str) -> set[str]:
    """Names of the pods that the last attempts of these tasks ran in; of all tasks, if none is named."""
    return {task_of(status, task)["pod"] for task in tasks or [task["name"] for task in status["tasks"]]}


def living_pods(cluster: Cluster, name: str) -> set[str]:
    """Of a Run."""
    return {pod.metadata.name for pod in cluster.pods_of(name) if pod.status.phase in ("Pending", "Running")}


def most_at_once(status: Json) -> int:
    """How many tasks ran at the same time, by the numbers of their events."""
    steps = [(task["startEvent"], 1) for task in status["tasks"]] + [(task["endEvent"], -1) for task in status["tasks"]]
    now = most = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


def require_one_story(status: Json) -> None:
    """Each event of the Run has a number of its own, and none is missing: nothing was recorded twice."""
    numbers = [1, status["endEvent"]]
    for task in status["tasks"]:
        attempts = [*task.get("failedAttempts", ()), task]
        assert len(attempts) == task["attempt"], task
        numbers += [attempt[event] for attempt in attempts for event in ("startEvent", "endEvent") if event in attempt]
    assert sorted(numbers) == list(range(1, status["lastEvent"] + 1))
