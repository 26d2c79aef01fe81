"""The entrance: a Maze server by its address."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional

from maze._backend import Backend
from maze._http import HttpBackend
from maze._workflow import MaWorkflow


class MaClient:
    """A Maze server. Making one does not connect yet.

    Args:
        server_url: such as "http://localhost:8000", where `make up` puts it.

    Raises:
        MazeError: not an http or https address.
    """

    def __init__(self, server_url: str = "http://localhost:8000") -> None:
        self._backend: Backend = HttpBackend(server_url)
        self.server_url = self._backend.server_url

    def create_workflow(self) -> MaWorkflow:
        """A new, empty workflow on the server.

        Raises:
            ServerUnreachable: nothing answers there; the text says what to do.
        """
        return self.get_workflow(self._backend.create_workflow())

    def get_workflow(self, workflow_id: str) -> MaWorkflow:
        """A workflow that exists, by its id. No call is made; graph functions know only what is added from here on."""
        return MaWorkflow(workflow_id, self.server_url, self._backend)

    def runs(self, limit: int = 50, workflow_id: Optional[str] = None) -> List[Dict[str, Any]]:
        """Runs of all clients, the newest first:
        `[{"run_id", "workflow_id", "status", "created_at", "progress", "counts"}]`."""
        return self._backend.runs(limit, workflow_id)

    def get_run(self, run_id: str) -> Dict[str, Any]:
        """A run as it is now; see MaWorkflow.status for its fields.

        Raises:
            UnknownRun: no such run.
        """
        return self._backend.get_run(run_id)

    def cancel(self, run_id: str) -> None:
        """See MaWorkflow.cancel."""
        self._backend.cancel(run_id)

    def logs(self, run_id: str, task_id: str, follow: bool = False, attempt: Optional[int] = None) -> Iterator[str]:
        """See MaWorkflow.logs."""
        return self._backend.logs(run_id, task_id, follow, attempt)

    def info(self) -> Dict[str, Any]:
        """The server itself: `{"version", "python", "namespace", "limits": {"max_body_bytes"}, "checks": {part: {"ok",
        "detail"}}}`."""
        return self._backend.info()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server_url!r})"
