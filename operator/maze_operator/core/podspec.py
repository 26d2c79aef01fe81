"""The pod of one attempt, as the JSON that is sent to the API server.

Runner pods follow Pod Security "restricted". Containers of any image follow "baseline" without extra privileges: an
image may need root inside, so user and root file system stay the image's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from maze_crds import names
from maze_crds.base import API_VERSION
from maze_crds.quantity import format_bytes, format_cpu, parse_quantity
from maze_crds.workflow import Resources, Task, WorkflowSpec
from maze_operator.core import effective
from maze_operator.core.values import AttemptId, RunView, Settings, Shape, Workflow

Json = dict[str, Any]

RUNNER_ARCHIVE = "/maze/runner.pyz"
"""Where the runner is found in images that do not bring it (a ConfigMap is mounted there)."""
WORK_DIRECTORY = "/work"
WRITABLE = (WORK_DIRECTORY, "/tmp", "/dev/shm", "/dev/mqueue")
"""Where a task can leave files in its pod, which nobody else has; the next task finds none of them."""
USER_ID = 65532


class PodNotPossible(Exception):
    """The settings of this installation can't give what the task asks for. The text says what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def build_pod(
    run: RunView, workflow: Workflow, attempt: AttemptId, scale: float, env: list[Json], settings: Settings
) -> Json:
    """`scale` multiplies the memory; `env` is what the shell adds (tokens, inputs).

    Raises:
        PodNotPossible: shared GPUs, or an image for tools, asked for and not configured.
    """
    task = workflow.tasks[attempt.task]
    priority_class = effective.priority_class(run.spec.priority, settings, run.spec.priority_class_name)
    spec = build_spec(task, workflow.spec, priority_class, scale, settings)
    spec["containers"][0]["env"] += env
    if run.spec.op_run is not None and settings.share_process_namespace:
        spec["shareProcessNamespace"] = True
    labels = {names.LABEL_TASK: attempt.task, names.LABEL_ATTEMPT: str(attempt.attempt)}
    return _pod(run, pod_name(run, task, attempt), labels, spec)


def build_slot_pod(run: RunView, shape: Shape, slot: int, env: list[Json]) -> Json:
    """A pod that serves tasks of this Run that have this shape."""
    labels = {names.LABEL_SHAPE: shape.key, names.LABEL_SLOT: str(slot)}
    return _pod(run, names.slot_pod_name(run.name, run.uid, slot), labels, with_env(shape.spec, env))


def with_env(spec: Mapping[str, Any], env: list[Json]) -> Json:
    """A pod's spec (shared, so not to be changed) with more in the environment of its container."""
    container = spec["containers"][0]
    return {**spec, "containers": [{**container, "env": [*container["env"], *env]}]}


def build_spec(
    task: Task, workflow: WorkflowSpec, priority_class: str | None, scale: float, settings: Settings
) -> Json:
    """The spec of a pod for this task, without what tells pods apart.

    Raises:
        PodNotPossible: see build_pod.
    """
    wanted = effective.resources(task, workflow)
    build = _runner_container if effective.runs_in_runner(task) else _user_container
    container = build(task, workflow, settings)
    container["env"] = [*({"name": e.name, "value": e.value} for e in task.env or ()), *container["env"]]
    container["resources"] = build_resources(wanted, scale, settings)
    spec: Json = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "containers": [container],
        **_runner_parts(task, workflow, settings),
    }
    if priority_class is not None:
        spec["priorityClassName"] = priority_class
    affinity = build_affinity(wanted, settings)
    if affinity:
        spec["affinity"] = affinity
    return spec


def _pod(run: RunView, name: str, labels: dict[str, str], spec: Json) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": run.namespace,
            "labels": {**run.queue, **run_labels(run), **labels},
            "ownerReferences": [owner_reference(run)],
        },
        "spec": spec,
    }


def pod_name(run: RunView, task: Task, attempt: AttemptId) -> str:
    """Where the display name changes nothing but how it reads."""
    return names.pod_name(run.name, run.uid, attempt.task, attempt.attempt, task.display_name)


def run_labels(run: RunView) -> dict[str, str]:
    return {names.LABEL_RUN: run.name[:63].rstrip("-_."), names.LABEL_RUN_UID: run.uid}


def owner_reference(run: RunView) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "Run",
        "name": run.name,
        "uid": run.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def uses_bundled_image(task: Task, workflow: WorkflowSpec, settings: Settings) -> bool:
    """Whether the task runs in an image that has the runner built in."""
    return effective.image(task, workflow, settings) in (settings.default_image, settings.tools_image)


