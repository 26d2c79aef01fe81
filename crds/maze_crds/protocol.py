"""What runner and operator say to each other, and what the runner leaves in the object store.

The runner has no dependencies, so these are plain JSON objects. All calls are POST with a JSON body to MAZE_REPORT_URL,
with `Authorization: Bearer MAZE_TOKEN` (HMAC-SHA256 of "NAMESPACE/POD" in hex).

/v1/lease     LeaseRequest -> 200 Lease; 204 nothing yet: ask again at once (it has waited up to LEASE_WAIT); 409 nothing
              for this pod any more: it ends; 503 with Retry-After: ask again
/v1/uploads   UploadsRequest -> 200 {"urls": {OUTPUT: presigned PUT URL}}; 409; 503
/v1/complete  Complete -> 200 Completed (a repeat too, without `next`); 409 this pod no longer owns the attempt; 503: say it
              again
/v1/holding   Holding -> 200: go on; 409 this pod no longer owns the attempt: it stops it and ends; 503: say it again

/v1/worker-reports  WorkerReport -> 200 once durable (a repeat too); 404 no such Run; 409 the worker does not have the
              task (any more); 503. The api alone calls it, with `Authorization: Bearer MAZE_API_TOKEN`.

/v1/op-runs/NAMESPACE/RUN/events[?attempt=N]  OpEventRequest -> 200 OpEventAnswer once durable; 400 the Run has ended
              or the event is not valid; 404 no such OpRun; 409 N is not the current attempt any more; 503 with
              Retry-After: say it again. For the api with its token, and for the OpRun's own container, which finds this
              URL in MAZE_EVENTS_URL and a token that is good for this Run alone in MAZE_TOKEN.

A runner stores its Result at `resultUrl` before it calls /v1/complete, so that a result survives any death.

One pod may serve many tasks of a Run, one after the other: what /v1/complete answers as `next` is its next lease, and
without that it asks /v1/lease again, until that says 409. Which pod has which attempt is in the operator's memory until
the next status write. An operator that has just started leases nothing of a Run before every living pod of it has said
what it does: a runner that waits asks again, and one that works says /v1/holding as soon as its connection to the operator
is closed.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # Pydantic validates these, and asks for this one before Python 3.12

Encoding = Literal["json", "pickle", "file"]
"""json only where it gives back the very same object: None, bool, int, finite float, str, list, dict with str keys.

file: the value is a pathlib.Path of a regular file; its bytes travel, and the task that takes it gets the Path of a copy of
the same name in its own working directory.
"""

INLINE_LIMIT = 65536
"""Encoded bytes up to which one output travels inside the Result."""
INLINE_TOTAL = 262144
"""Encoded bytes of all inlined outputs of one Result."""
RENDERED_LIMIT = 65536
LEASE_WAIT = 5.0
"""Seconds after which /v1/lease answers 204 at the latest."""
DISPLAY_LIMIT = 2000
"""Characters of a readable stand-in for a value that is not JSON."""


class Output(TypedDict):
    """One output in a Result: `value` (json) or `data` (base64 of the pickle) when inline, else `key` in the store."""

    encoding: Encoding
    size: int
    sha256: str
    """Of the encoded bytes: compact UTF-8 JSON, or the pickle."""
    value: NotRequired[Any]
    data: NotRequired[str]
    key: NotRequired[bool]
    """True: stored at names.output_key(...)."""
    display: NotRequired[str]
    """For pickles: type and repr, cut to DISPLAY_LIMIT."""
    rendered: NotRequired[Any]
    """For pickles that JSON can show (such as tuples) in at most RENDERED_LIMIT bytes: what clients see of them."""
    fileName: NotRequired[str]
    """For files: the last part of the path."""


class Failure(TypedDict):
    cause: str
    """A run.Cause."""
    reason: str
    """One CamelCase word: UserException, MissingOutput, CodeNotLoadable, ChecksumMismatch, Exited, Killed, ..."""
    message: str
    """One line for people."""
    traceback: NotRequired[str]
    exitCode: NotRequired[int]
    """As a shell shows it: 128 + signal for a death by signal."""


class Result(TypedDict):
    """How one attempt ended. `failure` is there exactly when it did not succeed."""

    startTime: str
    completionTime: str
    outputs: dict[str, Output]
    failure: NotRequired[Failure]


class LeaseRequest(TypedDict):
    namespace: str
    pod: str
    uid: str
    """metadata.uid of the pod."""
    python: str
    """MAJOR.MINOR of the runner's interpreter."""


class Stored(TypedDict):
    """Bytes to fetch; with `data` (base64) they are here already."""

    sha256: str
    size: int
    url: NotRequired[str]
    data: NotRequired[str]


class LeasedInput(TypedDict):
    """`value` for inline JSON; else bytes in `encoding`."""

    value: NotRequired[Any]
    encoding: NotRequired[Encoding]
    stored: NotRequired[Stored]
    fileName: NotRequired[str]


class Lease(TypedDict):
    run: str
    runUid: str
    task: str
    attempt: int
    source: NotRequired[str]
    function: NotRequired[str]
    call: NotRequired[Literal["Params", "Arguments"]]
    """PythonExecutor.call."""
    code: NotRequired[Stored]
    pythonVersion: NotRequired[str]
    inputs: dict[str, LeasedInput]
    outputs: list[str]
    """Declared keys; each must be in what the function returns."""
    timeoutSeconds: NotRequired[int]
    resultUrl: str
    logUrl: str
    marker: NotRequired[str]
    """A line that is printed to the pod's log, and only there, before what the task prints (names.log_marker)."""
    limits: NotRequired[Limits]
    """The pod is being resized: nothing starts before its cgroup has these."""
    imports: NotRequired[list[str]]
    """Modules that are worth importing before the fork, for the tasks that come later; not finding one is no failure."""


class Limits(TypedDict):
    """What is absent is not limited."""

    cpuMillis: NotRequired[int]
    memory: NotRequired[int]
    """Bytes."""


class Holding(LeaseRequest):
    """What a runner is working on."""

    attempt: int
    task: str


class Completed(TypedDict):
    next: NotRequired[Lease]


class UploadsRequest(LeaseRequest):
    attempt: int
    task: str
    outputs: list[str]


class Complete(LeaseRequest):
    attempt: int
    task: str
    result: Result


class WorkerReport(TypedDict):
    """What an external worker says of a task that it has; the operator stores it as a Result of names.EXTERNAL_TASK."""

    namespace: str
    run: str
    """Name of the Run."""
    worker: str
    """Worker id."""
    outcome: Literal["completed", "failed"]
    result: NotRequired[Any]
    """For completed: any JSON; it becomes the output "result"."""
    error: NotRequired[str]
    """For failed."""


class OpEventRequest(TypedDict):
    """One event of an OpRun. See oprun.EventType for those with a meaning."""

    type: str
    msg: NotRequired[str | int]
    """PROGRESS: 0 to 100."""
    payload: NotRequired[dict[str, Any] | None]
    key: NotRequired[str]
    """Any text of at most 100 characters: the same event said twice with one key is kept once."""


class OpEventAnswer(TypedDict):
    id: int
    state: str
    """Of the Run after the event: an oprun.OpState."""
