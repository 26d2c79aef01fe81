"""Workflows that are being built, in the object store: one object per task and per edge.

So a call costs the same for the first task and the thousandth, a restart loses nothing, and any replica can serve
any call. Keys under names.draft_prefix(workflow_id):

    workflow                      the workflow exists
    tasks/TASK                    submit.DraftTask
    edges/SOURCE/TARGET           empty; the key is the edge
    inputs/SHA256                 literal inputs too large for a Run
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections import OrderedDict
from typing import Any

from maze_api.bodies import AddLangGraphBody, AddTasksBody, ContentBody, SaveTaskBody
from maze_api.errors import BadRequest, NotFound
from maze_api.submit import DraftTask, build_workflow, fit
from maze_api.wire import payload_keys, references, translate, translate_langgraph
from maze_crds import names
from maze_crds.graph import find_cycle
from maze_crds.workflow import Task
from maze_io.store import AsyncStore

ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What we hand out; anything else can't exist, and must not get into a key."""


KNOWN_TASKS, KNOWN_BYTES = 4000, 65536
"""How many, and how large one is at most as JSON."""


class KnownTasks:
    """Tasks that were read or written lately. The object store is asked which version of them is the newest."""

    def __init__(self, most: int = KNOWN_TASKS) -> None:
        self._most = most
        self._found: OrderedDict[str, tuple[str, DraftTask]] = OrderedDict()

    def get(self, key: str, tag: str) -> DraftTask | None:
        """The task of this key, if it is known in the version with this ETag."""
        found = self._found.get(key)
        if found is None or found[0] != tag:
            return None
        self._found.move_to_end(key)
        return found[1]

    def put(self, key: str, tag: str, task: DraftTask, size: int) -> None:
        """`size`: bytes of its JSON."""
        if size > KNOWN_BYTES:
            return
        self._found[key] = (tag, task)
        self._found.move_to_end(key)
        while len(self._found) > self._most:
            self._found.popitem(last=False)


