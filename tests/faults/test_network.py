"""The way from pods to their node, while other pods come and go."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stage import Stage

from maze_cluster.layout import BRIDGE

LOWEST = "02:00:00:00:00:01"


def test_pods_reach_the_node_whatever_pod_goes(stage: Stage) -> None:
    """A bridge takes its lowest port's Ethernet address for its own, unless it was given one. Pods remember it, so when

    that port went, their new connections to the node's address would get no answer, for a minute or more.
    """
    before = bridge_address()
    with cable(LOWEST):
        during = bridge_address()
    assert (during, bridge_address()) == (before, before)


def bridge_address() -> str:
    return Path(f"/sys/class/net/{BRIDGE}/address").read_text().strip()


@contextmanager
def cable(address: str) -> Iterator[None]:
    """As the one of a pod, from the bridge to nowhere."""
    here = f"test{uuid.uuid4().hex[:8]}"
    ip("link", "add", here, "address", address, "type", "veth", "peer", "name", f"{here}p")
    try:
        ip("link", "set", here, "master", BRIDGE)
        ip("link", "set", here, "up")
        yield
    finally:
        ip("link", "delete", here)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=20)
