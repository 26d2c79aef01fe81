"""The Task Executor's tasks as any HTTP client uses them: what is on the wire, and waiting for what others do."""

from __future__ import annotations

import json
import time
from typing import Any

import requests
import websocket

from cluster import GROUP, Cluster, awaited

SECONDS = 60
Json = dict[str, Any]
ENDED = ("completed", "failed", "timeout", "cancelled")
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


class Tasks:
    """One connection to one api."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()

    def close(self) -> None:
        self._session.close()

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        """Any call; `path` begins with a slash."""
        return self._session.request(method, self.url + path, **{"timeout": SECONDS, **more})

    def post(self, body: Json, **headers: str) -> requests.Response:
        """Try to create a task."""
        return self.call("POST", "/api/v1/tasks", json=body, headers=headers)

    def create(self, problem_id: str, parameters: Json | None = None, **more: Any) -> Json:
        """Create a task; the answer."""
        body = {"problem_id": problem_id, **({"parameters": parameters} if parameters else {}), **more}
        answer = self.post(body)
        assert answer.status_code == 201, answer.text
        found: Json = answer.json()
        return found

    def read(self, path: str, **query: Any) -> Any:
        """The JSON of a GET below /api/v1/tasks that must succeed."""
        answer = self.call("GET", f"/api/v1/tasks{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, task_id: str) -> Json:
        found: Json = self.read(f"/{task_id}")
        return found

    def list(self, **query: Any) -> list[Json]:
        found: list[Json] = self.read("", **query)
        return found

    def cancel(self, task_id: str) -> requests.Response:
        return self.call("POST", f"/api/v1/tasks/{task_id}/cancel")

    def logs(self, task_id: str, **query: Any) -> list[Json]:
        found: list[Json] = self.read(f"/{task_id}/logs", **query)
        return found

    def messages(self, task_id: str, **query: Any) -> list[str]:
        """Of the log, as it is now."""
        return [entry["message"] for entry in self.logs(task_id, **query)]

    def worker(self, method: str, path: str, body: Any = None) -> requests.Response:
        """A call below /api/v1/workers."""
        return self.call(method, f"/api/v1/workers{path}", **({} if body is None else {"json": body}))

    def register(self, worker_id: str, *problems: str) -> None:
        """An external worker that takes these problems."""
        capabilities = {"max_parallel_tasks": 5, "supported_problems": list(problems)}
        body = {"worker_id": worker_id, "backend_type": "kind", "capabilities": capabilities}
        answer = self.worker("POST", "/register", body)
        assert answer.status_code == 201, answer.text

    def until(self, task_id: str, *states: str, seconds: float = 120) -> Json:
        """Ask until the task is in one of these states; the task."""
        return awaited(lambda: self.get(task_id), lambda task: task["status"] in states, seconds)

    def ended(self, task_id: str, seconds: float = 120) -> Json:
        return self.until(task_id, *ENDED, seconds=seconds)

    def polled(self, task_id: str, seconds: float = 120) -> list[Json]:
        """All events, by asking for those after the last one until the end."""
        found: list[Json] = []
        deadline = time.monotonic() + seconds
        while True:
            answer = self.read(f"/{task_id}/events", after=found[-1]["id"] if found else 0)
            found += answer["events"]
            if answer["ended"]:
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.1)

    def streamed(self, task_id: str, after: int | None = None, seconds: float = 120) -> tuple[list[Json], int]:
        """All events that the WebSocket tells until it closes, and the close code."""
        query = "" if after is None else f"?after={after}"
        address = f"{self.url.replace('http', 'ws', 1)}/ws/tasks/{task_id}{query}"
        connection = websocket.create_connection(address, timeout=seconds)
        found = []
        try:
            while True:
                opcode, data = connection.recv_data()
                if opcode == websocket.ABNF.OPCODE_CLOSE:
                    return found, int.from_bytes(data[:2], "big")
                found.append(json.loads(data))
        finally:
            connection.shutdown()  # type: ignore[no-untyped-call]


def serve(cluster: Cluster, namespace: str, name: str, glob: str, *tasks: Json, **more: Any) -> None:
    """Create a Workflow that serves the problems of a glob."""
    body = {
        "apiVersion": "/".join(GROUP),
        "kind": "Workflow",
        "metadata": {"name": name},
        "spec": {"problems": [glob], "tasks": list(tasks), **more},
    }
    cluster.custom.create_namespaced_custom_object(*GROUP, namespace, "workflows", body)


def require_error(answer: requests.Response, status: int, kind: str, text: str) -> None:
    """The shape of errors that the reference gives."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"detail", "type", "request_id"}
    assert body["type"] == kind
    assert text in body["detail"], body["detail"]
    assert body["request_id"] == answer.headers["X-Request-ID"]
