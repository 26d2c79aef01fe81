"""Tasks of a workflow, and references to their outputs."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, Optional

from maze._backend import Backend
from maze._decorator import normalize_resources
from maze._errors import UnknownOutput
from maze._http import HttpBackend


class TaskOutput:
    """A reference to one output of a task."""

    def __init__(self, task_id: str, output_key: str) -> None:
        self.task_id = task_id
        self.output_key = output_key

    def to_reference_string(self) -> str:
        """`"{task_id}.output.{output_key}"`"""
        return f"{self.task_id}.output.{self.output_key}"

    def __repr__(self) -> str:
        return f"TaskOutput({self.task_id!r}, {self.output_key!r})"


class TaskOutputs:
    """The outputs of a task by key."""

    def __init__(self, task_id: str, output_keys: Iterable[str]) -> None:
        self.task_id = task_id
        self._outputs = {key: TaskOutput(task_id, key) for key in output_keys}

    def __getitem__(self, key: str) -> TaskOutput:
        """The reference to an output.

        Raises:
            UnknownOutput: the task declares no such output (it is a KeyError, too).
        """
        if key not in self._outputs:
            known = ", ".join(self._outputs) or "none"
            raise UnknownOutput(f"the task has no output '{key}'; declared are: {known}")
        return self._outputs[key]

    def keys(self) -> List[str]:
        """All keys, in the order in which they were declared."""
        return list(self._outputs)

    def __repr__(self) -> str:
        return f"TaskOutputs({self.task_id!r}, {self.keys()!r})"


class MaTask:
    """A task of a workflow; made by `MaWorkflow.add_task`."""

    def __init__(
        self,
        task_id: str,
        workflow_id: str,
        server_url: str,
        task_name: Optional[str] = None,
        output_keys: Optional[List[str]] = None,
    ) -> None:
        self.task_id = task_id
        self.workflow_id = workflow_id
        self.server_url = server_url.rstrip("/")
        self.task_name = task_name
        self.outputs = TaskOutputs(task_id, output_keys or [])
        self._backend: Optional[Backend] = None
        self._on_delete: Optional[Callable[[str], None]] = None

    def save(
        self,
        code_str: str,
        task_input: Dict[str, Any],
        task_output: Dict[str, Any],
        resources: Optional[Dict[str, Any]] = None,
    ) -> None:
        """Give a task that was added without a function its source and its parameters, as the protocol has them."""
        body = {
            "workflow_id": self.workflow_id,
            "task_id": self.task_id,
            "code_str": code_str,
            "code_ser": None,
            "task_input": task_input,
            "task_output": task_output,
            "resources": normalize_resources(resources),
        }
        self._server().save_task(body, with_edges=False)
        self.outputs = TaskOutputs(
            self.task_id, [item["key"] for item in task_output.get("output_params", {}).values()]
        )

    def delete(self) -> None:
        """Delete the task and its edges from the workflow."""
        self._server().delete_task(self.workflow_id, self.task_id)
        if self._on_delete:
            self._on_delete(self.task_id)

    def _server(self) -> Backend:
        if self._backend is None:
            self._backend = HttpBackend(self.server_url)
        return self._backend

    def __repr__(self) -> str:
        return f"MaTask({self.task_id!r}, name={self.task_name!r})"
