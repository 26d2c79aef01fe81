"""TaskSlices as JSON: what one tells for a revision that its Run names. See run.TaskSlice."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def tasks_at(found: Json, revision: int) -> list[Json] | None:
    """The tasks of a TaskSlice at this revision; None: it does not have them, because its Run was written again since, or
    it was not itself yet."""
    if revision == 0:
        return []
    if found["revision"] == revision:
        return list(found.get("tasks") or ())
    before = found.get("before") or {}
    if before.get("revision") != revision:
        return None
    tasks = {task["name"]: task for task in found.get("tasks") or ()}
    tasks |= {task["name"]: task for task in before.get("tasks") or ()}
    return [task for task in tasks.values() if len(task) > 1]  # of one with its name alone nothing was told
