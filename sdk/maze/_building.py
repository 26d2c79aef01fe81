"""Building a workflow: tasks and edges. Every call costs the server and this client the same, the first and the thousandth."""

from __future__ import annotations

import base64
import contextlib
import sys
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from maze import _collect, _pickle
from maze._backend import Backend, Json
from maze._decorator import TaskMetadata, get_task_metadata, normalize_resources
from maze._errors import InvalidTask
from maze._http import HttpBackend
from maze._inputs import Gathered, Sent, Upload, describe, input_parameters, output_parameters
from maze._task import MaTask, TaskOutput

PYTHON_VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"

TOGETHER = 500
"""Tasks of `map` that go to the server in one call."""

Edge = Tuple[str, str]


class Building:
    """What MaWorkflow does before it runs."""

    def __init__(self, workflow_id: str, server_url: str, backend: Optional[Backend] = None) -> None:
        self.workflow_id = workflow_id
        self._backend = backend or HttpBackend(server_url)
        self.server_url = self._backend.server_url
        self._nodes: Dict[str, Dict[str, Any]] = {}
        self._edges: Dict[Edge, None] = {}
        self._declared: Dict[Tuple[str, str], str] = {}

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
            inputs: key → value. An output of another task makes this task wait for that one; so does a list with outputs
                in it, which a task named "collect ..." puts together. A pathlib.Path of a file sends the file: the task
                gets the path of a copy. Any other value arrives as it is: as JSON, or else as a pickle.
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
        return self._add_function(metadata, inputs or {}, task_type, task_name, _encoded(task_func))

    def map(self, task_func: Callable[..., Any], items: Iterable[Any], /, **fixed: Any) -> List[MaTask]:
        """One task for each item, named `function[0]`, `function[1]`, …; they run side by side.

        Args:
            items: a dict whose keys are all inputs of the task that are not in `fixed` or some of them, or else the value
                of the only such input.
            fixed: inputs that are the same for all.

        The outputs can be the input of a task that wants a list: `inputs={"all": [t.outputs["y"] for t in mapped]}`.

        Raises:
            InvalidTask: says which item is wrong; tasks of those before it may have been added.
        """
        metadata = get_task_metadata(task_func)
        free = [key for key in metadata.inputs if key not in fixed]
        name = metadata.func_name
        input_parameters(name, metadata, fixed, self._declared_type)
        given = [bound(metadata, free, number, item) for number, item in enumerate(items)]
        same = {key: self._shared(f"task '{name}': input '{key}'", value) for key, value in fixed.items()}
        named = [(f"{name}[{number}]", {**same, **inputs}) for number, inputs in enumerate(given)]
        content = _content(metadata, _encoded(task_func))
        made: List[MaTask] = []
        for start in range(0, len(named), TOGETHER):
            made += self._add_alike(metadata, named[start : start + TOGETHER], content)
        return made

    def _add_alike(
        self, metadata: TaskMetadata, named: Sequence[Tuple[str, Mapping[str, Any]]], content: Json
    ) -> List[MaTask]:
        """Tasks of one function, by name and inputs, in one call; none of them, where something fails."""
        before = len(self._nodes)
        try:
            asked, sources = [], []
            for name, inputs in named:
                parameters = input_parameters(name, metadata, inputs, self._declared_type)
                sources.append(self._settle(parameters, name))
                asked.append({"task_name": name, "task_input": {"input_params": parameters}})
            ids = self._backend.add_tasks(self.workflow_id, content, asked)
        except BaseException:
            for task_id in list(self._nodes)[before:]:
                self._withdraw(task_id)
            raise
        made = []
        for task_id, (name, _), needed in zip(ids, named, sources):  # noqa: B905 - strict is not in Python 3.9
            made.append(self._known(task_id, _node(name, metadata)))
            self._edges.update(dict.fromkeys((source, task_id) for source in needed))
            self._declare(made[-1], metadata)
        return made

    def _shared(self, where: str, value: Any) -> Any:
        """An input of several tasks, that is to be uploaded or collected once."""
        sent = describe(where, value)
        if isinstance(sent.get("payload"), Upload):
            upload: Upload = sent["payload"]
            return Sent(self._backend.upload(upload.data, upload.encoding, upload.file_name))
        if isinstance(sent.get("value"), Gathered):
            return self.collect(value).outputs[_collect.OUTPUT]
        return value

    def collect(self, items: Sequence[Any], task_name: Optional[str] = None) -> MaTask:
        """A task whose output "items" is the list of these outputs of other tasks (and plain values, where there are any)."""
        described = [describe(f"element {number} of the list", item) for number, item in enumerate(items)]
        name = task_name or f"collect {len(described)} outputs"
        if len(described) <= _collect.WIDTH:
            return self._add_source(name, _collect.COLLECT, described)
        parts = [
            self._add_source(f"{name}, part {number}", _collect.COLLECT, part)
            for number, part in enumerate(_collect.chunks(described), 1)
        ]
        while len(parts) > _collect.WIDTH:
            parts = [self._add_source(name, _collect.JOIN, _references(some)) for some in _collect.chunks(parts)]
        return self._add_source(name, _collect.JOIN, _references(parts))

    def get_tasks(self) -> List[Dict[str, Any]]:
        """`[{"id": ..., "name": ...}, ...]`, in the order in which they were added, by whichever client."""
        return self._backend.tasks(self.workflow_id)

    def add_edge(self, source_task: MaTask, target_task: MaTask) -> None:
        """Make `target_task` wait for `source_task`.

        Raises:
            BadRequest: also for an edge that would close a cycle; the text writes the cycle out.
        """
        self._backend.add_edge(self.workflow_id, source_task.task_id, target_task.task_id)
        self._edges[(source_task.task_id, target_task.task_id)] = None

    def del_edge(self, source_task: MaTask, target_task: MaTask) -> None:
        """Remove an edge. An input that takes an output of `source_task` still makes `target_task` wait for it."""
        self._backend.delete_edge(self.workflow_id, source_task.task_id, target_task.task_id)
        self._edges.pop((source_task.task_id, target_task.task_id), None)

    def _add_function(
        self, metadata: TaskMetadata, inputs: Mapping[str, Any], task_type: str, task_name: Optional[str], code: str
    ) -> MaTask:
        name = task_name or metadata.func_name
        parameters = input_parameters(name, metadata, inputs, self._declared_type)
        task = self._add_saved(task_type, _node(name, metadata), parameters, _content(metadata, code))
        self._declare(task, metadata)
        return task

    def _declare(self, task: MaTask, metadata: TaskMetadata) -> None:
        for key in metadata.declared:
            self._declared[(task.task_id, key)] = metadata.data_types[key]

    def _add_source(self, name: str, source: str, described: Sequence[Json]) -> MaTask:
        parameters = _collect.parameters(described)
        resources = normalize_resources(None)
        keys = [parameter["key"] for parameter in parameters.values()]
        node = {
            "name": name,
            "func_name": "collect",
            "inputs": keys,
            "outputs": [_collect.OUTPUT],
            "resources": resources,
        }
        output = {"output_params": {"1": {"key": _collect.OUTPUT, "data_type": "list"}}}
        content = {"code_str": source, "code_ser": None, "task_output": output, "resources": resources}
        return self._add_saved("code", node, parameters, content)

    def _add_saved(self, task_type: str, node: Dict[str, Any], parameters: Json, content: Json) -> MaTask:
        """A task with its content and its edges; none of it, where something fails."""
        before = len(self._nodes)
        try:
            sources = self._settle(parameters, node["name"])
            task = self._add(task_type, node)
            body = {"workflow_id": self.workflow_id, "task_id": task.task_id, **content}
            self._backend.save_task({**body, "task_input": {"input_params": parameters}}, with_edges=True)
        except BaseException:
            for task_id in list(self._nodes)[before:]:
                self._withdraw(task_id)
            raise
        for source in sources:
            self._edges[(source, task.task_id)] = None
        return task

    def _settle(self, parameters: Json, name: str) -> List[str]:
        """Upload what is to be uploaded and add what collects, in place; the ids of the tasks that are referred to."""
        sources = []
        for parameter in parameters.values():
            upload, value = parameter.get("payload"), parameter.get("value")
            if isinstance(upload, Upload):
                parameter["payload"] = self._backend.upload(upload.data, upload.encoding, upload.file_name)
            if isinstance(value, Gathered):
                collected = self.collect(value.items, f"collect {parameter['key']} of {name}")
                parameter["value"] = collected.outputs[_collect.OUTPUT].to_reference_string()
            if parameter["input_schema"] == "from_task":
                sources.append(parameter["value"].partition(".output.")[0])
        return sources

    def _add_manual(self, task_type: str, task_name: Optional[str], content: Dict[str, Any]) -> MaTask:
        unknown = set(content) - {"code_str", "task_input", "task_output", "resources"}
        if unknown:
            raise InvalidTask(f"add_task does not know {', '.join(sorted(unknown))}")
        task = self._add(
            task_type, {"name": task_name, "func_name": None, "inputs": [], "outputs": [], "resources": {}}
        )
        if content:
            task.save(
                content.get("code_str") or "",
                content.get("task_input") or {},
                content.get("task_output") or {},
                content.get("resources"),
            )
        return task

    def _add(self, task_type: str, node: Dict[str, Any]) -> MaTask:
        return self._known(self._backend.add_task(self.workflow_id, task_type, node["name"]), node)

    def _known(self, task_id: str, node: Dict[str, Any]) -> MaTask:
        task = MaTask(task_id, self.workflow_id, self.server_url, node["name"], node["outputs"])
        task._backend = self._backend
        task._on_delete = self._forget
        self._nodes[task_id] = node
        return task

    def _withdraw(self, task_id: str) -> None:
        """A task that could not be saved must not stay in the workflow."""
        with contextlib.suppress(Exception):  # what went wrong first is what the user must see
            self._backend.delete_task(self.workflow_id, task_id)
        self._forget(task_id)

    def _declared_type(self, output: TaskOutput) -> Optional[str]:
        return self._declared.get((output.task_id, output.output_key))

    def _forget(self, task_id: str) -> None:
        self._nodes.pop(task_id, None)
        self._edges = {edge: None for edge in self._edges if task_id not in edge}


