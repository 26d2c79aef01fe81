"""The time limit of a whole Run, with real pods."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster import Cluster, python, task_of
from maze_io.store import ObjectStore
from own_api import own_namespace

LIMIT = 15
SLEEPS = "import time\ndef f(p):\n    print('it began', flush=True)\n    time.sleep(600)\n    return {}"


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    with own_namespace() as namespace:
        made = Cluster(namespace)
        yield made
        made.close()


def test_a_run_that_takes_too_long_is_stopped_with_its_log_kept(own_cluster: Cluster, store: ObjectStore) -> None:
    sleeping = {"name": "t", "container": {"image": "maze/runner", "command": ["sleep", "600"]}}
    specs = {
        "python": {"workflow": {"tasks": [python("t", SLEEPS), python("after", SLEEPS, dependsOn=["t"])]}},
        "container": {"workflow": {"tasks": [sleeping]}},
    }
    runs = {kind: own_cluster.create_run({**spec, "timeoutSeconds": LIMIT}) for kind, spec in specs.items()}
    ended = {kind: own_cluster.ended(name, 180) for kind, name in runs.items()}
    for kind, status in ended.items():
        task = task_of(status, "t")
        assert (kind, status["phase"], status["reason"]) == (kind, "Failed", "TimedOut")
        assert (kind, task["phase"], task["cause"], task["reason"]) == (kind, "Failed", "Timeout", "TimedOut")
    assert task_of(ended["python"], "after")["phase"] == "Skipped"
    if "startTime" in task_of(ended["python"], "t"):  # a busy machine may not have started the pod in time
        assert "it began" in own_cluster.log(store, runs["python"], "t")
