"""The frozen values that the core decides on, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from maze_crds.graph import dependencies, sources
from maze_crds.oprun import OpEvent
from maze_crds.protocol import Result
from maze_crds.run import RunSpec, RunStatus, TaskStatus
from maze_crds.workflow import Task, WorkflowSpec

if TYPE_CHECKING:
    from maze_operator.core.shapes import Shapes


@dataclass(frozen=True)
class SpareKind:
    """Pods that are kept ready for Runs of one namespace. They request next to nothing until they are claimed.

    image: None: that of Python tasks; another one must have the runner built in, as that of tool tasks.
    cpu, memory: their limits, as quantities; None: unlimited. A task with other limits has its pod resized.
    """

    namespace: str
    count: int
    image: str | None = None
    cpu: str | None = None
    memory: str | None = None


@dataclass(frozen=True)
class Settings:
    """Policy that the installation sets. Times are seconds."""

    default_image: str
    report_url: str
    runner_config_map: str = "maze-runner"
    """Holds the runner for images that do not bring it; in every namespace that needs it."""
    image_pull_policy: str = "IfNotPresent"
    cpu_request_fraction: float = 1.0
    gpu_resource: str = "nvidia.com/gpu"
    gpu_memory_label: str = "nvidia.com/gpu.memory"
    shared_gpu_resource: str | None = None
    shared_gpu_parts: int = 1
    image_pull_timeout: float = 300.0
    unschedulable_timeout: float = 3600.0
    container_start_timeout: float = 60.0
    workflow_missing_timeout: float = 60.0
    runner_grace: float = 60.0
    """The runner enforces the timeout itself and may then still store large outputs; the operator steps in this much later."""
    pod_retention: float = 3600.0
    """Pods of an ended Run are deleted this long after its end; their logs are in the object store."""
    max_assignments: int = 5
    """A Run whose worker went silent this many times fails."""
    tools_image: str | None = None
    """For tool tasks that name no image; None: they can't run."""
    mcp_server_url: str | None = None
    """Of the MCP server for tool tasks that name none."""
    exit_grace: float = 30.0
    """A pod that has reported its result may take this long to exit."""
    op_exit_grace: float = 5.0
    """The container of an OpRun whose end was posted may take this long to exit."""
    share_process_namespace: bool = True
    """Of OpRuns: the container's program is not process 1, which is deaf to SIGTERM unless it asks for it."""
    priority_classes: tuple[tuple[int, str], ...] = ()
    """(least priority, name of a PriorityClass), ascending: a Run's pods get the last one whose least priority it has."""
    event_sink: str | None = None
    """URL that events of OpRuns are delivered to; None: nowhere."""
    idle_seconds: float = 5.0
    """A pod that serves several tasks of a Run waits this long for the next one while one of its shape may still come."""
    pods_starting: int = 8
    """So many of those pods of a Run may be starting at once."""
    pods_starting_total: int = 64
    """So many of those pods of all Runs."""
    pods_per_run: int = 100
    """So many of them a Run may have."""
    pods_waiting: int = 100
    """So many pods of one attempt each a Run may have that no node has yet."""
    spares: tuple[SpareKind, ...] = ()
    undelivered_retention: float = 86400.0
    """An ended Run that is to be deleted waits this long for its events to be delivered."""


@dataclass(frozen=True, eq=False)
class Shape:
    """What tasks have in common that one pod can serve, one after the other.

    key: of all of it; base: without resources, so what a spare has in common with tasks of another size.
    resources: the container's. spec: the pod's, without token and owner; shared, so not to be changed.
    """

    key: str
    base: str
    resources: Mapping[str, Any]
    spec: Mapping[str, Any]


@dataclass(frozen=True, order=True)
class AttemptId:
    task: str
    attempt: int


SCHEDULING_GATED = "SchedulingGated"
"""Reason, in Kubernetes' words, of a pod that no scheduler looks at before somebody (as Kueue) has admitted it."""


