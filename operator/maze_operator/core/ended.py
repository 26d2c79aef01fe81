"""A Run that has ended: its pods go, and after its time to live the Run itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from maze_operator.core.ledger import Ledger
from maze_operator.core.leftovers import leftover_pods, leftover_slots
from maze_operator.core.values import AttemptId, DeletePod, DeleteRun, Plan, PodState, PodView, RunView, Settings, Slots


def plan_ended(
    run: RunView, pods: Mapping[AttemptId, PodView], now: datetime, settings: Settings, slots: Slots | None = None
) -> Plan:
    """Nothing of the status changes any more."""
    ledger = Ledger(run.status, [task.name for task in run.status.tasks], now)
    shared = slots or Slots()
    actions = leftover_pods(ledger, pods, now, settings) + leftover_slots(ledger, shared)
    of_run: list[PodState] = [*pods.values(), *shared.pods]
    waits = [settings.exit_grace] if any(pod.ended is None for pod in of_run) else []
    if of_run and run.status.completion_time is not None:
        since = (now - run.status.completion_time).total_seconds()
        late = since >= settings.exit_grace
        actions += [
            DeletePod(pod.name, pod.uid) for pod in shared.pods if pod.alive and (late or pod.uid not in shared.says)
        ]
        if since >= settings.pod_retention:
            actions = [DeletePod(pod.name, pod.uid) for pod in of_run if not pod.deleting]
        else:
            waits.append(settings.pod_retention - since)
    ttl, ended = run.spec.ttl_seconds_after_finished, run.status.completion_time
    if ttl is not None and ended is not None and not run.held:
        left = ttl + _held_for_delivery(run, settings) - (now - ended).total_seconds()
        if left <= 0:
            return Plan(run.status, (*actions, DeleteRun()))
        waits.append(left)
    return Plan(run.status, tuple(actions), min(waits, default=None))


def _held_for_delivery(run: RunView, settings: Settings) -> float:
    """Seconds that the Run stays after its time to live, for the sink to take what it has not taken yet."""
    op = run.status.op
    if settings.event_sink is None or op is None or run.spec.op_run is None or not run.spec.op_run.event_delivery:
        return 0.0
    return settings.undelivered_retention if op.delivered < op.next_event else 0.0