def bound(metadata: TaskMetadata, free: List[str], number: int, item: Any) -> Dict[str, Any]:
    """The inputs that one item of `map` stands for.

    Raises:
        InvalidTask: neither a dict of free inputs, nor the value of the only one.
    """
    if isinstance(item, dict) and item and all(key in free for key in item):
        return item
    if len(free) == 1:
        return {free[0]: item}
    raise InvalidTask(
        f"map of '{metadata.func_name}': item {number} must be a dict with keys of {free}, not {type(item).__name__}"
        + ("; give the other inputs as keywords" if free else ": all inputs are given already")
    )


def _node(name: str, metadata: TaskMetadata) -> Dict[str, Any]:
    return {
        "name": name,
        "func_name": metadata.func_name,
        "inputs": metadata.inputs,
        "outputs": metadata.outputs,
        "resources": metadata.resources,
    }


def _content(metadata: TaskMetadata, code: str) -> Json:
    """What tasks of one function have in common."""
    content: Json = {
        "code_str": None,
        "code_ser": code,
        "task_output": {"output_params": output_parameters(metadata)},
        "resources": metadata.resources,
        "python_version": PYTHON_VERSION,
    }
    for field in ("image", "timeout", "retries", "env", "isolation"):
        if getattr(metadata, field) is not None:
            content[field] = getattr(metadata, field)
    return content


def _encoded(function: Callable[..., Any]) -> str:
    return base64.b64encode(_pickle.dumps(function)).decode()


def _references(tasks: Sequence[MaTask]) -> List[Json]:
    return [
        {"input_schema": "from_task", "value": task.outputs[_collect.OUTPUT].to_reference_string()} for task in tasks
    ]
