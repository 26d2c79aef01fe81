"""Runs as the api sees them: a watch cache, and waiting for the next change of one Run without polling."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field

from maze_api import metrics
from maze_api.errors import Conflict, Unavailable
from maze_api.sliced import SlicedRuns, revisions_of
from maze_crds import names
from maze_crds.run import TERMINAL_RUNS, DesiredState, RunStatus, TaskStatus
from maze_io.cache import OnChange
from maze_io.kube import Cache, Kube, KubeError, Object, runs_path


@dataclass(frozen=True, slots=True)
class RunView:
    """One state of a Run. `status` knows every field this version knows, and ignores newer ones.

    `created` is metadata.creationTimestamp; `workflow` is spec.workflow as it is, {} for a Run by reference.
    """

    name: str
    uid: str
    workflow_id: str | None
    status: RunStatus
    created: str = ""
    workflow: Object = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.status.phase in TERMINAL_RUNS

    def task(self, name: str) -> TaskStatus | None:
        """Where a task stands: as nothing has happened yet where the status does not have it; None: no such task."""
        found = next((task for task in self.status.tasks if task.name == name), None)
        if found is None and any(task["name"] == name for task in self.workflow.get("tasks", ())):
            return TaskStatus(name=name)
        return found


def _workflow_of(obj: Object) -> str | None:
    found: str | None = (obj["metadata"].get("labels") or {}).get(names.LABEL_WORKFLOW_ID)
    return found


def _age(obj: Object) -> tuple[str, str]:
    """Creation is known to the second, the start to the microsecond; a Run that has not started yet is the newest."""
    return obj["metadata"].get("creationTimestamp") or "", (obj.get("status") or {}).get("startTime") or "~"


def view(obj: Object, tasks: list[TaskStatus] | None = None) -> RunView:
    """The Run that an object of the API server describes. tasks: in place of parsing its own."""
    metadata = obj["metadata"]
    status = obj.get("status") or {}
    parsed = RunStatus.model_validate(status if tasks is None else {**status, "tasks": []}, extra="ignore")
    return RunView(
        name=metadata["name"],
        uid=metadata["uid"],
        workflow_id=_workflow_of(obj),
        status=parsed.model_copy(update={"tasks": tasks}) if tasks else parsed,
        created=metadata.get("creationTimestamp") or "",
        workflow=obj["spec"].get("workflow") or {},
    )


CANCEL_TRIES = 8
"""The operator writes the status of a busy Run about twice a second, and each write makes us read again."""


class Runs:
    """The Runs of one namespace."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace
        self._cache = Cache(self._changed)
        self._sliced = SlicedRuns(namespace, self._cache)
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._parsed: dict[str, tuple[Object, RunView]] = {}

    @property
    def synced(self) -> bool:
        return self._cache.synced

    async def follow(self) -> None:
        """Keep the cache; ends only by cancel."""
        events = self._sliced.complete(self.kube.list_and_watch(runs_path(self.namespace)))
        async with asyncio.TaskGroup() as both:
            both.create_task(self._sliced.follow(self.kube))
            both.create_task(self._cache.follow(events))

    def subscribe(self, on_change: OnChange) -> Callable[[], None]:
        """Be told of every change, ((namespace, name), old, new), once it is in the cache; returns what ends that."""
        return self._cache.subscribe(on_change)

    def put(self, obj: Object) -> None:
        """Take in what the API server answered to a write of ours, before the watch tells of it."""
        whole = self._sliced.join(obj)
        if whole is not None:
            self._cache.put(whole)

    def object(self, name: str) -> Object | None:
        """The Run as the cache has it. Shared: treat it as frozen."""
        return self._cache.get(self.namespace, name)

    @property
    def seen(self) -> int:
        """Every change of a Run up to this resourceVersion is in the cache."""
        return self._cache.seen

    def objects(self) -> Iterator[Object]:
        """All Runs in the cache, in no order."""
        return iter(self._cache)

    async def create(self, run: Object) -> Object:
        """Create a Run whose name the caller has chosen, so that saying it twice makes one; the Run as it was made.

        Raises:
            KubeError: refused, or not reachable (twice).
        """
        path = runs_path(self.namespace)
        try:
            made = await self.kube.post(path, run)
        except KubeError as error:
            if not error.temporary:
                raise
            try:
                made = await self.kube.post(path, run)
            except KubeError as second:
                if second.reason != "AlreadyExists":
                    raise
                made = await self.kube.get(runs_path(self.namespace, run["metadata"]["name"]))
        self.put(made)
        return made

    async def get(self, name: str) -> RunView | None:
        """The Run from the cache, or from the API server where the cache does not have it (yet)."""
        found = self._cache.get(self.namespace, name)
        return await self.fetch(name) if found is None else self._view(found)

    async def fetch(self, name: str) -> RunView | None:
        """The Run as the API server has it now."""
        try:
            found = await self.kube.get(runs_path(self.namespace, name))
        except KubeError as error:
            if error.not_found:
                return None
            raise
        whole = await self._sliced.fetch(self.kube, found)
        if whole is None:
            return view(found)
        self._cache.put(whole)
        return self._view(whole)

    def newest(self, limit: int, workflow_id: str | None) -> list[RunView]:
        """At most `limit` Runs, the newest first; `workflow_id`: only those of this workflow.

        Raises:
            Unavailable: they could not be listed yet.
        """
        if not self.synced:
            raise Unavailable("the Runs could not be listed yet; try again")
        chosen = [obj for obj in self._cache if workflow_id is None or _workflow_of(obj) == workflow_id]
        chosen.sort(key=_age, reverse=True)
        return [view(obj, tasks=[]) for obj in chosen[:limit]]

    async def cancel(self, name: str, what: str = "run") -> None:
        """Wish that a Run is cancelled; saying it twice is fine. The operator decides, and writes what became of it.

        Args:
            what: callers call it this.

        Raises:
            Conflict: it has ended, or others keep writing it.
            KubeError: not found, or not reachable.
        """
        path = runs_path(self.namespace, name)
        for _ in range(CANCEL_TRIES):
            found = await self.kube.get(path)
            run = view(found)
            if run.ended:
                raise Conflict(f"{what} '{name}' has ended already: it is {run.status.phase}")
            if found["spec"].get("desiredState") == DesiredState.CANCELLED:
                return
            version = {"resourceVersion": found["metadata"]["resourceVersion"]}
            try:
                made = await self.kube.patch(path, {"metadata": version, "spec": {"desiredState": "Cancelled"}})
            except KubeError as error:
                if not error.conflict:
                    raise
                continue
            self.put(made)
            return
        raise Conflict(f"{what} '{name}' changes too often to be cancelled right now; try again")

    async def states(self, name: str, every: float | None = None) -> AsyncGenerator[RunView | None, None]:
        """The Run as it is, then each newer state (those in between may be left out); None at last if it is deleted.

        Args:
            every: seconds after which it is given again though nothing has changed.
        """
        changed = asyncio.Event()
        self._waiting[name].add(changed)
        try:
            while True:
                changed.clear()
                found = self._cache.get(self.namespace, name)
                yield self._view(found) if found else None
                if found is None:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), every)
        finally:
            self._waiting[name].discard(changed)
            if not self._waiting[name]:
                del self._waiting[name]
                self._parsed.pop(name, None)

    def _view(self, obj: Object) -> RunView:
        """Parsed once for all readers of this state."""
        name = obj["metadata"]["name"]
        known = self._parsed.get(name)
        if known is None or known[0] is not obj:
            known = (obj, view(obj, self._sliced.parsed(obj) if revisions_of(obj) else None))
            if name in self._waiting:
                self._parsed[name] = known
        return known[1]

    def _changed(self, key: tuple[str, str], old: Object | None, new: Object | None) -> None:
        metrics.RUNS.set(len(self._cache))
        name = key[1]
        self._parsed.pop(name, None)
        for event in self._waiting.get(name, ()):
            event.set()
