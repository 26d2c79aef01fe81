"""What the container of an OpRun gets, says and leaves, and how each way to end shows in the attempts. Real pods."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
import requests

from cluster import GROUP, Cluster, awaited, kubectl
from oprun_http import EXAMPLE, FOREVER, OpRuns, await_no_process, await_process, held, marker, must
from own_api import cluster_env

Json = dict[str, Any]
LARGE = "x" * 300_000
"""More than an environment variable of a process can hold."""


def environment(cluster: Cluster, run_id: str) -> dict[str, str]:
    """What the pod of the run gives its container."""
    (pod,) = awaited(lambda: cluster.pods_of(run_id), bool)
    return {one.name: one.value for one in pod.spec.containers[0].env}


def own_url(environment: dict[str, str]) -> str:
    """MAZE_EVENTS_URL by an address that works from here."""
    return cluster_env()["MAZE_REPORT_URL"] + "/v1/" + environment["MAZE_EVENTS_URL"].partition("/v1/")[2]


def test_the_container_gets_its_inputs_and_an_address_and_token_for_its_events(runs: OpRuns, cluster: Cluster) -> None:
    run_id = held(runs, {"text": "ä"})
    env = environment(cluster, run_id)
    assert set(env) == {"MAZE_INPUTS", "MAZE_EVENTS_URL", "MAZE_TOKEN"}
    assert json.loads(env["MAZE_INPUTS"]) == {**FOREVER, "text": "ä"}
    assert env["MAZE_EVENTS_URL"].endswith(f"/v1/op-runs/maze/{run_id}/events?attempt=1")


def test_dollars_in_inputs_reach_the_program_as_they_are(runs: OpRuns) -> None:
    text = "$(MAZE_TOKEN) $$(HOME) $HOME ä \"'\n"
    done = runs.ended(runs.start({"echo": text}))
    assert done["outputs"]["echo"] == text


def test_large_inputs_come_by_url_and_large_outputs_by_event(runs: OpRuns, cluster: Cluster) -> None:
    made = runs.create({"echo": LARGE, "report": "COMPLETED"})
    assert made["inputs"]["echo"] == LARGE
    done = runs.ended(made["id"])
    assert done["state"] == "COMPLETED", done
    assert done["inputs"] == {"echo": LARGE, "report": "COMPLETED"}
    assert done["outputs"]["echo"] == LARGE
    assert runs.events(made["id"])[-1]["payload"] == {"outputs": done["outputs"]}
    assert "MAZE_INPUTS" not in environment(cluster, made["id"])
    assert len(json.dumps(cluster.get_run(made["id"]))) < 100_000, "neither is in the Run"


def test_completed_of_the_container_itself_ends_a_run_that_lives_on(runs: OpRuns) -> None:
    text = marker()
    run_id = runs.start({"report": "COMPLETED", "linger": 3600, "stubborn": True, "marker": text, "steps": 1})
    await_process(text)
    done = runs.ended(run_id)
    assert (done["state"], done["outputs"]["steps"], done["progress"]) == ("COMPLETED", 1, 100)
    await_no_process(text)
    assert runs.types(run_id) == ["STARTED", "PROGRESS", "COMPLETED"]


def test_failed_of_the_container_itself_leads_to_the_next_attempt(runs: OpRuns) -> None:
    run_id = runs.start({"report": "FAILED", "fail": "no data"}, retry_policy={"max_attempts": 2})
    assert runs.ended(run_id)["state"] == "FAILED"
    assert runs.types(run_id) == ["STARTED", "FAILED", "RETRIED", "STARTED", "FAILED"]
    assert [one["error_message"] for one in runs.attempts(run_id)] == ["no data", "no data"]


def test_the_token_of_a_run_is_good_for_its_own_events_only(runs: OpRuns, cluster: Cluster) -> None:
    mine, other = held(runs), held(runs)
    env, url = environment(cluster, mine), own_url(environment(cluster, mine))
    event = {"type": "note", "msg": "hello", "key": "k1"}

    def say(url: str, token: str | None, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        return requests.post(url, json={**event, **more}, headers=headers, timeout=60)

    said = must(say(url, env["MAZE_TOKEN"]))
    assert (said["id"], said["state"]) == (1, "RUNNING")
    assert must(say(url, env["MAZE_TOKEN"]))["id"] == 1, "a repeat with the same key is the same event"
    assert [event["type"] for event in runs.events(mine)] == ["STARTED", "note"]
    for token in (None, "", "x" * 64, environment(cluster, other)["MAZE_TOKEN"]):
        assert say(url, token, key="k2").status_code in (401, 403)
    for path in (url.replace(mine, other), url.replace(mine, "no-such-run")):
        assert say(path, env["MAZE_TOKEN"], key="k3").status_code in (401, 403, 404)
    assert say(url.replace("attempt=1", "attempt=2"), env["MAZE_TOKEN"], key="k4").status_code == 409
    assert say(url, env["MAZE_TOKEN"], key="k5", type="PROGRESS", msg=101).status_code == 400
    assert runs.types(mine) == ["STARTED", "note"]
    assert runs.types(other) == ["STARTED"]
    must(runs.cancel(mine))
    assert say(url, env["MAZE_TOKEN"], key="k6").status_code == 400


@pytest.mark.parametrize(
    ("inputs", "constraints", "exit_code", "reason", "words"),
    [
        ({"exit_code": 3}, {}, 3, "Exited", "exit code 3"),
        ({"fail": "the file is empty"}, {}, 1, "Exited", "the file is empty"),
        ({"allocate_mb": 500}, {"ram_mb": 128}, 137, "OOMKilled", "memory"),
    ],
)
def test_a_container_that_fails_without_a_word_makes_the_events(
    runs: OpRuns, inputs: Json, constraints: Json, exit_code: int, reason: str, words: str
) -> None:
    run_id = runs.start(inputs, constraints=constraints, retry_policy={"max_attempts": 2})
    done = runs.ended(run_id)
    assert (done["state"], done["current_attempt"]) == ("FAILED", 2)
    attempts = runs.attempts(run_id)
    assert [(one["exit_code"], one["reason"]) for one in attempts] == [(exit_code, reason)] * 2
    assert all(words in one["error_message"] for one in attempts)
    events = runs.events(run_id)
    assert [event["type"] for event in events] == ["STARTED", "FAILED", "RETRIED", "STARTED", "FAILED"]
    for event in events[1], events[4]:
        assert (event["payload"]["exit_code"], event["payload"]["reason"]) == (exit_code, reason)
        assert words in event["payload"]["error_message"]
    assert done["reason"] == reason
    assert words in done["message"]


def test_an_image_that_there_is_not_is_the_reason_while_it_waits(runs: OpRuns) -> None:
    run_id = runs.start(image="maze/no-such-image:1")
    seen = awaited(lambda: runs.get(run_id), lambda run: run["reason"] == "ImagePullFailed")
    assert seen["state"] == "PENDING"
    assert "no-such-image" in seen["message"]
    (attempt,) = runs.attempts(run_id)
    assert (attempt["state"], attempt["reason"]) == ("PENDING", "ImagePullFailed")
    assert must(runs.cancel(run_id))["state"] == "CANCELLED"
    runs.until_event(run_id, "CANCELLED")
    assert runs.types(run_id) == ["CANCELLED"]


def test_a_run_of_a_named_workflow_reports_it_and_is_found_by_it(runs: OpRuns, cluster: Cluster) -> None:
    """With kubectl alone: a Workflow, and a Run that refers to it."""
    name = f"test-op-{uuid.uuid4().hex[:10]}"
    task = {"name": "embed", "container": {"image": EXAMPLE}, "resources": {"cpu": 1, "memory": "64Mi"}}
    objects = [
        ("Workflow", {"tasks": [task]}),
        ("Run", {"workflowRef": {"name": name}, "opRun": {"maxAttempts": 2}, "inputs": {"fail_attempts": 1}}),
    ]
    try:
        for kind, spec in objects:
            body = {"apiVersion": "/".join(GROUP), "kind": kind, "metadata": {"name": name}, "spec": spec}
            cluster.custom.create_namespaced_custom_object(*GROUP, "maze", f"{kind.lower()}s", body)
        cluster.adopt(name)
        awaited(lambda: runs.call("GET", f"/{name}"), lambda answer: answer.status_code == 200)
        done = runs.ended(name)
        assert (done["state"], done["op_definition"], done["image"]) == ("COMPLETED", name, EXAMPLE), done
        assert (done["retry_policy"], done["current_attempt"]) == ({"max_attempts": 2}, 2)
        other = runs.start()
        page = runs.list(op_definition=name)
        assert [run["id"] for run in page["data"]] == [name]
        assert page["has_more"] is False
        assert name in runs.ids(image=EXAMPLE, limit=100)
        assert runs.get(other)["op_definition"] is None
    finally:
        kubectl("delete", "-n", "maze", "workflows.maze.dev", name, "--ignore-not-found")


def test_a_run_that_is_no_oprun_is_not_found(runs: OpRuns, cluster: Cluster) -> None:
    name = cluster.run({"name": "t", "container": {"image": EXAMPLE}}, desiredState="Suspended")
    assert runs.call("GET", f"/{name}").status_code == 404
    assert name not in runs.ids(limit=100)
