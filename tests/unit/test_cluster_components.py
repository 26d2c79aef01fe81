"""How the processes are started. Wrong here, the cluster does not come up, or something is open that must not be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maze_cluster.components import Component, Probe, ProbeKind, build_components, build_digest, plan_waves
from maze_cluster.configs import (
    Facts,
    build_containerd_toml,
    build_kubelet_config,
    build_proxy_config,
    build_resolv_conf,
)
from maze_cluster.errors import ClusterError
from maze_cluster.layout import NODE_IP, Layout, build_layout

LAYOUT = Layout(Path("/checkout"), Path("/cache"))
COMPONENTS = {component.name: component for component in build_components(LAYOUT, Path("/bin"), "/usr/bin/containerd")}


def flags(name: str) -> dict[str, str]:
    return dict(argument.split("=", 1) for argument in COMPONENTS[name].argv if "=" in argument)


def test_each_component_starts_after_what_it_needs() -> None:
    waves = [sorted(component.name for component in wave) for wave in plan_waves(COMPONENTS.values())]
    assert waves == [
        ["containerd", "etcd"],
        ["kube-apiserver"],
        ["kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet"],
    ]


def test_a_circle_is_a_message_and_not_a_hang() -> None:
    probe = Probe(ProbeKind.SOCKET, "/x")
    with pytest.raises(ClusterError, match="wait for each other"):
        plan_waves([Component("a", (), probe, after=("b",)), Component("b", (), probe, after=("a",))])


def test_nobody_is_anonymous_and_rbac_decides() -> None:
    api = flags("kube-apiserver")
    assert api["--anonymous-auth"] == "false"
    assert api["--authorization-mode"] == "Node,RBAC"
    assert flags("etcd")["--client-cert-auth"] == flags("etcd")["--peer-client-cert-auth"] == "true"
    assert flags("etcd")["--trusted-ca-file"] != api["--client-ca-file"], "a cluster certificate must not open etcd"


def test_only_authenticated_ports_leave_loopback() -> None:
    assert flags("etcd")["--listen-client-urls"].startswith("https://127.0.0.1:")
    assert flags("etcd")["--listen-peer-urls"].startswith("https://127.0.0.1:")
    assert (
        flags("kube-scheduler")["--bind-address"] == flags("kube-controller-manager")["--bind-address"] == "127.0.0.1"
    )
    kubelet = json.loads(build_kubelet_config(LAYOUT, Facts("/cni", "pause", "overlayfs", False)))
    assert (kubelet["readOnlyPort"], kubelet["healthzBindAddress"]) == (0, "127.0.0.1")
    assert kubelet["authentication"]["anonymous"]["enabled"] is False
    assert kubelet["authorization"]["mode"] == "Webhook"
    proxy = json.loads(build_proxy_config(LAYOUT))
    assert proxy["nodePortAddresses"] == ["127.0.0.0/8"]
    assert proxy["healthzBindAddress"].startswith("127.0.0.1:")
    assert proxy["metricsBindAddress"].startswith("127.0.0.1:")


def test_a_socket_path_fits_wherever_the_checkout_lies() -> None:
    deep = Layout(Path("/" + "very-long-folder/" * 12), Path("/cache"))
    assert len(str(deep.containerd_socket)) < 100
    assert str(deep.containerd_socket) in build_containerd_toml(deep, Facts("/cni", "pause", "overlayfs", False))


def test_a_changed_setting_restarts_the_component_and_nothing_else_does() -> None:
    kubelet = COMPONENTS["kubelet"]
    contents = dict.fromkeys(kubelet.files, b"a")
    same = build_digest(kubelet, dict(contents))
    assert build_digest(kubelet, contents) == same
    assert build_digest(kubelet, contents | {kubelet.files[0]: b"b"}) != same


@pytest.mark.parametrize(
    ("host", "servers"),
    [
        ("nameserver 10.1.1.1\nsearch corp.example\n", ["10.1.1.1"]),
        ("nameserver 127.0.0.53\nnameserver 9.9.9.9\n", ["9.9.9.9"]),
        ("nameserver ::1\n", [NODE_IP]),
        ("", [NODE_IP]),
    ],
)
def test_dns_never_asks_itself(host: str, servers: list[str]) -> None:
    lines = build_resolv_conf(host).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("nameserver")] == servers


def test_the_environment_moves_cache_and_port() -> None:
    layout = build_layout(
        Path("/checkout"), {"HOME": "/home/u", "XDG_CACHE_HOME": "/xdg", "MAZE_KUBE_API_PORT": "7443"}
    )
    assert (str(layout.cache), layout.api_port) == ("/xdg/maze", 7443)
    assert str(build_layout(Path("/c"), {"HOME": "/home/u"}).cache) == "/home/u/.cache/maze"
    assert str(build_layout(Path("/c"), {"MAZE_CACHE": "/m"}).cache) == "/m"
    with pytest.raises(ClusterError, match="MAZE_KUBE_API_PORT is 'https'"):
        build_layout(Path("/c"), {"MAZE_KUBE_API_PORT": "https"})
