"""Everything Maze raises. All are MazeError, and each text says what to do.

MazeError
├── InvalidTask           a task or its inputs are not what Maze can run        (also ValueError)
├── UnknownOutput         a task has no output of that name                     (also KeyError)
├── RequestFailed         the server refused a call: status, detail, request_id
│   ├── BadRequest        what was sent is wrong: 400, 413, 422                 (also ValueError)
│   ├── NotFound          no such workflow, task or run
│   └── Conflict          not in this state: the run has ended, or has not ended yet
├── UnknownRun            no such run, or its results are not in the cache      (also ValueError)
├── RunFailed             `wait`, `result`: the run or the task failed
│   └── RunCancelled      it was cancelled
├── RunNotEnded           `wait` waited for as long as it was told to           (also TimeoutError)
├── ResultNotLoadable     an output is there, but can't become a Python object here
├── ServerUnreachable     nothing answers at the server's address               (also ConnectionError)
├── StreamBroken          the stream of results ended before the run did
└── DrawingUnavailable    a library or program that draws is not installed      (also ImportError)
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional


class MazeError(Exception):
    """The root of all errors of this package."""


class InvalidTask(MazeError, ValueError):
    pass


class UnknownOutput(MazeError, KeyError):
    def __str__(self) -> str:
        return str(self.args[0])


class RequestFailed(MazeError):
    """The server answered something else than success.

    Attributes:
        status: HTTP status.
        detail: the server's explanation.
        request_id: under which the server's log tells more, or None.
    """

    def __init__(self, call: str, status: int, detail: str, request_id: Optional[str] = None) -> None:
        known = f" (request id {request_id})" if request_id else ""
        super().__init__(f"{call}: the server answered {status}: {detail}{known}")
        self.status = status
        self.detail = detail
        self.request_id = request_id


class BadRequest(RequestFailed, ValueError):
    pass


class NotFound(RequestFailed):
    pass


class Conflict(RequestFailed):
    pass


class UnknownRun(MazeError, ValueError):
    pass


class RunFailed(MazeError):
    """A run, or the task whose result was asked for, did not succeed.

    Attributes:
        run_id: of which run.
        tasks: those that failed: `{"task_id", "name", "reason", "message", ...}` as the server has them.
        summary: what `show_results` returns, where the whole run was waited for.
    """

    def __init__(
        self, text: str, run_id: str, tasks: List[Dict[str, Any]], summary: Optional[Dict[str, Any]] = None
    ) -> None:
        super().__init__(text)
        self.run_id = run_id
        self.tasks = tasks
        self.summary = summary or {}


class RunCancelled(RunFailed):
    pass


class RunNotEnded(MazeError, TimeoutError):
    pass


class ResultNotLoadable(MazeError):
    pass


class ServerUnreachable(MazeError, ConnectionError):
    def __init__(self, server_url: str, why: object) -> None:
        super().__init__(
            f"no Maze server answers at {server_url} ({why}); start it with `make up`, "
            "or give MaClient the address of another one"
        )


class StreamBroken(MazeError):
    pass


class DrawingUnavailable(MazeError, ImportError):
    pass


def refusal(call: str, status: int, detail: str, request_id: Optional[str] = None) -> RequestFailed:
    """The error for an HTTP status that is no success."""
    kinds = {400: BadRequest, 413: BadRequest, 422: BadRequest, 404: NotFound, 409: Conflict}
    return kinds.get(status, RequestFailed)(call, status, detail, request_id)
