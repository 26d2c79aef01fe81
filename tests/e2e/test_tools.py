"""Steps that call tools, in real pods: over HTTP and standard streams, in chains, and every way to fail by its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cluster import Cluster, Json, task_of
from maze_io.store import ObjectStore
from own_api import own_namespace

STDIO = {"command": "python3", "args": ["-m", "maze_tools.server", "--stdio"]}


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    with own_namespace() as name:
        yield name


@pytest.fixture
def own(namespace: str) -> Iterator[Cluster]:
    """The running cluster, in a namespace of these tests."""
    made = Cluster(namespace)
    yield made
    made.clean()
    made.close()


def tool(name: str, tool_name: str, inputs: Json | None = None, required: list[str] | None = None, **more: Any) -> Json:
    fields: Json = {"name": tool_name}
    if required:
        fields["requiredInputs"] = required
    for key in ("server", "image"):
        if key in more:
            fields[key] = more.pop(key)
    return {"name": name, "tool": fields, "inputs": inputs or {}, **more}


def values(cluster: Cluster, store: ObjectStore, run: str, task: str) -> Json:
    outputs = cluster.result(store, run, task)["outputs"]
    return {key: output.get("value") for key, output in outputs.items()}


def test_steps_over_http_and_stdio_hand_on_what_they_found(own: Cluster, store: ObjectStore) -> None:
    """Plain references and templates, of inputs and of steps of every kind; logs are kept as those of all tasks."""
    numbers = {"template": [{"from": "input.n"}, {"from": "sum.output.value"}, {"from": "double.output.twice"}]}
    source = "def f(p): return {'twice': 2 * p['of'][0]['x'], 'text': 'One. Two.'}"
    run = own.run(
        tool("sum", "add", {"a": {"from": "input.n"}, "b": {"value": 2}}, ["a", "b"], outputs=["value"]),
        {
            "name": "double",
            "python": {"source": source},
            "inputs": {"of": {"template": [{"x": {"from": "sum.output.value"}}]}},
        },
        tool("all", "statistics", {"numbers": numbers}, ["numbers"], outputs=["sum", "maximum"]),
        tool("words", "word_count", {"text": {"from": "double.output.text"}}, ["text"], server=STDIO),
        tool("news", "search_news", {"query": {"value": "harbour crane"}}),
        inputs={"n": 1},
    )
    status = own.ended(run, 240)
    assert status["phase"] == "Succeeded", status
    assert values(own, store, run, "sum") == {"value": 3}
    assert values(own, store, run, "all") == {"sum": 10, "maximum": 6}
    assert values(own, store, run, "words")["sentences"] == 2
    assert values(own, store, run, "news")["result"][0]["outlet"] == "Coast Gazette"
    assert "calling tool 'word_count' of the MCP server started by 'python3 -m" in own.log(store, run, "words")


def test_every_failure_has_its_own_reason_and_words(own: Cluster) -> None:
    """In one Run each, all at once: a step that fails ends its Run."""
    gone = {"url": "http://gone.maze-system.svc.cluster.local:1/mcp"}
    expected = {
        "RequiredInputMissing": (
            tool("t", "add", {"a": {"value": 1}, "b": {"from": "input.b"}}, ["a", "b"]),
            "step 't' is missing required input field 'b' (b: the Run does not give it)",
        ),
        "ToolError": (tool("t", "divide", {"a": {"value": 1}, "b": {"value": 0}}), "1 can't be divided by zero"),
        "ToolNotFound": (tool("t", "subtract"), "has no tool 'subtract'; there are: add,"),
        "ToolServerUnreachable": (tool("t", "add", server=gone), "at http://gone.maze-system.svc.cluster.local:1/mcp"),
        "TimedOut": (tool("t", "wait", {"seconds": {"value": 200}}, timeoutSeconds=6), "6"),
        "MissingOutput": (
            tool("t", "add", {"a": {"value": 1}, "b": {"value": 2}}, outputs=["sum"]),
            "tool 'add' gave no output 'sum'; it gave 'value'",
        ),
    }
    runs = {reason: own.run(task) for reason, (task, _) in expected.items()}
    for reason, run in runs.items():
        status = own.ended(run, 240)
        task = task_of(status, "t")
        assert (status["phase"], task["phase"], task["reason"]) == ("Failed", "Failed", reason), status
        assert expected[reason][1] in task["message"]
        assert task["attempt"] == 1


def test_a_step_after_one_that_failed_is_skipped_and_a_retry_counts_as_for_all_tasks(own: Cluster) -> None:
    divide = tool("first", "divide", {"a": {"value": 1}, "b": {"value": 0}}, retry={"limit": 1, "backoffSeconds": 0})
    run = own.run(divide, tool("second", "add", {"a": {"from": "first.output.value"}, "b": {"value": 1}}))
    status = own.ended(run, 240)
    assert (task_of(status, "first")["attempt"], task_of(status, "second")["phase"]) == (2, "Skipped")


def test_cancelling_ends_a_tool_that_is_waiting(own: Cluster) -> None:
    run = own.run(tool("t", "wait", {"seconds": {"value": 250}}))
    own.await_run(run, lambda found: found.get("status", {}).get("tasks", [{}])[0].get("phase") == "Running", 240)
    own.patch_run(run, {"desiredState": "Cancelled"})
    assert own.ended(run, 120)["phase"] == "Cancelled"


def test_an_image_without_mcp_is_told_in_words(own: Cluster) -> None:
    """The image of Python tasks has Python and no mcp; the runner and the code of the call are brought to any image."""
    deployment = own.apps.read_namespaced_deployment("maze-operator", "maze-system")
    env = {entry.name: entry.value for entry in deployment.spec.template.spec.containers[0].env}
    run = own.run(tool("t", "add", image=env["MAZE_RUNNER_IMAGE"]))
    task = task_of(own.ended(run, 240), "t")
    assert task["reason"] == "ToolImageUnusable", task
    assert "install mcp in it" in task["message"]


def test_the_example_server_refuses_host_names_that_are_not_its_own(own: Cluster, store: ObjectStore) -> None:
    """A page whose name suddenly points at the server can't use it."""
    source = """
import urllib.error, urllib.request
def ask(url, host):
    try:
        headers = {"Host": host} if host else {}
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code
def f(p):
    return {"own": ask(p["url"] + "/health", None), "health": ask(p["url"] + "/health", "evil.example"),
            "evil": ask(p["url"] + "/mcp", "evil.example")}
"""
    inputs = {"url": {"value": "http://maze-tools.maze-system:8765"}}
    run = own.run({"name": "t", "python": {"source": source, "function": "f"}, "inputs": inputs})
    assert own.ended(run, 240)["phase"] == "Succeeded"
    assert values(own, store, run, "t") == {"own": 200, "health": 200, "evil": 421}
