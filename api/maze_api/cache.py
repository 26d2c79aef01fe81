"""Runs as the api sees them: a watch cache, and waiting for the next change of one Run without polling."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from maze_api import metrics
from maze_crds import names
from maze_crds.run import RunStatus
from maze_io.kube import Cache, Kube, KubeError, Object, runs_path


@dataclass(frozen=True, slots=True)
class RunView:
    """One state of a Run. `status` knows every field this version knows, and ignores newer ones."""

    name: str
    uid: str
    workflow_id: str | None
    status: RunStatus


def view(obj: Object) -> RunView:
    metadata = obj["metadata"]
    return RunView(
        name=metadata["name"],
        uid=metadata["uid"],
        workflow_id=(metadata.get("labels") or {}).get(names.LABEL_WORKFLOW_ID),
        status=RunStatus.model_validate(obj.get("status") or {}, extra="ignore"),
    )


class Runs:
    """The Runs of one namespace."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace
        self._cache = Cache(self._changed)
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._parsed: dict[str, tuple[Object, RunView]] = {}

    @property
    def synced(self) -> bool:
        return self._cache.synced

    async def follow(self) -> None:
        """Keep the cache; ends only by cancel."""
        await self._cache.follow(self.kube.list_and_watch(runs_path(self.namespace)))

    async def create(self, run: Object) -> None:
        """Create a Run whose name the caller has chosen, so that saying it twice makes one.

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
        self._cache.put(made)

    async def get(self, name: str) -> RunView | None:
        """The Run from the cache, or from the API server where the cache does not have it (yet)."""
        found = self._cache.get(self.namespace, name)
        if found is None:
            try:
                found = await self.kube.get(runs_path(self.namespace, name))
            except KubeError as error:
                if error.not_found:
                    return None
                raise
            self._cache.put(found)
        return self._view(found)

    async def states(self, name: str) -> AsyncGenerator[RunView | None, None]:
        """The Run as it is, then each newer state (those in between may be left out); None at last if it is deleted."""
        changed = asyncio.Event()
        self._waiting[name].add(changed)
        try:
            while True:
                changed.clear()
                found = self._cache.get(self.namespace, name)
                yield self._view(found) if found else None
                if found is None:
                    return
                await changed.wait()
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
            known = (obj, view(obj))
            if name in self._waiting:
                self._parsed[name] = known
        return known[1]

    def _changed(self, key: tuple[str, str], old: Object | None, new: Object | None) -> None:
        metrics.RUNS.set(len(self._cache))
        name = key[1]
        self._parsed.pop(name, None)
        for event in self._waiting.get(name, ()):
            event.set()
