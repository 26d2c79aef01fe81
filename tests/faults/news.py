"""Whether Kubernetes' own parts hear of new objects.

After an API server or an etcd that was away, a part that watches asks again after a pause that doubles with each vain
attempt, up to a minute; it is some minutes until the pause is short again. Meanwhile all is well and nothing happens.
"""

from __future__ import annotations

import uuid

from kubernetes.client import V1Pod

from cluster import Cluster, awaited
from test_runs import runner_image

SECONDS = 120


def await_news(cluster: Cluster) -> None:
    """Returns when a plain pod made anew, in a namespace made anew, has run to its end.

    So the controller manager has heard of the namespace, the scheduler of the pod, and the kubelet of its node.
    """
    name = f"test-{uuid.uuid4().hex[:10]}"
    container = {"name": "news", "image": runner_image(cluster), "imagePullPolicy": "IfNotPresent", "command": ["true"]}
    pod = {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    cluster.core.create_namespace({"metadata": {"name": name}})
    try:
        awaited(lambda: cluster.core.list_namespaced_service_account(name).items, bool, SECONDS)
        cluster.core.create_namespaced_pod(name, pod)
        awaited(lambda: _phase(cluster.core.read_namespaced_pod(name, name)), lambda seen: seen == "Succeeded", SECONDS)
    finally:
        cluster.core.delete_namespace(name)


def _phase(pod: V1Pod) -> str:
    found: str = pod.status.phase
    return found
