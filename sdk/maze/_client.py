"""The entrance: a Maze server by its address."""

from __future__ import annotations

import requests

from maze._errors import MazeError
from maze._http import call
from maze._workflow import MaWorkflow


class MaClient:
    """A Maze server. Making one does not connect yet.

    Args:
        server_url: such as "http://localhost:8000", where `make up` puts it.

    Raises:
        MazeError: not an http or https address.
    """

    def __init__(self, server_url: str = "http://localhost:8000") -> None:
        if not server_url.startswith(("http://", "https://")):
            raise MazeError(f"server_url is {server_url!r}, but must start with http:// or https://")
        self.server_url = server_url.rstrip("/")
        self._session = requests.Session()

    def create_workflow(self) -> MaWorkflow:
        """A new, empty workflow on the server.

        Raises:
            ServerUnreachable: nothing answers there; the text says what to do.
        """
        made = call(self._session, self.server_url, "POST", "/create_workflow")
        return MaWorkflow(made["workflow_id"], self.server_url, self._session)

    def get_workflow(self, workflow_id: str) -> MaWorkflow:
        """A workflow that exists, by its id. No call is made; graph functions know only what is added from here on."""
        return MaWorkflow(workflow_id, self.server_url, self._session)

    def __repr__(self) -> str:
        return f"MaClient({self.server_url!r})"
