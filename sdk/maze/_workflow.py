"""A workflow: tasks and edges on the server, its runs, and their results."""

from __future__ import annotations

import base64
import sys
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import requests

from maze import _graph, _pickle, _results
from maze._errors import InvalidTask, UnknownRun
from maze._http import call, messages
from maze._task import MaTask, TaskMetadata, TaskOutput, check_json, check_type, get_task_metadata

PYTHON_VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"

Message = Dict[str, Any]


class MaWorkflow:
    """A workflow on the server; made by `MaClient.create_workflow`.

    All methods that talk to the server raise MazeError: ServerUnreachable, or RequestFailed with the server's reason.
    """

    def __init__(self, workflow_id: str, server_url: str, session: Optional[requests.Session] = None) -> None:
        self.workflow_id = workflow_id
        self.server_url = server_url.rstrip("/")
        self._session = session or requests.Session()
        self._nodes: Dict[str, Dict[str, Any]] = {}
        self._edges: List[Tuple[str, str]] = []
        self._cache: Dict[str, List[Message]] = {}

    def add_task(
        self,
        task_func: Optional[Callable[..., Any]] = None,
        inputs: Optional[Mapping[str, Any]] = None,
        task_type: str = "code",
        task_name: Optional[str] = None,
        **kwargs: Any,
    ) -> MaTask:
        """Add a task.

        Args:
            task_func: a function decorated with @task; without one, give the task its content with `MaTask.save`.
            inputs: key → JSON value, or an output of another task, which also makes this task wait for that one.
            task_name: default: the function's name.
            kwargs: for a task without function: code_str, task_input, task_output, resources, as `MaTask.save` has them.

        Raises:
            InvalidTask: the function or an input is not what Maze can run; nothing was added.
        """
        if task_func is None:
            return self._add_manual(task_type, task_name, kwargs)
        if kwargs:
            raise InvalidTask(f"add_task does not know {', '.join(sorted(kwargs))} for a decorated function")
        metadata = get_task_metadata(task_func)
        name = task_name or metadata.func_name
        parameters = input_parameters(name, metadata, inputs or {})
        code = base64.b64encode(_pickle.dumps(task_func)).decode()
        task = self._add(task_type, name, metadata)
        body = {
            "workflow_id": self.workflow_id,
            "task_id": task.task_id,
            "code_str": None,
            "code_ser": code,
            "task_input": {"input_params": parameters},
            "task_output": {"output_params": output_parameters(metadata)},
            "resources": metadata.resources,
            "python_version": PYTHON_VERSION,
        }
        try:
            self._post("/save_task_and_add_edge", body)
        except BaseException:
            self._withdraw(task)
            raise
        for value in (inputs or {}).values():
            if isinstance(value, TaskOutput):
                self._remember_edge(value.task_id, task.task_id)
        return task

    def _add_manual(self, task_type: str, task_name: Optional[str], content: Dict[str, Any]) -> MaTask:
        unknown = set(content) - {"code_str", "task_input", "task_output", "resources"}
        if unknown:
            raise InvalidTask(f"add_task does not know {', '.join(sorted(unknown))}")
        task = self._add(task_type, task_name, None)
        if content:
            task.save(
                content.get("code_str") or "",
                content.get("task_input") or {},
                content.get("task_output") or {},
                content.get("resources"),
            )
        return task

    def _add(self, task_type: str, name: Optional[str], metadata: Optional[TaskMetadata]) -> MaTask:
        body = {"workflow_id": self.workflow_id, "task_type": task_type, "task_name": name}
        task_id = self._post("/add_task", body)["task_id"]
        task = MaTask(task_id, self.workflow_id, self.server_url, name, metadata.outputs if metadata else None)
        task._session = self._session
        task._on_delete = self._forget
        self._nodes[task_id] = {
            "name": name,
            "func_name": metadata.func_name if metadata else None,
            "inputs": metadata.inputs if metadata else [],
            "outputs": metadata.outputs if metadata else [],
            "resources": metadata.resources if metadata else {},
        }
        return task

    def _withdraw(self, task: MaTask) -> None:
        """A task that could not be saved must not stay in the workflow."""
        try:
            task.delete()
        except Exception:  # noqa: BLE001 - what went wrong first is what the user must see
            self._forget(task.task_id)

    def get_tasks(self) -> List[Dict[str, Any]]:
        """`[{"id": ..., "name": ...}, ...]`, in the order in which they were added, by whichever client."""
        found: List[Dict[str, Any]] = call(
            self._session, self.server_url, "GET", f"/get_workflow_tasks/{self.workflow_id}"
        )["tasks"]
        return found

    def add_edge(self, source_task: MaTask, target_task: MaTask) -> None:
        """Make `target_task` wait for `source_task`.

        Raises:
            RequestFailed: also for an edge that would close a cycle; the text writes the cycle out.
        """
        self._post("/add_edge", self._edge(source_task, target_task))
        self._remember_edge(source_task.task_id, target_task.task_id)

    def del_edge(self, source_task: MaTask, target_task: MaTask) -> None:
        """Remove an edge. An input that takes an output of `source_task` still makes `target_task` wait for it."""
        self._post("/del_edge", self._edge(source_task, target_task))
        self._edges = [edge for edge in self._edges if edge != (source_task.task_id, target_task.task_id)]

    def run(self) -> str:
        """Start the workflow as it is now, and return the id of this run; it does not wait."""
        run_id: str = self._post("/run_workflow", {"workflow_id": self.workflow_id})["run_id"]
        return run_id

    def events(self, run_id: str) -> Iterator[Message]:
        """The messages of a run, from the first, each as soon as it comes; ends after `finish_workflow`.

        Raises:
            UnknownRun: no such run (it is a ValueError, too).
            StreamBroken, ServerUnreachable: reading failed for good; the run goes on without readers.
        """
        if not isinstance(run_id, str) or not run_id:
            raise UnknownRun(f"run_id is {run_id!r}; take what run() returned")
        if run_id in self._cache:
            yield from list(self._cache[run_id])
            return
        seen: List[Message] = []
        for message in messages(self.server_url, self.workflow_id, run_id):
            seen.append(message)
            if message.get("type") == "finish_workflow":
                self._cache[run_id] = seen
            yield message

    def get_results(self, run_id: str, verbose: bool = True) -> List[Message]:
        """All messages of a run; waits for its end. Kept, so that asking again costs nothing.

        Args:
            verbose: print each message as it comes.
        """
        found: List[Message] = []
        for message in self.events(run_id):
            if verbose:
                print(message, flush=True)
            found.append(message)
        return found

    def show_results(self, run_id: str, output_dir: str = "workflow_results") -> Dict[str, Any]:
        """Print the progress of a run for people as it comes, and return what came out.

        Returns:
            `{"task_results": {id: outputs}, "workflow_completed": bool, "has_exception": bool, "exception_tasks": [id]}`
        """
        print(_results.CONNECTED, flush=True)
        found: List[Message] = []
        failed = 0
        for message in self.events(run_id):
            found.append(message)
            failed += message.get("type") == "task_exception"
            for line in _results.lines(message, failed):
                print(line, flush=True)
        return _results.summary(found)

    def get_task_result(self, run_id: str, task_id: str) -> Optional[Dict[str, Any]]:
        """The outputs of a task in a run whose results are cached; None where it has none.

        Raises:
            UnknownRun: call get_results or show_results first (it is a ValueError, too).
        """
        if run_id not in self._cache:
            raise UnknownRun(f"no results of run '{run_id}' are cached; call get_results or show_results first")
        result: Optional[Dict[str, Any]] = _results.summary(self._cache[run_id])["task_results"].get(task_id)
        return result

    def list_cached_runs(self) -> List[str]:
        return list(self._cache)

    def clear_cache(self, run_id: Optional[str] = None) -> None:
        """Forget the results of one run, or of all."""
        if run_id is None:
            self._cache.clear()
        else:
            self._cache.pop(run_id, None)

    def print_graph(self) -> None:
        """Print the tasks and edges that were made through this object."""
        print(_graph.text(self._nodes, self._edges))

    def get_graph_mermaid(self) -> str:
        return _graph.mermaid(self._nodes, self._edges)

    def get_graph_info(self) -> Dict[str, Any]:
        """`{"nodes": {id: {...}}, "edges": [[id, id]], "stats": {"total_nodes", "total_edges", "max_depth"}}`"""
        return _graph.info(self._nodes, self._edges)

    def _edge(self, source: MaTask, target: MaTask) -> Dict[str, str]:
        return {
            "workflow_id": self.workflow_id,
            "source_task_id": source.task_id,
            "target_task_id": target.task_id,
        }

    def _remember_edge(self, source: str, target: str) -> None:
        if (source, target) not in self._edges:
            self._edges.append((source, target))

    def _forget(self, task_id: str) -> None:
        self._nodes.pop(task_id, None)
        self._edges = [edge for edge in self._edges if task_id not in edge]

    def _post(self, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
        return call(self._session, self.server_url, "POST", path, body)

    def __repr__(self) -> str:
        return f"MaWorkflow({self.workflow_id!r}, {self.server_url!r})"


def input_parameters(name: str, metadata: TaskMetadata, inputs: Mapping[str, Any]) -> Dict[str, Any]:
    """`task_input` of the protocol. An input that was not given is "", as existing clients send it.

    Raises:
        InvalidTask: an input the task does not have, a value of another type than declared, or not JSON.
    """
    unknown = [key for key in inputs if key not in metadata.inputs]
    if unknown:
        raise InvalidTask(f"task '{name}' has no input {unknown}; @task declares {metadata.inputs}")
    parameters: Dict[str, Any] = {}
    for number, key in enumerate(metadata.inputs, 1):
        value = inputs.get(key, "")
        schema = "from_user"
        if isinstance(value, TaskOutput):
            schema, value = "from_task", value.to_reference_string()
        elif key in inputs:
            problem = check_json(value, f"input '{key}'")
            if problem is None and key in metadata.declared:
                problem = check_type(key, metadata.data_types[key], value)
            if problem:
                raise InvalidTask(f"task '{name}': {problem}")
        parameters[str(number)] = {
            "key": key,
            "input_schema": schema,
            "data_type": metadata.data_types[key],
            "value": value,
        }
    return parameters


def output_parameters(metadata: TaskMetadata) -> Dict[str, Any]:
    """`task_output` of the protocol."""
    return {
        str(number): {"key": key, "data_type": metadata.data_types[key]}
        for number, key in enumerate(metadata.outputs, 1)
    }
