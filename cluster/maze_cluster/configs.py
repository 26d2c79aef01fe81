"""The configuration files of containerd, CNI, kubelet and kube-proxy, as text. Pure: facts in, text out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .layout import BRIDGE, CGROUP, CLUSTER_DOMAIN, DNS_SERVICE_IP, NODE_IP, NODE_NAME, POD_CIDR, Layout

CNI_NETWORK = "maze"
LOOPBACK_PREFIXES = ("127.", "::1")


@dataclass(frozen=True)
class Facts:
    """What the files depend on besides the layout. `cni_bin`: folder of the CNI plugins."""

    cni_bin: str
    pause_image: str
    snapshotter: str
    cgroup_v2: bool


def build_containerd_toml(layout: Layout, facts: Facts) -> str:
    """containerd 1.6+ (configuration version 2) with its own root, state and socket, and nothing on TCP but loopback."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "{layout.containerd_root}"
state = "{layout.containerd_state}"
oom_score = 0
[grpc]
  address = "{layout.containerd_socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{layout.containerd_root}/opt"
[{cri}]
  sandbox_image = "{facts.pause_image}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  disable_tcp_service = true
  # Without CAP_SYS_RESOURCE, runc cannot lower an oom_score_adj and dies.
  restrict_oom_score_adj = true
  # The pods' network namespaces are mounted under our own folder, so that they can be told from anyone else's.
  netns_mounts_under_state_dir = true
[{cri}.containerd]
  snapshotter = "{facts.snapshotter}"
  default_runtime_name = "runc"
[{cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[{cri}.containerd.runtimes.runc.options]
  SystemdCgroup = false
[{cri}.cni]
  bin_dir = "{facts.cni_bin}"
  conf_dir = "{layout.cni}"
  max_conf_num = 1
"""


def build_cni_conflist(layout: Layout) -> str:
    """One bridge. No ipMasq: one rule for all pods (`firewall`) instead of a chain and several execs for each pod."""
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "isDefaultGateway": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "dataDir": str(layout.cni_ipam), "ranges": [[{"subnet": POD_CIDR}]]},
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": CNI_NETWORK, "plugins": [bridge, portmap]}, indent=1)


def build_kubelet_config(layout: Layout, facts: Facts) -> str:
    """KubeletConfiguration v1beta1 (JSON is YAML)."""
    config: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        **_kubelet_security(layout),
        "address": NODE_IP,
        "healthzBindAddress": "127.0.0.1",
        "readOnlyPort": 0,
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "failCgroupV1": False,
        # A task that uses too much memory dies alone; with cgroup v2 the kernel would kill the runner beside it.
        "singleProcessOOMKill": True,
        "failSwapOn": False,
        "clusterDNS": [DNS_SERVICE_IP],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(layout.config / "resolv.conf"),
        "podLogsDir": str(layout.state / "pod-logs"),
        "volumePluginDir": str(layout.kubelet_root / "volume-plugins"),
        "maxPods": 250,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "kubeAPIQPS": 500,
        "kubeAPIBurst": 1000,
        "eventRecordQPS": 0,
        "nodeStatusUpdateFrequency": "10s",
        # A killed operator or api comes back within seconds instead of after up to five minutes.
        "featureGates": {"KubeletCrashLoopBackOffMax": True},
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
        # Images cannot be pulled again here, so they are never collected; pods go only when the disk is really full.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "200Mi", "imagefs.available": "200Mi"},
    }
    return json.dumps(config, indent=1)


def _kubelet_security(layout: Layout) -> dict[str, Any]:
    return {
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(layout.pki / "kubelet-server.key"),
    }


def build_proxy_config(layout: Layout) -> str:
    """KubeProxyConfiguration v1alpha1: NodePorts on loopback only, and the machine's conntrack settings left alone."""
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(layout.pki / "kube-proxy.kubeconfig")},
            "hostnameOverride": NODE_NAME,
            "bindAddress": NODE_IP,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "mode": "iptables",
            "clusterCIDR": POD_CIDR,
            "nodePortAddresses": ["127.0.0.0/8"],
            "iptables": {"localhostNodePorts": True, "minSyncPeriod": "100ms", "syncPeriod": "30s"},
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        },
        indent=1,
    )


def build_resolv_conf(host: str) -> str:
    """The pods' upstream resolvers: `host` (the machine's resolv.conf) without what a pod cannot use.

    A loopback resolver would make CoreDNS ask itself. Without any left, the node stands in: it refuses at once, so an
    outside name fails fast and cluster names keep working.
    """
    lines = [line.split() for line in host.splitlines()]
    servers = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
    usable = [server for server in servers if not server.startswith(LOOPBACK_PREFIXES)] or [NODE_IP]
    kept = [" ".join(words) for words in lines if words and words[0] in ("search", "options")]
    return "\n".join([*(f"nameserver {server}" for server in usable[:3]), *kept]) + "\n"
