"""Somebody deletes pods, or a whole namespace with a Run in it: what is left goes on."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from invariants import living_pods
from kubernetes.client import ApiException
from recorder import recording
from stage import Stage

from cluster import Cluster, awaited

PODS = 3
RETRY = {"infrastructure": 20, "backoffSeconds": 0.2, "maxBackoffSeconds": 1}


def test_pods_deleted(stage: Stage) -> None:
    name = stage.work(defaults={"retry": RETRY})
    rng = random.Random(uuid.uuid4().int)
    for pod in rng.sample(sorted(living_pods(stage.cluster, name)), PODS):
        stage.cluster.core.delete_namespaced_pod(pod, "maze", grace_period_seconds=rng.choice([0, 1, 30]))
    stage.recorder.open()
    stage.require_success(name)


def test_namespace_deleted(stage: Stage) -> None:
    """With a Run in it. Another one does not notice, and nothing keeps the namespace."""
    operator = stage.machine.running("operator")
    with namespace(stage.cluster) as name, recording() as recorder:
        elsewhere = Cluster(name)
        try:
            Stage(elsewhere, recorder, stage.machine).work()
        finally:
            elsewhere.close()
        other = stage.work()
        stage.cluster.core.delete_namespace(name)
        recorder.open()
        stage.recorder.open()
        stage.require_undisturbed(other)
        awaited(lambda: namespace_exists(stage.cluster, name), lambda there: not there, 45)
    assert stage.machine.running("operator") == operator


@contextmanager
def namespace(cluster: Cluster) -> Iterator[str]:
    """A new one, which may be gone when the block ends."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    cluster.core.create_namespace({"metadata": {"name": name}})
    try:
        awaited(lambda: cluster.core.list_namespaced_service_account(name).items, bool, 30)
        yield name
    finally:
        if namespace_exists(cluster, name):
            cluster.core.delete_namespace(name)


def namespace_exists(cluster: Cluster, name: str) -> bool:
    try:
        cluster.core.read_namespace(name)
    except ApiException as error:
        if error.status == 404:
            return False
        raise
    return True
