"""Where a Run with a problemId stands in the queue, read from the object as it is: thousands are looked at. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maze_crds.queue import Order, counting_claim, queue_order
from maze_crds.run import TERMINAL_RUNS, DesiredState

Json = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One Run.

    Attributes:
        wants_slot: an internal worker may take it: it waits, has a workflow, and is neither cancelled, suspended nor claimed.
        internal: id of the internal worker that has it.
        external: id of the external worker that has it or claims it.
    """

    namespace: str
    order: Order
    wants_slot: bool = False
    internal: str | None = None
    external: str | None = None


def view_entry(run: Json) -> Entry | None:
    """None: not a task of the Task Executor, or ended."""
    spec, status, metadata = run["spec"], run.get("status") or {}, run["metadata"]
    if not spec.get("problemId") or status.get("phase") in TERMINAL_RUNS:
        return None
    order = queue_order(run)
    assignments = status.get("assignments") or ()
    if assignments and not assignments[-1].get("end"):
        held = assignments[-1]
        key = "internal" if held.get("internal") else "external"
        return Entry(metadata["namespace"], order, **{key: held["worker"]})
    claim = counting_claim(run)
    if claim is not None:
        return Entry(metadata["namespace"], order, external=claim["worker"])
    runs = spec.get("desiredState", DesiredState.RUNNING) == DesiredState.RUNNING
    executable = bool(spec.get("workflowRef") or spec.get("workflow"))
    return Entry(metadata["namespace"], order, wants_slot=runs and executable and "deletionTimestamp" not in metadata)
