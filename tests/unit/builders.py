"""Short ways to make the values that the core decides on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from maze_crds.protocol import Result
from maze_crds.run import Cause, RunPhase, RunSpec, RunStatus, TaskPhase, TaskStatus
from maze_crds.workflow import WorkflowSpec
from maze_operator.core.diagnosis import failure
from maze_operator.core.values import AttemptId, PodView, RunView, Settings, SlotPod, Workflow

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = Settings(default_image="runner", report_url="http://operator")


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def python_task(name: str, *after: str, **more: Any) -> dict[str, Any]:
    """Each attempt has a pod of its own."""
    return {**shared_task(name, *after), "isolation": "task", **more}


def shared_task(name: str, *after: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "python": {"source": "def f(p): return {}"}, "dependsOn": list(after), **more}


def container_task(name: str, *after: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "container": {"image": "busybox"}, "dependsOn": list(after), **more}


def workflow(*tasks: dict[str, Any], **more: Any) -> WorkflowSpec:
    return WorkflowSpec.model_validate({"tasks": list(tasks), **more})


def run_view(spec: WorkflowSpec, status: RunStatus | None = None, **run: Any) -> RunView:
    return RunView(
        name="r",
        uid="uid-1",
        namespace="maze",
        generation=1,
        created=T0,
        spec=RunSpec.model_validate({"workflow": spec, **run}),
        status=status or RunStatus(),
        workflow=Workflow.of(spec),
    )


def task_view(spec: WorkflowSpec | None, status: RunStatus | None = None, **run: Any) -> RunView:
    """A Run that is a task of the Task Executor; without a workflow only external workers can execute it."""
    wishes = {"problemId": "p-1", "workflow": spec, **run}
    return RunView(
        name="r",
        uid="uid-1",
        namespace="maze",
        generation=1,
        created=T0,
        spec=RunSpec.model_validate(wishes),
        status=status or RunStatus(),
        workflow=Workflow.of(spec) if spec is not None else None,
    )


def succeeded() -> Result:
    return {"startTime": "", "completionTime": "", "outputs": {}}


def failed(cause: Cause = Cause.USER_ERROR, reason: str = "UserException", message: str = "boom") -> Result:
    return {**succeeded(), "failure": failure(cause, reason, message)}


def pod(task: str, attempt: int = 1, **state: Any) -> PodView:
    return PodView(name=f"{task}-{attempt}", uid=f"{task}-{attempt}-uid", attempt_id=AttemptId(task, attempt), **state)


def status_of(spec: WorkflowSpec, /, **tasks: dict[str, Any]) -> RunStatus:
    """Of a Run under way. tasks: what is not as at the beginning, by name; a phase that is active has attempt 1."""
    found = []
    for task in spec.tasks:
        state = tasks.get(task.name, {})
        first = {"attempt": 1} if state.get("phase", TaskPhase.PENDING) != TaskPhase.PENDING else {}
        found.append(TaskStatus.model_validate({"name": task.name, **first, **state}))
    return RunStatus(phase=RunPhase.RUNNING, start_time=T0, last_event=10, tasks=found)


def slot_pod(number: int = 1, shape: str = "s", **state: Any) -> SlotPod:
    """Made at second 0. Its uid is pod-`number`."""
    return SlotPod(
        **{"name": f"slot-{number}", "uid": f"pod-{number}", "shape": shape, "slot": number, "created": T0} | state
    )