@dataclass(frozen=True)
class Waiting:
    """Why a container is not running yet, in Kubernetes' words."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Ended:
    """A pod that will never run again."""

    succeeded: bool
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    termination_message: str = ""
    started: datetime | None = None
    """When its container did, in whole seconds."""
    disrupted: str | None = None
    """Why Kubernetes ended it, in one word: its node is gone or was needed by others."""


@dataclass(frozen=True, kw_only=True)
class PodState:
    """What the core needs to know of one pod."""

    name: str
    uid: str = ""
    node: str | None = None
    """Its address, once the node has begun with the pod."""
    deleting: bool = False
    unschedulable: Waiting | None = None
    waiting: Waiting | None = None
    running_since: datetime | None = None
    ended: Ended | None = None
    priority_class: str | None = None
    resource_version: str = ""


@dataclass(frozen=True, kw_only=True)
class PodView(PodState):
    """The pod of one attempt."""

    attempt_id: AttemptId


@dataclass(frozen=True, kw_only=True)
class SlotPod(PodState):
    """A pod that serves tasks of its Run that have this shape (Shape.key), one after the other.

    slot: its number; 0 for a spare that was claimed.
    """

    shape: str
    slot: int = 0
    created: datetime

    @property
    def alive(self) -> bool:
        return self.ended is None and not self.deleting


@dataclass(frozen=True)
class Hold:
    """A slot pod has an attempt, since `time`."""

    attempt_id: AttemptId
    uid: str
    pod: str
    node: str | None
    time: datetime


@dataclass(frozen=True)
class Reported:
    """How an attempt ended in a slot pod, and when that was known."""

    attempt_id: AttemptId
    result: Result
    time: datetime


Happened = Hold | Reported
"""What has become of an attempt in a slot pod: it was leased, or it has ended."""


@dataclass(frozen=True)
class Pace:
    """Seconds that tasks of one shape take: lately, and when they were fastest."""

    now: float
    best: float


NOT_LIMITED = 1_000_000
"""More pods than anybody has."""


@dataclass(frozen=True)
class Slots:
    """The slot pods of a Run, and what is known of them beside their objects. Keys are uids of pods, or Shape.key.

    says: pods that have been heard from, and what each works on.
    leaving: pods that have been told to end.
    silent: pods that must be heard from before anything is leased, because this process has just started.
    doomed: pods that must go: silent for too long, or at work on what the Run does not want any more.
    accounted: ended pods that a plan has seen before.
    spares: how many could be claimed.
    paces: of shapes of which a task has been at work.
    happened: what the status does not say yet, in its order.
    taken: attempts beside those, whose lease is being made for a pod that asked.
    may_start: how many new pods the Run may start now; other Runs want some, too.
    """

    pods: tuple[SlotPod, ...] = ()
    says: Mapping[str, AttemptId | None] = field(default_factory=dict)
    leaving: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    doomed: frozenset[str] = frozenset()
    accounted: frozenset[str] = frozenset()
    spares: Mapping[str, int] = field(default_factory=dict)
    paces: Mapping[str, Pace] = field(default_factory=dict)
    refused: Mapping[str, Refused] = field(default_factory=dict)
    happened: tuple[Happened, ...] = ()
    taken: tuple[AttemptId, ...] = ()
    may_start: int = NOT_LIMITED


@dataclass(frozen=True)
class Started:
    """A runner has been given its task."""

    time: datetime
    node: str | None = None


STORE_UNAVAILABLE = 0
"""In place of an HTTP status: the inputs of the pod could not be read from, or put into, the object store."""


@dataclass(frozen=True)
class Refused:
    """A pod could not be made. `status` is what the API server answered, or STORE_UNAVAILABLE."""

    status: int
    message: str
    time: datetime


@dataclass(frozen=True)
class Posted:
    """An event of an OpRun that somebody says. Valid in itself (core/opevents.py); whether it fits is for the plan.

    attempt: it is of this one or of none; None: of whichever is the current one.
    stored: SHA-256 of the whole in the object store, where it is too large for the status (msg and payload are cut then).
    result: what a COMPLETED event makes of `attempt`, which is never None then; it is in the object store already.
    error: message of a FAILED event.
    """

    key: str
    type: str
    time: datetime
    msg: str | int = ""
    payload: Mapping[str, Any] | None = None
    attempt: int | None = None
    stored: str | None = None
    result: Result | None = None
    error: str = ""
    worker: str | None = None
    gpu: int | None = None
    force: bool = False
    """Of RETRIED: also when the Run has ended."""
    own: bool = False
    """Its sender has named the attempt, as the attempt's container does, which runs therefore."""


@dataclass(frozen=True)
class Reply:
    """What becomes of a posted event: status 200 with its id, 400, 409 (another attempt is current) or 503."""

    status: int
    detail: str = ""
    id: int = -1
    state: str = ""


