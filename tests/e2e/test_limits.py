"""How much and how often a client may send, on a process of its own with small limits."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import requests
import websocket

from cluster import Cluster
from own_api import OwnApi, own_api, own_namespace

JSON_BYTES = 64 * 1024
BODY_BYTES = 256 * 1024
PER_MINUTE = 30


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    made = Cluster()
    with own_namespace(made) as name:
        yield name
    made.close()


@pytest.fixture(scope="module")
def small(namespace: str) -> Iterator[OwnApi]:
    """An api that takes little."""
    limits = {"MAZE_MAX_JSON_BYTES": str(JSON_BYTES), "MAZE_MAX_BODY_BYTES": str(BODY_BYTES)}
    with own_api(namespace, **limits) as api:
        yield api


@pytest.fixture(scope="module")
def slow(namespace: str) -> Iterator[OwnApi]:
    """An api that answers a client seldom."""
    with own_api(namespace, MAZE_RATE_LIMIT_PER_MINUTE=str(PER_MINUTE)) as api:
        yield api


def call(method: str, url: str, **more: object) -> requests.Response:
    """On a connection of its own: a refused body may end it."""
    with requests.Session() as session:
        return session.request(method, url, timeout=60, **more)  # type: ignore[arg-type]


def require(answer: requests.Response, status: int, kind: str, *said: str) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"detail", "type", "request_id"}
    assert body["type"] == kind
    assert body["request_id"] == answer.headers["X-Request-ID"]
    for words in said:
        assert words in body["detail"]


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(
    "path", ["/api/v1/tasks", "/api/v1/workers/register", "/api/runs", "/api/scenarios", "/add_task"]
)
def test_a_json_body_over_the_limit_is_refused_by_the_name_of_the_setting(
    small: OwnApi, path: str, announced: bool
) -> None:
    data = b'{"problem_id": "' + b"x" * JSON_BYTES + b'"}'
    body = data if announced else iter([data[:1000], data[1000:]])
    answer = call("POST", small.url + path, data=body, headers={"Content-Type": "application/json"})
    require(answer, 413, "too_large", "MAZE_MAX_JSON_BYTES", str(JSON_BYTES))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/save_task"),
        ("POST", "/save_task_and_add_edge"),
        ("POST", "/add_langgraph_task"),
        ("POST", "/run_langgraph_task"),
        ("PUT", "/api/maze/payloads?encoding=file&file_name=a"),
    ],
)
def test_code_and_payloads_have_a_limit_of_their_own(small: OwnApi, method: str, path: str) -> None:
    at_limit = b'{"workflow_id": "' + b"x" * (BODY_BYTES - 19) + b'"}'
    assert call(method, small.url + path, data=at_limit).status_code != 413
    answer = call(method, small.url + path, data=at_limit + b" ")
    require(answer, 413, "too_large", "MAZE_MAX_BODY_BYTES", str(BODY_BYTES))


def test_what_is_not_json_is_400_and_what_does_not_fit_is_422(small: OwnApi) -> None:
    headers = {"Content-Type": "application/json"}
    not_json = call("POST", f"{small.url}/api/v1/tasks", data=b'{"problem_id": ', headers=headers)
    require(not_json, 400, "bad_request", "not JSON")
    require(call("POST", f"{small.url}/api/v1/tasks", json={"problem": "x"}), 422, "invalid", "problem_id")


def test_a_client_that_calls_too_often_is_told_when_to_come_back(slow: OwnApi) -> None:
    """The whole of it in one test: all clients of this machine share one bucket."""
    tasks = f"{slow.url}/api/v1/tasks"
    began = time.monotonic()
    statuses = []
    while 429 not in statuses:
        statuses.append(call("GET", tasks).status_code)
        assert time.monotonic() - began < 60, "never refused"
    assert statuses.count(200) >= PER_MINUTE
    refused = call("GET", tasks)
    while refused.status_code == 200:  # a token came back meanwhile
        refused = call("GET", tasks)
    require(refused, 429, "too_many_requests", "MAZE_RATE_LIMIT_PER_MINUTE", str(PER_MINUTE))
    wait = int(refused.headers["Retry-After"])
    assert 1 <= wait <= 60 / PER_MINUTE

    for path in ("/health", "/ready", "/metrics"):
        assert call("GET", slow.url + path).status_code == 200
    while (status := handshake(slow)) == 404:  # served: there is no such task; it takes a token, too
        assert time.monotonic() - began < 120, "a handshake is never refused"
    assert status == 429

    time.sleep(wait)  # what the answer asks for
    while call("GET", tasks).status_code != 200:
        assert time.monotonic() - began < 180, "never served again"
        time.sleep(wait)


def handshake(api: OwnApi) -> int:
    """The status that refuses a WebSocket."""
    url = f"{api.url.replace('http', 'ws', 1)}/ws/tasks/00000000-0000-4000-8000-000000000000"
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(url, timeout=60)
    return int(refused.value.status_code)
