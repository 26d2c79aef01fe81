"""Lists of tasks that are too large for their Run, read from the object store when somebody looks at them."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping

from maze_io.cache import Object
from maze_io.store import AsyncStore

KNOWN = 4
"""Lists kept in memory; each has at most submit.STORED_BYTES as JSON."""


class StoredTasks:
    """Lists are named by their content, so what was read once never changes."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._known: OrderedDict[str, list[Object]] = OrderedDict()

    async def complete(self, workflow: Object) -> Object:
        """The workflow with its tasks, wherever they are; without any where the object store has lost them.

        Raises:
            StoreError: it is out of reach.
        """
        stored: Mapping[str, str] | None = workflow.get("tasksFrom")
        if stored is None:
            return workflow
        key = stored["key"]
        if key not in self._known:
            data = await self._store.get(key)
            self._known[key] = json.loads(data) if data is not None else []
        self._known.move_to_end(key)
        tasks = self._known[key]
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return {**workflow, "tasks": tasks}
