"""The part of who posts events to OpRuns, on the running operator: the api, or a container."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from typing import Any

import requests

from maze_operator.tokens import make_run_token
from operator_desk import SECONDS, Json, OperatorDesk


class Desk(OperatorDesk):
    """Makes OpRuns, and posts to them as the api does, or as their containers do."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        secret = self.cluster.core.read_namespaced_secret("maze-runner", "maze-system")
        self.key = base64.b64decode(secret.data["hmac-key"])

    def run(self, task: Json | None = None, **spec: Any) -> str:
        """An OpRun that gets no pod, for it is suspended; its name."""
        tasks = [{"name": "op", "container": {"image": "maze/op-example"}, **(task or {})}]
        body = {"workflow": {"tasks": tasks}, "opRun": {"maxAttempts": 1}, "desiredState": "Suspended", **spec}
        given = {key: value for key, value in body.items() if value is not None}
        return self.cluster.create_run(given, str(uuid.uuid4()))

    def uid(self, run: str) -> str:
        found: str = self.cluster.get_run(run)["metadata"]["uid"]
        return found

    def token(self, run: str) -> str:
        """What its container has."""
        return make_run_token(self.key, self.namespace, self.uid(run))

    def post(self, run: str, body: Json | bytes, token: str | None = None, query: str = "") -> requests.Response:
        """One event, said again while the operator asks for that or is being replaced."""
        path = f"/v1/op-runs/{self.namespace}/{run}/events{query}"
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send(path, data, self.api_token if token is None else token)

    def say(self, run: str, kind: str, query: str = "", **more: Any) -> Json:
        """An event that is taken."""
        answer = self.post(run, {"type": kind, **more}, query=query)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def refused(self, run: str, status: int, kind: str = "NOTE", query: str = "", **more: Any) -> str:
        """Why an event is not taken."""
        answer = self.post(run, {"type": kind, **more}, query=query)
        assert answer.status_code == status, answer.text
        found: str = answer.json()["detail"]
        return found

    def op(self, run: str) -> Json:
        found: Json = self.cluster.get_run(run)["status"]["op"]
        return found

    def until(self, run: str, holds: Callable[[Json], object]) -> Json:
        def look(obj: Json) -> object:
            op = obj.get("status", {}).get("op")
            return op is not None and holds(op)

        found: Json = self.cluster.await_run(run, look, SECONDS)["status"]["op"]
        return found

    def stored(self, key: str) -> Any:
        data = self.store.get(key)
        assert data is not None, key
        return json.loads(data)
