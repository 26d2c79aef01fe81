"""The WorkerPool: how many internal workers there shall be, and whether they take tasks. The operator makes them.

What scale, stop and start have set survives restarts. The environment counts for a pool that is not there yet, and again
for each variable that has changed since it was applied.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any

from maze_api.errors import Unavailable
from maze_api.settings import Settings
from maze_api.worker_cache import Workers, pool_path
from maze_crds import names
from maze_crds.base import API_VERSION
from maze_crds.worker import POOL_NAME
from maze_io.kube import KubeError, Object

log = logging.getLogger(__name__)

TRIES = 20
SHOWN_SECONDS = 5.0
"""How long an answer waits for the operator to have noted the change."""
RETRY_SECONDS = (0.5, 10.0)

Spec = dict[str, Any]


def environment(settings: Settings) -> Spec:
    """The pool that the environment asks for."""
    return {"replicas": settings.internal_workers, "running": settings.start_workers}


def build_pool(spec: Spec, applied: Spec) -> Object:
    annotations = {names.ANNOTATION_ENVIRONMENT: json.dumps(applied)}
    metadata = {"name": POOL_NAME, "annotations": annotations}
    return {"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": metadata, "spec": spec}


def apply_environment(pool: Object, wanted: Spec) -> Object | None:
    """The pool with what has changed in the environment since it was applied last; None: nothing has.

    A pool that knows of no environment was made by a person: only what the environment says now is noted.
    """
    annotations = pool["metadata"].get("annotations") or {}
    applied = _remembered(annotations.get(names.ANNOTATION_ENVIRONMENT, ""))
    if applied == wanted:
        return None
    changed = {key: value for key, value in wanted.items() if applied is not None and applied.get(key) != value}
    noted = {**annotations, names.ANNOTATION_ENVIRONMENT: json.dumps(wanted)}
    return {**pool, "metadata": {**pool["metadata"], "annotations": noted}, "spec": {**pool["spec"], **changed}}


def _remembered(text: str) -> Spec | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def replicas_of(pool: Object | None) -> int:
    return int(pool["spec"].get("replicas", 3)) if pool else 0


def is_running(pool: Object | None) -> bool:
    return bool(pool["spec"].get("running", True)) if pool else False


def members_of(pool: Object | None) -> list[str]:
    """Ids of the internal workers, as the operator has noted them."""
    return list(((pool or {}).get("status") or {}).get("members") or ())


def is_noted(pool: Object | None, generation: int) -> bool:
    """Whether the operator has noted the pool of this generation, or a newer one."""
    return int(((pool or {}).get("status") or {}).get("observedGeneration") or 0) >= generation


class InternalPool:
    """The pool of the namespace that this api serves."""

    def __init__(self, workers: Workers, settings: Settings) -> None:
        self._workers = workers
        self._kube = workers.kube
        self._wanted = environment(settings)
        self._applied = asyncio.Event()

    async def ensure(self) -> None:
        """Make the pool, or apply what has changed in the environment; tries until it works."""
        delay = RETRY_SECONDS[0]
        while True:
            try:
                await self._write(lambda pool: None)
            except (KubeError, Unavailable) as error:
                log.warning("the worker pool: %s; trying again", error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_SECONDS[1])
            else:
                return

    async def ready(self) -> None:
        """Returns when the environment has been applied, or when that takes too long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._applied.wait(), SHOWN_SECONDS)

    async def scale(self, replicas: int) -> tuple[int, int]:
        """Change the number of workers: the number before, and now. Those too many finish what they have.

        Raises:
            KubeError: Kubernetes is out of reach.
        """
        before, now = await self._set(replicas=replicas)
        return replicas_of(before), replicas_of(now)

    async def stop(self) -> int:
        """No new tasks for internal workers; how many took some until now."""
        before, _ = await self._set(running=False)
        return replicas_of(before) if is_running(before) else 0

    async def start(self) -> int:
        """Internal workers take tasks (again); how many there are."""
        _, now = await self._set(running=True)
        return replicas_of(now)

    async def _set(self, **changes: Any) -> tuple[Object, Object]:
        """Change the spec, and wait for the operator to note it: the pool before, and now."""

        def change(pool: Object) -> Object | None:
            spec = {**pool["spec"], **changes}
            return None if spec == pool["spec"] else {**pool, "spec": spec}

        before, now = await self._write(change)
        generation = int(now["metadata"].get("generation") or 1)
        await self._workers.until(lambda: is_noted(self._workers.pool, generation), SHOWN_SECONDS)
        return before, now

    async def _write(self, change: Callable[[Object], Object | None]) -> tuple[Object, Object]:
        """One guarded write of what `change` makes of the pool (None: nothing new); the pool before and after.

        What a person asks for comes after the environment, also in the first moments of this process.
        """
        path = pool_path(self._workers.namespace, POOL_NAME)
        for _ in range(TRIES):
            try:
                pool = found = await self._get_or_make(path)
                if not self._applied.is_set():
                    pool = apply_environment(found, self._wanted) or found
                changed = change(pool) or pool
                made = found if changed is found else await self._kube.put(path, changed)
            except KubeError as error:
                if error.conflict or error.not_found:
                    continue
                raise
            self._applied.set()
            self._workers.put_pool(made)
            return pool, made
        raise Unavailable("the worker pool changes too often to be written right now; try again")

    async def _get_or_make(self, path: str) -> Object:
        try:
            return await self._kube.get(path)
        except KubeError as error:
            if not error.not_found:
                raise
        try:
            return await self._kube.post(pool_path(self._workers.namespace), build_pool(self._wanted, self._wanted))
        except KubeError as error:
            if error.not_found:  # the namespace (or the kind) is missing: trying again at once makes no sense
                raise Unavailable(f"there can be no worker pool: {error.message}") from error
            raise
