"""The cluster's processes: what is started, with which arguments, after what, and how it is known to be ready. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .errors import ClusterError
from .layout import (
    ETCD_PEER_PORT,
    ETCD_PORT,
    NODE_IP,
    NODE_NAME,
    SERVICE_CIDR,
    Layout,
)  # fmt: skip

ADMIN_CERTIFICATE = "admin"


class ProbeKind(StrEnum):
    """How readiness is asked for."""

    SOCKET = "socket"
    HTTP = "http"
    HTTPS = "https"


@dataclass(frozen=True)
class Probe:
    """`target`: a socket path or a URL; `certificate`: the name of the client certificate for https."""

    kind: ProbeKind
    target: str
    certificate: str = ADMIN_CERTIFICATE
    ca: str = "ca"


@dataclass(frozen=True)
class Component:
    """One process. `after`: components that must be ready first. `ports`: TCP ports that it alone must have.

    `files`: configuration files that it reads at start only, so that a change of one means a restart.
    """

    name: str
    argv: tuple[str, ...]
    probe: Probe
    after: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    files: tuple[Path, ...] = ()


def build_components(layout: Layout, bin_dir: Path, containerd: str) -> tuple[Component, ...]:
    """All components, in an order in which they can be started. `containerd`: path of the machine's containerd."""
    return (
        build_etcd(layout, bin_dir),
        build_containerd(layout, containerd),
        build_apiserver(layout, bin_dir),
        build_controller_manager(layout, bin_dir),
        build_scheduler(layout, bin_dir),
        build_kubelet(layout, bin_dir),
        build_proxy(layout, bin_dir),
    )


def build_etcd(layout: Layout, bin_dir: Path) -> Component:
    """etcd on loopback, with client certificates of its own authority both ways."""
    pki = layout.pki
    client, peer = f"https://127.0.0.1:{ETCD_PORT}", f"https://127.0.0.1:{ETCD_PEER_PORT}"
    argv = [
        str(bin_dir / "etcd"),
        "--name=maze",
        f"--data-dir={layout.state / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=maze={peer}",
        "--quota-backend-bytes=4294967296",
        "--logger=zap",
        "--log-level=warn",
    ]
    for prefix in ("", "peer-"):
        argv += [
            f"--{prefix}client-cert-auth=true",
            f"--{prefix}trusted-ca-file={pki / 'etcd-ca.crt'}",
            f"--{prefix}cert-file={pki / 'etcd.crt'}",
            f"--{prefix}key-file={pki / 'etcd.key'}",
        ]
    probe = Probe(ProbeKind.HTTPS, f"{client}/health", certificate="apiserver-etcd", ca="etcd-ca")
    return Component(
        "etcd", tuple(argv), probe, ports=(ETCD_PORT, ETCD_PEER_PORT), files=(pki / "etcd.crt", pki / "etcd-ca.crt")
    )


def build_containerd(layout: Layout, containerd: str) -> Component:
    """containerd on a socket in a private folder."""
    config = layout.config / "containerd.toml"
    probe = Probe(ProbeKind.SOCKET, str(layout.containerd_socket))
    return Component("containerd", (containerd, "--config", str(config), "--log-level", "info"), probe, files=(config,))


def build_apiserver(layout: Layout, bin_dir: Path) -> Component:
    """kube-apiserver: nobody is anonymous, Node and RBAC decide."""
    pki = layout.pki
    issuer = "https://kubernetes.default.svc.cluster.local"
    argv = (
        str(bin_dir / "kube-apiserver"),
        f"--advertise-address={NODE_IP}",
        # Pods come to the node's address and local clients to loopback, and it can listen on one address or on all.
        "--bind-address=0.0.0.0",
        f"--secure-port={layout.api_port}",
        "--anonymous-auth=false",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--profiling=false",
        f"--cert-dir={pki}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--etcd-servers=https://127.0.0.1:{ETCD_PORT}",
        f"--etcd-cafile={pki / 'etcd-ca.crt'}",
        f"--etcd-certfile={pki / 'apiserver-etcd.crt'}",
        f"--etcd-keyfile={pki / 'apiserver-etcd.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-issuer={issuer}",
        f"--service-account-key-file={pki / 'service-account.pub'}",
        f"--service-account-signing-key-file={pki / 'service-account.key'}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--service-node-port-range=8000-32767",
        "--event-ttl=1h",
    )
    probe = Probe(ProbeKind.HTTPS, f"https://127.0.0.1:{layout.api_port}/readyz")
    files = (pki / "apiserver.crt", pki / "ca.crt", pki / "apiserver-etcd.crt", pki / "service-account.pub")
    return Component("kube-apiserver", argv, probe, after=("etcd",), ports=(layout.api_port,), files=files)


