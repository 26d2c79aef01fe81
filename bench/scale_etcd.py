"""What a Run costs etcd: bytes put, as etcd itself counts them, and Maze's objects, as a watch shows each of their versions.

etcd counts keys and values of all that is put (`etcd_debugging_mvcc_total_put_size_in_bytes`), and what it writes to its log for
that (`etcd_disk_wal_write_bytes_total`, with the frame of each entry). Both are of the whole cluster: what it puts while it
rests is measured before, and taken off.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from seen import SYNC_SECONDS, BenchError

from maze_cluster.layout import ETCD_PORT, Layout
from maze_crds.base import API_VERSION
from maze_io.cache import Changed
from maze_io.kube import Kube, resource_path

URL = f"https://127.0.0.1:{ETCD_PORT}/metrics"
COUNTERS = {
    "put": "etcd_debugging_mvcc_total_put_size_in_bytes",
    "log": "etcd_disk_wal_write_bytes_total",
    "puts": "etcd_mvcc_put_total",
}
REST_SECONDS = 5.0
OURS = ("runs", "taskslices", "workflows")
Json = dict[str, Any]


@dataclass(frozen=True)
class Etcd:
    """At a time: bytes put, bytes of the log, and puts, since etcd started."""

    at: float
    put: float
    log: float
    puts: float


def read_etcd(layout: Layout) -> Etcd:
    """Raises BenchError where there is no such etcd."""
    context = ssl.create_default_context(cafile=str(layout.pki / "etcd-ca.crt"))
    context.load_cert_chain(layout.pki / "apiserver-etcd.crt", layout.pki / "apiserver-etcd.key")
    # No proxy from the environment: it is on loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(URL, timeout=10) as answer:
            return parse_etcd(answer.read().decode(), time.monotonic())
    except OSError as error:
        raise BenchError(f"etcd at {URL}: {error}") from error


def parse_etcd(metrics: str, at: float) -> Etcd:
    found = {}
    for key, name in COUNTERS.items():
        match = re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
        if match is None:
            raise BenchError(f"etcd does not count {name}")
        found[key] = float(match[1])
    return Etcd(at, **found)


def spent(before: Etcd, after: Etcd, rest: Etcd) -> dict[str, float]:
    """What was put between two moments, less what comes in the same time at rest; `rest`: of one second."""
    seconds = after.at - before.at
    return {key: getattr(after, key) - getattr(before, key) - getattr(rest, key) * seconds for key in COUNTERS}


async def at_rest(layout: Layout) -> Etcd:
    """Of one second in which nobody does anything."""
    before = read_etcd(layout)
    await asyncio.sleep(REST_SECONDS)
    after = read_etcd(layout)
    seconds = after.at - before.at
    return Etcd(1.0, *((getattr(after, key) - getattr(before, key)) / seconds for key in COUNTERS))


@dataclass
class Objects:
    """Of Maze's objects in a namespace, since the block began: bytes of all their versions, and of the largest, as JSON.

    That is what etcd stores of a custom resource, to a few bytes.
    """

    put: float = 0.0
    versions: int = 0
    largest: float = 0.0
    kinds: dict[str, float] = field(default_factory=dict)
    """Bytes of all versions by kind."""

    def take(self, obj: Json) -> None:
        size = len(json.dumps(obj, separators=(",", ":"), ensure_ascii=False).encode())
        self.put += size
        self.versions += 1
        self.largest = max(self.largest, size)
        self.kinds[obj["kind"]] = self.kinds.get(obj["kind"], 0.0) + size


@asynccontextmanager
async def objects(kube: Kube, namespace: str) -> AsyncIterator[Objects]:
    """Watches for as long as the block lasts."""
    found = Objects()
    synced = [asyncio.Event() for _ in OURS]

    async def follow(plural: str, ready: asyncio.Event) -> None:
        async for event in kube.list_and_watch(resource_path(API_VERSION, plural, namespace)):
            ready.set()
            if isinstance(event, Changed) and event.type != "DELETED":
                found.take(event.object)

    tasks = [asyncio.create_task(follow(plural, ready)) for plural, ready in zip(OURS, synced, strict=True)]
    try:
        async with asyncio.timeout(SYNC_SECONDS):
            await asyncio.gather(*(ready.wait() for ready in synced))
        yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
