"""How often one client may call: a token bucket for each address. Pure, but for the clock that is handed in."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST_CLIENTS = 10_000
"""Buckets in memory. Beyond that the client that was silent longest is forgotten, and begins with a full bucket again."""
IPV6_PREFIX = 64
"""One subscriber has at least this network to itself, so it counts as one client."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """`tokens` calls may be made at once, as of `time` (seconds of any clock that only goes forward)."""

    tokens: float
    time: float


def take(bucket: Bucket | None, now: float, per_minute: int) -> tuple[Bucket, float]:
    """The bucket after a call, and 0; or, where it is empty, as it is now, and seconds until the next call may be made.

    A new client (None) has a full bucket: a minute's calls at once.
    """
    rate = per_minute / 60
    known = bucket or Bucket(per_minute, now)
    filled = min(float(per_minute), known.tokens + max(0.0, now - known.time) * rate)
    if filled >= 1:
        return Bucket(filled - 1, now), 0.0
    return Bucket(filled, now), (1 - filled) / rate


def client_of(address: str) -> str:
    """Whom an address counts for."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, IPV6_PREFIX), strict=False))
    return str(found)


class RateLimit:
    """The buckets of one process."""

    def __init__(
        self, per_minute: int, clock: Callable[[], float] = time.monotonic, most_clients: int = MOST_CLIENTS
    ) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._most = most_clients
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_seconds(self, address: str) -> int:
        """Count a call. 0: it may be served; else whole seconds after which the next one may."""
        client = client_of(address)
        bucket, wait = take(self._buckets.get(client), self._clock(), self.per_minute)
        self._buckets[client] = bucket
        self._buckets.move_to_end(client)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return math.ceil(wait)
