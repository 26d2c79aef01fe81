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
TASKS = Gauge(
    "maze_tasks", "Tasks of the Task Executor whose Runs exist, by state; pending ones are the queue", ["state"]
)
TASK_SECONDS = Histogram(
    "maze_task_duration_seconds",
    "From when a task's last worker got it to its end; every replica observes all tasks",
    ["state"],
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21600, 86400),
)
