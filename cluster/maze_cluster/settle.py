"""After a crash the API still shows what was true before it: `up` waits until that has been seen to."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from .containerd import list_running
from .deploy import LABEL
from .errors import ClusterError
from .kubectl import Kubectl
from .layout import NODE_NAME, Layout

SETTLE_SECONDS = 90.0


def find_stale(pods: Iterable[Mapping[str, Any]], known: Collection[str], running: Collection[str]) -> tuple[str, ...]:
    """The names of `pods` whose status cannot be trusted yet.

    known: uids of the pods that the kubelet has taken up. running: ids of the containers that run in containerd.
    A pod is stale if the kubelet does not know it, or if it shows a container as running that does not run.
    """
    return tuple(
        pod["metadata"]["name"]
        for pod in pods
        if pod["spec"].get("nodeName")
        and (pod["metadata"]["uid"] not in known or not list_container_ids(pod) <= frozenset(running))
    )


def list_container_ids(pod: Mapping[str, Any]) -> frozenset[str]:
    """The ids of the containers that the pod's status shows as running, without the runtime's prefix."""
    statuses = pod.get("status", {}).get("containerStatuses", ())
    return frozenset(item["containerID"].rpartition("/")[2] for item in statuses if "running" in item.get("state", {}))


def wait_settled(layout: Layout, kubectl: Kubectl) -> None:
    """Wait until the status of Maze's own pods is about the containers that run now."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        pods = kubectl.get_items("pods", "-A", "-l", LABEL)
        stale = find_stale(pods, _list_known(kubectl), list_running(layout))
        if not stale:
            return
        if time.monotonic() > deadline:
            raise ClusterError(
                f"the kubelet has not taken up these pods within {SETTLE_SECONDS:.0f} s: {', '.join(stale)};"
                f" see {layout.logs}/kubelet.log."
            )
        time.sleep(0.2)


def _list_known(kubectl: Kubectl) -> frozenset[str]:
    """The uids of the pods that the kubelet manages; none while it cannot answer."""
    answer = kubectl.attempt("get", "--raw", f"/api/v1/nodes/{NODE_NAME}/proxy/pods")
    if answer.returncode:
        return frozenset()
    return frozenset(item["metadata"]["uid"] for item in json.loads(answer.stdout).get("items") or ())
