"""The Task Executor's API as a worker speaks it, for tests with an api of their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import requests

SECONDS = 60
AWAIT_SECONDS = 90
Json = dict[str, Any]


class Client:
    """One connection to one api. One per thread."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.session.request(method, f"{self.url}/api/v1{path}", **{"timeout": SECONDS, **more})

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a GET that must succeed."""
        return _json(self.call("GET", path, params=query), 200)

    def create(self, problem_id: str, **body: Any) -> str:
        """A new task's id."""
        made: str = _json(self.call("POST", "/tasks", json={"problem_id": problem_id, **body}), 201)["id"]
        return made

    def task(self, task_id: str) -> Json:
        found: Json = self.get(f"/tasks/{task_id}")
        return found

    def register(self, worker_id: str, *globs: str, parallel: int = 1, **body: Any) -> Json:
        capabilities = {"max_parallel_tasks": parallel, "supported_problems": list(globs)}
        full = {"worker_id": worker_id, "backend_type": "kind", "capabilities": capabilities, **body}
        made: Json = _json(self.call("POST", "/workers/register", json=full), 201)
        return made

    def worker(self, worker_id: str) -> Json:
        found: Json = self.get(f"/workers/{worker_id}")
        return found

    def beat(self, worker_id: str, **body: Any) -> Json:
        found: Json = _json(self.call("POST", f"/workers/{worker_id}/heartbeat", json=body), 200)
        return found

    def claim(self, worker_id: str) -> Json | None:
        """The task; None: there is none."""
        answer = self.call("POST", f"/workers/{worker_id}/claim")
        if answer.status_code == 204:
            assert answer.content == b""
            return None
        found: Json = _json(answer, 200)
        return found

    def report(self, worker_id: str, task_id: str, how: str, body: Any) -> requests.Response:
        """How: complete or fail. Says it again, as a worker does, while no operator hears it."""
        answers: list[requests.Response] = []

        def heard() -> bool:
            answers.append(self.call("POST", f"/workers/{worker_id}/tasks/{task_id}/{how}", json=body))
            return answers[-1].status_code != 503

        until(heard, "an operator takes the report")
        return answers[-1]

    def complete(self, worker_id: str, task_id: str, result: Any) -> Json:
        found: Json = _json(self.report(worker_id, task_id, "complete", result), 200)
        return found

    def claimed(self, worker_id: str) -> Json:
        """Claims until there is a task: one that was given back may be seen a moment later."""
        found: list[Json] = []

        def claims() -> bool:
            task = self.claim(worker_id)
            found.extend([task] if task else [])
            return bool(found)

        until(claims, f"a task for {worker_id}")
        return found[0]


def _json(answer: requests.Response, status: int) -> Any:
    assert answer.status_code == status, f"{answer.status_code} {answer.text}"
    return answer.json()


def until(holds: Callable[[], object], what: str, seconds: float = AWAIT_SECONDS) -> None:
    """Await something that another process brings about."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def assert_refused(answer: requests.Response, status: int, kind: str, *said: str) -> None:
    """An error in the reference's form that says this."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text}"
    body = answer.json()
    assert set(body) == {"detail", "type", "request_id"}
    assert body["type"] == kind
    assert body["request_id"] == answer.headers["X-Request-ID"]
    for words in said:
        assert words in body["detail"]
