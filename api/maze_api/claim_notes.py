"""A worker's limit holds also where its claims come in through several api processes.

The caches of two processes differ for moments, so none could count a worker's tasks alone. Before a process claims a task
it notes on the worker's Lease, guarded by its resourceVersion, which task it goes for. So the claims of one worker form a
line, whoever makes them; and who finds the note of another process first looks at what became of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from maze_api.cache import Runs
from maze_api.errors import Unavailable
from maze_api.task_view import is_task, view_task
from maze_api.worker_cache import Workers, WorkerView, lease_path
from maze_crds import names
from maze_crds.base import format_time
from maze_io.cache import version_of
from maze_io.kube import KubeError, Object, runs_path

POLL_SECONDS = 0.01
SEEN_SECONDS = 5.0
"""For what another process wrote to come in by the watch."""
ABANDONED_SECONDS = 5.0
"""Another process that noted a claim has died if it was not made by then."""


@dataclass(frozen=True, slots=True)
class Note:
    """Which claim was tried last.

    Attributes:
        by: the process; "": none has noted anything.
        task: the Run that it went for.
        time: of the claim, which tells it from every other claim of this worker.
        version: every earlier claim of this worker is in a cache that has seen this resourceVersion.
    """

    by: str = ""
    task: str = ""
    time: str = ""
    version: int = 0

    def text(self) -> str:
        return json.dumps({"by": self.by, "task": self.task, "time": self.time, "version": self.version})


def read_note(lease: Object | None) -> Note:
    """What is noted; nothing where it can't be read."""
    text = (((lease or {}).get("metadata") or {}).get("annotations") or {}).get(names.ANNOTATION_CLAIMING, "")
    with contextlib.suppress(ValueError, TypeError, KeyError):  # anybody may write an annotation
        said: dict[str, Any] = json.loads(text)
        return Note(str(said["by"]), str(said["task"]), str(said["time"]), int(said["version"]))
    return Note()


def is_settled(run: Object, worker_id: str, note: Note) -> bool:
    """Whether it is known what became of a noted claim: it was made, or the task does not wait any more."""
    claim = run["spec"].get("claim") or {}
    made = claim.get("worker") == worker_id and claim.get("time") == note.time
    return made or not is_task(run) or not view_task(run).waits


class ClaimNotes:
    """The notes that this process makes, and those that it finds."""

    def __init__(self, runs: Runs, workers: Workers) -> None:
        self._runs = runs
        self._workers = workers
        self._me = uuid.uuid4().hex[:12]

    async def catch_up(self, worker: WorkerView) -> Note:
        """Know of every claim that was noted for the worker before; the note to go on from.

        Raises:
            Unavailable: the watch of Runs is too far behind.
            KubeError: Kubernetes is out of reach.
        """
        note = read_note(self._workers.lease(worker))
        if not note.by:
            return note
        if note.by != self._me:
            await self._see(note.version)
        settled = await self._settle(worker, note)
        version = note.version if settled is None else max(note.version, version_of(settled))
        return Note(note.by, note.task, note.time, version)

    async def take_turn(self, worker: WorkerView, task_id: str, now: datetime, before: Note, seconds: int) -> bool:
        """Note which task is claimed next, and the sign of life. False: somebody else has written the Lease meanwhile."""
        note = Note(self._me, task_id, format_time(now), before.version)
        lease = self._workers.lease(worker)
        if lease is None:
            await self._read(worker)
            return False
        version = lease["metadata"]["resourceVersion"]
        change = {
            "metadata": {"resourceVersion": version, "annotations": {names.ANNOTATION_CLAIMING: note.text()}},
            "spec": {"renewTime": format_time(now), "leaseDurationSeconds": seconds},
        }
        try:
            self._workers.put_lease(await self._workers.kube.patch(self._path(worker), change))
        except KubeError as error:
            if not error.conflict:
                raise
            await self._read(worker)
            return False
        return True

    async def _see(self, version: int) -> None:
        deadline = time.monotonic() + SEEN_SECONDS
        while self._runs.seen < version:
            if time.monotonic() > deadline:
                raise Unavailable("this api process does not see all claims of the worker yet; try again")
            await asyncio.sleep(POLL_SECONDS)

    async def _settle(self, worker: WorkerView, note: Note) -> Object | None:
        """The Run of a noted claim, once it is known what became of the claim; None: it was deleted."""
        run = self._runs.object(note.task)
        deadline = time.monotonic() + ABANDONED_SECONDS
        while run is None or not is_settled(run, worker.id, note):
            try:
                run = await self._runs.kube.get(runs_path(self._runs.namespace, note.task))
            except KubeError as error:
                if error.not_found:
                    return None
                raise
            self._runs.put(run)
            if note.by == self._me or time.monotonic() > deadline:
                return run  # our own claims of this worker come one after the other: this one was given up
            if not is_settled(run, worker.id, note):
                await asyncio.sleep(POLL_SECONDS)
        return run

    async def _read(self, worker: WorkerView) -> None:
        self._workers.put_lease(await self._workers.kube.get(self._path(worker)))

    def _path(self, worker: WorkerView) -> str:
        return lease_path(self._workers.namespace, worker.name)
