"""Puts Maze into a cluster: the generated kustomization, secrets made once, one apply, and the wait until it runs."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ClusterError
from .kubectl import Kubectl
from .layout import SYSTEM_NAMESPACE
from .say import detail, say

ROLLOUT_SECONDS = 180.0
CRASHES = 6
"""A container that ended this often while being waited for will not come up by more waiting."""
LABEL = "app.kubernetes.io/part-of=maze"
BARE_LABEL = f"{LABEL},app.kubernetes.io/name notin (maze-operator, maze-api)"
"""Everything but operator and api, which a developer then runs by hand."""


@dataclass(frozen=True)
class Plan:
    """What to apply. `images`: name in the manifests -> name with tag. `patches`: kustomize patches."""

    resources: tuple[str, ...]
    images: Mapping[str, str]
    patches: tuple[Mapping[str, Any], ...] = ()


def build_kustomization(plan: Plan, folder: Path) -> str:
    """The text of `<folder>/kustomization.yaml` (JSON is YAML); `plan.resources` are absolute and become relative."""
    images = []
    for name, reference in sorted(plan.images.items()):
        new_name, _, tag = reference.rpartition(":")
        images.append({"name": name, "newName": new_name, "newTag": tag})
    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(resource, folder) for resource in plan.resources],
        "images": images,
        "patches": list(plan.patches),
    }
    return json.dumps(document, indent=1) + "\n"


def build_task_images_patch(names: Mapping[str, str]) -> Mapping[str, Any]:
    """Tell the operator which images tasks run in: `images:` reaches image fields only, not environment values."""
    variables = {"MAZE_RUNNER_IMAGE": "maze/runner", "MAZE_TOOLS_IMAGE": "maze/tools"}
    env = [{"name": variable, "value": names[image]} for variable, image in variables.items()]
    return _deployment_patch("maze-operator", {"containers": [{"name": "operator", "env": env}]})


def build_s3_path_patch(folder: Path) -> Mapping[str, Any]:
    """Point the embedded cluster's volume at this checkout's folder."""
    target = {"kind": "PersistentVolume", "name": "maze-s3"}
    return {
        "target": target,
        "patch": json.dumps([{"op": "replace", "path": "/spec/hostPath/path", "value": str(folder)}]),
    }


def _deployment_patch(name: str, pod_spec: Mapping[str, Any]) -> Mapping[str, Any]:
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": SYSTEM_NAMESPACE},
        "spec": {"template": {"spec": pod_spec}},
    }
    return {"patch": json.dumps(body)}


def ensure_secrets(kubectl: Kubectl, namespaces: Path) -> None:
    """Create the namespaces and, once for each cluster, the random secrets. They exist nowhere but in the cluster."""
    wanted: dict[str, dict[str, str]] = {
        "maze-s3": {"access-key": "maze-" + secrets.token_hex(8), "secret-key": secrets.token_hex(32)},
        "maze-runner": {"hmac-key": secrets.token_hex(32), "api-token": secrets.token_hex(32)},
    }
    if kubectl.get("namespace", SYSTEM_NAMESPACE) is None:
        kubectl.run("apply", "--server-side", "--field-manager=maze-cluster", "-k", namespaces)
    present = {item["metadata"]["name"] for item in kubectl.get_items("secrets", "-n", SYSTEM_NAMESPACE)}
    for name, values in wanted.items():
        if name not in present:
            metadata = {"name": name, "namespace": SYSTEM_NAMESPACE, "labels": {"app.kubernetes.io/part-of": "maze"}}
            kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})
            detail(f"made secret {name}")


def apply(kubectl: Kubectl, plan: Plan, folder: Path) -> bool:
    """Write the kustomization to `folder` and apply it, unless exactly this was applied before; whether it was applied."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kustomization.yaml").write_text(build_kustomization(plan, folder))
    rendered = kubectl.run("kustomize", folder)
    uid = kubectl.get("namespace", "kube-system")["metadata"]["uid"]
    digest = hashlib.sha256(f"{uid}\n{rendered}".encode()).hexdigest()
    applied = folder / "applied"
    if applied.exists() and applied.read_text() == digest:
        return False
    say("applying the manifests")
    kubectl.run(
        "apply", "--server-side", "--force-conflicts", "--field-manager=maze-cluster", "-f", "-", stdin=rendered,
        hint="The message above names the object and the field.",
    )  # fmt: skip
    applied.write_text(digest)
    return True


def wait_rollouts(kubectl: Kubectl, label: str = LABEL, seconds: float = ROLLOUT_SECONDS) -> None:
    """Wait until every Deployment with `label` is up to date and available, with a line for each change.

    Raises ClusterError that names what is not ready and why.
    """
    deadline = time.monotonic() + seconds
    said: dict[str, str] = {}
    before: dict[str, int] = {}
    while True:
        items = kubectl.get_items("deployments", "-A", "-l", label)
        states = {f"{item['metadata']['namespace']}/{item['metadata']['name']}": rollout_state(item) for item in items}
        for name, state in states.items():
            if state and said.get(name) != state:
                detail(f"{name}: {state}")
            said[name] = state
        if not any(states.values()):
            return
        pods = kubectl.get_items("pods", "-A", "-l", label)
        restarts = {pod["metadata"]["uid"]: count_restarts(pod) for pod in pods}
        before = {**restarts, **before}
        crashing = any(count - before[uid] >= CRASHES for uid, count in restarts.items())
        if crashing or time.monotonic() > deadline:
            late = ", ".join(f"{name} ({state})" for name, state in states.items() if state)
            raise ClusterError(f"these do not come up: {late}\n{_explain(kubectl, pods)}")
        time.sleep(0.25)


def rollout_state(deployment: Mapping[str, Any]) -> str:
    """What a Deployment still waits for, or "" if it is complete (the rule of `kubectl rollout status`)."""
    status, want = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return "waiting to be noticed"
    if status.get("updatedReplicas", 0) < want:
        return f"{status.get('updatedReplicas', 0)} of {want} pods updated"
    if status.get("replicas", 0) > want:
        return f"{status['replicas'] - want} old pods still running"
    if status.get("availableReplicas", 0) < want:
        return f"{status.get('availableReplicas', 0)} of {want} pods available"
    return ""


def explain_pod(pod: Mapping[str, Any]) -> str:
    """Why a pod is not ready, from its status: `operator: CrashLoopBackOff: back-off 2s …`; "" if it is."""
    reasons = [
        f"{condition.get('reason')}: {condition.get('message', '')}"
        for condition in pod.get("status", {}).get("conditions", ())
        if condition["type"] == "PodScheduled" and condition["status"] != "True"
    ]
    for container in pod.get("status", {}).get("containerStatuses", ()):
        waiting = container.get("state", {}).get("waiting")
        if waiting:
            reasons.append(f"{container['name']}: {waiting.get('reason')}: {waiting.get('message', '')}")
        elif not container.get("ready"):
            reasons.append(f"{container['name']}: running, but its readiness check fails")
    return "; ".join(reasons)


def count_restarts(pod: Mapping[str, Any]) -> int:
    """How often the containers of the pod were started again."""
    return sum(item.get("restartCount", 0) for item in pod.get("status", {}).get("containerStatuses", ()))


def _explain(kubectl: Kubectl, pods: Iterable[Mapping[str, Any]]) -> str:
    lines = []
    for pod in pods:
        reason = explain_pod(pod)
        if reason:
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            lines.append(f"  {namespace}/{name}: {reason}")
            log = kubectl.attempt("logs", "-n", namespace, name, "--tail=15").stdout
            lines += [f"    | {line}" for line in log.splitlines()]
    return "\n".join(lines)
