"""Reads a pod's JSON into the few facts the core decides on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from maze_crds import names
from maze_operator.core.values import SCHEDULING_GATED, AttemptId, Ended, PodView, SlotPod, Waiting

Json = dict[str, Any]


def run_uid_of(pod: Json) -> str | None:
    uid = (pod["metadata"].get("labels") or {}).get(names.LABEL_RUN_UID)
    return uid if isinstance(uid, str) else None


def view_pod(pod: Json) -> PodView | None:
    """None: not a pod of an attempt (labels missing or not ours)."""
    labels = pod["metadata"].get("labels") or {}
    task, attempt = labels.get(names.LABEL_TASK), labels.get(names.LABEL_ATTEMPT, "")
    if not task or not attempt.isdigit():
        return None
    return PodView(attempt_id=AttemptId(task, int(attempt)), **_state(pod))


def view_slot(pod: Json) -> SlotPod | None:
    """None: not a pod that serves several tasks of a Run."""
    metadata = pod["metadata"]
    labels = metadata.get("labels") or {}
    shape, slot = labels.get(names.LABEL_SHAPE), labels.get(names.LABEL_SLOT, "")
    if not shape:
        return None
    created = parse_time(metadata["creationTimestamp"])
    return SlotPod(shape=shape, slot=int(slot) if slot.isdigit() else 0, created=created, **_state(pod))


def _state(pod: Json) -> Json:
    """The fields of a PodState."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    container: Json = next(iter(status.get("containerStatuses") or ()), {})
    state = container.get("state") or {}
    running = state.get("running")
    return {
        "name": metadata["name"],
        "uid": metadata["uid"],
        "node": status.get("hostIP"),
        "deleting": "deletionTimestamp" in metadata,
        "unschedulable": _unschedulable(pod["spec"], status),
        "waiting": _waiting(state),
        "running_since": parse_time(running["startedAt"]) if running and running.get("startedAt") else None,
        "ended": _ended(status, state),
        "priority_class": pod["spec"].get("priorityClassName"),
        "resource_version": metadata.get("resourceVersion", ""),
    }


def parse_time(text: str) -> datetime:
    """RFC 3339 as Kubernetes writes it."""
    return datetime.fromisoformat(text)


def _unschedulable(spec: Json, status: Json) -> Waiting | None:
    gates = spec.get("schedulingGates")
    if gates:
        return Waiting(SCHEDULING_GATED, f"somebody has yet to admit it: {', '.join(gate['name'] for gate in gates)}")
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return Waiting(condition.get("reason", "Unschedulable"), condition.get("message", ""))
    return None


def _waiting(state: Json) -> Waiting | None:
    waiting = state.get("waiting")
    if not waiting or waiting.get("reason") in (None, "ContainerCreating", "PodInitializing"):
        return None
    return Waiting(waiting["reason"], waiting.get("message", ""))


def _ended(status: Json, state: Json) -> Ended | None:
    phase = status.get("phase")
    if phase not in ("Succeeded", "Failed"):
        return None
    terminated = state.get("terminated") or {}
    return Ended(
        succeeded=phase == "Succeeded",
        reason=status.get("reason") or terminated.get("reason") or "",
        message=status.get("message") or "",
        exit_code=terminated.get("exitCode"),
        termination_message=terminated.get("message") or "",
        started=parse_time(terminated["startedAt"]) if terminated.get("startedAt") else None,
        disrupted=_disrupted(status),
    )


def _disrupted(status: Json) -> str | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return condition.get("reason") or "DisruptionTarget"
    return None
