"""Reads and writes the TaskSlices of one Run: see maze_crds.run.TaskSlice for what they promise."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from maze_crds import names
from maze_crds.base import API_VERSION
from maze_crds.run import TaskStatus
from maze_crds.slices import tasks_at
from maze_io.kube import Kube, KubeError, task_slices_path
from maze_operator.core.slicing import Slice, cut, undone

log = logging.getLogger(__name__)
Json = dict[str, Any]

TASKS = TypeAdapter(tuple[TaskStatus, ...])
AT_ONCE = 16
"""Calls under way at once for one Run."""


class RunIsNewer(Exception):
    """The slices belong to a newer version of the Run than the one that was asked for."""


@dataclass(frozen=True, slots=True)
class _Held:
    """What the Run names."""

    tasks: Slice = ()
    revision: int = 0


@dataclass(frozen=True, slots=True)
class _Kept:
    """newest, version: revision and resourceVersion of the object; None: there is none. written: its tasks, where it is we
    who have written more than the Run names. sure: False: a write may have changed it or not."""

    held: _Held = _Held()
    newest: int = 0
    version: str | None = None
    written: Slice | None = None
    sure: bool = True


NOTHING = _Kept()


class TaskSlices:
    """What this process knows of them. We are their only writer, so nothing is read twice but after a refusal."""

    def __init__(self, kube: Kube, namespace: str, name: str, uid: str) -> None:
        self._kube, self._namespace, self._name, self._uid = kube, namespace, name, uid
        self._kept: dict[int, _Kept] = {}
        self._calls = asyncio.Semaphore(AT_ONCE)

    async def read(self, revisions: Sequence[int]) -> list[TaskStatus]:
        """The tasks of the Run, whose status names these revisions; without those of which nothing is told.

        Raises:
            RunIsNewer: read the Run again.
            KubeError: a slice can't be read.
        """
        self.held(revisions)
        known = {number: self._kept.get(number, NOTHING).held.revision for number in range(len(revisions))}
        await asyncio.gather(
            *(self._read(number, revision) for number, revision in enumerate(revisions) if known[number] != revision)
        )
        return [task for number in range(len(revisions)) for task in self._kept.get(number, NOTHING).held.tasks]

    def held(self, revisions: Sequence[int]) -> None:
        """The Run has been written with these revisions."""
        for number, revision in enumerate(revisions):
            kept = self._kept.get(number)
            if kept is not None and kept.written is not None and revision == kept.newest:
                self._kept[number] = replace(kept, held=_Held(kept.written, revision), written=None)

    async def _read(self, number: int, revision: int) -> None:
        async with self._calls:
            try:
                found = await self._kube.get(self._path(number))
            except KubeError as error:
                if not error.not_found:
                    raise
                found = {"revision": 0}
        tasks = tasks_at(found, revision)
        if tasks is None:
            if found["revision"] > revision:
                raise RunIsNewer
            log.error("run %s: somebody has deleted its TaskSlice %d; its tasks start again", self._name, number)
            tasks = []
        held = _Held(TASKS.validate_python(tasks), revision)
        version = (found.get("metadata") or {}).get("resourceVersion")
        self._kept[number] = _Kept(held, max(revision, found["revision"]), version)

    async def write(self, tasks: Sequence[TaskStatus]) -> list[int]:
        """Write slices that have changed since `held`, each guarded by its resourceVersion; the revisions that the Run is to
        name.

        Raises:
            KubeError: one could not be written; others may be. All may be tried again, which is all that is to be done.
        """
        slices = cut(tasks)
        kept = [self._kept.get(number, NOTHING) for number in range(len(slices))]
        changed = [number for number, each in enumerate(slices) if each != kept[number].held.tasks]
        outcomes = await asyncio.gather(
            *(self._write(number, slices[number], kept[number]) for number in changed), return_exceptions=True
        )
        revisions = [each.held.revision for each in kept]
        for number, outcome in zip(changed, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            revisions[number] = outcome
        return revisions

    async def _write(self, number: int, tasks: Slice, kept: _Kept) -> int:
        async with self._calls:
            try:
                newest, version = (kept.newest, kept.version) if kept.sure else await self._newest(number, kept.held)
                made = await self._put(number, newest + 1, tasks, kept.held, version)
            except BaseException as error:
                self._kept[number] = _Kept(kept.held, sure=False)
                if (
                    isinstance(error, KubeError) and error.not_found
                ):  # the slice is; what is true of the Run, its write says
                    raise KubeError(409, "Conflict", error.message) from error
                raise
        self._kept[number] = _Kept(kept.held, newest + 1, made["metadata"]["resourceVersion"], tasks)
        return newest + 1

    async def _newest(self, number: int, held: _Held) -> tuple[int, str | None]:
        try:
            found = await self._kube.get(self._path(number))
        except KubeError as error:
            if not error.not_found:
                raise
            return held.revision, None
        if tasks_at(found, held.revision) is None:
            raise KubeError(409, "Conflict", f"TaskSlice {number} is newer than the Run")
        return found["revision"], found["metadata"]["resourceVersion"]

    async def _put(self, number: int, revision: int, tasks: Slice, held: _Held, version: str | None) -> Json:
        body = self._body(number, revision, tasks, held)
        if version is None:
            return await self._kube.post(task_slices_path(self._namespace), body)
        body["metadata"]["resourceVersion"] = version
        return await self._kube.put(self._path(number), body)

    def _path(self, number: int) -> str:
        return task_slices_path(self._namespace, names.task_slice_name(self._name, self._uid, number))

    def _body(self, number: int, revision: int, tasks: Slice, held: _Held) -> Json:
        owner = {"apiVersion": API_VERSION, "kind": "Run", "name": self._name, "uid": self._uid}
        body: Json = {
            "apiVersion": API_VERSION,
            "kind": "TaskSlice",
            "metadata": {
                "name": names.task_slice_name(self._name, self._uid, number),
                "namespace": self._namespace,
                "labels": {names.LABEL_RUN: self._name[:63].rstrip("-_."), names.LABEL_RUN_UID: self._uid},
                "ownerReferences": [owner],
            },
            "number": number,
            "revision": revision,
            "tasks": _dump(tasks),
        }
        if held.revision:
            body["before"] = {"revision": held.revision, "tasks": _dump(undone(held.tasks, tasks))}
        return body


def _dump(tasks: Slice) -> list[Json]:
    dumped: list[Json] = TASKS.dump_python(tasks, mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return dumped
