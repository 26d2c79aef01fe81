"""Every label, annotation, environment key and object-store key that Maze writes, in one place."""

from __future__ import annotations

import hashlib
import re

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")

LABEL_RUN = "maze.dev/run"
"""On pods: name of the Run, cut to what a label holds; identity is LABEL_RUN_UID."""
LABEL_RUN_UID = "maze.dev/run-uid"
LABEL_TASK = "maze.dev/task"
LABEL_ATTEMPT = "maze.dev/attempt"
LABEL_SHAPE = "maze.dev/shape"
"""On pods that serve several tasks of a Run, one after the other: what such tasks have in common (core/shapes.py)."""
LABEL_SLOT = "maze.dev/slot"
"""On such pods: their number in the Run; a spare that was claimed has none."""
LABEL_SPARE = "maze.dev/spare"
"""On pods that wait for a Run, whose LABEL_RUN_UID is empty: shape of what they are ready for, without its size."""
QUEUE_LABELS = ("kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class")
"""Of Kueue: on a Run they pass on to its pods, which Kueue then admits one by one."""
ANNOTATION_RESIZED = "maze.dev/resized"
"""On claimed spares: "true" where they got another size; their runner waits until it is in force."""
LABEL_WORKFLOW_ID = "maze.dev/workflow-id"
"""On Runs made through the Maze protocol: the id that create_workflow gave."""

LABEL_PROBLEM = "maze.dev/task-executor"
"""On Runs that are tasks of the Task Executor: "true"."""
LABEL_SCENARIO = "maze.dev/scenario"
"""On Workflows that are scenarios, and on their Runs: "true"."""
ANNOTATION_SCENARIO_ID = "maze.dev/scenario-id"
"""On Runs of scenarios, and on the Workflows: the scenario id, which may be no Kubernetes name."""
ANNOTATION_SCENARIO = "maze.dev/scenario-definition"
"""On scenario Workflows: the definition as it was given."""
ANNOTATION_ARCHIVE = "maze.dev/archive"
"""On Runs: "wanted" holds the Run after its time to live until it is "done"; absent where there is no archive."""
ANNOTATION_REQUEST = "maze.dev/request-sha256"
"""On Runs made with an Idempotency-Key: hash of the request, to tell a repeat from another use of the key."""
ANNOTATION_PARAMETERS = "maze.dev/parameters"
"""On problem Runs: which of the parameters were given, not defaults."""
LABEL_INTERNAL = "maze.dev/internal"
"""On Workers and their Leases: "true" or "false"."""
LABEL_HEARTBEAT = "maze.dev/worker-heartbeat"
"""On the Leases that external workers renew: "true"."""
ANNOTATION_SAID = "maze.dev/worker-said"
"""On the Leases of external workers: the last heartbeat's `{"status", "current_task_id"}` as JSON."""
ANNOTATION_CLAIMING = "maze.dev/worker-claiming"
"""On the Leases of external workers: which task is being claimed, and through which api process, as JSON."""
ANNOTATION_ENVIRONMENT = "maze.dev/environment"
"""On the WorkerPool: what the api's environment said when it was applied last, as JSON."""

EXTERNAL_TASK = "@worker"
"""In place of a task's name in keys of what an external worker reports; the attempt is the assignment's number."""

ENV_REPORT_URL = "MAZE_REPORT_URL"
ENV_TOKEN = "MAZE_TOKEN"
ENV_NAMESPACE = "MAZE_NAMESPACE"
ENV_POD_NAME = "MAZE_POD_NAME"
ENV_POD_UID = "MAZE_POD_UID"
ENV_INPUTS = "MAZE_INPUTS"
ENV_INPUTS_URL = "MAZE_INPUTS_URL"
"""Set instead of MAZE_INPUTS where the inputs are too large for an environment variable."""
ENV_EVENTS_URL = "MAZE_EVENTS_URL"
"""In the container of an OpRun: it posts its own events here, with `Authorization: Bearer MAZE_TOKEN`."""


