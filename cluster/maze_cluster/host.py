"""The machine itself: what of ours is on it (`observe`), what the cluster needs of it (`prepare`), and giving it back.

Everything changed here is recorded first in /run/maze/owner.json: former kernel settings, folders that did not exist,
packet filter chains that were there. So `restore` can put it back, even after a crash and from another checkout.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from .cgroups import cgroup_version, create_cgroups, find_cgroups, list_processes
from .components import Component
from .errors import ClusterError
from .firewall import OUR_RULES, list_chains
from .heal import Found
from .layout import BRIDGE, BRIDGE_MAC, NODE_IP, POD_CIDR, SERVICE_CIDR, Layout
from .process import is_alive, read_record
from .sh import attempt, run

# What the cluster needs, and what kubelet and kube-proxy set by themselves (then the value is None: only put back).
SYSCTLS: dict[str, str | None] = {
    "net/ipv4/ip_forward": "1",
    "net/bridge/bridge-nf-call-iptables": "1",
    "net/bridge/bridge-nf-call-ip6tables": None,
    "net/ipv4/conf/all/route_localnet": None,
    "net/ipv4/vs/conntrack": None,
    "vm/overcommit_memory": None,
    "vm/panic_on_oom": None,
    "kernel/panic": None,
    "kernel/panic_on_oops": None,
    "kernel/keys/root_maxkeys": None,
    "kernel/keys/root_maxbytes": None,
}
BRIDGE_FILTER = "/proc/sys/net/bridge"
# Fixed paths that kubelet, containerd and the CNI plugins use whatever we configure.
SHARED_FOLDERS = (
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/log/containers",
    "/var/log/pods",
    "/var/run/kubernetes",
    "/usr/libexec/kubernetes",
    "/run/containerd",
    "/run/runc",
    "/etc/cni",
    "/opt/cni",
    "/opt/containerd",
)


@dataclass(frozen=True)
class Owner:
    """The record in /run/maze/owner.json.

    chains: packet filter chains from before; absent: folders that we may remove; modules: kernel modules that we loaded.
    """

    checkout: str
    sysctls: dict[str, str]
    chains: list[str]
    absent: list[str]
    modules: list[str] = field(default_factory=list)


def read_owner(layout: Layout) -> Owner | None:
    """The record of the cluster that is or was on this machine."""
    try:
        return Owner(**json.loads(layout.owner.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def claim(layout: Layout) -> None:
    """Record this checkout as the owner, with the machine's settings as they are before any change."""
    modules = _load_modules()
    owner = read_owner(layout)
    if owner is not None and owner.checkout == str(layout.checkout):
        # After a reboot the record may still be there, the modules are not.
        owner = replace(owner, modules=sorted({*owner.modules, *modules}))
    else:
        owner = Owner(
            checkout=str(layout.checkout),
            sysctls={name: value for name in SYSCTLS if (value := _read_sysctl(name)) is not None},
            chains=sorted(list_chains(save_firewall("iptables")) | list_chains(save_firewall("ip6tables"))),
            absent=[folder for folder in SHARED_FOLDERS if not Path(folder).exists()],
            modules=modules,
        )
    temporary = layout.owner.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(owner), indent=1))
    temporary.rename(layout.owner)


def _load_modules() -> list[str]:
    """Load what shows bridged packets to the packet filter (Services need it); what was loaded."""
    if Path(BRIDGE_FILTER).exists():
        return []
    done = attempt(["modprobe", "br_netfilter"])
    if not Path(BRIDGE_FILTER).exists():
        raise ClusterError(
            f"the kernel module br_netfilter is missing ({done.stderr.strip()}): Services need it. Load it with"
            " `modprobe br_netfilter`, outside if this is a container."
        )
    return ["br_netfilter"]