@dataclass(frozen=True)
class Facts:
    """What the shell has learned beside the objects. Keys are attempts of this Run.

    results: reported, or found in the object store; None: looked for and not there. What an external worker reported is
        the one of (names.EXTERNAL_TASK, number of the assignment).
    known: pods that have been seen to exist by this process: one that is missing now is lost, not yet to be made.
    slot: id of the internal worker that is to execute this Run, which waits for one.
    worker_lost: the external worker that has the Run (or claims it) is offline or gone.
    posted: events of an OpRun, in the order they came.
    delivered: how many of its events the sink has taken; None: this process does not know yet.
    delivery_problem: why the next one is not taken, for people.
    placed: how many of the Run's pods with one attempt each nodes have taken lately (core/placing.py).
    """

    results: Mapping[AttemptId, Result | None] = field(default_factory=dict)
    started: Mapping[AttemptId, Started] = field(default_factory=dict)
    refused: Mapping[AttemptId, Refused] = field(default_factory=dict)
    known: frozenset[AttemptId] = frozenset()
    slot: str | None = None
    worker_lost: bool = False
    posted: tuple[Posted, ...] = ()
    delivered: int | None = None
    delivery_problem: str | None = None
    slots: Slots = field(default_factory=lambda: Slots())
    placed: int = 0


@dataclass(frozen=True)
class Workflow:
    """A workflow with its graph worked out once."""

    spec: WorkflowSpec
    tasks: Mapping[str, Task]
    dependencies: Mapping[str, frozenset[str]]
    downstream: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, spec: WorkflowSpec) -> Workflow:
        needs = {task.name: dependencies(task) for task in spec.tasks}
        downstream: dict[str, list[str]] = {}
        for name, upstreams in needs.items():
            for upstream in upstreams:
                downstream.setdefault(upstream, []).append(name)
        return cls(spec, {task.name: task for task in spec.tasks}, needs, downstream)

    @cached_property
    def sources(self) -> frozenset[str]:
        """Tasks whose outputs are inputs of others."""
        return frozenset().union(*(sources(task) for task in self.tasks.values()))


@dataclass(frozen=True)
class RunView:
    """One Run as the core sees it.

    workflow is None while it can't be had, and `problem` says why; problem_final: waiting will not help. Without a
    problem the Run needs none: only an external worker can execute it.
    held: it is not deleted after its time to live, because the archive does not have it yet.
    version: of the object that this was read from; a status that is planned for this view may only replace that one.
    """

    name: str
    uid: str
    namespace: str
    generation: int
    created: datetime
    spec: RunSpec
    status: RunStatus
    workflow: Workflow | None
    problem_reason: str = ""
    problem: str = ""
    problem_final: bool = False
    held: bool = False
    version: str = ""
    queue: Mapping[str, str] = field(default_factory=dict)
    """Labels that its pods get from it: names.QUEUE_LABELS."""
    shapes: Shapes | None = None
    """Of the workflow's tasks, where they are kept from one plan to the next."""

    @cached_property
    def by_name(self) -> Mapping[str, TaskStatus]:
        """Tasks of which the status tells something."""
        return {task.name: task for task in self.status.tasks}

    @cached_property
    def attempts(self) -> Mapping[str, int]:
        """The current, or last, attempt of those tasks."""
        return {task.name: task.attempt for task in self.status.tasks}


@dataclass(frozen=True)
class CreatePod:
    attempt_id: AttemptId
    memory_scale: float = 1.0


@dataclass(frozen=True)
class CreateSlot:
    """One more pod for tasks of this shape: a new one with this number, or a spare (0)."""

    shape: Shape
    slot: int


@dataclass(frozen=True)
class DeletePod:
    name: str
    uid: str
    grace_seconds: int = 0


@dataclass(frozen=True)
class ReplacePod:
    """Delete a pod that no node has yet, unless it has changed meanwhile; it is made again as it should be now."""

    attempt_id: AttemptId
    name: str
    uid: str
    resource_version: str


@dataclass(frozen=True)
class DeleteRun:
    pass


Action = CreatePod | CreateSlot | DeletePod | ReplacePod | DeleteRun


@dataclass(frozen=True)
class EventPage:
    """Events that leave the status: stored at names.events_key(uid, number) before the status is written."""

    number: int
    events: tuple[OpEvent, ...]


@dataclass(frozen=True)
class Plan:
    """Store `pages`, write `status` (guarded by resourceVersion) if it differs, answer who posted events, then do `actions`,
    then come back in `requeue_after` seconds (None: only when something changes).

    replies: to the first of facts.posted, in their order; the others are to be given to the next plan.
    wants_pods: it would have started more pods, but for facts.slots.may_start.
    limited: tasks wait for the Run's parallelism limit.
    refill_at: at so few pods without a node the next ones are made; None: no task waits for that.
    """

    status: RunStatus
    actions: tuple[Action, ...] = ()
    requeue_after: float | None = None
    replies: tuple[Reply, ...] = ()
    pages: tuple[EventPage, ...] = ()
    wants_pods: bool = False
    limited: bool = False
    refill_at: int | None = None
