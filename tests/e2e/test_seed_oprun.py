"""The OpRun reference on the running system, function by function: create, list, get and update, with real containers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from cluster import Cluster, awaited
from maze_crds.quantity import parse_quantity
from oprun_http import (
    EXAMPLE,
    FOREVER,
    OVER,
    TIME,
    UNKNOWN,
    OpRuns,
    await_no_process,
    await_process,
    held,
    marker,
    must,
)
from place import image_named
from task_http import UUID, require_error

Json = dict[str, Any]
FIELDS = {
    *("id", "op_definition", "image", "state", "priority", "inputs", "outputs", "constraints", "retry_policy"),
    *("event_delivery", "progress", "current_attempt", "created_at", "updated_at", "started_at", "completed_at"),
    *("reason", "message"),
}


# POST /runs


def test_the_example_of_the_reference_runs_as_it_is_written(runs: OpRuns, cluster: Cluster) -> None:
    with image_named("docker.io/geoiahub/my_product:latest"):
        answer = runs.call(
            "POST",
            json={
                "image": "geoiahub/my_product:latest",
                "priority": 4,
                "inputs": {"param": "value"},
                "constraints": {"ram_mb": 4096},
            },
        )
        made = must(answer, 201)
        cluster.adopt(made["id"])
        assert set(made) == FIELDS
        assert re.fullmatch(UUID, made["id"])
        assert re.fullmatch(TIME, made["created_at"])
        assert (made["state"], made["current_attempt"], made["progress"]) == ("PENDING", 1, 0)
        assert (made["image"], made["priority"]) == ("geoiahub/my_product:latest", 4)
        assert (made["inputs"], made["outputs"]) == ({"param": "value"}, {})
        assert made["constraints"]["ram_mb"] == 4096
        assert made["retry_policy"] == {"max_attempts": 1}
        assert made["op_definition"] is made["event_delivery"] is made["started_at"] is made["completed_at"] is None

        done = runs.ended(made["id"])
        assert done["state"] == "COMPLETED", done
        assert done["outputs"] == {"steps": 0, "attempt": 1, "allocated": 0, "echo": None}
        assert re.fullmatch(TIME, done["completed_at"])
        times = [datetime.fromisoformat(done[f"{what}_at"]) for what in ("created", "started", "completed", "updated")]
        assert times == sorted(times)
        changes = {"state", "outputs", "updated_at", "started_at", "completed_at", "reason", "message"}
        assert {field: done[field] for field in FIELDS - changes} == {field: made[field] for field in FIELDS - changes}
        (pod,) = cluster.pods_of(made["id"])
        assert parse_quantity(pod.spec.containers[0].resources.limits["memory"]) == 4 * 1024**3
        assert pod.spec.priority == 4


def test_every_field_that_is_given_comes_back(runs: OpRuns) -> None:
    given: Json = {
        "image": EXAMPLE,
        "inputs": {"echo": [1, {"two": None}], "steps": 1},
        "priority": -3,
        "constraints": {"ram_mb": 64, "vram_mb": None, "cpu": 1},
        "retry_policy": {"max_attempts": 3},
        "event_delivery": {"topic": "products", "attributes": {"region": "north"}},
    }
    made = runs.create(**given)
    assert {field: made[field] for field in given} == given
    done = runs.ended(made["id"])
    assert {field: done[field] for field in given} == given
    assert (done["state"], done["progress"]) == ("COMPLETED", 100)
    assert done["outputs"]["echo"] == [1, {"two": None}]


def test_a_body_that_is_wrong_is_refused_with_the_field(runs: OpRuns) -> None:
    for body, field in [
        ({}, "image"),
        ({"image": EXAMPLE, "priority": "high"}, "priority"),
        ({"image": EXAMPLE, "inputs": [1]}, "inputs"),
        ({"image": EXAMPLE, "constraints": {"ram_mb": -1}}, "ram_mb"),
        ({"image": EXAMPLE, "retry_policy": {"max_attempts": 0}}, "max_attempts"),
        ({"image": EXAMPLE, "event_delivery": {"topic": ""}}, "topic"),
    ]:
        require_error(runs.call("POST", json=body), 422, "invalid", field)


# GET /runs


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """A name that no other OpRun has: the list of these is a test's own."""
    name = f"maze/{marker()}"
    with image_named(f"docker.io/{name}:latest"):
        yield name


