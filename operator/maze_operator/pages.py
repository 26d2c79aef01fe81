"""Events of an OpRun that leave its status for the object store."""

from __future__ import annotations

import json
from collections.abc import Iterable

from maze_crds import names
from maze_crds.oprun import TAIL_LIMIT, OpEvent
from maze_crds.run import RunStatus
from maze_io.store import AsyncStore
from maze_operator.core.values import EventPage


async def store_pages(store: AsyncStore, run_uid: str, pages: Iterable[EventPage]) -> None:
    """Durable when it returns. Raises StoreError."""
    for page in pages:
        await store.put(names.events_key(run_uid, page.number), dump_events(page.events))


def dump_events(events: Iterable[OpEvent]) -> bytes:
    """Entries as they are in the status."""
    entries = [
        event.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True) for event in events
    ]
    return json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()


def keep_events(status: RunStatus, pages: Iterable[EventPage]) -> RunStatus | None:
    """The status with the events of pages that could not be stored; None: they are too many."""
    assert status.op is not None
    events = [*(event for page in pages for event in page.events), *status.op.events]
    if len(events) > TAIL_LIMIT:
        return None
    return status.model_copy(update={"op": status.op.model_copy(update={"events": events})})