def _kubeconfig_flags(layout: Layout, name: str) -> tuple[str, ...]:
    """Flags of a control plane component that talks to the API server as `name` and serves its health on loopback."""
    kubeconfig = layout.pki / f"{name}.kubeconfig"
    return (
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--tls-cert-file={layout.pki / f'{name}.crt'}",
        f"--tls-private-key-file={layout.pki / f'{name}.key'}",
        f"--client-ca-file={layout.pki / 'ca.crt'}",
        "--profiling=false",
        "--leader-elect=false",
    )


def build_controller_manager(layout: Layout, bin_dir: Path) -> Component:
    """kube-controller-manager. One node and one replica: no leader election, no node CIDRs."""
    argv = (
        str(bin_dir / "kube-controller-manager"),
        *_kubeconfig_flags(layout, "controller-manager"),
        "--use-service-account-credentials=true",
        "--allocate-node-cidrs=false",
        f"--root-ca-file={layout.pki / 'ca.crt'}",
        f"--service-account-private-key-file={layout.pki / 'service-account.key'}",
        f"--flex-volume-plugin-dir={layout.kubelet_root / 'volume-plugins'}",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        # A claim that names its volume is bound within a second, not within fifteen.
        "--pvclaimbinder-sync-period=1s",
    )
    probe = Probe(ProbeKind.HTTPS, "https://127.0.0.1:10257/healthz")
    files = (layout.pki / "controller-manager.kubeconfig",)
    return Component("kube-controller-manager", argv, probe, ("kube-apiserver",), (10257,), files)


def build_scheduler(layout: Layout, bin_dir: Path) -> Component:
    """kube-scheduler with client limits that a burst of pods does not hit."""
    argv = (
        str(bin_dir / "kube-scheduler"),
        *_kubeconfig_flags(layout, "scheduler"),
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    )
    probe = Probe(ProbeKind.HTTPS, "https://127.0.0.1:10259/healthz")
    files = (layout.pki / "scheduler.kubeconfig",)
    return Component("kube-scheduler", argv, probe, ("kube-apiserver",), (10259,), files)


def build_kubelet(layout: Layout, bin_dir: Path) -> Component:
    """kubelet, listening on the bridge's address only."""
    config = layout.config / "kubelet.yaml"
    kubeconfig = layout.pki / "kubelet.kubeconfig"
    argv = (
        str(bin_dir / "kubelet"),
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={layout.kubelet_root}",
        f"--cert-dir={layout.pki}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={NODE_IP}",
    )
    probe = Probe(ProbeKind.HTTP, "http://127.0.0.1:10248/healthz")
    after = ("kube-apiserver", "containerd")
    files = (config, kubeconfig, layout.pki / "kubelet-server.crt", layout.config / "resolv.conf")
    return Component("kubelet", argv, probe, after, (10248, 10250), files)


def build_proxy(layout: Layout, bin_dir: Path) -> Component:
    """kube-proxy; its health and metrics on loopback."""
    config = layout.config / "kube-proxy.yaml"
    probe = Probe(ProbeKind.HTTP, "http://127.0.0.1:10256/livez")
    files = (config, layout.pki / "kube-proxy.kubeconfig")
    return Component(
        "kube-proxy", (str(bin_dir / "kube-proxy"), f"--config={config}"), probe, ("kube-apiserver",),
        (10249, 10256), files,
    )  # fmt: skip


def plan_waves(components: Iterable[Component]) -> tuple[tuple[Component, ...], ...]:
    """Group components so that each wave needs only earlier waves; a wave can be started at once.

    Raises ClusterError for a dependency that is missing or goes round in a circle (a mistake in this file).
    """
    waiting = list(components)
    started: set[str] = set()
    waves: list[tuple[Component, ...]] = []
    while waiting:
        wave = tuple(component for component in waiting if set(component.after) <= started)
        if not wave:
            raise ClusterError(f"these components wait for each other or for nothing: {[c.name for c in waiting]}")
        waves.append(wave)
        started |= {component.name for component in wave}
        waiting = [component for component in waiting if component not in wave]
    return tuple(waves)


def build_digest(component: Component, contents: Mapping[Path, bytes]) -> str:
    """What a running process must have been started with to be left alone: arguments and start-time files."""
    digest = hashlib.sha256("\0".join(component.argv).encode())
    for path in component.files:
        digest.update(b"\0" + contents.get(path, b""))
    return digest.hexdigest()[:16]
