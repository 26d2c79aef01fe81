"""Tasks whose attempts have pods of their own, in one plan: what the pod, a result or a refusal says of an attempt."""

from __future__ import annotations

from maze_crds.run import TaskPhase
from maze_operator.core import effective
from maze_operator.core.diagnosis import diagnose_ended, diagnose_refused, diagnose_waiting
from maze_operator.core.slots import REFUSED_RETRY
from maze_operator.core.step import Step
from maze_operator.core.values import AttemptId, PodView, ReplacePod

POD_STARTING = "PodStarting"
"""Reason of a task whose pod is being made, or starts."""


def observe_own(step: Step, name: str) -> None:
    task = step.ledger.tasks[name]
    attempt = AttemptId(name, task.attempt)
    pod = step.pods.get(attempt)
    _note_start(step, name, attempt, pod)
    result = step.facts.results.get(attempt)
    if result is not None:
        step.finish(name, result)
    elif pod is None:
        _observe_missing(step, name, attempt)
    elif pod.ended is not None:
        if attempt in step.facts.results:
            step.fail(name, diagnose_ended(pod, pod.ended))
    else:
        _observe_live(step, name, pod)


def _note_start(step: Step, name: str, attempt: AttemptId, pod: PodView | None) -> None:
    if not step.starting(name):
        return
    started = step.facts.started.get(attempt)
    if started is not None:
        node = started.node or (pod.node if pod else None)
        step.ledger.start(name, started.time, node, pod.name if pod else None)
    elif pod is not None and _has_run(pod) and step.workflow.tasks[name].container is not None:
        # The kubelet's clock has whole seconds only, so it may lie before what this start waited for.
        step.ledger.start(name, step.now, pod.node, pod.name)


def _has_run(pod: PodView) -> bool:
    """Also where it has ended before anybody saw it running."""
    return pod.running_since is not None or (pod.ended is not None and pod.ended.started is not None)


def _observe_missing(step: Step, name: str, attempt: AttemptId) -> None:
    phase = step.ledger.tasks[name].phase
    if attempt in step.facts.known or phase == TaskPhase.RUNNING:
        if attempt in step.facts.results:
            step.fail(name, diagnose_ended(None, None))
        return
    if step.cancelled or step.fail_if_overdue(name):
        return
    refused = step.facts.refused.get(attempt)
    if refused is not None:
        step.explain_wait(name, diagnose_refused(refused, step.settings))
        wait = REFUSED_RETRY - (step.now - refused.time).total_seconds()
        if not step.starting(name) or wait > 0:
            step.wake_in(max(wait, 0.0))
            return
    step.create_pod(attempt)


def _observe_live(step: Step, name: str, pod: PodView) -> None:
    if not step.fail_if_overdue(name) and step.starting(name):
        if pod.unschedulable is not None and not pod.deleting:
            _adjust_priority(step, pod)
        wait = diagnose_waiting(pod, step.settings)
        if wait is not None:
            step.explain_wait(name, wait)
        else:
            step.ledger.explain(name, POD_STARTING, None)


def _adjust_priority(step: Step, pod: PodView) -> None:
    """A pod's priority is immutable, the Run's is not: while no node has the pod, another one may take its place."""
    spec = step.run.spec
    if pod.priority_class != effective.priority_class(spec.priority, step.settings, spec.priority_class_name):
        step.actions.append(ReplacePod(pod.attempt_id, pod.name, pod.uid, pod.resource_version))
