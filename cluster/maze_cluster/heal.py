"""What `up` has to clear away before it starts, decided from what it found. Pure.

A machine's processes can vanish at any moment, together (a reboot, a stopped container) or one by one. What stays
behind tells what happened:

- The runtime is *alive* if containerd or any container shim of ours runs. Then pods are kept: containerd finds its
  shims again, the kubelet its pods, and only dead components are started.
- Otherwise everything that only a running container gives a meaning is stale: mounts, network namespaces, addresses,
  leftover processes, components that live on without it. It goes, and the objects in etcd stay, so the kubelet starts
  the pods again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .errors import ClusterError


class Action(StrEnum):
    """One step of clearing away, in the order in which they are done."""

    DROP_PID_FILES = "drop the pid files of components that are gone"
    KILL_LEFTOVERS = "kill processes that the cluster left behind"
    UNMOUNT = "unmount what its containers had mounted"
    DROP_RUNTIME_STATE = "drop the state of containers that are gone"
    DROP_LINKS = "remove its network interfaces"
    DROP_FIREWALL = "remove its packet filter rules"
    DROP_CGROUPS = "remove its control groups"
    RESTORE_HOST = "give back the kernel settings and folders that it changed"


RESTART = (Action.DROP_PID_FILES, Action.KILL_LEFTOVERS, Action.UNMOUNT, Action.DROP_RUNTIME_STATE, Action.DROP_CGROUPS)
EVERYTHING = tuple(Action)


@dataclass(frozen=True)
class Found:
    """What is on the machine.

    owner: the checkout that the machine's record names, or None. me: this checkout. alive, stale: components whose
    pid file names a living or a vanished process. shims: living container shims of ours. leftovers: processes in our
    control group that no pid file names (shims and containers included). mounts, links, cgroups: how many of ours
    exist. foreign_kubernetes: KUBE-* chains exist and no record says that they are ours.
    """

    owner: str | None
    me: str
    alive: frozenset[str] = frozenset()
    stale: frozenset[str] = frozenset()
    shims: int = 0
    leftovers: int = 0
    mounts: int = 0
    links: int = 0
    cgroups: int = 0
    kube_chains: bool = False


def plan_start(found: Found) -> tuple[Action, ...]:
    """The actions before a start. Raises ClusterError where somebody else's cluster is in the way."""
    if found.owner is None:
        if found.kube_chains:
            raise ClusterError(
                "this machine has Kubernetes firewall chains (KUBE-*, see `iptables-save`) that Maze did not make: another"
                " Kubernetes node runs or ran here. Use that cluster with MAZE_CLUSTER=existing, or remove its rules first."
            )
        return tuple(action for action in EVERYTHING if _applies(action, found) and action is not Action.DROP_PID_FILES)
    if found.owner != found.me:
        if found.alive or found.leftovers:
            raise ClusterError(
                f"the embedded cluster of {found.owner} runs on this machine, and there can be one only:"
                f" stop it with `make down` in {found.owner}."
            )
        return EVERYTHING
    if "containerd" in found.alive or found.shims:
        return (Action.DROP_PID_FILES,) if found.stale else ()
    return tuple(action for action in RESTART if _applies(action, found))


def _applies(action: Action, found: Found) -> bool:
    """Whether there is something to do, so that a clean start says nothing."""
    evidence = {
        Action.DROP_PID_FILES: len(found.stale),
        # A kubelet that lives on would not notice that its volumes are unmounted.
        Action.KILL_LEFTOVERS: found.leftovers + len(found.alive),
        Action.UNMOUNT: found.mounts,
        Action.DROP_RUNTIME_STATE: len(found.stale) + found.mounts,
        Action.DROP_LINKS: found.links,
        Action.DROP_CGROUPS: found.cgroups,
    }
    return bool(evidence.get(action, 0))
