"""The Maze protocol and `/api/maze` as any HTTP client speaks them: no SDK, so that a test says what is on the wire."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
import requests
import websocket

from cluster import GROUP, Cluster
from maze_crds import names

API = os.environ.get("MAZE_API", "http://127.0.0.1:8000")
SECONDS = 60
UNKNOWN = "00000000-0000-4000-8000-000000000000"
Json = dict[str, Any]


def pickled(value: Any) -> str:
    """Base64 cloudpickle; functions of test modules, which no pod can import, are in it."""
    module = sys.modules.get(getattr(value, "__module__", ""))
    if module is not None and "tests" in (getattr(module, "__file__", None) or ""):
        cloudpickle.register_pickle_by_value(module)
    return base64.b64encode(cloudpickle.dumps(value)).decode()


class Maze:
    """One connection; remembers its workflows, so that their Runs can be deleted."""

    def __init__(self) -> None:
        self.session = requests.Session()
        self.made: list[str] = []

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.session.request(method, API + path, **{"timeout": SECONDS, **more})

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a GET that must succeed."""
        answer = self.call("GET", path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **body: Any) -> Json:
        """The JSON of a POST that must succeed."""
        answer = self.call("POST", path, json=body)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        assert found["status"] == "success"
        return found

    def workflow(self) -> str:
        made: str = self.post("/create_workflow")["workflow_id"]
        self.made.append(made)
        return made

    def task(
        self, workflow: str, code: Callable[..., Any] | str, inputs: Json | None = None, name: str = "task", **more: Any
    ) -> str:
        """A saved task; `inputs`: values, references as `@task.output.key`, or payloads as PUT gives them."""
        task: str = self.post("/add_task", workflow_id=workflow, task_type="code", task_name=name)["task_id"]
        self.post("/save_task_and_add_edge", **self.content(workflow, task, code, inputs, **more))
        return task

    def content(
        self, workflow: str, task: str, code: Callable[..., Any] | str, inputs: Json | None = None, **more: Any
    ) -> Json:
        parameters = {str(n): _parameter(key, value) for n, (key, value) in enumerate((inputs or {}).items(), 1)}
        given = {"code_str": code} if isinstance(code, str) else {"code_ser": pickled(code)}
        ids = {"workflow_id": workflow, "task_id": task}
        return {**ids, **given, "task_input": {"input_params": parameters}, **more}

    def run(self, workflow: str) -> str:
        found: str = self.post("/run_workflow", workflow_id=workflow)["run_id"]
        return found

    def start(self, code: Callable[..., Any] | str, inputs: Json | None = None, **more: Any) -> tuple[str, str]:
        """A workflow of one task that has been started: run and task."""
        workflow = self.workflow()
        task = self.task(workflow, code, inputs, **more)
        return self.run(workflow), task

    def messages(self, workflow: str, run: str) -> list[Json]:
        """The whole stream; waits for the end of the Run."""
        address = f"{API.replace('http', 'ws', 1)}/get_workflow_res/{workflow}/{run}"
        found = []
        connection = websocket.create_connection(address, timeout=SECONDS)
        try:
            while text := connection.recv():
                found.append(json.loads(text))
        finally:
            connection.shutdown()  # type: ignore[no-untyped-call]
        return found

    def ended(self, run: str) -> Json:
        """Waits for the end of a Run; its detail."""
        workflow = self.get(f"/api/maze/runs/{run}")["workflow_id"]
        assert self.messages(workflow, run)[-1]["type"] == "finish_workflow"
        found: Json = self.get(f"/api/maze/runs/{run}")
        return found

    def output(self, run: str, task: str, key: str) -> requests.Response:
        return self.call("GET", f"/api/maze/runs/{run}/tasks/{task}/outputs/{key}")

    def log(self, run: str, task: str, **query: Any) -> str:
        answer = self.call("GET", f"/api/maze/runs/{run}/tasks/{task}/logs", params=query)
        assert answer.status_code == 200, answer.text
        return answer.content.decode()

    def put(self, data: bytes, **query: str) -> requests.Response:
        return self.call("PUT", "/api/maze/payloads", data=data, params=query)

    def clean(self, cluster: Cluster) -> None:
        self.session.close()
        for workflow in self.made:
            selector = f"{names.LABEL_WORKFLOW_ID}={workflow}"
            cluster.custom.delete_collection_namespaced_custom_object(
                *GROUP, cluster.namespace, "runs", label_selector=selector
            )


def _parameter(key: str, value: Any) -> Json:
    if isinstance(value, str) and value.startswith("@"):
        return {"key": key, "input_schema": "from_task", "data_type": "str", "value": value[1:]}
    given = value if isinstance(value, dict) and set(value) == {"payload"} else {"value": value}
    return {"key": key, "input_schema": "from_user", "data_type": "str", **given}
