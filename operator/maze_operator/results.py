"""Results of attempts: kept in memory while they are young, and always to be had from the object store."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from maze_crds import names
from maze_crds.base import format_time
from maze_crds.protocol import Result
from maze_crds.workflow import Task
from maze_io.store import AsyncStore
from maze_operator.core.outputs import container_result
from maze_operator.core.values import AttemptId, PodView

RESULT = TypeAdapter(Result)
REMEMBERED = 2000
"""Results kept in memory; each is at most about 300 KiB, most are below one."""


class Results:
    """Reads and writes protocol.Result at names.result_key."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._young: OrderedDict[str, Result] = OrderedDict()

    def remember(self, run_uid: str, attempt: AttemptId, result: Result) -> None:
        key = names.result_key(run_uid, attempt.task, attempt.attempt)
        self._young[key] = result
        self._young.move_to_end(key)
        if len(self._young) > REMEMBERED:
            self._young.popitem(last=False)

    async def get(self, run_uid: str, attempt: AttemptId) -> Result | None:
        """None: no (readable) result there. Raises StoreError where the store can't be asked."""
        key = names.result_key(run_uid, attempt.task, attempt.attempt)
        if key in self._young:
            return self._young[key]
        data = await self._store.get(key)
        if data is None:
            return None
        try:
            result = RESULT.validate_json(data)
        except ValidationError:
            return None
        self.remember(run_uid, attempt, result)
        return result

    async def put(self, run_uid: str, attempt: AttemptId, result: Result, remember: bool = True) -> None:
        """Durable when it returns. remember=False: not expected to be read again, so it takes no memory."""
        key = names.result_key(run_uid, attempt.task, attempt.attempt)
        await self._store.put(key, json.dumps(result, separators=(",", ":")).encode())
        if remember:
            self.remember(run_uid, attempt, result)

    async def find(
        self,
        run_uid: str,
        task: Task,
        attempt: AttemptId,
        pod: PodView | None,
        now: Any,
        *,
        anew: bool = False,
        is_source: bool = True,
    ) -> Result | None:
        """The result an attempt has left: in the store, or in the termination message of a container that ended well. Of a
        container that said nothing none is stored, unless others take inputs from it: its task's status says it all.

        anew: nobody but this process can have stored it.
        """
        known = names.result_key(run_uid, attempt.task, attempt.attempt) in self._young
        result = await self.get(run_uid, attempt) if known or not anew else None
        if result is None and task.container is not None and pod is not None and pod.ended and pod.ended.succeeded:
            started = format_time(pod.running_since or now)
            result = container_result(pod.ended, list(task.outputs or ()), started, format_time(now))
            if is_source or result["outputs"] or "failure" in result:
                await self.put(run_uid, attempt, result)
            else:
                self.remember(run_uid, attempt, result)
        return result
