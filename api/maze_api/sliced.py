"""Large Runs put together again: a Run's own object, and its tasks from TaskSlices (maze_crds.run.TaskSlice).

A Run is shown once the revisions are here that it names. They were written before it, so they are here already or about to
come; where slices are newer than that, a newer version of the Run is about to come. Until then readers see it as it was before.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

from pydantic import TypeAdapter

from maze_crds import names
from maze_crds.run import TaskStatus
from maze_crds.slices import tasks_at
from maze_io.cache import Cache, Changed, Event, Key, Object, Replaced, key_of
from maze_io.kube import Kube, KubeError, task_slices_path

TASKS = TypeAdapter(list[TaskStatus])
NONE: Object = {"revision": 0}
"""In place of a slice that is not here."""


def revisions_of(run: Object) -> list[int]:
    """Of its slices, by their numbers; none: its tasks are in itself."""
    found: list[int] = (run.get("status") or {}).get("taskSlices") or []
    return found


class SlicedRuns:
    """The TaskSlices of one namespace, and Runs that wait for theirs.

    Args:
        shown: readers see these Runs; it takes those that are complete later.
    """

    def __init__(self, namespace: str, shown: Cache) -> None:
        self._namespace, self._shown = namespace, shown
        self._cache = Cache(self._changed)
        self._of: defaultdict[str, dict[int, Object]] = defaultdict(dict)
        self._parsed: dict[tuple[str, int], tuple[int, list[TaskStatus]]] = {}
        self._waiting: dict[str, Object] = {}
        """By uid: the newest that was seen of a Run that is not complete yet."""

    async def follow(self, kube: Kube) -> None:
        """Keep the slices; ends only by cancel."""
        await self._cache.follow(kube.list_and_watch(task_slices_path(self._namespace)))

    async def complete(self, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        """What a reflector of Runs tells, without Runs that are not complete yet: these come by `show`."""
        await self._cache.wait_synced()
        async for event in events:
            if isinstance(event, Replaced):
                whole = [self.join(run) or self._shown.get(*key_of(run)) for run in event.items]
                yield Replaced([run for run in whole if run is not None], event.resource_version)
            elif event.type == "DELETED":
                self._waiting.pop(event.object["metadata"]["uid"], None)
                yield event
            elif (run := self.join(event.object)) is not None:
                yield Changed(event.type, run)

    def join(self, run: Object) -> Object | None:
        """The Run with all its tasks; None: it is shown when it is complete."""
        revisions, uid = revisions_of(run), run["metadata"]["uid"]
        if not revisions:
            return run
        tasks = self._tasks(uid, revisions)
        if tasks is None:
            before = self._waiting.get(uid)
            if before is None or _version(before) < _version(run):
                self._waiting[uid] = run
            return None
        self._waiting.pop(uid, None)
        return {**run, "status": {**run["status"], "tasks": tasks}}

    def _tasks(self, uid: str, revisions: list[int]) -> list[Object] | None:
        slices: dict[int, Object] = self._of.get(uid, {})
        tasks: list[Object] = []
        for number, revision in enumerate(revisions):
            known = tasks_at(slices.get(number, NONE), revision)
            if known is None:
                return None
            tasks += known
        return tasks

    async def fetch(self, kube: Kube, run: Object) -> Object | None:
        """The Run with its tasks, as the API server has them now; None: some are gone.

        Raises:
            KubeError: they can't be read.
        """
        revisions, uid = revisions_of(run), run["metadata"]["uid"]
        if revisions and self._tasks(uid, revisions) is None:
            name = run["metadata"]["name"]
            wanted = [names.task_slice_name(name, uid, number) for number, found in enumerate(revisions) if found]
            for each in await asyncio.gather(*(_get(kube, task_slices_path(self._namespace, each)) for each in wanted)):
                if each is not None:
                    self._cache.put(each)
        return self.join(run)

    def parsed(self, run: Object) -> list[TaskStatus]:
        """The tasks of a Run that was put together; each slice is parsed once."""
        uid, found = run["metadata"]["uid"], []
        for number, revision in enumerate(revisions_of(run)):
            known = self._parsed.get((uid, number))
            if known is None or known[0] != revision:
                tasks = tasks_at(self._of.get(uid, {}).get(number, NONE), revision)
                if tasks is None:  # newer slices have come since the Run was put together
                    return TASKS.validate_python(run["status"]["tasks"], extra="ignore")
                known = (revision, TASKS.validate_python(tasks, extra="ignore"))
                self._parsed[uid, number] = known
            found += known[1]
        return found

    def _changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        obj = new or old
        assert obj is not None
        uid = obj["metadata"]["labels"][names.LABEL_RUN_UID]
        if new is None:
            self._of[uid].pop(obj["number"], None)
            self._parsed.pop((uid, obj["number"]), None)
            if not self._of[uid]:
                del self._of[uid]
            return
        self._of[uid][obj["number"]] = new
        waiting = self._waiting.get(uid)
        if waiting is not None and (whole := self.join(waiting)) is not None:
            self._shown.apply(Changed("MODIFIED", whole))


async def _get(kube: Kube, path: str) -> Object | None:
    try:
        return await kube.get(path)
    except KubeError as error:
        if not error.not_found:
            raise
        return None


def _version(run: Object) -> int:
    return int(run["metadata"]["resourceVersion"])
