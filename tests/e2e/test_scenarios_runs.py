"""Scenarios over REST, with the example MCP server of the installation: the reference's routes, shapes and errors."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from cluster import GROUP, KUBECTL, ROOT, Cluster
from own_api import OwnApi, own_api, own_namespace
from scenario_http import Scenarios

Json = dict[str, Any]
EXAMPLES = {path.stem: path for path in sorted((ROOT / "examples" / "scenarios").glob("*.json"))}
NEWS = "https://daily-ledger.example/business/harbour-crane-energy"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def tools_address(cluster: Cluster) -> str:
    spec = cluster.core.read_namespaced_service("maze-tools", "maze-system").spec
    return f"http://{spec.cluster_ip}:{spec.ports[0].port}/mcp"


@pytest.fixture(scope="module")
def api() -> Iterator[OwnApi]:
    found = Cluster()
    try:
        with own_namespace(found) as namespace, own_api(namespace, MCP_SERVER_URL=tools_address(found)) as made:
            yield made
    finally:
        found.close()


@pytest.fixture
def scenarios(api: OwnApi) -> Iterator[Scenarios]:
    made = Scenarios(api.url)
    yield made
    made.session.close()


def step(name: str, tool: str = "wait", **more: Any) -> Json:
    return {"name": name, "tool": tool, "input": {"seconds": 0}, **more}


def definition(*steps: Json, **more: Any) -> Json:
    return {"scenario_id": f"test_{uuid.uuid4().hex[:8]}", "steps": list(steps), **more}


def example(scenarios: Scenarios, name: str) -> Json:
    text = EXAMPLES[name].read_text()
    return scenarios.apply(json.loads(text))


def test_the_scenario_of_the_reference_runs(scenarios: Scenarios) -> None:
    example(scenarios, "news_source_discovery_v1")
    answer = scenarios.call(
        "POST", "/api/runs", json={"scenario_id": "news_source_discovery_v1", "input": {"url": NEWS}}
    )
    assert answer.status_code == 202
    submitted = answer.json()
    assert list(submitted) == ["run_id", "scenario_id", "status", "input", "started_at"]
    assert submitted["scenario_id"] == "news_source_discovery_v1"
    assert (submitted["status"], submitted["input"]) == ("running", {"url": NEWS})
    assert TIME.fullmatch(submitted["started_at"])
    run_id = submitted["run_id"]

    early = scenarios.get(f"/api/runs/{run_id}")
    assert list(early) == ["scenario_id", "status", "message", "input", "steps", "run_id"]

    events = list(scenarios.follow(run_id))
    assert [event.name for event in events] == ["run_started", "step_started", "step_finished", "run_finished"]
    assert [list(event.content) for event in events] == [
        ["type", "run_id", "scenario_id", "started_at"],
        ["type", "run_id", "step_name", "index", "started_at"],
        ["type", "run_id", "step_name", "index", "status", "started_at", "finished_at", "message"],
        ["type", "run_id", "status", "finished_at", "message"],
    ]
    assert all(event.content["type"] == event.name and event.content["run_id"] == run_id for event in events)
    assert events[0].content["started_at"] == submitted["started_at"]

    ended = scenarios.get(f"/api/runs/{run_id}")
    assert (ended["status"], ended["message"], ended["input"]) == ("success", "", {"url": NEWS})
    (state,) = ended["steps"]
    assert list(state) == ["node_id", "status", "started_at", "finished_at", "message"]
    assert (state["node_id"], state["status"], state["message"]) == ("search_news_sources", "success", "")
    assert TIME.fullmatch(state["started_at"])
    assert TIME.fullmatch(state["finished_at"])
    outputs = scenarios.get(f"/api/maze/runs/{run_id}/tasks/search_news_sources/outputs/earliest")
    assert outputs["outlet"] == "Coast Gazette"


def test_the_stream_is_as_the_reference_says(scenarios: Scenarios) -> None:
    """Headers and bytes, for a run that has ended; a client that has seen all of it is told not to come back."""
    scenarios.apply(made := definition(step("only")))
    run_id = scenarios.start(made["scenario_id"])
    scenarios.ended(run_id)
    answer = scenarios.call("GET", f"/api/runs/{run_id}/events")
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert (answer.headers["Cache-Control"], answer.headers["X-Accel-Buffering"]) == ("no-cache", "no")
    blocks = answer.text.split("\n\n")
    assert blocks.pop() == ""
    assert [re.sub(r"(?<=: )\{.*", "{…}", block) for block in blocks] == [
        "id: 1\nevent: run_started\ndata: {…}",
        "id: 2\nevent: step_started\ndata: {…}",
        "id: 3\nevent: step_finished\ndata: {…}",
        "id: 4\nevent: run_finished\ndata: {…}",
    ]
    assert [event.number for event in scenarios.events(run_id, after=2)] == [3, 4]
    assert [event.number for event in scenarios.events(run_id, after=3)] == [4]
    again = scenarios.call("GET", f"/api/runs/{run_id}/events", headers={"Last-Event-ID": "4"})
    assert (again.status_code, again.content) == (204, b"")


def test_steps_take_what_earlier_ones_gave(scenarios: Scenarios) -> None:
    example(scenarios, "arithmetic_chain")
    example(scenarios, "text_report")
    chain = scenarios.start("arithmetic_chain", start=6)
    text = "Cranes lift. Cranes rest. Harbours sleep."
    report = scenarios.start("text_report", text=text, query="cranes")

    ended = scenarios.ended(chain)
    assert [(state["node_id"], state["status"]) for state in ended["steps"]] == [
        ("add", "success"),
        ("divide", "success"),
        ("statistics", "success"),
    ]
    shown = scenarios.get(f"/api/maze/runs/{chain}/tasks/statistics/outputs/mean")
    assert shown == pytest.approx((6 + 8 + 2) / 3)

    ended = scenarios.ended(report)
    assert (ended["status"], len(ended["steps"])) == ("success", 4)
    assert scenarios.get(f"/api/maze/runs/{report}/tasks/share/outputs/value") == pytest.approx(2 / 6)


def test_each_way_to_fail_has_its_own_message_and_ends_the_run(scenarios: Scenarios) -> None:
    ways = {
        "missing": (
            step("bad", "word_count", input={"text": {"from": "input.text"}}, required_input_fields=["text"]),
            "missing required input",
        ),
        "tool": (step("bad", "divide", input={"a": 1, "b": 0}), "tool 'divide' failed: .*1 can't be divided by zero"),
        "unknown": (step("bad", "no_such_tool"), "has no tool 'no_such_tool'; there are: .*word_count"),
        "transport": (step("bad", server={"url": "http://127.0.0.1:9/mcp"}), "http://127.0.0.1:9/mcp can't be reached"),
        "timeout": (step("bad", input={"seconds": 60}, timeout_seconds=1), "1 s"),
    }
    runs = {}
    for way, (bad, _) in ways.items():
        scenarios.apply(made := definition(bad, step("never")))
        runs[way] = scenarios.start(made["scenario_id"])
    for way, (_, expected) in ways.items():
        events = list(scenarios.follow(runs[way]))
        told = [(event.name, event.content.get("step_name"), event.content.get("status")) for event in events]
        assert told[-2:] == [("step_finished", "bad", "failed"), ("run_finished", None, "failed")], way
        assert "never" not in [name for _, name, _ in told]
        ended = scenarios.get(f"/api/runs/{runs[way]}")
        assert ended["status"] == "failed"
        assert [(state["node_id"], state["status"]) for state in ended["steps"]] == [("bad", "failed")]
        message = ended["steps"][-1]["message"]
        assert re.search(expected, message), f"{way}: {message}"
        assert ended["message"] == f"step 'bad' failed: {message}"
        assert events[-1].content["message"] == ended["message"]
        assert events[-2].content["message"] == message
        times = [events[-2].content[key] for key in ("started_at", "finished_at")]
        assert all(TIME.fullmatch(text) for text in times)
        assert times == sorted(times)


def test_a_run_that_is_cancelled_says_so(scenarios: Scenarios) -> None:
    scenarios.apply(made := definition(step("long", input={"seconds": 200}), step("never")))
    run_id = scenarios.start(made["scenario_id"])
    told = []
    for event in scenarios.follow(run_id):
        told.append((event.name, event.content.get("status")))
        if event.name == "step_started":
            assert scenarios.call("POST", f"/api/maze/runs/{run_id}/cancel").status_code == 200
    assert told[2:] == [("step_finished", "cancelled"), ("run_finished", "cancelled")]
    ended = scenarios.get(f"/api/runs/{run_id}")
    assert (ended["status"], ended["message"]) == ("cancelled", "cancelled by the user")


def test_a_step_can_bring_its_server(scenarios: Scenarios) -> None:
    program = {"command": "python3", "args": ["-m", "maze_tools.server", "--stdio"]}
    scenarios.apply(made := definition(step("add", "add", input={"a": 1, "b": {"from": "input.b"}}), server=program))
    run_id = scenarios.start(made["scenario_id"], b=2)
    assert scenarios.ended(run_id)["status"] == "success"
    assert scenarios.get(f"/api/maze/runs/{run_id}/tasks/add/outputs/value") == 3


def test_the_catalogue(scenarios: Scenarios) -> None:
    made = definition(
        step("a", required_input_fields=["seconds"]),
        name="Ünïcode",
        description="Words.",
        input_schema={"type": "object", "properties": {"z": {"default": 1.0}, "a": {"enum": [1, None, {"b": []}]}}},
        **{"x-ui": {"z": 1, "a": [1.50, "ß"]}},
    )
    assert scenarios.apply(made) == made
    identity = made["scenario_id"]
    assert json.dumps(scenarios.get(f"/api/scenarios/{identity}")) == json.dumps(made)
    listed = {item["scenario_id"]: item for item in scenarios.get("/api/scenarios")}
    assert list(listed) == sorted(listed)
    assert json.dumps(listed[identity]) == json.dumps(
        {
            "scenario_id": identity,
            "name": "Ünïcode",
            "description": "Words.",
            "input_schema": made["input_schema"],
        }
    )
    changed = {**made, "name": "New", "steps": [step("b")]}
    assert scenarios.apply(changed) == changed
    assert scenarios.get(f"/api/scenarios/{identity}") == changed

    assert scenarios.call("DELETE", f"/api/scenarios/{identity}").status_code == 204
    for method in ("GET", "DELETE"):
        answer = scenarios.call(method, f"/api/scenarios/{identity}")
        assert answer.status_code == 404
        assert answer.json()["detail"] == f"Unknown scenario_id: {identity}"
    answer = scenarios.call("POST", "/api/runs", json={"scenario_id": identity, "input": {}})
    assert (answer.status_code, answer.json()["type"]) == (404, "not_found")
    assert answer.json()["detail"] == f"Unknown scenario_id: {identity}"
    assert identity not in [item["scenario_id"] for item in scenarios.get("/api/scenarios")]


def test_a_workflow_of_kubectl_is_a_scenario(scenarios: Scenarios, cluster: Cluster, api: OwnApi) -> None:
    task = {"name": "only", "tool": {"name": "wait"}, "inputs": {"seconds": {"from": "input.seconds"}}}
    body = {
        "apiVersion": "/".join(GROUP),
        "kind": "Workflow",
        "metadata": {"name": "by-kubectl", "labels": {"maze.dev/scenario": "true"}},
        "spec": {"tasks": [task]},
    }
    cluster.custom.create_namespaced_custom_object(*GROUP, api.namespace, "workflows", body)
    assert scenarios.get("/api/scenarios/by-kubectl") == {
        "schema_version": "1",
        "scenario_id": "by-kubectl",
        "name": "by-kubectl",
        "steps": [{"name": "only", "type": "tool", "tool": "wait", "input": {"seconds": {"from": "input.seconds"}}}],
    }
    assert scenarios.ended(scenarios.start("by-kubectl", seconds=0))["status"] == "success"
    body["metadata"] = {"name": "no-scenario"}
    cluster.custom.create_namespaced_custom_object(*GROUP, api.namespace, "workflows", body)
    assert scenarios.call("GET", "/api/scenarios/no-scenario").status_code == 404
    answer = scenarios.call("POST", "/api/scenarios", json={"scenario_id": "no-scenario", "steps": [step("a")]})
    assert (answer.status_code, answer.json()["type"]) == (409, "conflict")


def test_input_that_does_not_fit_is_refused_with_all_that_is_wrong(scenarios: Scenarios) -> None:
    example(scenarios, "text_report")
    given = {"query": "", "sentences": 0, "more": 1}
    answer = scenarios.call("POST", "/api/runs", json={"scenario_id": "text_report", "input": given})
    assert answer.status_code == 422
    assert list(answer.json()) == ["detail", "type", "request_id"]
    detail = answer.json()["detail"]
    for problem in ("'text' is a required property", "input.query: ", "input.sentences: 0", "'more' was unexpected"):
        assert problem in detail
    assert detail.count("; ") == 3


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 422, "scenario_id: Field required"),
        ({"scenario_id": "text_report", "input": []}, 422, "input: "),
        ({"scenario_id": "text_report", "input": {"text": "\ud800", "query": "x"}}, 422, "unicode string"),
        ({"scenario_id": "text_report", "input": {"text": 2**70, "query": "x"}}, 422, "64 bits"),
        ({"scenario_id": "../../maze", "input": {}}, 404, "Unknown scenario_id: ../../maze"),
    ],
)
def test_bodies_that_are_no_runs(scenarios: Scenarios, body: Json, status: int, said: str) -> None:
    example(scenarios, "text_report")
    answer = scenarios.call("POST", "/api/runs", data=json.dumps(body), headers={"Content-Type": "application/json"})
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text


def test_a_definition_that_is_none_is_refused_with_all_that_is_wrong(scenarios: Scenarios) -> None:
    answer = scenarios.call(
        "POST",
        "/api/scenarios",
        json={"scenario_id": "a b", "steps": [{"name": "x y", "tool": "t", "when": 1}], "input_schema": {"type": 1}},
    )
    assert answer.status_code == 422
    for place in ("scenario_id: ", "steps.0.name: ", "steps.0.when: there is no such field", "input_schema: "):
        assert place in answer.json()["detail"]


@pytest.mark.parametrize("path", ["", "/events"])
def test_runs_that_there_are_not(scenarios: Scenarios, cluster: Cluster, api: OwnApi, path: str) -> None:
    for run_id in (UNKNOWN, "no name"):
        answer = scenarios.call("GET", f"/api/runs/{run_id}{path}")
        assert answer.status_code == 404
        assert answer.json()["detail"] == f"Unknown run_id: {run_id}"


def test_the_tools_are_those_of_the_server(scenarios: Scenarios) -> None:
    tools = {tool["name"]: tool for tool in scenarios.get("/api/tools")}
    assert {"word_count", "search_news_sources", "divide"} <= set(tools)
    assert list(tools["divide"]) == ["name", "description", "input_schema"]
    assert tools["divide"]["description"].startswith("Divide a by b.")
    assert set(tools["divide"]["input_schema"]["properties"]) == {"a", "b"}


def test_a_server_that_does_not_answer_is_a_bad_gateway(api: OwnApi) -> None:
    with own_api(api.namespace, MCP_SERVER_URL="http://127.0.0.1:9/mcp") as alone:
        answer = requests.get(f"{alone.url}/api/tools", timeout=60)
        assert answer.status_code == 502
        assert "http://127.0.0.1:9/mcp" in answer.json()["detail"]
        assert list(answer.json()) == ["detail", "type", "request_id"]


def test_kubectl_shows_a_scenario_run(scenarios: Scenarios, cluster: Cluster, api: OwnApi) -> None:
    """Behind the door stands the one model: a Run of a Workflow."""
    assert KUBECTL
    scenarios.apply(made := definition(step("only")))
    run_id = scenarios.start(made["scenario_id"])
    run = cluster.custom.get_namespaced_custom_object(*GROUP, api.namespace, "runs", run_id)
    assert run["metadata"]["labels"]["maze.dev/scenario"] == "true"
    assert run["metadata"]["annotations"]["maze.dev/scenario-id"] == made["scenario_id"]
    workflow = run["spec"]["workflowRef"]["name"]
    kept = cluster.custom.get_namespaced_custom_object(*GROUP, api.namespace, "workflows", workflow)
    assert kept["spec"]["tasks"][0]["tool"] == {"name": "wait"}
    scenarios.ended(run_id)