def test_the_list_is_newest_first_in_pages_both_ways(runs: OpRuns, image: str) -> None:
    made = [runs.start(image=image) for _ in range(5)]
    newest = made[::-1]
    page = runs.list(image=image, limit=2)
    assert set(page) == {"object", "data", "has_more", "url"}
    assert (page["object"], page["url"], page["has_more"]) == ("list", "/runs", True)
    assert [run["id"] for run in page["data"]] == newest[:2]
    assert set(page["data"][0]) == FIELDS
    page = runs.list(image=image, limit=2, starting_after=newest[1])
    assert ([run["id"] for run in page["data"]], page["has_more"]) == (newest[2:4], True)
    page = runs.list(image=image, limit=2, starting_after=newest[3])
    assert ([run["id"] for run in page["data"]], page["has_more"]) == (newest[4:], False)
    page = runs.list(image=image, limit=2, ending_before=newest[3])
    assert ([run["id"] for run in page["data"]], page["has_more"]) == (newest[1:3], True)
    page = runs.list(image=image, limit=2, ending_before=newest[1])
    assert ([run["id"] for run in page["data"]], page["has_more"]) == (newest[:1], False)
    for run_id in made:
        assert runs.ended(run_id)["state"] == "COMPLETED"


def test_the_list_filters_by_state_image_and_time(runs: OpRuns, image: str) -> None:
    waiting = runs.create(image=image, inputs=FOREVER)
    done = runs.ended(runs.start(image=image))
    runs.until(waiting["id"], "RUNNING")
    assert waiting["id"] in runs.ids(image=image, state="RUNNING", limit=100)
    assert waiting["id"] in runs.ids(image=image, status="RUNNING", limit=100)
    completed = runs.ids(image=image, state="COMPLETED", status="COMPLETED", limit=100)
    assert done["id"] in completed
    assert waiting["id"] not in completed
    assert runs.ids(image=image, state="FAILED") == []
    assert runs.ids(image="maze/no-such-image") == []
    assert runs.ids(image=image, op_definition="no-such-definition") == []

    second = int(datetime.fromisoformat(waiting["created_at"]).timestamp())
    for query, there in [
        ({"created[gte]": second}, True),
        ({"created[gte]": second + 1}, False),
        ({"created[lte]": second + 1}, True),
        ({"created[lte]": second - 1}, False),
        ({"created[gt]": second - 1}, True),
        ({"created[gt]": second + 1}, False),
        ({"created[lt]": second + 1}, True),
        ({"created[lt]": second}, False),
        ({"created[gte]": second, "created[lt]": second + 1}, True),
    ]:
        found = runs.ids(image=image, state="RUNNING", limit=100, **query)
        assert (waiting["id"] in found) is there, query


def test_ten_come_where_no_limit_is_given(runs: OpRuns, image: str) -> None:
    for _ in range(11):
        run_id = runs.start(image=image)
        must(runs.cancel(run_id))
    page = runs.list(image=image)
    assert (len(page["data"]), page["has_more"]) == (10, True)
    assert page["data"][0]["id"] == run_id


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"state": "PENDING", "status": "FAILED"}, "state and status must match when both are provided"),
        ({"state": "DONE"}, "Invalid state 'DONE'"),
        ({"status": "running"}, "Invalid state 'running'"),
        ({"created[gte]": 10**18}, "Invalid created timestamp"),
        ({"created[lte]": -(10**18)}, "Invalid created timestamp"),
        ({"created[gt]": 10**15}, "Invalid created timestamp"),
        ({"created[lt]": 10**30}, "Invalid created timestamp"),
    ],
)
def test_a_wrong_filter_is_refused_in_the_words_of_the_reference(runs: OpRuns, query: Json, words: str) -> None:
    require_error(runs.call("GET", params=query), 400, "bad_request", words)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"starting_after": UNKNOWN}, f"OpRun '{UNKNOWN}' not found"),
        ({"ending_before": UNKNOWN}, f"OpRun '{UNKNOWN}' not found"),
        ({"starting_after": "no id"}, "OpRun 'no id' not found"),
        ({"starting_after": UNKNOWN, "ending_before": UNKNOWN}, "give one of them"),
    ],
)
def test_a_cursor_that_is_no_run_is_refused(runs: OpRuns, query: Json, words: str) -> None:
    require_error(runs.call("GET", params=query), 400, "bad_request", words)


