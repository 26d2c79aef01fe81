"""Everything Maze raises. All are MazeError, and each text says what to do.

MazeError
├── InvalidTask           a task or its inputs are not what Maze can run        (also ValueError)
├── UnknownOutput         a task has no output of that name                     (also KeyError)
├── RequestFailed         the server refused a call: status, detail, request_id
│   └── NotFound          no such workflow, task or run
├── UnknownRun            no such run, or its results are not in the cache      (also ValueError)
├── ServerUnreachable     nothing answers at the server's address               (also ConnectionError)
└── StreamBroken          the stream of results ended before the run did
"""

from __future__ import annotations

from typing import Optional


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


class NotFound(RequestFailed):
    pass


class UnknownRun(MazeError, ValueError):
    pass


class ServerUnreachable(MazeError, ConnectionError):
    def __init__(self, server_url: str, why: object) -> None:
        super().__init__(
            f"no Maze server answers at {server_url} ({why}); start it with `make up`, "
            "or give MaClient the address of another one"
        )


class StreamBroken(MazeError):
    pass
