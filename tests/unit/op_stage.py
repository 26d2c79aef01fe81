"""One OpRun, stepped by hand through the plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from builders import SETTINGS, at, container_task, pod, run_view, succeeded, workflow
from maze_crds.oprun import OpStatus
from maze_crds.protocol import Result
from maze_crds.run import RunSpec, RunStatus
from maze_operator.core.plan import plan
from maze_operator.core.values import (
    AttemptId,
    CreatePod,
    Ended,
    Facts,
    Plan,
    PodView,
    Posted,
)


class Op:
    """One OpRun, stepped by hand."""

    def __init__(self, **run: Any) -> None:
        op_run = {"maxAttempts": run.pop("maxAttempts", 1)}
        self.view = run_view(workflow(container_task("op")), opRun={**op_run, **run.pop("opRun", {})}, **run)
        self.pods: dict[AttemptId, PodView] = {}
        self.clock = 0.0
        self.keys = 0
        self.last = Plan(RunStatus())
        self.settings = SETTINGS

    @property
    def op(self) -> OpStatus:
        assert self.view.status.op is not None
        return self.view.status.op

    def step(self, *posted: Posted, seconds: float = 1.0, **facts: Any) -> Plan:
        self.clock += seconds
        known = frozenset(self.pods)
        self.last = plan(
            self.view, self.pods, Facts(known=known, posted=posted, **facts), at(self.clock), self.settings
        )
        self.view = replace(self.view, status=self.last.status)
        for action in self.last.actions:
            if isinstance(action, CreatePod):
                self.pods[action.attempt_id] = pod("op", action.attempt_id.attempt)
        return self.last

    def wish(self, **spec: Any) -> None:
        given = self.view.spec.model_dump(by_alias=True, exclude_none=True) | spec
        self.view = replace(self.view, spec=RunSpec.model_validate(given), generation=self.view.generation + 1)

    def post(self, kind: str, msg: str | int = "", **more: Any) -> Posted:
        self.keys += 1
        return Posted(key=f"k{self.keys}", type=kind, time=at(self.clock), msg=msg, **more)

    def pod_is(self, attempt: int = 1, **state: Any) -> None:
        self.pods[AttemptId("op", attempt)] = pod("op", attempt, node="10.0.0.1", **state)

    def runs(self, attempt: int = 1) -> Plan:
        """Its pod is made and seen to run."""
        self.step(seconds=5)
        self.pod_is(attempt, running_since=at(self.clock))
        return self.step()

    def exits(self, code: int, attempt: int = 1, result: Result | None = None) -> Plan:
        self.pod_is(attempt, ended=Ended(succeeded=code == 0, exit_code=code, reason="" if code == 0 else "Error"))
        return self.step(results={AttemptId("op", attempt): result})

    def types(self) -> list[str]:
        return [event.type for event in self.op.events]


def outputs(**values: Any) -> Result:
    made = succeeded()
    for key, value in values.items():
        made["outputs"][key] = {"encoding": "json", "size": 1, "sha256": "", "value": value}
    return made
