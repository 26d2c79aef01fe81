"""What /metrics shows. Labels are routes and statuses, never ids."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("maze_api_requests", "Calls answered", ["method", "route", "status"])
SECONDS = Histogram("maze_api_request_duration_seconds", "Time to the end of the answer", ["method", "route"])
STREAMS = Gauge("maze_api_streams", "Open result streams")
FOLLOWERS = Gauge("maze_api_log_followers", "Logs that are being followed")
RUNS = Gauge("maze_api_runs", "Runs in the watch cache")
CLAIMS = Counter("maze_task_claims", "Claims of external workers by what became of them", ["outcome"])
"""outcome: claimed; empty (there was no task for the worker); lost (another one was faster, the next task is tried)."""
