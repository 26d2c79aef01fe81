"""When an external worker is offline. Pure; times are seconds of one monotonic clock, never the worker's or the api's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

Json = dict[str, Any]

DEFAULT_PATIENCE = 60.0
"""For a Lease that does not say, and a worker without a Lease."""
STRANGER_PATIENCE = 15.0
"""A worker that claims a Run and is not known yet may have registered a moment ago."""


@dataclass(frozen=True)
class Pulse:
    """What was last heard of a worker: the Lease's renewTime as it is written there, and when that was first seen."""

    renewed: str
    patience: float
    seen: float

    def offline_at(self) -> float:
        """When it is offline if nothing more is heard."""
        return self.seen if says_goodbye(self.renewed) else self.seen + self.patience


def says_goodbye(renewed: str) -> bool:
    """A worker that leaves has its Lease set to the epoch."""
    try:
        return datetime.fromisoformat(renewed).timestamp() <= 0
    except ValueError:
        return False


def hear(before: Pulse | None, lease: Json, now: float) -> Pulse:
    """The pulse after this state of the Lease; only another renewTime is a sign of life."""
    spec = lease.get("spec") or {}
    renewed, patience = str(spec.get("renewTime") or ""), float(spec.get("leaseDurationSeconds") or DEFAULT_PATIENCE)
    seen = before.seen if before is not None and before.renewed == renewed else now
    return Pulse(renewed, patience, seen)
