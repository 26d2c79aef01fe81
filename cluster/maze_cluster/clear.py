"""Carries out the actions that `heal` decides on, and says each one. Each is safe to repeat."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from . import cgroups
from .configs import CNI_NETWORK
from .firewall import plan_cleanup
from .heal import Action
from .host import Owner, find_mounts, read_owner, save_firewall
from .layout import BRIDGE, Layout
from .process import is_alive, read_record, send
from .say import detail
from .sh import attempt, run


def carry_out(layout: Layout, actions: Iterable[Action]) -> None:
    """Do the actions in their order."""
    steps: dict[Action, Callable[[Layout], None]] = {
        Action.DROP_PID_FILES: drop_pid_files,
        Action.KILL_LEFTOVERS: lambda _: kill_leftovers(),
        Action.UNMOUNT: unmount,
        Action.DROP_RUNTIME_STATE: drop_runtime_state,
        Action.DROP_LINKS: lambda _: drop_links(),
        Action.DROP_FIREWALL: drop_firewall,
        Action.DROP_CGROUPS: lambda _: cgroups.remove_cgroups(),
        Action.RESTORE_HOST: restore_host,
    }
    for action in actions:
        detail(action.value)
        steps[action](layout)


def drop_pid_files(layout: Layout) -> None:
    """Remove the pid files of processes that are gone."""
    for path in layout.pids.glob("*.json"):
        if not is_alive(read_record(layout, path.stem)):
            path.unlink()


def kill_leftovers() -> None:
    """Kill everything in our control groups. Only called where no component of ours is to live on."""
    killed = cgroups.kill_processes()
    if killed:
        detail(f"  {killed} processes")


def unmount(layout: Layout) -> None:
    """Unmount everything below our folders; what is still busy is detached."""
    for point in find_mounts(layout):
        if attempt(["umount", point]).returncode:
            attempt(["umount", "--lazy", point])


def drop_runtime_state(layout: Layout) -> None:
    """Forget running containers, their addresses and their cached network results."""
    for address in layout.containerd_state.glob("io.containerd.runtime.v2.task/*/*/address"):
        socket = Path(address.read_text().strip().removeprefix("unix://"))
        if socket.parent == Path("/run/containerd/s"):
            socket.unlink(missing_ok=True)
    shutil.rmtree(layout.containerd_state, ignore_errors=True)
    shutil.rmtree(layout.cni_ipam, ignore_errors=True)
    _drop_cni_results(Path("/var/lib/cni/results"))
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and str(link.readlink()).startswith(str(layout.state)):
            link.unlink()


def _drop_cni_results(folder: Path) -> None:
    """libcni caches a file for each attachment. Ours name our network; the loopback ones name the same containers."""
    ours: set[str] = set()
    for path in folder.glob(f"{CNI_NETWORK}-*"):
        try:
            ours.add(json.loads(path.read_text())["containerId"])
        except (ValueError, KeyError):
            continue
        path.unlink()
    for container in ours:
        for path in folder.glob(f"cni-loopback-{container}-*"):
            path.unlink()


def drop_links() -> None:
    """Remove the bridge and the host ends of the pods' cables (the ends that the bridge has as ports)."""
    ports = Path(f"/sys/class/net/{BRIDGE}/brif")
    for port in sorted(ports.iterdir()) if ports.is_dir() else ():
        attempt(["ip", "link", "delete", port.name])
    attempt(["ip", "link", "delete", BRIDGE])


def drop_firewall(layout: Layout) -> None:
    """Take out the chains and rules that the cluster added, and nothing else."""
    owner = read_owner(layout)
    keep = frozenset(owner.chains if owner else ())
    for program in ("iptables", "ip6tables"):
        script = plan_cleanup(save_firewall(program), keep)
        if script:
            run([f"{program}-restore", "--noflush", "-w"], stdin=script, hint=f"See `{program}-save`.")


def restore_host(layout: Layout) -> None:
    """Put kernel settings back, remove the shared folders that did not exist before, and forget the record."""
    owner = read_owner(layout)
    if owner is not None:
        _restore_sysctls(owner)
        for module in owner.modules:
            attempt(["modprobe", "-r", module])
        for folder in owner.absent:
            shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(layout.run, ignore_errors=True)


def _restore_sysctls(owner: Owner) -> None:
    for name, value in owner.sysctls.items():
        path = Path("/proc/sys", name)
        if path.exists() and path.read_text().strip() != value:
            path.write_text(value)


def kill_component(layout: Layout, name: str) -> None:
    """SIGKILL one component, if it runs (for tests and for `down`)."""
    record = read_record(layout, name)
    if record is not None and is_alive(record):
        send(record.pid, signal.SIGKILL)
