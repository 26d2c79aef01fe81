"""The order in which Runs with a problemId are served: the operator and every api must agree on it. Pure.

Reads the raw object: thousands of Runs change often, and models cost a hundred times as much.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeAlias

Json = dict[str, Any]
Order: TypeAlias = tuple[int, datetime, str]
"""(-priority, queuedTime or else creationTimestamp, name): the smallest is the next."""

EPOCH = datetime.fromtimestamp(0, UTC)


def read_time(text: str | None) -> datetime | None:
    """RFC 3339, in UTC. What the API server takes for a time and Python does not (the year 0) is none: one odd Run must
    stop no watch. It takes small letters, too."""
    try:
        found = datetime.fromisoformat(text.upper()) if text else None
        return found if found is None or found.tzinfo is UTC else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def queued_time(run: Json) -> datetime:
    """Since when the Run waits; the epoch where that can't be read."""
    return read_time(run["spec"].get("queuedTime") or run["metadata"].get("creationTimestamp")) or EPOCH


def queue_order(run: Json) -> Order:
    return -int(run["spec"].get("priority") or 0), queued_time(run), run["metadata"]["name"]


def counting_claim(run: Json) -> Json | None:
    """The claim that asks for the next assignment: run.valid_claim, for a Run that waits."""
    claim: Json | None = run["spec"].get("claim")
    assignments = (run.get("status") or {}).get("assignments") or ()
    return claim if claim and claim["number"] == len(assignments) + 1 else None
