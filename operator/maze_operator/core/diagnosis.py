"""What a pod's state means for its task: still waiting and why, or ended and how. Reasons are stable, CamelCase."""

from __future__ import annotations

from dataclasses import dataclass

from maze_crds.protocol import Failure
from maze_crds.run import Cause
from maze_operator.core.values import SCHEDULING_GATED, STORE_UNAVAILABLE, Ended, PodState, Refused, Settings

_IMAGE_WAITS = {"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "SignatureValidationFailed"}
_START_WAITS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError"}
_AT_ONCE = {"InvalidImageName", "ErrImageNeverPull"}
_INFRASTRUCTURE = {
    "Evicted",
    "NodeLost",
    "NodeShutdown",
    "Shutdown",
    "Terminated",
    "Preempting",
    "NodeAffinity",
    "OutOfcpu",
    "OutOfmemory",
    "OutOfpods",
    "UnexpectedAdmissionError",
    "ContainerStatusUnknown",
}


@dataclass(frozen=True)
class Wait:
    """Why a task is not running yet. After `bound` seconds since it was scheduled it fails with this (None: never)."""

    reason: str
    message: str
    bound: float | None


def diagnose_waiting(pod: PodState, settings: Settings) -> Wait | None:
    """None: nothing is wrong, it is just starting."""
    if pod.unschedulable is not None and pod.unschedulable.reason == SCHEDULING_GATED:
        return Wait(SCHEDULING_GATED, pod.unschedulable.message, None)
    if pod.unschedulable is not None:
        return Wait("Unschedulable", pod.unschedulable.message, settings.unschedulable_timeout)
    if pod.waiting is None:
        return None
    reason, message = pod.waiting.reason, pod.waiting.message
    if reason in _AT_ONCE:
        return Wait("InvalidImageName", message or f"the image can't be used: {reason}", 0.0)
    if reason in _IMAGE_WAITS:
        return Wait("ImagePullFailed", message or reason, settings.image_pull_timeout)
    if reason in _START_WAITS:
        return Wait("ContainerStartFailed", message or reason, settings.container_start_timeout)
    return None


def diagnose_refused(refused: Refused, settings: Settings) -> Wait:
    """A pod that could not be made: a quota, the operator's own rights and the object store are waited for, most of the rest
    is final."""
    if refused.status == STORE_UNAVAILABLE:
        return Wait("StorageUnavailable", refused.message, None)
    if refused.status == 403 and "exceeded quota" in refused.message:
        return Wait("QuotaExceeded", refused.message, None)
    if refused.status == 403 and 'cannot create resource "pods"' in refused.message:
        return Wait("OperatorNotAllowed", refused.message, None)
    if refused.status in (403, 422, 400):
        return Wait("PodRejected", refused.message, 0.0)
    return Wait("PodNotCreated", refused.message, settings.container_start_timeout)


def diagnose_ended(pod: PodState | None, ended: Ended | None) -> Failure:
    """Why a pod is gone that left no result. Both None: the pod itself has vanished."""
    if pod is None or ended is None:
        return failure(Cause.INFRASTRUCTURE, "PodLost", "the pod was deleted before the task ended")
    if ended.disrupted is not None and not ended.succeeded:
        message = ended.message or f"Kubernetes ended the pod: {ended.disrupted}"
        return failure(Cause.INFRASTRUCTURE, ended.disrupted, message, ended.exit_code)
    if ended.reason in _INFRASTRUCTURE or (pod.deleting and not ended.succeeded):
        message = ended.message or f"the pod ended with {ended.reason or 'its deletion'}"
        return failure(Cause.INFRASTRUCTURE, ended.reason or "PodLost", message, ended.exit_code)
    if ended.reason == "OOMKilled":
        message = "the container was killed because it used more memory than its limit; ask for more memory"
        return failure(Cause.OUT_OF_MEMORY, "OOMKilled", message, ended.exit_code)
    if ended.reason == "DeadlineExceeded":
        return failure(Cause.TIMEOUT, "TimedOut", ended.message or "the pod ran longer than it may", ended.exit_code)
    if ended.reason in ("StartError", "ContainerCannotRun"):
        message = ended.message or "the image's command can't be started"
        return failure(Cause.USER_ERROR, "ContainerStartFailed", message, ended.exit_code)
    if ended.succeeded:
        return failure(Cause.INFRASTRUCTURE, "NoResult", "the pod ended well but left no result", ended.exit_code)
    code = ended.exit_code
    if code is not None and code > 128:
        return failure(Cause.USER_ERROR, "Killed", f"the container was ended by signal {code - 128}", code)
    tail = f": {ended.termination_message[-500:]}" if ended.termination_message else ""
    return failure(Cause.USER_ERROR, "Exited", f"the container ended with exit code {code}{tail}", code)


def failure(cause: Cause, reason: str, message: str, exit_code: int | None = None) -> Failure:
    made: Failure = {"cause": cause.value, "reason": reason, "message": message}
    if exit_code is not None:
        made["exitCode"] = exit_code
    return made
