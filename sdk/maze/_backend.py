"""What a workflow needs of whatever runs it: a Maze server (`_http`), or this machine (`_local`)."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, Dict, Iterator, List, Optional, Protocol, Union

Json = Dict[str, Any]
Message = Dict[str, Any]

ENDED = ("Succeeded", "Failed", "Cancelled")
"""Status words of a run that is over. A task has also Skipped."""


class Backend(Protocol):
    """All methods raise MazeError. Shapes are those of the server's JSON; ids are text."""

    server_url: str

    def create_workflow(self) -> str: ...

    def add_task(self, workflow_id: str, task_type: str, name: Optional[str]) -> str: ...

    def save_task(self, body: Json, with_edges: bool) -> None:
        """`body` of /save_task."""

    def add_tasks(self, workflow_id: str, content: Json, tasks: List[Json]) -> List[str]:
        """Tasks of the same content (`body` of /save_task without ids and inputs) and their edges; their ids in order.

        tasks: `{"task_name", "task_input"}`
        """

    def delete_task(self, workflow_id: str, task_id: str) -> None: ...

    def add_edge(self, workflow_id: str, source: str, target: str) -> None: ...

    def delete_edge(self, workflow_id: str, source: str, target: str) -> None: ...

    def tasks(self, workflow_id: str) -> List[Json]:
        """`[{"id", "name"}]`"""

    def run(self, workflow_id: str) -> str: ...

    def messages(self, workflow_id: str, run_id: str, timeout: Optional[float] = None) -> Iterator[Message]:
        """Each message once and in order; RunNotEnded when `timeout` seconds have passed."""

    def upload(self, data: Union[bytes, Path], encoding: str, file_name: Optional[str] = None) -> Json:
        """`{"key", "sha256", "size", "encoding", "file_name"?}`"""

    def runs(self, limit: int, workflow_id: Optional[str] = None) -> List[Json]: ...

    def get_run(self, run_id: str) -> Json: ...

    def cancel(self, run_id: str) -> None: ...

    def logs(self, run_id: str, task_id: str, follow: bool, attempt: Optional[int]) -> Iterator[str]:
        """Lines without their ends."""

    def outputs(self, run_id: str, task_id: str) -> Dict[str, Json]:
        """`{key: {"encoding", "size", "sha256", "file_name"?}}`; Conflict while the task has not ended."""

    def fetch_output(self, run_id: str, task_id: str, key: str, into: IO[bytes]) -> None: ...

    def info(self) -> Json:
        """`{"version", "python", "namespace", "limits", "checks"}`"""