class Drafts:
    """All drafts. Every method raises NotFound for an unknown workflow or task, and StoreError.

    Args:
        image_python: MAJOR.MINOR of the Python in the image that a task gets which names none.
    """

    def __init__(self, store: AsyncStore, image_python: str) -> None:
        self._store = store
        self._image_python = image_python
        self._known = KnownTasks()

    async def create(self) -> str:
        """A new, empty workflow; returns its id."""
        workflow_id = str(uuid.uuid4())
        await self._store.put(_workflow_key(workflow_id), b"{}")
        return workflow_id

    async def add_task(self, workflow_id: str, name: str | None) -> str:
        """A new task without content; returns its id."""
        await self._require_workflow(workflow_id)
        task = DraftTask(str(uuid.uuid4()), name, time.time_ns(), None)
        await self._save(workflow_id, task)
        return task.id

    async def add_langgraph_task(self, body: AddLangGraphBody) -> str:
        """A new task that is called with arguments; returns its id.

        Raises:
            BadRequest: bad content; then nothing has changed.
        """
        await self._require_workflow(body.workflow_id)
        task_id = str(uuid.uuid4())
        task, upload = await asyncio.to_thread(translate_langgraph, body, task_id, self._image_python)
        made = DraftTask(task_id, body.task_name, time.time_ns(), task)
        await self._store.put(upload.key, upload.data)
        await self._save(body.workflow_id, made)
        return task_id

    async def langgraph_task(self, workflow_id: str, task_id: str) -> Task:
        """A task that add_langgraph_task made.

        Raises:
            BadRequest: it is another kind of task.
        """
        task = (await self._task(workflow_id, task_id)).task
        if task is None or not called_with_arguments(task):
            raise BadRequest(f"task '{task_id}' is not one that add_langgraph_task made; run its workflow instead")
        return task

    async def save_task(self, body: SaveTaskBody, with_edges: bool) -> None:
        """Give a task its content; with_edges: each input taken from a task also adds the edge.

        Raises:
            BadRequest: bad content, or a cycle; then nothing has changed.
        """
        draft = await self._task(body.workflow_id, body.task_id)
        if draft.task is not None and called_with_arguments(draft.task):
            raise BadRequest(f"task '{draft.id}' was made by add_langgraph_task and has its code already")
        task, uploads = await asyncio.to_thread(translate, body, draft.name, self._image_python)
        await asyncio.gather(*(self._require_payload(key) for key in payload_keys(task)))
        sources = references(task) if with_edges else []
        if sources:
            await asyncio.gather(*(self._task(body.workflow_id, source) for source in sources))
            await self._require_acyclic(body.workflow_id, sources, body.task_id)
        await asyncio.gather(*(self._store.put(upload.key, upload.data) for upload in uploads))
        saved = DraftTask(draft.id, draft.name, draft.created, task)
        await self._save(body.workflow_id, saved)
        await asyncio.gather(
            *(self._store.put(_edge_key(body.workflow_id, source, draft.id), b"") for source in sources)
        )

    async def add_tasks(self, body: AddTasksBody) -> list[str]:
        """New tasks with their content, and the edges from the tasks that their inputs are taken from; their ids in order.

        Raises:
            BadRequest: bad content; then nothing has changed.
        """
        await self._require_workflow(body.workflow_id)
        made, uploads = await asyncio.to_thread(self._translate_all, body)
        tasks = [each.task for each in made if each.task is not None]
        await asyncio.gather(
            *(self._require_payload(key) for key in {key for task in tasks for key in payload_keys(task)})
        )
        edges = [(source, each.id) for each in made if each.task is not None for source in references(each.task)]
        await asyncio.gather(*(self._task(body.workflow_id, source) for source in {source for source, _ in edges}))
        await asyncio.gather(*(self._store.put(key, data) for key, data in uploads.items()))
        await asyncio.gather(*(self._save(body.workflow_id, each) for each in made))
        await asyncio.gather(*(self._store.put(_edge_key(body.workflow_id, *edge), b"") for edge in edges))
        return [each.id for each in made]

    def _translate_all(self, body: AddTasksBody) -> tuple[list[DraftTask], dict[str, bytes]]:
        content = {name: getattr(body, name) for name in ContentBody.model_fields}
        now = time.time_ns()
        made, uploads = [], {}
        for number, new in enumerate(body.tasks):
            task_id = str(uuid.uuid4())
            one = SaveTaskBody.model_construct(
                workflow_id=body.workflow_id, task_id=task_id, task_input=new.task_input, **content
            )
            task, needs = translate(one, new.task_name, self._image_python)
            made.append(DraftTask(task_id, new.task_name, now + number, task))
            uploads.update({each.key: each.data for each in needs})
        return made, uploads

    async def delete_task(self, workflow_id: str, task_id: str) -> None:
        """Delete a task and its edges. Inputs that refer to it stay, and are reported when the workflow is run."""
        await self._task(workflow_id, task_id)
        edges = await self._edges(workflow_id)
        gone = [_edge_key(workflow_id, *edge) for edge in edges if task_id in edge]
        await asyncio.gather(*(self._store.delete(key) for key in gone))
        await self._store.delete(_task_key(workflow_id, task_id))

    async def add_edge(self, workflow_id: str, source: str, target: str) -> None:
        """`target` waits for `source`. Adding an edge twice is fine.

        Raises:
            BadRequest: it would close a cycle, which is written out; nothing has changed.
        """
        await asyncio.gather(self._task(workflow_id, source), self._task(workflow_id, target))
        await self._require_acyclic(workflow_id, [source], target)
        await self._store.put(_edge_key(workflow_id, source, target), b"")

    async def delete_edge(self, workflow_id: str, source: str, target: str) -> None:
        """Remove an edge that was added.

        Raises:
            NotFound: there is no such edge.
        """
        await asyncio.gather(self._task(workflow_id, source), self._task(workflow_id, target))
        key = _edge_key(workflow_id, source, target)
        if not await self._store.exists(key):
            raise NotFound(f"workflow '{workflow_id}' has no edge from task '{source}' to task '{target}'")
        await self._store.delete(key)

    async def tasks(self, workflow_id: str) -> list[DraftTask]:
        """All tasks in the order in which they were added."""
        prefix = f"{names.draft_prefix(workflow_id)}tasks/"
        _, tags = await asyncio.gather(
            self._require_workflow(workflow_id), self._store.run(self._store.store.list_tags, prefix)
        )
        known = {key: task for key, tag in tags.items() if (task := self._known.get(key, tag)) is not None}
        keys = [key for key in tags if key not in known]
        for key, raw in zip(keys, await self._store.get_many(keys), strict=True):
            if raw is not None:
                known[key] = DraftTask.from_json(raw[0])
                self._known.put(key, raw[1], known[key], len(raw[0]))
        return sorted(known.values(), key=lambda task: (task.created, task.id))

    async def _save(self, workflow_id: str, task: DraftTask) -> None:
        key, data = _task_key(workflow_id, task.id), task.to_json()
        self._known.put(key, await self._store.put(key, data), task, len(data))

    async def freeze(self, workflow_id: str) -> dict[str, Any]:
        """The workflow of a Run as JSON, with everything it refers to stored.

        Raises:
            BadRequest, TooLarge: it can't run; says why.
        """
        tasks, edges = await asyncio.gather(self.tasks(workflow_id), self._edges(workflow_id))
        spec = build_workflow(tasks, edges)
        body, uploads = await asyncio.to_thread(fit, spec)
        await asyncio.gather(*(self._store.put(upload.key, upload.data) for upload in uploads))
        return body

    async def _require_workflow(self, workflow_id: str) -> None:
        if not ID.fullmatch(workflow_id) or not await self._store.exists(_workflow_key(workflow_id)):
            raise NotFound(f"there is no workflow '{workflow_id[:100]}'; create_workflow makes one")

    async def _require_payload(self, key: str) -> None:
        if not await self._store.exists(key):
            raise BadRequest(f"there is no payload '{key}'; PUT /api/maze/payloads makes one")

    async def _task(self, workflow_id: str, task_id: str) -> DraftTask:
        if ID.fullmatch(workflow_id) and ID.fullmatch(task_id):
            raw = await self._store.get(_task_key(workflow_id, task_id))
            if raw is not None:
                return DraftTask.from_json(raw)
        await self._require_workflow(workflow_id)
        raise NotFound(f"workflow '{workflow_id}' has no task '{task_id[:100]}'; add_task makes one")

    async def _edges(self, workflow_id: str, source: str | None = None) -> list[tuple[str, str]]:
        prefix = f"{names.draft_prefix(workflow_id)}edges/"
        keys = await self._store.list_keys(prefix + (f"{source}/" if source else ""))
        pairs = [key.removeprefix(prefix).split("/") for key in keys]
        return [(pair[0], pair[1]) for pair in pairs if len(pair) == 2 and pair[1]]

    async def _require_acyclic(self, workflow_id: str, sources: list[str], target: str) -> None:
        """A task that nothing waits for (every new one) can't close a cycle: then one small list is all it costs."""
        if target not in sources and not await self._edges(workflow_id, target):
            return
        waits: dict[str, set[str]] = {target: set(sources)}
        for source, waiting in await self._edges(workflow_id):
            waits.setdefault(waiting, set()).add(source)
        cycle = find_cycle(waits)
        if cycle is not None:
            label = {task.id: task.label for task in await self.tasks(workflow_id)}
            path = " → ".join(label.get(name, name) for name in cycle)
            raise BadRequest(f"the edge would make tasks wait for each other in a cycle: {path}; it was not added")


def called_with_arguments(task: Task) -> bool:
    return task.python is not None and task.python.call == "Arguments"


def _workflow_key(workflow_id: str) -> str:
    return f"{names.draft_prefix(workflow_id)}workflow"


def _task_key(workflow_id: str, task_id: str) -> str:
    return f"{names.draft_prefix(workflow_id)}tasks/{task_id}"


def _edge_key(workflow_id: str, source: str, target: str) -> str:
    return f"{names.draft_prefix(workflow_id)}edges/{source}/{target}"
