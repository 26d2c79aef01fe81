"""What /metrics of the operator shows, beside the counter of runner requests. Labels are kinds and causes, never ids."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

POD_START = Histogram(
    "maze_operator_pod_start_seconds",
    "From the creation of a runner pod to its first request",
    buckets=(0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300),
)
ASSIGNMENTS = Counter("maze_operator_assignments", "Assignments of Runs to workers that have ended", ["worker", "end"])
"""worker: internal or external; end: a run.AssignmentEnd."""
DELIVERIES = Counter("maze_operator_event_deliveries", "Tries to deliver an event of an OpRun to the sink", ["outcome"])
"""outcome: taken, refused (answered, but not with 2xx), unreachable, unreadable (in the object store) or error (ours)."""
