"""Fake nodes beside the embedded cluster for as long as a benchmark lasts: kwok plays their kubelets.

A pod on one of them starts at once, ends by itself after a while, and costs this machine no container: what is left is what
the control plane and the operator do. Only pods that ask for `GPU_MEMORY_MIB` of a GPU's memory come here: nothing else in the
cluster has that label. Other pods are kept away by a taint (a soft one, because Maze's pods have no tolerations), and where
they request anything by nodes that have nothing to give.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import cgroups, process
from .components import Component, Probe, ProbeKind, build_digest, build_scheduler
from .embedded import exclusive
from .errors import ClusterError
from .kubectl import Kubectl
from .layout import NODE_IP, Layout
from .pki import write_private
from .say import detail, ticking
from .sh import run
from .tools import find_bin_dir, find_go, locked

PACKAGE = "sigs.k8s.io/kwok/cmd/kwok"
PORT = 10247
ANNOTATION, FAKE = "kwok.x-k8s.io/node", "fake"
LABEL = "kwok.x-k8s.io/fake"
GPU_MEMORY_LABEL = "nvidia.com/gpu.memory"
GPU_MEMORY_MIB = 9 * 2**20
"""What a task asks for to get here: more than any GPU has."""
PODS = 1000
"""That fit on one fake node."""
END_SECONDS = 1.0
READY_SECONDS = 60.0
AT_ONCE = 500
DEFAULT_LIMITS = (50, 100)
"""Requests a second, and at once, of a kube-scheduler that is told nothing."""
Json = dict[str, Any]


def ensure_kwok(layout: Layout) -> Path:
    """The program, built where its version is not in the cache yet."""
    folder = layout.checkout / "cluster" / "kwok"
    digest = hashlib.sha256(b"\0".join((folder / name).read_bytes() for name in ("go.mod", "go.sum")))
    target = layout.cache / "kwok" / digest.hexdigest()[:16]
    with locked(target.parent / "build.lock", "another build of kwok is running; waiting for it"):
        if not target.is_dir():
            partial = target.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            argv = [find_go(layout), "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", str(partial)]
            with ticking("building kwok, once", "80 s"):
                run(
                    [*argv, PACKAGE],
                    cwd=folder,
                    env={**os.environ, "CGO_ENABLED": "0"},
                    hint="The Go client must be able to reach a module proxy (see `go env GOPROXY`).",
                )
            partial.rename(target)
    return target / "kwok"


def build_config(layout: Layout, seconds: float) -> str:
    """kwok's configuration: pods run at once, and have succeeded `seconds` later; they have printed nothing."""
    options = {
        "tlsCertFile": str(layout.pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(layout.pki / "kubelet-server.key"),
        "serverAddress": f"{NODE_IP}:{PORT}",
        "nodeIP": NODE_IP,
        "nodePort": PORT,
        "manageAllNodes": False,
        "manageNodesWithAnnotationSelector": f"{ANNOTATION}={FAKE}",
        "nodeLeaseDurationSeconds": 40,
        # In a configuration file there are no defaults.
        "cidr": "10.0.0.1/24",
        "enableDebuggingHandlers": True,
        "podPlayStageParallelism": 16,
        "nodePlayStageParallelism": 4,
        "nodeLeaseParallelism": 4,
        "podsOnNodeSyncParallelism": 4,
    }
    logs = {"logs": [{"logsFile": os.devnull}]}
    documents: list[Json] = [
        {"apiVersion": "config.kwok.x-k8s.io/v1alpha1", "kind": "KwokConfiguration", "options": options},
        {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "ClusterLogs", "metadata": {"name": "none"}, "spec": logs},
        *build_stages(seconds),
    ]
    return "\n---\n".join(json.dumps(document) for document in documents)


def build_stages(seconds: float) -> list[Json]:
    """What becomes of a node: it gets ready. And of a pod: it runs, it has succeeded, and when it is deleted it goes."""
    ready = '.status.conditions.[] | select(.type == "Ready") | .status'
    here = _expression(".metadata.deletionTimestamp", "DoesNotExist")
    return [
        _stage("Node", "ready", [_expression(ready, "NotIn", "True")], {"statusTemplate": READY}),
        _stage("Pod", "run", [here, _expression(".status.phase", "In", "Pending")], {"statusTemplate": RUNNING}),
        _stage("Pod", "end", [here, _expression(".status.phase", "In", "Running")], {"statusTemplate": ENDED}, seconds),
        _stage("Pod", "go", [_expression(".metadata.deletionTimestamp", "Exists")], {"delete": True}),
    ]


def _expression(key: str, operator: str, *values: str) -> Json:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def _stage(kind: str, name: str, selected: list[Json], following: Json, seconds: float = 0) -> Json:
    spec = {
        "resourceRef": {"apiGroup": "v1", "kind": kind},
        "selector": {"matchExpressions": selected},
        "next": following,
        **({"delay": {"durationMilliseconds": round(seconds * 1000)}} if seconds else {}),
    }
    metadata = {"name": f"{kind.lower()}-{name}"}
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": metadata, "spec": spec}


READY = """
{{ $now := Now | Quote }}
phase: Running
conditions:
- {type: Ready, status: "True", reason: KubeletReady, lastHeartbeatTime: {{ $now }}, lastTransitionTime: {{ $now }}}
"""
RUNNING = """
{{ $now := Now }}
phase: Running
startTime: {{ $now | Quote }}
hostIP: {{ NodeIP | Quote }}
conditions:
{{ range $type := list "Initialized" "Ready" "ContainersReady" "PodReadyToStartContainers" }}
- {lastTransitionTime: {{ $now | Quote }}, status: "True", type: {{ $type }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- image: {{ .image | Quote }}
  imageID: {{ .image | Quote }}
  containerID: {{ printf "kwok://%s" $.metadata.uid | Quote }}
  name: {{ .name | Quote }}
  ready: true
  started: true
  restartCount: 0
  state: {running: {startedAt: {{ $now | Quote }}}}
{{ end }}
"""
ENDED = """
{{ $now := Now }}
phase: Succeeded
conditions:
{{ range $type := list "Ready" "ContainersReady" }}
- {lastTransitionTime: {{ $now | Quote }}, status: "False", type: {{ $type }}, reason: PodCompleted}
{{ end }}
containerStatuses:
{{ range .status.containerStatuses }}
- image: {{ .image | Quote }}
  imageID: {{ .imageID | Quote }}
  containerID: {{ .containerID | Quote }}
  name: {{ .name | Quote }}
  ready: false
  started: false
  restartCount: 0
  state:
    terminated:
      exitCode: 0
      reason: Completed
      containerID: {{ .containerID | Quote }}
      startedAt: {{ .state.running.startedAt | Quote }}
      finishedAt: {{ $now | Quote }}
{{ end }}
"""
"""The statuses that a kubelet writes, as kwok's templates (YAML)."""


def build_node(number: int) -> Json:
    """A node that has room for `PODS` pods without requests, and for no others."""
    name = f"kwok-{number}"
    room = {"cpu": "0", "memory": "0", "pods": str(PODS)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {ANNOTATION: FAKE},
            "labels": {LABEL: "true", "kubernetes.io/hostname": name, GPU_MEMORY_LABEL: str(GPU_MEMORY_MIB)},
        },
        "spec": {"taints": [{"key": ANNOTATION, "value": FAKE, "effect": "PreferNoSchedule"}]},
        "status": {
            "allocatable": room,
            "capacity": room,
            "addresses": [{"type": "InternalIP", "address": NODE_IP}, {"type": "Hostname", "address": name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": PORT}},
        },
    }


def up(layout: Layout, count: int, seconds: float = END_SECONDS) -> None:
    """Returns when so many fake nodes are Ready; their pods end after `seconds`."""
    program = ensure_kwok(layout)
    down(layout)
    kubectl = _kubectl(layout)
    config = layout.config / "kwok.yaml"
    write_private(config, build_config(layout, seconds).encode())
    argv = (str(program), f"--kubeconfig={layout.kubeconfig}", f"--config={config}", "--v=WARN")
    component = Component(
        "kwok", argv, Probe(ProbeKind.HTTP, f"http://{NODE_IP}:{PORT}/healthz"), ports=(PORT,), files=(config,)
    )
    _restart(layout, component)
    nodes = {"apiVersion": "v1", "kind": "List", "items": [build_node(number) for number in range(count)]}
    kubectl.run("create", "-f", "-", stdin=json.dumps(nodes))
    # Fit for pods is one whose taint of a node that is not ready has been taken away again.
    deadline = time.monotonic() + READY_SECONDS
    while any(_unready(node) for node in kubectl.get_items("nodes", "-l", LABEL)):
        if time.monotonic() > deadline:
            raise ClusterError(f"not all fake nodes are ready after {READY_SECONDS:.0f} s; see {layout.logs}/kwok.log.")
        time.sleep(0.2)


def _unready(node: Json) -> bool:
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"].get("conditions") or ())
    return not ready or any(taint["effect"] != "PreferNoSchedule" for taint in node["spec"].get("taints") or ())


def down(layout: Layout) -> None:
    """Returns when the fake nodes, their pods and kwok are gone. Safe to repeat, and after a crash."""
    kubectl = _kubectl(layout)
    names = {node["metadata"]["name"] for node in kubectl.get_items("nodes", "-l", LABEL)}
    if names:
        detail(f"removing {len(names)} fake nodes and their pods")
        kubectl.run("delete", "nodes", "-l", LABEL, "--wait=false")
        force = ("--grace-period=0", "--force", "--wait=false")
        pods = [pod["metadata"] for pod in kubectl.get_items("pods", "-A") if pod["spec"].get("nodeName") in names]
        for namespace in sorted({pod["namespace"] for pod in pods}):
            left = [pod["name"] for pod in pods if pod["namespace"] == namespace]
            for start in range(0, len(left), AT_ONCE):
                kubectl.attempt("delete", "pods", "-n", namespace, *left[start : start + AT_ONCE], *force)
    record = process.read_record(layout, "kwok")
    if record is not None:
        process.stop([record])
        (layout.pids / "kwok.json").unlink(missing_ok=True)


@contextmanager
def fake_nodes(layout: Layout, count: int, seconds: float = END_SECONDS) -> Iterator[None]:
    """For as long as the block lasts."""
    try:
        up(layout, count, seconds)
        yield
    finally:
        down(layout)


@contextmanager
def scheduler_limits(layout: Layout, qps: int, burst: int) -> Iterator[None]:
    """kube-scheduler with other limits of requests to the API server than `up` gives it, for as long as the block lasts."""
    usual = build_scheduler(layout, find_bin_dir(layout))
    argv = [one for one in usual.argv if not one.startswith(("--kube-api-qps=", "--kube-api-burst="))]
    try:
        _restart(layout, replace(usual, argv=(*argv, f"--kube-api-qps={qps}", f"--kube-api-burst={burst}")))
        yield
    finally:
        _restart(layout, usual)


def _restart(layout: Layout, component: Component) -> None:
    """Returns when it is ready. Another `up` finds it changed, and starts it again as it is to be."""
    with exclusive(layout):
        record = process.read_record(layout, component.name)
        if record is not None:
            process.stop([record])
        digest = build_digest(component, {path: path.read_bytes() for path in component.files})
        record = process.start(layout, component, digest, cgroups.create_cgroups())
        process.wait_ready(layout, component, record)


def _kubectl(layout: Layout) -> Kubectl:
    return Kubectl(str(find_bin_dir(layout) / "kubectl"), layout.kubeconfig)
