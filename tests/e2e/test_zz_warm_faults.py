"""Pods that serve many tasks, while everything that has a part in it is killed at random: one success each, nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cluster import Cluster, python
from test_zz_operator_killed import operator_processes

TASKS = 200
KILLS = 40
OPERATORS = 6
"""Kills of the operator among them, at most: it is away for some seconds each time."""
SLEEPS = "import time\ndef work(p):\n    time.sleep(p['seconds'])\n    return {'n': p['n']}"
RETRY = {"limit": 30, "infrastructure": 60, "backoffSeconds": 0.1, "maxBackoffSeconds": 0.5}


def runner_processes(run_uid: str, pods: list[Any]) -> dict[str, list[int]]:
    """Process ids of runners ("parent") and of what they have forked ("child") in these pods."""
    uids = [pod.metadata.uid for pod in pods]
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if b"maze_runner" not in (folder / "cmdline").read_bytes():
                    continue
                group = (folder / "cgroup").read_text()
                if any(uid in group or uid.replace("-", "_") in group for uid in uids):
                    stat = (folder / "stat").read_text().rpartition(")")[2].split()
                    parents[int(folder.name)] = int(stat[1])
    return {
        "parent": [pid for pid, parent in parents.items() if parent not in parents],
        "child": [pid for pid, parent in parents.items() if parent in parents],
    }


def kill_something(cluster: Cluster, name: str, uid: str, rng: random.Random, kinds: list[str]) -> str | None:
    """SIGKILL to a process, or a pod deleted; what it was, or None: there was nothing of that kind right now."""
    kind = rng.choice(kinds)
    if kind == "operator":
        found = operator_processes()
    else:
        pods = [pod for pod in cluster.pods_of(name) if pod.status.phase == "Running"]
        if kind == "pod":
            if not pods:
                return None
            cluster.core.delete_namespaced_pod(rng.choice(pods).metadata.name, cluster.namespace)
            return kind
        found = runner_processes(uid, pods)[kind]
    if not found:
        return None
    with suppress(ProcessLookupError):
        os.kill(rng.choice(found), signal.SIGKILL)
        return kind
    return None


def test_operator_runners_children_and_pods_killed_at_random_during_200_tasks(cluster: Cluster) -> None:
    if os.geteuid() != 0 or not operator_processes():
        pytest.skip("needs the embedded cluster: the operator's process is not on this machine")
    rng = random.Random(8)
    tasks = []
    for n in range(TASKS):
        inputs = {"n": {"value": n}, "seconds": {"value": round(rng.uniform(0.05, 1.0), 2)}}
        after = [f"t{n - 20}"] if n >= 20 and n % 3 == 0 else []
        tasks.append(python(f"t{n}", SLEEPS, inputs=inputs, dependsOn=after, outputs=["n"]))
    name = cluster.run(*tasks, parallelism=6, defaults={"retry": RETRY})
    uid = cluster.get_run(name)["metadata"]["uid"]
    killed: Counter[str] = Counter()
    until = time.monotonic() + 240
    while time.monotonic() < until:
        if cluster.get_run(name).get("status", {}).get("phase", "Pending") not in ("Pending", "Running"):
            break
        if killed.total() < KILLS:
            kinds = ["parent", "child", "child", "pod"] + ["operator"] * (killed["operator"] < OPERATORS)
            what = kill_something(cluster, name, uid, rng, kinds)
            killed[what or ""] += what is not None
        time.sleep(rng.uniform(0.1, 0.8))  # the random moment is the point of the test
    status = cluster.ended(name, seconds=60)
    assert status["phase"] == "Succeeded", status.get("message")
    assert status["counts"]["succeeded"] == TASKS
    assert {kind for kind, count in killed.items() if count} == {"operator", "parent", "child", "pod"}, killed
    numbers = [1, status["endEvent"]]
    for task in status["tasks"]:
        attempts = [*task.get("failedAttempts", ()), task]
        assert len(attempts) == task["attempt"]
        numbers += [attempt[event] for attempt in attempts for event in ("startEvent", "endEvent") if event in attempt]
    assert sorted(numbers) == list(range(1, status["lastEvent"] + 1))
    ends = {task["name"]: task["endEvent"] for task in status["tasks"]}
    for task in tasks:
        for upstream in task["dependsOn"]:
            first = next(one for one in status["tasks"] if one["name"] == task["name"])
            starts = [each["startEvent"] for each in [*first.get("failedAttempts", ()), first] if "startEvent" in each]
            assert ends[upstream] < min(starts)
