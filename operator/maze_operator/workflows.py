"""From a Run object to the workflow that it executes, as it was when the Run started."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from maze_crds import names
from maze_crds.base import API_VERSION, MAX_STORED_TASKS
from maze_crds.graph import check_workflow
from maze_crds.inputs import check_inputs, fill_defaults
from maze_crds.run import RunSpec, RunStatus
from maze_crds.workflow import Payload, Task, WorkflowSpec
from maze_io.kube import Kube, KubeError, resource_path, workflows_path
from maze_io.store import AsyncStore
from maze_operator.core.podview import parse_time
from maze_operator.core.values import RunView, Workflow

Json = dict[str, Any]

TASKS = TypeAdapter(Annotated[list[Task], Field(min_length=1, max_length=MAX_STORED_TASKS)])
ARCHIVE_WANTED = "wanted"
"""Value of names.ANNOTATION_ARCHIVE while the Run must not be deleted."""


@dataclass(frozen=True)
class Resolved:
    """A workflow that can run, or why there is none (`final`: waiting will not help). Without a reason: none is needed."""

    workflow: Workflow | None
    reason: str = ""
    problem: str = ""
    final: bool = False


def view_run(obj: Json, spec: RunSpec, resolved: Resolved) -> RunView:
    metadata = obj["metadata"]
    return RunView(
        name=metadata["name"],
        uid=metadata["uid"],
        namespace=metadata["namespace"],
        generation=metadata["generation"],
        created=parse_time(metadata["creationTimestamp"]),
        spec=spec,
        status=RunStatus.model_validate(obj.get("status") or {}),
        workflow=resolved.workflow,
        problem_reason=resolved.reason,
        problem=resolved.problem,
        problem_final=resolved.final,
        held=(metadata.get("annotations") or {}).get(names.ANNOTATION_ARCHIVE) == ARCHIVE_WANTED,
        version=metadata["resourceVersion"],
        queue={name: value for name, value in (metadata.get("labels") or {}).items() if name in names.QUEUE_LABELS},
    )


def read_spec(obj: Json) -> tuple[RunSpec, Resolved | None]:
    """The spec of a Run; where it is not valid, an empty one and why."""
    try:
        spec = RunSpec.model_validate(obj["spec"])
        if has_workflow(spec) or spec.problem_id is not None:
            return spec, None
        why = "give exactly one of workflowRef and workflow"
    except ValidationError as error:
        why = _explain(error)
    return RunSpec(), Resolved(None, "InvalidSpec", why, final=True)


def has_workflow(spec: RunSpec) -> bool:
    """False: only an external worker can execute the Run, and what its inputs mean is between it and who made the Run."""
    return spec.workflow is not None or spec.workflow_ref is not None


async def resolve(kube: Kube, store: AsyncStore, obj: Json, spec: RunSpec) -> Resolved:
    """Find the workflow (inline, or by reference through the Run's own ControllerRevision) and check it.

    Raises:
        KubeError, StoreError: a part of it can't be read now.
    """
    if not has_workflow(spec):
        return Resolved(None, final=True)
    op = spec.op_run
    found: WorkflowSpec | Resolved = spec.workflow if spec.workflow is not None else await _snapshot(kube, obj, spec)
    if not isinstance(found, Resolved) and found.tasks_from is not None:
        found = await _with_tasks(store, found, found.tasks_from)
    if isinstance(found, Resolved):
        return found
    problems, reason = check_workflow(found), "InvalidWorkflow"
    if not problems and op is not None:
        problems, reason = _check_op_run(found), "NotAnOpRun"
    if not problems and (op is None or op.inputs is None):  # those in the object store are read once, by the container
        problems, reason = check_inputs(found, fill_defaults(found, spec.inputs)), "InvalidInputs"
    if problems:
        return Resolved(None, reason, "; ".join(problems)[:4000], final=True)
    return Resolved(Workflow.of(found))


async def _with_tasks(store: AsyncStore, spec: WorkflowSpec, stored: Payload) -> WorkflowSpec | Resolved:
    """The workflow with its list of tasks from the object store."""
    where, why = f"tasksFrom: {stored.key}", ""
    data = await store.get(stored.key)
    if data is None:
        why = f"{where} is not in the object store; create the Run again"
    elif hashlib.sha256(data).hexdigest() != stored.sha256:
        why = f"{where} is not what its sha256 says; store it again, and create the Run again"
    else:
        try:
            return spec.model_copy(update={"tasks": TASKS.validate_json(data), "tasks_from": None})
        except ValidationError as error:
            why = f"{where}: {_explain(error)}"
    return Resolved(None, "InvalidWorkflow", why, final=True)


def _check_op_run(workflow: WorkflowSpec) -> list[str]:
    if len(workflow.tasks) == 1 and workflow.tasks[0].container is not None:
        return []
    found = f"{len(workflow.tasks)} tasks" if len(workflow.tasks) > 1 else "one without"
    return [
        f"the workflow of an OpRun must have exactly one task, with `container`; this one has {found};"
        " give another workflow, or leave out opRun"
    ]


async def _snapshot(kube: Kube, obj: Json, spec: RunSpec) -> WorkflowSpec | Resolved:
    """The workflow as a ControllerRevision owned by the Run, made on first sight: later edits don't touch the Run."""
    assert spec.workflow_ref is not None
    namespace, uid = obj["metadata"]["namespace"], obj["metadata"]["uid"]
    path = resource_path("apps/v1", "controllerrevisions", namespace)
    name = names.revision_name(uid)
    try:
        revision = await kube.get(f"{path}/{name}")
    except KubeError as error:
        if not error.not_found:
            raise
        try:
            workflow = await kube.get(workflows_path(namespace, spec.workflow_ref.name))
        except KubeError as missing:
            if not missing.not_found:
                raise
            text = f"there is no Workflow '{spec.workflow_ref.name}' in namespace '{namespace}'; create it"
            return Resolved(None, "WorkflowNotFound", text)
        revision = await _keep(kube, path, obj, name, workflow)
    try:
        return WorkflowSpec.model_validate(revision["data"])
    except ValidationError as error:
        return Resolved(None, "InvalidWorkflow", _explain(error), final=True)


async def _keep(kube: Kube, path: str, obj: Json, name: str, workflow: Json) -> Json:
    metadata = obj["metadata"]
    body = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {names.LABEL_RUN_UID: metadata["uid"]},
            "ownerReferences": [
                {"apiVersion": API_VERSION, "kind": "Run", "name": metadata["name"], "uid": metadata["uid"]}
            ],
        },
        "revision": workflow["metadata"]["generation"],
        "data": workflow["spec"],
    }
    try:
        return await kube.post(path, body)
    except KubeError as error:
        if not error.conflict:
            raise
        return await kube.get(f"{path}/{name}")


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[:5]
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in first)
