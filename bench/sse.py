"""1,000 readers of one scenario run on one api process: memory of each, and how long a status write takes to reach them.

An api process of its own watches a namespace of its own. The Run in it has no operator: this program writes its status,
a step at a time, straight into Kubernetes, and takes the time until every reader has the event. 10 readers are measured
the same way in the same run, so that the table shows what the number of readers adds.

python3 bench/sse.py        needs a running system (`make up`)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

from cluster import GROUP, Cluster
from own_api import OwnApi, own_api, own_namespace

READERS = (10, 1000)
WRITES = 20
WARM_UP = 2
SECONDS = 60.0
MIB = 1024 * 1024
Json = dict[str, Any]


class Reader:
    """One connection; `arrived`: event number -> when it came."""

    def __init__(self) -> None:
        self.arrived: dict[int, float] = {}
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._new = asyncio.Event()
        self._task: asyncio.Task[None]

    async def open(self, port: int, run_id: str) -> None:
        """Returns with the first event."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        self._writer.write(f"GET /api/runs/{run_id}/events HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        self._task = asyncio.create_task(self._follow())
        await self.until(1)

    async def until(self, number: int) -> float:
        while number not in self.arrived:
            self._new.clear()
            await asyncio.wait_for(self._new.wait(), SECONDS)
        return self.arrived[number]

    async def _follow(self) -> None:
        while line := await self._reader.readline():
            if line.startswith(b"id: "):
                self.arrived[int(line[4:])] = time.perf_counter()
                self._new.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = parser.parse_args()
    cluster = Cluster()
    try:
        with own_namespace(cluster) as namespace, own_api(namespace, LOG_LEVEL="warning") as api:
            cluster.namespace = namespace
            rows = [asyncio.run(measure(cluster, api, readers)) for readers in READERS]
    finally:
        cluster.close()
    print(json.dumps(rows) if options.json else table(rows))


async def measure(cluster: Cluster, api: OwnApi, count: int) -> Json:
    """One row of the table, on a fresh api process. Times in milliseconds, memory in bytes."""
    await asyncio.to_thread(api.restart)
    run_id = await asyncio.to_thread(make_run, cluster, count)
    warm = [Reader() for _ in range(WARM_UP)]
    for reader in warm:
        await reader.open(api.port, run_id)
    before = resident(api.pid)
    readers = [Reader() for _ in range(count)]
    for start in range(0, count, 50):
        await asyncio.gather(*(reader.open(api.port, run_id) for reader in readers[start : start + 50]))
    held = resident(api.pid) - before
    delays: list[float] = []
    last: list[float] = []
    for number in range(2, 2 + WRITES):
        written = await asyncio.to_thread(write_status, cluster, run_id, number)
        arrived = [await reader.until(number) - written for reader in readers]
        delays += arrived
        last.append(max(arrived))
    for reader in [*warm, *readers]:
        await reader.close()
    found = quantiles(delays, n=100)
    return {
        "readers": count,
        "bytes_per_reader": held / count,
        "p50_ms": found[49] * 1000,
        "p99_ms": found[98] * 1000,
        "last_ms": median(last) * 1000,
    }


def make_run(cluster: Cluster, count: int) -> str:
    """A scenario's Run whose Workflow there is not: the operator waits for it, and leaves its status alone meanwhile."""
    name = f"bench-{count}"
    body = {
        "apiVersion": "/".join(GROUP),
        "kind": "Run",
        "metadata": {"name": name, "labels": {"maze.dev/scenario": "true"}},
        "spec": {"workflowRef": {"name": "not-there"}},
    }
    cluster.custom.create_namespaced_custom_object(*GROUP, cluster.namespace, "runs", body)
    return name


def write_status(cluster: Cluster, name: str, number: int) -> float:
    """The next event; when Kubernetes was asked to write it."""
    tasks = [
        {"name": f"s{index}", "phase": "Succeeded", "attempt": 1, "startEvent": index, "endEvent": None}
        for index in range(2, number + 1)
    ]
    began = time.perf_counter()
    cluster.custom.patch_namespaced_custom_object_status(
        *GROUP, cluster.namespace, "runs", name, {"status": {"tasks": tasks, "lastEvent": number}}
    )
    return began


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/smaps_rollup has no Rss")


def table(rows: list[Json]) -> str:
    """Every column of the last row against the first, too: what a hundred times as many readers cost."""
    first, many = rows
    columns = ("bytes_per_reader", "p50_ms", "p99_ms", "last_ms")
    lines = ["| readers | memory of one | p50 | p99 | last of all |", "|---|---|---|---|---|"]
    for row in rows:
        memory = f"{row['bytes_per_reader'] / 1024:.0f} KiB"
        lines.append(
            f"| {row['readers']} | {memory} | {row['p50_ms']:.1f} ms | {row['p99_ms']:.1f} ms | {row['last_ms']:.1f} ms |"
        )
    ratios = [f"{many[column] / first[column]:.1f}" if first[column] > 0 else "–" for column in columns]
    lines.append(f"| ratio | {' | '.join(ratios)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
