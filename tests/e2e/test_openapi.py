"""Whatever is called, and with whatever, is answered as our OpenAPI document says, and never with a server error."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from cluster import Cluster, python
from own_api import OwnApi, own_api, own_namespace
from worker_http import Client, until

Json = dict[str, Any]
HERE = Path(__file__).parent
SECONDS = 420
CHECKS = "not_a_server_error,response_schema_conformance,status_code_conformance,content_type_conformance"
NASTY = (
    *(
        "..",
        ".",
        "%2e%2e",
        "%2F",
        "a%2Fb",
        "..%2F..%2Fpods",
        "%00",
        "a%00b",
        "%0A",
        "%FF",
        "%ED%A0%80",
        "%25",
        "%C3%BC",
    ),
    *("-", "A", "a..", "a%20b", "*", "a;b", "x" * 300),
)
SCENARIO = {
    "schema_version": "1",
    "scenario_id": "known",
    "name": "Known",
    "description": "One that exists",
    "input_schema": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}},
    "steps": [{"name": "count", "type": "tool", "tool": "word_count", "input": {"text": {"from": "input.text"}}}],
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.close()


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[OwnApi]:
    spec = cluster.core.read_namespaced_service("maze-tools", "maze-system").spec
    tools = f"http://{spec.cluster_ip}:{spec.ports[0].port}/mcp"
    with (
        own_namespace(cluster) as namespace,
        own_api(namespace, MCP_SERVER_URL=tools, NUM_INTERNAL_WORKERS="1", MAZE_WORKER_TIMEOUT_SECONDS="3600") as made,
    ):
        yield made


@pytest.fixture(scope="module")
def document(api: OwnApi) -> Json:
    found: Json = requests.get(f"{api.url}/openapi.json", timeout=60).json()
    return found


def post(api: OwnApi, path: str, body: Json | None = None) -> Json:
    answer = requests.post(api.url + path, json=body, timeout=60)
    assert answer.ok, answer.text
    found: Json = answer.json()
    return found


def make_known(api: OwnApi) -> list[tuple[str, str, str]]:
    """Something of each kind, as the hooks want it."""
    runs = Cluster(api.namespace)
    try:
        # The first call loads what talks to MCP servers.
        until(lambda: requests.get(f"{api.url}/api/tools", timeout=60).status_code == 200, "the tools are listed")
        run = runs.run(python("step", 'def step(p):\n    print("hello")\n    return {"text": "x"}', outputs=["text"]))
        with Client(api.url) as calls:
            calls.register("known", "*", parallel=2)
            done = calls.create("known")
            assert calls.claimed("known")["id"] == done
            calls.complete("known", done, {"any": ["json", None]})
        workflow = post(api, "/create_workflow")["workflow_id"]
        task = post(api, "/add_task", {"workflow_id": workflow, "task_type": "code", "task_name": "t"})["task_id"]
        post(api, "/api/scenarios", SCENARIO)
        scenario_run = post(api, "/api/runs", {"scenario_id": "known", "input": {"text": "x"}})["run_id"]
        post(api, f"/api/maze/runs/{scenario_run}/cancel")
        for name in (run, scenario_run):
            runs.ended(name)
    finally:
        runs.close()
    return [
        ("/api/maze/runs/.*", "run_id", run),
        ("/api/maze/runs/.*", "task_id", "step"),
        ("/api/maze/runs/.*", "key", "text"),
        ("/api/runs/.*", "run_id", scenario_run),
        ("/api/runs", "scenario_id", "known"),
        ("/api/scenarios/.*", "scenario_id", "known"),
        ("/api/v1/.*", "task_id", done),
        ("/api/v1/.*", "worker_id", "known"),
        ("/(?!api|run_langgraph).*", "workflow_id", workflow),
        ("/(?!api|run_langgraph).*", "task_id", task),
    ]


@pytest.mark.timeout(SECONDS + 120)
def test_schemathesis_finds_no_violation(api: OwnApi, tmp_path: Path) -> None:
    """Every operation: each of its parameters at and beyond its limits, and random ones that are the same in every run."""
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{api.url}/openapi.json"),
        *("--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", "8"),
        *("--generation-deterministic", "--request-timeout", "60"),
        *("--warnings", "off", "--no-color", "--continue-on-failure"),
    ]
    env = {
        **{key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")},
        "KNOWN": json.dumps(make_known(api)),
        "SCHEMATHESIS_HOOKS": "openapi_hooks",
        "PYTHONPATH": str(HERE),
    }
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{done.stdout[-20000:]}\n{done.stderr[-2000:]}"


def test_what_no_name_can_be_in_a_path_is_refused_as_an_error_of_the_caller(api: OwnApi, document: Json) -> None:
    """As it is on the wire: clients that take dots out of paths would hide it. Nothing of it gets to Kubernetes."""
    address = urlsplit(api.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    problems = []
    for path, operations in document["paths"].items():
        if "{" not in path:
            continue
        for method, operation in operations.items():
            for nasty in NASTY:
                parts = [nasty if part.startswith("{") else part for part in path.split("/")]
                body = '{"error": "x"}' if "requestBody" in operation else None
                connection.request(method.upper(), "/".join(parts), body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                if answer.status == 307:  # "…/%2F" is taken as a slash too many
                    continue
                if answer.status not in (404, 405, 422) or set(json.loads(text)) != {"detail", "type", "request_id"}:
                    problems.append((method, "/".join(parts), answer.status, text[:200]))
    connection.close()
    assert not problems


def test_every_operation_documents_its_errors_with_one_model(document: Json) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and path not in ("/health", "/ready"):
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Error"}, (method, path, status)
            if path not in ("/health", "/ready", "/metrics"):
                assert {"429", "503"} <= set(operation["responses"]), (method, path)
    assert set(document["components"]["schemas"]["Error"]["required"]) == {"detail", "type", "request_id"}
    assert "HTTPValidationError" not in document["components"]["schemas"]
