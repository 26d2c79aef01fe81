"""Where a task stands in the queue: read from the object as anybody may have written it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from maze_crds.queue import EPOCH
from maze_operator.core.queue import Entry, view_entry

Json = dict[str, Any]
CREATED = "2026-01-01T00:00:00Z"
ORDER = (0, datetime(2026, 1, 1, tzinfo=UTC), "r")
CLAIM = {"worker": "u", "number": 1, "time": CREATED}
HAD = {"number": 1, "worker": "u", "end": "Lost"}
WAITS, STAYS = Entry("maze", ORDER, wants_slot=True), Entry("maze", ORDER)


def run(spec: Json | None = None, status: Json | None = None, **metadata: Any) -> Json:
    wishes = {"problemId": "p", "workflowRef": {"name": "w"}, **(spec or {})}
    made = {
        "metadata": {"namespace": "maze", "name": "r", "creationTimestamp": CREATED, **metadata},
        "spec": {key: value for key, value in wishes.items() if value is not None},
    }
    return made | ({"status": status} if status is not None else {})


@pytest.mark.parametrize(
    ("obj", "seen"),
    [
        (run(), WAITS),
        (run({"workflowRef": None, "workflow": {"tasks": []}}), WAITS),
        (run(status={"phase": "Pending", "assignments": [HAD]}), WAITS),
        (run({"claim": CLAIM}, {"phase": "Pending", "assignments": [HAD]}), WAITS),
        (run({"workflowRef": None}), STAYS),
        (run({"desiredState": "Cancelled"}), STAYS),
        (run({"desiredState": "Suspended"}), STAYS),
        (run(deletionTimestamp=CREATED), STAYS),
        (run({"claim": CLAIM}), Entry("maze", ORDER, external="u")),
        (run({"claim": {**CLAIM, "number": 2}}, {"assignments": [HAD]}), Entry("maze", ORDER, external="u")),
        (run(status={"assignments": [{"number": 1, "worker": "u"}]}), Entry("maze", ORDER, external="u")),
        (
            run({"desiredState": "Cancelled"}, {"assignments": [HAD, {"number": 2, "worker": "i", "internal": True}]}),
            Entry("maze", ORDER, internal="i"),
        ),
        (run({"problemId": None}), None),
        (run(status={"phase": "Failed", "assignments": [HAD]}), None),
        (run({"claim": CLAIM}, {"phase": "Cancelled"}), None),
    ],
)
def test_who_waits_for_a_slot_and_who_has_a_task(obj: Json, seen: Entry | None) -> None:
    assert view_entry(obj) == seen


def test_higher_priority_first_then_who_was_queued_first_then_by_name() -> None:
    queued = [
        ("urgent", {"priority": 5, "queuedTime": "2026-01-01T00:00:09Z"}),
        ("first", {"queuedTime": "2026-01-01T00:00:00Z"}),
        ("second", {"queuedTime": "2026-01-01T00:00:00.000001Z"}),
        ("third", {"queuedTime": "2026-01-01T01:00:00.5+01:00"}),
        ("fourth", {"queuedTime": "2026-01-01T00:00:01Z"}),
        ("same-a", {"queuedTime": "2026-01-01T00:00:02Z"}),
        ("same-b", {"queuedTime": "2026-01-01T00:00:02.0Z"}),
        ("patient", {"priority": -1, "queuedTime": "2026-01-01T00:00:00Z"}),
    ]
    entries = [view_entry(run(spec, name=name)) for name, spec in reversed(queued)]
    assert [entry.order[2] for entry in sorted(entries, key=_order) if entry] == [name for name, _ in queued]


def _order(entry: Entry | None) -> Any:
    assert entry is not None
    return entry.order


def test_without_a_time_in_the_queue_its_creation_counts() -> None:
    assert view_entry(run()) == WAITS
    unborn = view_entry(run(creationTimestamp=None))
    assert unborn is not None
    assert unborn.order == (0, EPOCH, "r")