def pod_name(run_name: str, run_uid: str, task: str, attempt: int, title: str | None = None) -> str:
    """The one name that a pod of this attempt can have, so that a second creation is refused with 409.

    A readable start (from `title`, or the task's name) helps people; the hash alone decides.
    """
    digest = hashlib.sha256(f"{run_uid}/{task}/{attempt}".encode()).hexdigest()[:16]
    run = run_name[:8] if _UUID.fullmatch(run_name) else run_name[:20]
    readable = _NOT_IN_NAMES.sub("-", f"{run}-{(title or task)[:20]}".lower()).strip("-")
    return f"{readable or 'task'}-{digest}"


def slot_pod_name(run_name: str, run_uid: str, slot: int) -> str:
    """The one name of the pod with this number in the Run: a second creation is refused with 409."""
    digest = hashlib.sha256(f"{run_uid}/{slot}".encode()).hexdigest()[:16]
    run = run_name[:8] if _UUID.fullmatch(run_name) else run_name[:20]
    readable = _NOT_IN_NAMES.sub("-", run.lower()).strip("-")
    return f"{readable or 'run'}-{slot}-{digest}"


def task_slice_name(run_name: str, run_uid: str, number: int) -> str:
    """The one name of the TaskSlice with this number of the Run."""
    digest = hashlib.sha256(run_uid.encode()).hexdigest()[:16]
    run = run_name[:8] if _UUID.fullmatch(run_name) else run_name[:40]
    readable = _NOT_IN_NAMES.sub("-", run.lower()).strip("-")
    return f"{readable or 'run'}-{number:03d}-{digest}"


LOG_MARKER_START = "--- maze: task "


def log_marker(task: str, attempt: int) -> str:
    """A line, without its end, that a pod prints before what an attempt prints: up to the next such line it is its log."""
    return f"{LOG_MARKER_START}{task}, attempt {attempt}"


def worker_name(worker_id: str) -> str:
    """The Kubernetes name of a worker: its id where that can be a name, else a readable start and a hash."""
    if len(worker_id) <= 63 and _NAME.fullmatch(worker_id):
        return worker_id
    readable = _NOT_IN_NAMES.sub("-", worker_id[:30].lower()).strip("-") or "worker"
    return f"{readable}-{hashlib.sha256(worker_id.encode()).hexdigest()[:16]}"


def revision_name(run_uid: str) -> str:
    """The ControllerRevision that keeps the workflow as it was when the Run started."""
    return f"maze-run-{run_uid}"


def attempt_prefix(run_uid: str, task: str, attempt: int) -> str:
    return f"{run_prefix(run_uid)}{task}/{attempt}/"


def run_prefix(run_uid: str) -> str:
    return f"runs/{run_uid}/"


def result_key(run_uid: str, task: str, attempt: int) -> str:
    """protocol.Result as JSON."""
    return attempt_prefix(run_uid, task, attempt) + "result.json"


def log_key(run_uid: str, task: str, attempt: int) -> str:
    """Standard output and error of the attempt, interleaved, as bytes."""
    return attempt_prefix(run_uid, task, attempt) + "log"


def output_key(run_uid: str, task: str, attempt: int, key: str) -> str:
    """An output too large to travel inside the result. Hashed: output names may hold any character."""
    return attempt_prefix(run_uid, task, attempt) + "output/" + hashlib.sha256(key.encode()).hexdigest()


def inputs_key(run_uid: str, task: str, attempt: int) -> str:
    return attempt_prefix(run_uid, task, attempt) + "inputs.json"


def events_key(run_uid: str, page: int) -> str:
    """A page of events of an OpRun: a JSON list of oprun.PAGE entries like those of its status."""
    return f"{run_prefix(run_uid)}@events/{page:08d}.json"


def event_key(run_uid: str, sha256: str) -> str:
    """`{"msg", "payload"}` of an event that is too large for the status, as JSON; named by its content."""
    return f"{run_prefix(run_uid)}@events/{sha256}"


def code_key(sha256: str) -> str:
    return f"code/{sha256}"


def payload_key(sha256: str) -> str:
    """Bytes that a client has put: named by content, so nothing that a Run refers to can change."""
    return f"payloads/{sha256}"


def draft_prefix(workflow_id: str) -> str:
    """Everything of a workflow that is being built through the Maze protocol."""
    return f"drafts/{workflow_id}/"
