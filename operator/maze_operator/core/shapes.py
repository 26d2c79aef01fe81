"""Which tasks can have a pod in common: those of one Run whose pods would have the same spec."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping
from typing import Any

from maze_crds.workflow import Task, WorkflowSpec
from maze_operator.core import effective
from maze_operator.core.podspec import PodNotPossible, build_spec
from maze_operator.core.values import Settings, Shape


def make_shape(spec: Mapping[str, Any]) -> Shape:
    """Of a pod's spec with one container, as core/podspec.py builds it."""
    container = dict(spec["containers"][0])
    resources = container.pop("resources")
    base = _digest({**spec, "containers": [container]})
    return Shape(_digest([base, resources]), base, resources, spec)


class Shapes:
    """Of the tasks of one workflow. Tasks that agree in what a pod is made from share one object."""

    def __init__(
        self, workflow: WorkflowSpec, priority: int, settings: Settings, priority_class_name: str | None = None
    ) -> None:
        self._workflow, self._settings = workflow, settings
        self._priority_class = effective.priority_class(priority, settings, priority_class_name)
        self._found: dict[Hashable, Shape | None] = {}
        self._of: dict[tuple[str, float], Shape | None] = {}

    def all(self) -> list[Shape]:
        """Those that were asked for so far."""
        return [shape for shape in self._found.values() if shape is not None]

    def of(self, task: Task, memory_scale: float) -> Shape | None:
        """None: each attempt gets a pod of its own, also where the settings can't give what the task asks for."""
        known = (task.name, memory_scale)
        if known not in self._of:
            self._of[known] = self._make(task, memory_scale)
        return self._of[known]

    def _make(self, task: Task, memory_scale: float) -> Shape | None:
        if not effective.shares_pods(task, self._workflow):
            return None
        wanted = effective.resources(task, self._workflow)
        key = (
            effective.image(task, self._workflow, self._settings),
            (wanted.cpu, wanted.memory, wanted.gpu, wanted.gpu_memory),
            memory_scale,
            tuple((each.name, each.value) for each in task.env or ()),
        )
        if key not in self._found:
            try:
                spec = build_spec(task, self._workflow, self._priority_class, memory_scale, self._settings)
            except PodNotPossible:
                self._found[key] = None
            else:
                self._found[key] = make_shape(spec)
        return self._found[key]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
