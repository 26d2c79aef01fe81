"""What holds for a task after the workflow's defaults are filled in, field by field."""

from __future__ import annotations

from maze_crds.workflow import Resources, Retry, Task, WorkflowSpec
from maze_operator.core.values import Settings


def retry_policy(task: Task, spec: WorkflowSpec) -> Retry:
    default = (spec.defaults and spec.defaults.retry) or Retry()
    return default.model_copy(update=_given(task.retry)) if task.retry else default


def resources(task: Task, spec: WorkflowSpec) -> Resources:
    default = (spec.defaults and spec.defaults.resources) or Resources()
    return default.model_copy(update=_given(task.resources)) if task.resources else default


def timeout_seconds(task: Task, spec: WorkflowSpec) -> int | None:
    return task.timeout_seconds or (spec.defaults.timeout_seconds if spec.defaults else None)


BUNDLED_IMAGE = "maze/runner"
"""In a container task: the image that Python tasks of this installation run in, whatever its tag is."""


def runs_in_runner(task: Task) -> bool:
    """Whether our runner executes the task in its pod, and asks for its lease: python and tool tasks."""
    return task.container is None


def shares_pods(task: Task, spec: WorkflowSpec) -> bool:
    """Whether its attempts run in pods that serve several tasks of the Run."""
    default = spec.defaults.isolation if spec.defaults else None
    return runs_in_runner(task) and (task.isolation or default or "run") == "run"


def image(task: Task, spec: WorkflowSpec, settings: Settings) -> str | None:
    """None: a tool task that names no image, where the installation has none for tools."""
    if task.container is not None:
        return settings.default_image if task.container.image == BUNDLED_IMAGE else task.container.image
    if task.tool is not None:
        return task.tool.image or settings.tools_image
    own = task.python.image if task.python else None
    return own or (spec.defaults.image if spec.defaults else None) or settings.default_image


def priority_class(priority: int, settings: Settings, named: str | None = None) -> str | None:
    """Name of the PriorityClass for the pods of a Run with this priority; None: the cluster's default. named: by the Run."""
    return named or next((name for least, name in reversed(settings.priority_classes) if least <= priority), None)


def _given(model: Resources | Retry | None) -> dict[str, object]:
    return {name: getattr(model, name) for name in model.model_fields_set} if model else {}
