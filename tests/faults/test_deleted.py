"""Somebody deletes pods, or a whole namespace with a Run in it: what is left goes on."""

from __future__ import annotations

import random
import uuid

from invariants import living_pods
from kubernetes.client import ApiException
from stage import Stage

from cluster import Cluster, awaited
from own_api import own_namespace

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
    """Of one Run. Another one does not notice, and nothing keeps the namespace."""
    operator = stage.machine.running("operator")
    with own_namespace() as namespace:
        elsewhere = Cluster(namespace)
        try:
            gone = Stage(elsewhere, stage.recorder, stage.machine).work()
            elsewhere.core.delete_namespace(namespace)
            name = stage.work()
            stage.recorder.open()
            stage.require(name)
            awaited(lambda: namespace_exists(stage.cluster, namespace), lambda there: not there, 45)
        finally:
            elsewhere.close()
    assert gone
    assert stage.machine.running("operator") == operator


def namespace_exists(cluster: Cluster, name: str) -> bool:
    try:
        cluster.core.read_namespace(name)
    except ApiException as error:
        if error.status == 404:
            return False
        raise
    return True
