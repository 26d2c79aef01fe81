"""One Run as the core sees it, read again only where its object has changed, and the body of a status write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from maze_crds.base import API_VERSION
from maze_crds.run import RunSpec, RunStatus, TaskStatus
from maze_io.kube import KubeError, runs_path
from maze_operator.core.shapes import Shapes
from maze_operator.core.values import RunView, Workflow
from maze_operator.task_slices import RunIsNewer, TaskSlices
from maze_operator.workflows import Resolved, read_spec, resolve, view_run

if TYPE_CHECKING:
    from maze_operator.engine import Engine

Json = dict[str, Any]


class Gone(Exception):
    """The Run has been deleted."""


class RunReader:
    def __init__(self, engine: Engine, namespace: str, name: str, uid: str) -> None:
        self._engine, self._namespace, self._name, self._uid = engine, namespace, name, uid
        self._generation = 0
        self._spec = RunSpec()
        self._resolved: Resolved | None = None
        self._shapes: Shapes | None = None
        self._viewed: RunView | None = None
        self.slices = TaskSlices(engine.kube, namespace, name, uid)

    async def view(self) -> RunView:
        """The Run as it is now, with its workflow (read once per spec).

        Raises:
            Gone: it does not exist any more, or another one has its name.
            KubeError, StoreError: a part of it can't be read.
        """
        obj = self._engine.runs.get(self._namespace, self._name)
        if obj is None or obj["metadata"]["uid"] != self._uid or "deletionTimestamp" in obj["metadata"]:
            raise Gone
        if self._viewed is not None and self._viewed.version == obj["metadata"]["resourceVersion"]:
            return self._viewed
        generation = obj["metadata"]["generation"]  # grows with every change of the spec
        if generation != self._generation:
            self._spec, problem = read_spec(obj)
            if self._resolved is None or self._resolved.workflow is None:
                self._resolved = problem
            self._generation = generation
            self._shapes = None
        if self._resolved is None or (self._resolved.workflow is None and not self._resolved.final):
            self._resolved = await resolve(self._engine.kube, self._engine.store, obj, self._spec)
        view = view_run(obj, self._spec, self._resolved)
        if view.status.task_slices:
            tasks = await self._read_slices(view.status.task_slices)
            view = replace(view, status=view.status.model_copy(update={"tasks": tasks}))
        if view.workflow is not None:
            view = replace(view, shapes=self._find_shapes(view.workflow))
        older = self._viewed is not None and int(self._viewed.version) > int(view.version)
        if not older and (view.workflow is not None or view.problem_final):
            self._viewed = view
        return view

    async def _read_slices(self, revisions: Sequence[int]) -> list[TaskStatus]:
        try:
            return await self.slices.read(revisions)
        except RunIsNewer:
            self._engine.runs.put(await self._engine.kube.get(runs_path(self._namespace, self._name)))
            raise KubeError(409, "Conflict", "the Run has been written again meanwhile") from None

    def task_status(self, task: str) -> TaskStatus | None:
        """As of the newest view, or write."""
        return self._viewed.by_name.get(task) if self._viewed is not None else None

    @property
    def is_sliced(self) -> bool:
        """Whether the Run, as last seen or written, has its tasks in TaskSlices."""
        return self._viewed is not None and bool(self._viewed.status.task_slices)

    def _find_shapes(self, workflow: Workflow) -> Shapes:
        if self._shapes is None:
            spec = self._spec
            self._shapes = Shapes(workflow.spec, spec.priority, self._engine.core, spec.priority_class_name)
            for task in workflow.tasks.values():
                self._shapes.of(task, 1.0)
        return self._shapes

    def wrote(self, written: Json, view: RunView, status: RunStatus) -> None:
        """`written` is what the API server made of `status`, which was planned for `view`: it need not be read again."""
        if written["metadata"]["generation"] == view.generation:
            self._viewed = replace(view, status=status, version=written["metadata"]["resourceVersion"])


def status_body(view: RunView, status: RunStatus) -> Json:
    """For a PUT of the status, if it still is that of `view`. Without the spec, which such a write leaves as it is, and
    without tasks that are in TaskSlices."""
    if status.task_slices:
        status = status.model_copy(update={"tasks": []})
    metadata = {"name": view.name, "namespace": view.namespace, "uid": view.uid, "resourceVersion": view.version}
    body: Json = {
        "apiVersion": API_VERSION,
        "kind": "Run",
        "metadata": metadata,
        "status": status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True),
    }
    body["status"]["counts"] = status.counts.model_dump(by_alias=True)
    body["status"]["phase"] = status.phase.value
    if status.op is not None:
        body["status"]["op"]["state"] = status.op.state.value
    return body