def observe(layout: Layout, components: tuple[Component, ...]) -> Found:
    """Look at the machine, without changing anything."""
    owner = read_owner(layout)
    records = {component.name: read_record(layout, component.name) for component in components}
    alive = frozenset(name for name, record in records.items() if is_alive(record))
    stale = frozenset(name for name, record in records.items() if record is not None) - alive
    known = {record.pid for name, record in records.items() if record is not None and name in alive}
    processes = set(list_processes()) - known
    chains = list_chains(save_firewall("iptables"))
    return Found(
        owner=owner.checkout if owner else None,
        me=str(layout.checkout),
        alive=alive,
        stale=stale,
        shims=sum(1 for pid in processes if is_shim(pid, layout)),
        leftovers=len(processes),
        mounts=len(find_mounts(layout)),
        links=int(Path(f"/sys/class/net/{BRIDGE}").exists()),
        cgroups=len(find_cgroups()),
        kube_chains=any(chain.startswith("KUBE-") for chain in chains),
    )


def is_shim(pid: int, layout: Layout) -> bool:
    """Whether `pid` is a container shim of our containerd (its command line names our socket)."""
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return argv[0].endswith(b"containerd-shim-runc-v2") and os.fsencode(layout.containerd_socket) in argv


def find_mounts(layout: Layout) -> list[str]:
    """Mount points below our folders, innermost first; of this checkout and of the one that the record names."""
    owner = read_owner(layout)
    roots = {str(layout.state), str(layout.run)}
    if owner is not None:
        roots.add(str(Path(owner.checkout) / ".cluster"))
    points = [_unescape(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in reversed(points) if any(point.startswith(root + "/") for root in roots)]


def _unescape(path: str) -> str:
    """mountinfo writes blanks in octal."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return path


def save_firewall(program: str) -> str:
    """The rules as `iptables-save` or `ip6tables-save` prints them, or "" where there are none to have."""
    return attempt([f"{program}-save"]).stdout


def prepare(layout: Layout) -> Path:
    """Give the machine what the cluster needs; safe to repeat. Returns the control group for our processes."""
    for name, value in SYSCTLS.items():
        if value is not None and _read_sysctl(name) not in (None, value):
            Path("/proc/sys", name).write_text(value)
    _prepare_bridge()
    for table, chain, rule in OUR_RULES:
        command = ["iptables", "-w", "-t", table]
        if attempt([*command, "-C", chain, *rule]).returncode:
            run([*command, "-A", chain, *rule], hint="The embedded cluster needs iptables and the right to change it.")
    return create_cgroups()


def _prepare_bridge() -> None:
    """The pods' bridge, which also carries the node's address. Service addresses leave by it, with or without a network."""
    if not Path(f"/sys/class/net/{BRIDGE}").exists():
        run(
            ["ip", "link", "add", BRIDGE, "type", "bridge"],
            hint="The embedded cluster needs the right to make a bridge.",
        )
    prefix = POD_CIDR.partition("/")[2]
    # Without one of its own a bridge takes that of its lowest port, and when that pod goes, the others go on sending there.
    run(["ip", "link", "set", BRIDGE, "address", BRIDGE_MAC])
    run(["ip", "address", "replace", f"{NODE_IP}/{prefix}", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    run(["ip", "route", "replace", SERVICE_CIDR, "dev", BRIDGE, "src", NODE_IP])


def find_cni_plugins() -> str | None:
    """The folder that holds the CNI plugins, or None."""
    folders = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
    return next((folder for folder in folders if Path(folder, "bridge").exists()), None)


def is_cgroup_v2() -> bool:
    """Whether the machine uses the unified control group hierarchy alone."""
    return cgroup_version() == 2


def choose_snapshotter(layout: Layout) -> str:
    """overlayfs, or plain copies where the checkout itself lies on an overlay (which cannot be stacked)."""
    kind = run(["stat", "-f", "-c", "%T", layout.checkout]).strip()
    return "native" if kind in ("overlayfs", "overlay") else "overlayfs"


def _read_sysctl(name: str) -> str | None:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return None
