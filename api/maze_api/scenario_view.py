"""Scenario runs as clients see them: a snapshot, and numbered events. Pure; all comes from the Run object.

So every reader sees the same events, whenever it comes, at any replica and after any restart:

    the Run was made                   run_started    number 1
    first start of a step              step_started   (later attempts start silently)
    step Succeeded, Failed, Cancelled  step_finished
    Run ended                          run_finished

Steps that were never begun (skipped, or cancelled before their start) are not told of.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from maze_api.scenario_bodies import RunSubmitResponse, ScenarioRunResponse, StepState
from maze_crds import names
from maze_crds.run import TERMINAL_RUNS, RunPhase, RunStatus, TaskPhase, TaskStatus
from maze_crds.scenario import as_scenario_text

Json = dict[str, Any]

RUN_STARTED = 1
"""The Run's start is its first event."""
RUN_STATES = {RunPhase.SUCCEEDED: "success", RunPhase.FAILED: "failed", RunPhase.CANCELLED: "cancelled"}
STEP_STATES = {TaskPhase.SUCCEEDED: "success", TaskPhase.FAILED: "failed", TaskPhase.CANCELLED: "cancelled"}


@dataclass(frozen=True, slots=True)
class ScenarioRun:
    """One state of a scenario's Run. `started`: when it was submitted, which never changes."""

    run_id: str
    scenario_id: str
    given: Json
    started: datetime
    status: RunStatus

    @property
    def state(self) -> str:
        return RUN_STATES.get(self.status.phase, "running")

    @property
    def ended(self) -> bool:
        return self.status.phase in TERMINAL_RUNS


def view_scenario_run(obj: Json) -> ScenarioRun | None:
    """The scenario run that an object of the API server describes; None: a Run of another kind."""
    metadata, spec = obj["metadata"], obj["spec"]
    if (metadata.get("labels") or {}).get(names.LABEL_SCENARIO) != "true":
        return None
    annotations = metadata.get("annotations") or {}
    workflow = (spec.get("workflowRef") or {}).get("name") or ""
    return ScenarioRun(
        run_id=metadata["name"],
        scenario_id=annotations.get(names.ANNOTATION_SCENARIO_ID) or workflow,
        given=spec.get("inputs") or {},
        started=_read_time(spec.get("queuedTime") or metadata["creationTimestamp"]),
        status=RunStatus.model_validate(obj.get("status") or {}, extra="ignore"),
    )


def _read_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def show_time(moment: datetime | None) -> str | None:
    """`2026-04-24T09:27:59.873+00:00`, as the reference writes it."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds")


def submitted(run: ScenarioRun) -> RunSubmitResponse:
    return RunSubmitResponse(
        run_id=run.run_id,
        scenario_id=run.scenario_id,
        status=run.state,
        input=run.given,
        started_at=show_time(run.started) or "",
    )


def snapshot(run: ScenarioRun) -> ScenarioRunResponse:
    """Where the run stands; `steps` are those that have ended, in the order in which they did."""
    ended = sorted((task for task in run.status.tasks if _told_end(task)), key=lambda task: task.end_event or 0)
    return ScenarioRunResponse(
        scenario_id=run.scenario_id,
        status=run.state,
        message=message_of(run.status),
        input=run.given,
        steps=[StepState(node_id=task.name, **_end(task)) for task in ended],
        run_id=run.run_id,
    )


def events(run: ScenarioRun) -> list[tuple[int, Json]]:
    """Number and content of every event so far, in order."""
    started = {"run_id": run.run_id, "scenario_id": run.scenario_id, "started_at": show_time(run.started)}
    found: list[tuple[int, Json]] = [(RUN_STARTED, {"type": "run_started", **started})]
    for index, task in enumerate(run.status.tasks):
        step = {"run_id": run.run_id, "step_name": task.name, "index": index}
        number = _first_start(task)
        if number is not None:
            found.append((number, {"type": "step_started", **step, "started_at": show_time(_start_time(task))}))
        if _told_end(task):
            found.append((task.end_event or 0, {"type": "step_finished", **step, **_end(task)}))
    found.sort(key=lambda event: event[0])
    if run.ended:
        number = max(found[-1][0] + 1, run.status.end_event or 0)
        finished = {"status": run.state, "finished_at": show_time(run.status.completion_time)}
        content = {"type": "run_finished", "run_id": run.run_id, **finished, "message": message_of(run.status)}
        found.append((number, content))
    return found


def message_of(status: RunStatus) -> str:
    """Why the run failed, or why it waits; empty where all is well."""
    if status.phase is RunPhase.SUCCEEDED:
        return ""
    if status.phase is RunPhase.FAILED and status.first_failure is not None:
        return f"step '{status.first_failure.task}' failed: {status.first_failure.message}"
    return as_scenario_text(status.message or "")


def _first_start(task: TaskStatus) -> int | None:
    starts = [attempt.start_event for attempt in task.failed_attempts] + [task.start_event]
    return min((number for number in starts if number is not None), default=None)


def _start_time(task: TaskStatus) -> datetime | None:
    times = [attempt.start_time for attempt in task.failed_attempts] + [task.start_time]
    return next((moment for moment in times if moment is not None), None)


def _told_end(task: TaskStatus) -> bool:
    if task.end_event is None or task.phase not in STEP_STATES:
        return False
    return task.phase is not TaskPhase.CANCELLED or _first_start(task) is not None


def _end(task: TaskStatus) -> Json:
    """A step that failed before its pod could start has begun when that was decided on."""
    begun = _start_time(task) or task.scheduled_time or task.completion_time
    return {
        "status": STEP_STATES[task.phase],
        "started_at": show_time(begun),
        "finished_at": show_time(task.completion_time),
        "message": task.message or "",
    }
