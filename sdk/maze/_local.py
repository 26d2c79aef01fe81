"""A Maze without a cluster: workflows in memory, tasks as processes of this machine. See Backend, and maze.testing."""

from __future__ import annotations

import hashlib
import platform
import shutil
import tempfile
import uuid
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Dict, Iterator, List, Optional, Set, Tuple, Union

from maze._backend import Json, Message
from maze._errors import UnknownRun, refusal
from maze._local_run import LocalRun


@dataclass
class Draft:
    """A workflow: task id → body of /save_task with "name", or only that; (source, target)."""

    tasks: Dict[str, Json] = field(default_factory=dict)
    edges: Dict[Tuple[str, str], None] = field(default_factory=dict)


class LocalBackend:
    """See Backend. Its files go when it goes."""

    server_url = "http://local.invalid"

    def __init__(self) -> None:
        self._drafts: Dict[str, Draft] = {}
        self._runs: Dict[str, LocalRun] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="maze-local-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def create_workflow(self) -> str:
        workflow_id = str(uuid.uuid4())
        self._drafts[workflow_id] = Draft()
        return workflow_id

    def add_task(self, workflow_id: str, task_type: str, name: Optional[str]) -> str:
        if task_type != "code":
            raise refusal("add_task", 422, f"task_type is {task_type!r}; here it can be 'code' only")
        task_id = str(uuid.uuid4())
        self._draft(workflow_id).tasks[task_id] = {"name": name}
        return task_id

    def save_task(self, body: Json, with_edges: bool) -> None:
        draft = self._draft(body["workflow_id"], body["task_id"])
        sources = [value["task"] for value in _inputs(body).values() if "task" in value]
        for source in sources if with_edges else []:
            self.add_edge(body["workflow_id"], source, body["task_id"])
        draft.tasks[body["task_id"]].update(body)

    def add_tasks(self, workflow_id: str, content: Json, tasks: List[Json]) -> List[str]:
        made = []
        for each in tasks:
            made.append(self.add_task(workflow_id, "code", each["task_name"]))
            body = {**content, "workflow_id": workflow_id, "task_id": made[-1], "task_input": each["task_input"]}
            self.save_task(body, with_edges=True)
        return made

    def delete_task(self, workflow_id: str, task_id: str) -> None:
        draft = self._draft(workflow_id, task_id)
        del draft.tasks[task_id]
        draft.edges = {edge: None for edge in draft.edges if task_id not in edge}

    def add_edge(self, workflow_id: str, source: str, target: str) -> None:
        draft = self._draft(workflow_id, source, target)
        back = path(draft.edges, target, source)
        if back:
            names = " → ".join(str(draft.tasks[task_id]["name"] or task_id) for task_id in [source, *back])
            raise refusal("add_edge", 400, f"the edge would make tasks wait for each other in a cycle: {names}")
        draft.edges[(source, target)] = None

    def delete_edge(self, workflow_id: str, source: str, target: str) -> None:
        draft = self._draft(workflow_id, source, target)
        if (source, target) not in draft.edges:
            raise refusal("del_edge", 404, f"there is no edge from task '{source}' to task '{target}'")
        del draft.edges[(source, target)]

    def tasks(self, workflow_id: str) -> List[Json]:
        return [{"id": task_id, "name": task["name"]} for task_id, task in self._draft(workflow_id).tasks.items()]

    def run(self, workflow_id: str) -> str:
        tasks = frozen(self._draft(workflow_id))
        run_id = str(uuid.uuid4())
        self._runs[run_id] = LocalRun(run_id, workflow_id, tasks, self._folder / run_id)
        return run_id

    def messages(self, workflow_id: str, run_id: str, timeout: Optional[float] = None) -> Iterator[Message]:
        run = self._run(run_id)
        if run.workflow_id != workflow_id:
            raise UnknownRun(f"there is no run '{run_id}' of workflow '{workflow_id}'")
        return run.messages(timeout)

    def upload(self, data: Union[bytes, Path], encoding: str, file_name: Optional[str] = None) -> Json:
        content = data if isinstance(data, bytes) else data.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        stored = self._folder / "payloads" / digest
        stored.parent.mkdir(exist_ok=True)
        stored.write_bytes(content)
        payload = {"key": str(stored), "sha256": digest, "size": len(content), "encoding": encoding}
        return {**payload, **({"file_name": file_name} if file_name else {})}

    def runs(self, limit: int, workflow_id: Optional[str] = None) -> List[Json]:
        found: List[Json] = []
        for run in reversed(list(self._runs.values())):
            if workflow_id in (None, run.workflow_id) and len(found) < limit:
                view = run.view()
                ended = sum(task["status"] not in ("Pending", "Running") for task in view["tasks"])
                fields = {key: view[key] for key in ("run_id", "workflow_id", "status", "created_at", "counts")}
                found.append({**fields, "progress": f"{ended}/{len(view['tasks'])}"})
        return found

    def get_run(self, run_id: str) -> Json:
        return self._run(run_id).view()

    def cancel(self, run_id: str) -> None:
        self._run(run_id).cancel()

    def logs(self, run_id: str, task_id: str, follow: bool, attempt: Optional[int]) -> Iterator[str]:
        return self._run(run_id).logs(task_id, follow, attempt)

    def outputs(self, run_id: str, task_id: str) -> Dict[str, Json]:
        told = self._run(run_id).outputs(task_id)
        public = ("encoding", "size", "sha256", "file_name")
        return {key: {name: item[name] for name in public if name in item} for key, item in told.items()}

    def fetch_output(self, run_id: str, task_id: str, key: str, into: IO[bytes]) -> None:
        told = self._run(run_id).outputs(task_id)
        if key not in told:
            raise refusal("outputs", 404, f"task '{task_id}' has no output '{key}'")
        into.write(Path(told[key]["path"]).read_bytes())

    def info(self) -> Json:
        version = ".".join(platform.python_version_tuple()[:2])
        checks = {"local": {"ok": True, "detail": "tasks run on this machine"}}
        return {"version": "local", "python": version, "namespace": "", "limits": {}, "checks": checks}

    def _draft(self, workflow_id: str, *task_ids: str) -> Draft:
        if workflow_id not in self._drafts:
            raise refusal("workflow", 404, f"there is no workflow '{workflow_id}'")
        draft = self._drafts[workflow_id]
        for task_id in task_ids:
            if task_id not in draft.tasks:
                raise refusal("task", 404, f"workflow '{workflow_id}' has no task '{task_id}'")
        return draft

    def _run(self, run_id: str) -> LocalRun:
        if run_id not in self._runs:
            raise UnknownRun(f"there is no run '{run_id}'")
        return self._runs[run_id]


