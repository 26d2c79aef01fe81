"""Every path, port and address of the embedded cluster, written once.

Runtime state lives in `<checkout>/.cluster`, sockets in `/run/maze` (a socket's path may have 107 bytes at most, and a
checkout can lie deep), what is worth keeping between clusters in `${MAZE_CACHE:-${XDG_CACHE_HOME:-~/.cache}/maze}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import ClusterError

KUBERNETES_VERSION = "v1.34.4"
NODE_NAME = "maze-node"
BRIDGE = "maze0"
BRIDGE_MAC = "0a:58:0a:f4:00:01"
"""Its Ethernet address, in the way of CNI plugins: 0a:58 and NODE_IP."""
CGROUP = "maze"
CLUSTER_DOMAIN = "cluster.local"
SYSTEM_NAMESPACE = "maze-system"

# The node's address is the bridge's own: it stays the same when the machine's addresses change, works without any
# network, and the kubelet listens on nothing that another machine can reach.
POD_CIDR = "10.244.0.0/16"
NODE_IP = "10.244.0.1"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"
DNS_SERVICE_IP = "10.96.0.10"

ETCD_PORT = 12379
ETCD_PEER_PORT = 12380
API_PORT = 16443
MAZE_API_PORT = 8000
"""The NodePort of Service maze-api, reachable at 127.0.0.1 only."""

NONROOT_UID = 65532


@dataclass(frozen=True)
class Layout:
    """Where one checkout's cluster keeps what. `api_port`: TCP port of kube-apiserver."""

    checkout: Path
    cache: Path
    api_port: int = API_PORT
    run: Path = Path("/run/maze")

    @property
    def state(self) -> Path:
        return self.checkout / ".cluster"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def config(self) -> Path:
        return self.state / "config"

    @property
    def pids(self) -> Path:
        return self.state / "pids"

    @property
    def deploy(self) -> Path:
        return self.state / "deploy"

    @property
    def s3(self) -> Path:
        return self.state / "s3"

    @property
    def containerd_root(self) -> Path:
        return self.state / "containerd"

    @property
    def containerd_state(self) -> Path:
        return self.run / "containerd"

    @property
    def containerd_socket(self) -> Path:
        return self.containerd_state / "containerd.sock"

    @property
    def owner(self) -> Path:
        return self.run / "owner.json"

    @property
    def cni(self) -> Path:
        return self.config / "cni"

    @property
    def cni_ipam(self) -> Path:
        return self.state / "cni-ipam"

    @property
    def kubelet_root(self) -> Path:
        return self.state / "kubelet"

    @property
    def manifests(self) -> Path:
        return self.checkout / "manifests"

    @property
    def tools(self) -> Path:
        return self.checkout / "cluster" / "tools"

    @property
    def images_cache(self) -> Path:
        return self.cache / "images"


def find_checkout() -> Path:
    """The checkout that this package was installed from (it is always installed in editable mode)."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / "manifests").is_dir():
        raise ClusterError(
            f"{checkout} has no manifests/ folder, so this is not a Maze checkout: install maze-cluster from a git"
            " checkout with `pip install -e ./cluster` (`make up` does that)."
        )
    return checkout


def build_layout(checkout: Path, env: Mapping[str, str]) -> Layout:
    """The layout for `checkout` under the environment `env` (MAZE_CACHE, XDG_CACHE_HOME, HOME, MAZE_KUBE_API_PORT)."""
    home = env.get("HOME") or str(Path.home())
    cache = env.get("MAZE_CACHE") or str(Path(env.get("XDG_CACHE_HOME") or str(Path(home) / ".cache")) / "maze")
    port = env.get("MAZE_KUBE_API_PORT") or str(API_PORT)
    if not port.isdigit() or not 1024 <= int(port) <= 65535:
        raise ClusterError(f"MAZE_KUBE_API_PORT is {port!r}: set it to a free TCP port between 1024 and 65535.")
    return Layout(checkout=checkout, cache=Path(cache).absolute(), api_port=int(port))