@pytest.mark.parametrize("limit", [0, 101, "ten"])
def test_a_limit_outside_1_to_100_is_refused(runs: OpRuns, limit: Any) -> None:
    require_error(runs.call("GET", params={"limit": limit}), 422, "invalid", "query.limit")


# Every operation on a run that there is not


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"priority": 1}),
        ("POST", "/retry", None),
        ("POST", "/cancel", None),
        ("GET", "/events", None),
        ("GET", "/attempts", None),
        ("POST", "/events", {"type": "STARTED"}),
    ],
)
def test_an_unknown_run_is_not_found_anywhere(runs: OpRuns, method: str, path: str, body: Json | None) -> None:
    for run_id in (UNKNOWN, "no-id"):
        answer = runs.call(method, f"/{run_id}{path}", json=body)
        require_error(answer, 404, "not_found", f"OpRun '{run_id}' not found")


# PATCH /runs/{id}


def test_outputs_and_priority_are_changed_and_no_event_tells_it(runs: OpRuns) -> None:
    run_id = held(runs, priority=1)
    before = runs.get(run_id)
    changed = must(runs.patch(run_id, outputs={"by": "hand", "deep": {"a": [1]}}, priority=7))
    assert (changed["outputs"], changed["priority"]) == ({"by": "hand", "deep": {"a": [1]}}, 7)
    awaited(lambda: runs.get(run_id)["updated_at"], lambda updated: updated > before["updated_at"])
    assert must(runs.patch(run_id, outputs={"other": 1}))["outputs"] == {"other": 1}, "replaced, not merged"
    assert must(runs.patch(run_id, outputs={}))["outputs"] == {}
    assert must(runs.patch(run_id))["priority"] == 7
    assert runs.types(run_id) == ["STARTED"]
    assert runs.get(run_id)["state"] == "RUNNING"


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CANCELLED"])
def test_the_emergency_state_ends_the_run_and_its_container_without_an_event(runs: OpRuns, state: str) -> None:
    text = marker()
    run_id = held(runs, {"marker": text})
    await_process(text)
    assert must(runs.patch(run_id, state=state, outputs={"by": "hand"}))["state"] == state
    await_no_process(text)
    now = runs.get(run_id)
    assert (now["state"], now["outputs"]) == (state, {"by": "hand"})
    assert runs.types(run_id) == ["STARTED"]
    assert [one["state"] for one in runs.attempts(run_id)] == [state]
    require_error(runs.post(run_id, "PROGRESS", 1), 400, "bad_request", f"{OVER} {state}")


def test_the_emergency_state_pending_runs_it_again(runs: OpRuns) -> None:
    run_id = runs.start()
    runs.ended(run_id)
    assert must(runs.patch(run_id, state="PENDING"))["current_attempt"] == 2
    done = awaited(lambda: runs.get(run_id), lambda run: run["state"] == "COMPLETED" and run["current_attempt"] == 2)
    assert done["outputs"]["attempt"] == 2
    assert runs.types(run_id) == ["STARTED", "COMPLETED"] * 2
    require_error(runs.patch(run_id, state="RUNNING"), 400, "bad_request", "PENDING")
    assert runs.get(run_id)["state"] == "COMPLETED"


def test_a_wrong_update_is_refused_and_changes_nothing(runs: OpRuns) -> None:
    run_id = runs.start()
    before = runs.ended(run_id)
    require_error(runs.patch(run_id, state="DONE", priority=9), 400, "bad_request", "Invalid state 'DONE'")
    for body in ({"priority": "high"}, {"outputs": [1]}):
        require_error(runs.patch(run_id, **body), 422, "invalid", next(iter(body)))
    assert runs.get(run_id) == before