def _image(task: Task, workflow: WorkflowSpec, settings: Settings) -> str:
    found = effective.image(task, workflow, settings)
    if found is None:
        raise PodNotPossible(
            "ToolsImageNotConfigured",
            "this installation has no image for tool tasks; set MAZE_TOOLS_IMAGE on the operator, or name in tool.image"
            " one that has Python 3.10 or newer and the package mcp 2 or newer",
        )
    return found


def _runner_container(task: Task, workflow: WorkflowSpec, settings: Settings) -> Json:
    bundled = uses_bundled_image(task, workflow, settings)
    command = ["python3", "-I", "-S", RUNNER_ARCHIVE]
    if bundled:
        command = ["python3", "-S", "-m", "maze_runner"]
    container: Json = {
        "name": "task",
        "image": _image(task, workflow, settings),
        "imagePullPolicy": settings.image_pull_policy,
        "command": command,
        "workingDir": WORK_DIRECTORY,
        "env": [
            {"name": names.ENV_REPORT_URL, "value": settings.report_url},
            {"name": names.ENV_NAMESPACE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": names.ENV_POD_NAME, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": names.ENV_POD_UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
            {"name": "MAZE_WORKDIR", "value": WORK_DIRECTORY},
            {"name": "MAZE_CLEAN", "value": ":".join(WRITABLE)},
            {"name": "PYTHONUNBUFFERED", "value": "1"},
        ],
        "volumeMounts": [{"name": "work", "mountPath": WORK_DIRECTORY}, {"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if not bundled:
        container["volumeMounts"].append({"name": "runner", "mountPath": "/maze", "readOnly": True})
    return container


def _user_container(task: Task, workflow: WorkflowSpec, settings: Settings) -> Json:
    assert task.container is not None
    container: Json = {
        "name": "task",
        "image": _image(task, workflow, settings),
        "imagePullPolicy": settings.image_pull_policy,
        "env": [],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {"allowPrivilegeEscalation": False, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    if task.container.command is not None:
        container["command"] = task.container.command
    if task.container.args is not None:
        container["args"] = task.container.args
    return container


def _runner_parts(task: Task, workflow: WorkflowSpec, settings: Settings) -> Json:
    if not effective.runs_in_runner(task):
        return {}
    volumes: list[Json] = [{"name": "work", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    if not uses_bundled_image(task, workflow, settings):
        volumes.append({"name": "runner", "configMap": {"name": settings.runner_config_map}})
    return {
        "volumes": volumes,
        "securityContext": {"fsGroup": USER_ID},
        # With ndots at its default, 5, full names of Services are looked up in every search domain first.
        "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
    }


def build_resources(wanted: Resources, scale: float, settings: Settings) -> Json:
    """Limits are what the task asked for; the CPU request is the configured fraction of it.

    Raises:
        PodNotPossible: a fraction of a GPU without a shared-GPU resource in the settings.
    """
    limits: Json = {}
    requests: Json = {}
    if wanted.cpu is not None and parse_quantity(wanted.cpu) > 0:
        cores = parse_quantity(wanted.cpu)
        limits["cpu"] = format_cpu(cores)
        requests["cpu"] = format_cpu(cores * Decimal(str(settings.cpu_request_fraction)))
    if wanted.memory is not None and parse_quantity(wanted.memory) > 0:
        memory = format_bytes(parse_quantity(wanted.memory) * Decimal(str(scale)))
        limits["memory"] = requests["memory"] = memory
    gpu = parse_quantity(wanted.gpu) if wanted.gpu is not None else Decimal(0)
    if gpu > 0:
        name, amount = _gpu(gpu, settings)
        limits[name] = requests[name] = str(amount)
    return {"limits": limits, "requests": requests} if limits else {}


def _gpu(gpu: Decimal, settings: Settings) -> tuple[str, int]:
    if gpu == gpu.to_integral_value():
        return settings.gpu_resource, int(gpu)
    if settings.shared_gpu_resource is None:
        raise PodNotPossible(
            "SharedGPUNotConfigured",
            f"gpu: {gpu} asks for a part of a GPU, but this installation has no shared GPU resource;"
            " ask for whole GPUs, or set MAZE_SHARED_GPU_RESOURCE and MAZE_SHARED_GPU_PARTS on the operator",
        )
    return settings.shared_gpu_resource, int((gpu * settings.shared_gpu_parts).to_integral_value("ROUND_CEILING"))


def build_affinity(wanted: Resources, settings: Settings) -> Json | None:
    """GPU memory becomes a required node label, in MiB as GPU feature discovery publishes it."""
    if wanted.gpu_memory is None or parse_quantity(wanted.gpu_memory) == 0:
        return None
    mebibytes = int((parse_quantity(wanted.gpu_memory) / 1024**2).to_integral_value("ROUND_CEILING"))
    term = {
        "matchExpressions": [
            {"key": settings.gpu_memory_label, "operator": "Gt", "values": [str(mebibytes - 1)]},
        ]
    }
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