def frozen(draft: Draft) -> List[Json]:
    """The tasks in an order in which each comes after those it depends on.

    Each has task_id, name, depends_on, code, source, inputs (key → {"value"}, {"task", "key"} or a stored payload),
    outputs (keys), and retries, timeout, env where they were given.

    Raises:
        BadRequest: no tasks, one without content, or one that takes an output of a task that is not there.
    """
    if not draft.tasks:
        raise refusal("run_workflow", 400, "workflow has no tasks: call add_task first")
    waits: Dict[str, Set[str]] = {task_id: set() for task_id in draft.tasks}
    for source, target in draft.edges:
        waits[target].add(source)
    made: Dict[str, Json] = {}
    for task_id, body in draft.tasks.items():
        name = body["name"] or task_id
        if not (body.get("code_ser") or body.get("code_str")):
            raise refusal("run_workflow", 400, f"added, but never saved: {name}")
        inputs = _inputs(body)
        for value in inputs.values():
            if "task" in value and value["task"] not in draft.tasks:
                raise refusal(
                    "run_workflow", 400, f"task '{name}' takes an output of '{value['task']}', which is not there"
                )
            waits[task_id].update([value["task"]] if "task" in value else [])
        outputs = [item["key"] for item in (body.get("task_output") or {}).get("output_params", {}).values()]
        made[task_id] = {
            "task_id": task_id,
            "name": body["name"],
            "depends_on": sorted(waits[task_id]),
            "code": body.get("code_ser"),
            "source": body.get("code_str"),
            "inputs": inputs,
            "outputs": outputs,
            **{field_: body.get(field_) for field_ in ("retries", "timeout", "env")},
        }
    return [made[task_id] for task_id in ordered(waits)]


def ordered(waits: Dict[str, Set[str]]) -> List[str]:
    """Ids so that each comes after those it waits for; otherwise as they were added."""
    order: Dict[str, None] = {}
    pending = list(waits)
    while pending:
        later = []
        for task_id in pending:
            if waits[task_id] <= order.keys():
                order[task_id] = None
            else:
                later.append(task_id)
        if len(later) == len(pending):
            raise refusal("run_workflow", 400, f"tasks wait for each other in a cycle: {', '.join(later)}")
        pending = later
    return list(order)


def path(edges: Dict[Tuple[str, str], None], start: str, end: str) -> List[str]:
    """Tasks on a way along edges from `start` to `end`, both included; empty where there is none."""
    after: Dict[str, List[str]] = {}
    for source, target in edges:
        after.setdefault(source, []).append(target)
    came_from: Dict[str, Optional[str]] = {start: None}
    pending = [start]
    while pending and end not in came_from:
        here = pending.pop()
        for target in after.get(here, []):
            if target not in came_from:
                came_from[target] = here
                pending.append(target)
    found: List[str] = []
    step: Optional[str] = end if end in came_from else None
    while step is not None:
        found.append(step)
        step = came_from[step]
    return found[::-1]


def _inputs(body: Json) -> Dict[str, Json]:
    found: Dict[str, Json] = {}
    for given in (body.get("task_input") or {}).get("input_params", {}).values():
        if given.get("input_schema") == "from_task":
            task_id, _, key = str(given["value"]).partition(".output.")
            found[given["key"]] = {"task": task_id, "key": key}
        elif "payload" in given:
            found[given["key"]] = {**given["payload"], "path": given["payload"]["key"]}
        else:
            found[given["key"]] = {"value": given.get("value")}
    return found
