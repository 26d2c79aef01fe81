"""What /metrics shows. Labels are routes and statuses, never ids."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("maze_api_requests", "Calls answered", ["method", "route", "status"])
SECONDS = Histogram("maze_api_request_seconds", "Time to the end of the answer", ["method", "route"])
STREAMS = Gauge("maze_api_streams", "Open result streams")
FOLLOWERS = Gauge("maze_api_log_followers", "Logs that are being followed")
RUNS = Gauge("maze_api_runs", "Runs in the watch cache")
