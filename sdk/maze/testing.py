"""Run workflows without a cluster, to test them.

    from maze.testing import LocalClient

    def test_my_workflow():
        workflow = build(LocalClient())          # the function that gets a MaClient otherwise
        run_id = workflow.run()
        assert workflow.wait(run_id)["workflow_completed"]
        assert workflow.result(run_id, task)["count"] == 3

A LocalClient does what a MaClient does, with the same messages, results and errors. Tasks run one after the other, each in a
Python process of its own with a working directory of its own, and what they take and return goes through the same encodings
as on a cluster: what can't be pickled, and a function that needs a module of yours that did not travel, fail here too.

What it does not do: `image` and `resources` are ignored (tasks run with the Python and the packages of this process), GPUs are
not looked for, and nothing outlives the LocalClient.
"""

from __future__ import annotations

from maze._backend import Backend
from maze._client import MaClient
from maze._local import LocalBackend

__all__ = ["LocalClient"]


class LocalClient(MaClient):
    """A MaClient whose workflows run on this machine."""

    def __init__(self) -> None:
        self._backend: Backend = LocalBackend()
        self.server_url = self._backend.server_url
