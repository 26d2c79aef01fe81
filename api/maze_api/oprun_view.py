"""A Run with spec.opRun as the reference's OpRun, with the wishes that the operator has not noted yet carried out. Pure.

A wish that is written is decisive: the operator's status writes carry the resourceVersion, so it sees the wish before it can
decide otherwise. So what is shown here is what the operator will make of it (maze_operator/core/oprun.py).

Reads the raw object: thousands of OpRuns change often, and models cost a hundred times as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from maze_crds.base import format_time
from maze_crds.oprun import TERMINAL_STATES, OpState
from maze_crds.quantity import parse_quantity
from maze_crds.queue import queued_time
from maze_crds.run import TERMINAL_RUNS, DesiredState
from maze_io.kube import Object

Json = dict[str, Any]
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class OpView:
    """One state of an OpRun.

    Attributes:
        id: name of the Run.
        attempt: number of the current one.
        op_definition: name of the Workflow that it was made from.
        image: of its container; None: the Workflow has not been read yet.
        settled: the operator knows of every wish that counts for `state`.
        obj: the Run, as Kubernetes has it. Shared: treat it as frozen.
    """

    id: str
    uid: str
    state: OpState
    attempt: int
    created_at: datetime
    op_definition: str | None
    image: str | None
    settled: bool
    obj: Object

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL_STATES

    @property
    def op(self) -> Json:
        """status.op"""
        found: Json = (self.obj.get("status") or {}).get("op") or {}
        return found

    @property
    def active(self) -> bool:
        """Whether the current attempt has, or is about to have, a pod."""
        tasks = (self.obj.get("status") or {}).get("tasks") or ()
        return not self.ended and any(task.get("phase") in ("Starting", "Running") for task in tasks)


def is_op_run(obj: Object) -> bool:
    return obj["spec"].get("opRun") is not None


def view_op(obj: Object) -> OpView:
    """`obj` must be an OpRun."""
    spec, metadata = obj["spec"], obj["metadata"]
    op = (obj.get("status") or {}).get("op") or {}
    noted, attempts = OpState(op.get("state") or OpState.PENDING), op.get("attempts") or ()
    number = attempts[-1]["number"] if attempts else 1
    state, attempt = _project(obj, noted, number)
    return OpView(
        id=metadata["name"],
        uid=metadata["uid"],
        state=state,
        attempt=attempt,
        created_at=queued_time(obj),
        op_definition=(spec.get("workflowRef") or {}).get("name"),
        image=_image(spec) or op.get("image"),
        settled=(state, attempt) == (noted, number),
        obj=obj,
    )


def _project(obj: Object, state: OpState, attempt: int) -> tuple[OpState, int]:
    spec, status = obj["spec"], obj.get("status") or {}
    op = status.get("op") or {}
    ended = status.get("phase") in TERMINAL_RUNS
    override = (spec.get("override") or {}).get("state")
    if override and override["number"] > op.get("stateOverride", 0) and override["state"] != state:
        wanted = OpState(override["state"])
        if wanted in TERMINAL_STATES:
            state, ended = wanted, True
        elif wanted is OpState.PENDING:
            state, attempt, ended = wanted, attempt + 1, False
        elif not ended:
            state = wanted
    if ended and spec.get("retries", 0) > op.get("retries", 0):
        state, attempt, ended = OpState.PENDING, attempt + 1, False
    if not ended and spec.get("desiredState") == DesiredState.CANCELLED:
        state = OpState.CANCELLED
    return state, attempt


def wished_outputs(obj: Object) -> Json | None:
    """Outputs that were written by hand and that the operator has not noted yet."""
    wish = (obj["spec"].get("override") or {}).get("outputs")
    op = (obj.get("status") or {}).get("op") or {}
    fresh = wish is not None and wish["number"] > op.get("outputsOverride", 0)
    found: Json | None = wish["outputs"] if wish is not None and fresh else None
    return found


def _task(spec: Json) -> Json:
    tasks: list[Json] = (spec.get("workflow") or {}).get("tasks") or [{}]
    return tasks[0]


def _image(spec: Json) -> str | None:
    found: str | None = (_task(spec).get("container") or {}).get("image")
    return found


def op_json(view: OpView, inputs: Json, outputs: Json) -> Json:
    """The reference's OpRun. `inputs` and `outputs` whole, as they may be in the object store."""
    spec, status, op = view.obj["spec"], view.obj.get("status") or {}, view.op
    attempts = attempts_json(view)
    current = attempts[-1]
    asked = spec["opRun"].get("eventDelivery")
    done = view.ended and view.settled
    return {
        "id": view.id,
        "op_definition": view.op_definition,
        "image": view.image,
        "state": view.state.value,
        "priority": spec.get("priority") or 0,
        "inputs": inputs,
        "outputs": outputs,
        "constraints": constraints_json(_task(spec).get("resources") or {}),
        "retry_policy": {"max_attempts": spec["opRun"].get("maxAttempts", 1)},
        "event_delivery": asked and {"topic": asked["topic"], "attributes": asked.get("attributes") or {}},
        "progress": current["progress"],
        "current_attempt": view.attempt,
        "created_at": format_time(view.created_at),
        "updated_at": op.get("updatedTime") or format_time(view.created_at),
        "started_at": current["started_at"],
        "completed_at": current["completed_at"] if done else None,
        "reason": current["reason"] or (None if view.ended else status.get("reason")),
        "message": current["error_message"] or (None if view.ended else status.get("message")),
    }


def constraints_json(resources: Json) -> Json:
    """Megabytes of 2^20 bytes, and cores; None: nothing was asked for."""
    cpu = resources.get("cpu")
    return {
        "ram_mb": _megabytes(resources.get("memory")),
        "vram_mb": _megabytes(resources.get("gpuMemory")),
        "cpu": None if cpu is None else _plain(float(parse_quantity(str(cpu)))),
    }


def _megabytes(quantity: Any) -> float | None:
    return None if quantity is None else _plain(float(parse_quantity(str(quantity)) / MIB))


def _plain(number: float) -> float:
    return int(number) if number.is_integer() else number


def attempts_json(view: OpView) -> list[Json]:
    """All attempts, the current one last."""
    known = [_attempt_json(entry) for entry in view.op.get("attempts") or ()]
    if not known or known[-1]["attempt"] < view.attempt:
        created = format_time(view.created_at) if not known else view.op.get("updatedTime")
        known.append(_attempt_json({"number": view.attempt, "createdTime": created}))
    known[-1]["state"] = view.state.value
    return known


def _attempt_json(entry: Json) -> Json:
    return {
        "attempt": entry["number"],
        "state": entry.get("state", OpState.PENDING.value),
        "worker_id": entry.get("worker"),
        "gpu_id": entry.get("gpu"),
        "pod": entry.get("pod"),
        "created_at": entry.get("createdTime"),
        "started_at": entry.get("startTime"),
        "completed_at": entry.get("completionTime"),
        "exit_code": entry.get("exitCode"),
        "reason": entry.get("reason"),
        "error_message": entry.get("message"),
        "progress": entry.get("progress", 0),
    }
