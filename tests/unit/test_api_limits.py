"""How much and how often a client may send: buckets against their definition, limits by path, and the answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import Body, FastAPI
from hypothesis import given
from hypothesis import strategies as st

from maze_api import errors
from maze_api.middleware import CARRIERS, HEALTH, BodyLimit, Envelope, Limits
from maze_api.ratelimit import Bucket, RateLimit, client_of, take

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_a_minute_of_calls_at_once_then_one_for_each_share_of_a_minute() -> None:
    bucket: Bucket | None = None
    for _ in range(60):
        bucket, wait = take(bucket, 0.0, 60)
        assert wait == 0
    bucket, wait = take(bucket, 0.0, 60)
    assert wait == pytest.approx(1)
    _, wait = take(bucket, 0.5, 60)
    assert wait == pytest.approx(0.5)
    _, wait = take(bucket, 1.0, 60)
    assert wait == 0


@given(st.integers(1, 600), st.lists(st.floats(0, 20), max_size=200))
def test_no_minute_ever_has_more_than_twice_the_calls(per_minute: int, pauses: list[float]) -> None:
    """A full bucket, and what flows in meanwhile."""
    now, bucket, served = 0.0, None, []
    for pause in pauses:
        now += pause
        bucket, wait = take(bucket, now, per_minute)
        if wait == 0:
            served.append(now)
    for first in served:
        assert sum(first <= at < first + 60 for at in served) <= 2 * per_minute


@given(st.integers(1, 600), st.floats(0, 1e6))
def test_who_waits_as_long_as_told_is_served(per_minute: int, start: float) -> None:
    limit = RateLimit(per_minute, lambda: start)
    waits = [limit.wait_seconds("192.0.2.1") for _ in range(per_minute + 1)]
    assert waits[:-1] == [0] * per_minute
    later = RateLimit(per_minute, lambda: start + waits[-1])
    later._buckets = limit._buckets
    assert later.wait_seconds("192.0.2.1") == 0


def test_clients_are_told_apart_and_the_silent_ones_are_forgotten() -> None:
    limit = RateLimit(1, lambda: 0.0, most_clients=100)
    for number in range(1000):
        assert limit.wait_seconds(f"10.0.{number // 256}.{number % 256}") == 0
    assert len(limit) == 100
    assert limit.wait_seconds("10.0.3.231") == 60
    assert limit.wait_seconds("10.0.0.1") == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("unknown", "unknown", True),
    ],
)
def test_a_network_of_one_subscriber_is_one_client(one: str, other: str, same: bool) -> None:
    assert (client_of(one) == client_of(other)) is same


def test_calls_with_code_or_payloads_may_be_larger() -> None:
    limits = Limits(1024, 4096)
    assert limits.of_body("/save_task") == BodyLimit(4096, "MAZE_MAX_BODY_BYTES")
    assert limits.of_body("/api/v1/tasks") == BodyLimit(1024, "MAZE_MAX_JSON_BYTES")


def app_with(limits: Limits) -> FastAPI:
    app = FastAPI()

    async def echo(body: Any = Body()) -> Any:  # noqa: B008
        return len(json.dumps(body))

    async def hello() -> str:
        return "hello"

    app.add_api_route("/echo", echo, methods=["POST"])
    for path in CARRIERS:
        app.add_api_route(path, echo, methods=["POST"])
    for path in (*HEALTH, "/hello"):
        app.add_api_route(path, hello)
    errors.install(app)
    app.add_middleware(Envelope, limits=limits)
    return app


def client(limits: Limits, address: str = "192.0.2.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app_with(limits), raise_app_exceptions=False, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://api")


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100):
        yield data[start : start + 100]


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(
    ("path", "most", "setting"), [("/echo", 1000, "MAZE_MAX_JSON_BYTES"), ("/save_task", 2000, "MAZE_MAX_BODY_BYTES")]
)
async def test_a_body_may_have_as_many_bytes_as_the_limit(path: str, most: int, setting: str, announced: bool) -> None:
    async with client(Limits(1000, 2000)) as calls:
        for size, status in ((most, 200), (most + 1, 413)):
            data = b'"' + b"x" * (size - 2) + b'"'
            content = data if announced else chunks(data)
            answer = await calls.post(path, content=content, headers={"content-type": "application/json"})
            assert answer.status_code == status
    said = answer.json()
    assert said["type"] == "too_large"
    assert setting in said["detail"]
    assert str(most) in said["detail"]
    assert said["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["connection"] == "close"


async def test_too_many_calls_get_429_and_when_to_come_back_and_health_is_always_answered() -> None:
    async with client(Limits(1000, 2000, RateLimit(2, lambda: 0.0))) as calls:
        assert [(await calls.get("/hello")).status_code for _ in range(3)] == [200, 200, 429]
        refused = await calls.get("/hello")
        for path in HEALTH:
            assert (await calls.get(path)).status_code == 200
    assert refused.json()["type"] == "too_many_requests"
    assert "MAZE_RATE_LIMIT_PER_MINUTE" in refused.json()["detail"]
    assert 0 < int(refused.headers["retry-after"]) <= 60
