"""If these fail, a client of a scenario run sees it end wrongly, or misses a step, or sees one twice."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from builders import at, failed, run_view, succeeded
from maze_api.scenario_view import events, snapshot, submitted, view_scenario_run
from maze_api.sse import format_event, make_feed, parse_last_event_id
from maze_crds import names
from maze_crds.run import RunStatus
from maze_crds.workflow import WorkflowSpec
from maze_operator.core.plan import plan
from maze_operator.core.values import AttemptId, CreatePod, Facts, PodView, Settings

Json = dict[str, Any]
QUEUED = "2026-04-24T09:27:59.873000Z"


def run_object(status: Json | RunStatus, **spec: Any) -> Json:
    if isinstance(status, RunStatus):
        status = status.model_dump(mode="json", by_alias=True)
    return {
        "metadata": {
            "name": "run-1",
            "uid": "uid-1",
            "creationTimestamp": "2026-04-24T09:27:59Z",
            "labels": {names.LABEL_SCENARIO: "true"},
            "annotations": {names.ANNOTATION_SCENARIO_ID: "news_1"},
        },
        "spec": {"workflowRef": {"name": "news-1-abc"}, "inputs": {"url": "x"}, "queuedTime": QUEUED, **spec},
        "status": status,
    }


def viewed(status: Json | RunStatus, **spec: Any) -> Any:
    found = view_scenario_run(run_object(status, **spec))
    assert found is not None
    return found


def task(name: str, phase: str, start: int | None, end: int | None, **more: Any) -> Json:
    return {
        "name": name,
        "phase": phase,
        "attempt": 1,
        "startEvent": start,
        "endEvent": end,
        "startTime": "2026-04-24T09:27:59.875000Z" if start else None,
        "completionTime": "2026-04-24T09:28:00.028000Z" if end else None,
        **more,
    }


DONE: Json = {
    "phase": "Failed",
    "message": "task 'b' failed: no luck",
    "firstFailure": {"task": "b", "reason": "ToolError", "message": "no luck"},
    "startTime": "2026-04-24T09:27:59.900000Z",
    "completionTime": "2026-04-24T09:28:01.750000Z",
    "lastEvent": 7,
    "endEvent": 7,
    "tasks": [
        task("a", "Succeeded", 2, 3),
        task("b", "Failed", 4, 5, message="no luck"),
        task("c", "Skipped", None, 6, message="step b failed"),
    ],
}


def test_events_are_as_the_reference_shows_them() -> None:
    assert [json.dumps(content) for _, content in events(viewed(DONE))] == [
        '{"type": "run_started", "run_id": "run-1", "scenario_id": "news_1", "started_at": "2026-04-24T09:27:59.873+00:00"}',
        '{"type": "step_started", "run_id": "run-1", "step_name": "a", "index": 0,'
        ' "started_at": "2026-04-24T09:27:59.875+00:00"}',
        '{"type": "step_finished", "run_id": "run-1", "step_name": "a", "index": 0, "status": "success",'
        ' "started_at": "2026-04-24T09:27:59.875+00:00", "finished_at": "2026-04-24T09:28:00.028+00:00", "message": ""}',
        '{"type": "step_started", "run_id": "run-1", "step_name": "b", "index": 1,'
        ' "started_at": "2026-04-24T09:27:59.875+00:00"}',
        '{"type": "step_finished", "run_id": "run-1", "step_name": "b", "index": 1, "status": "failed",'
        ' "started_at": "2026-04-24T09:27:59.875+00:00", "finished_at": "2026-04-24T09:28:00.028+00:00",'
        ' "message": "no luck"}',
        '{"type": "run_finished", "run_id": "run-1", "status": "failed",'
        ' "finished_at": "2026-04-24T09:28:01.750+00:00", "message": "step \'b\' failed: no luck"}',
    ]
    assert [number for number, _ in events(viewed(DONE))] == [1, 2, 3, 4, 5, 7]


def test_a_snapshot_has_the_steps_that_have_ended() -> None:
    assert json.dumps(snapshot(viewed(DONE)).model_dump()) == json.dumps(
        {
            "scenario_id": "news_1",
            "status": "failed",
            "message": "step 'b' failed: no luck",
            "input": {"url": "x"},
            "steps": [
                {
                    "node_id": "a",
                    "status": "success",
                    "started_at": "2026-04-24T09:27:59.875+00:00",
                    "finished_at": "2026-04-24T09:28:00.028+00:00",
                    "message": "",
                },
                {
                    "node_id": "b",
                    "status": "failed",
                    "started_at": "2026-04-24T09:27:59.875+00:00",
                    "finished_at": "2026-04-24T09:28:00.028+00:00",
                    "message": "no luck",
                },
            ],
            "run_id": "run-1",
        }
    )


def test_a_run_that_nobody_has_looked_at_yet_is_running() -> None:
    new = viewed({})
    assert snapshot(new).model_dump() == {
        "scenario_id": "news_1",
        "status": "running",
        "message": "",
        "input": {"url": "x"},
        "steps": [],
        "run_id": "run-1",
    }
    assert [content["type"] for _, content in events(new)] == ["run_started"]
    assert json.dumps(submitted(new).model_dump()) == json.dumps(
        {
            "run_id": "run-1",
            "scenario_id": "news_1",
            "status": "running",
            "input": {"url": "x"},
            "started_at": "2026-04-24T09:27:59.873+00:00",
        }
    )


def test_a_run_that_could_not_begin_has_a_beginning_and_an_end() -> None:
    status = {"phase": "Failed", "message": "there is no Workflow 'x'", "endEvent": 1, "completionTime": QUEUED}
    assert [(number, content["type"]) for number, content in events(viewed(status))] == [
        (1, "run_started"),
        (2, "run_finished"),
    ]


def test_a_step_that_is_tried_again_starts_and_finishes_once() -> None:
    earlier = {
        "attempt": 1,
        "cause": "UserError",
        "reason": "ToolError",
        "completionTime": "2026-04-24T09:27:57Z",
        "startTime": "2026-04-24T09:27:56Z",
        "startEvent": 2,
        "endEvent": 3,
    }
    status = {"phase": "Running", "tasks": [task("a", "Succeeded", 4, 5, failedAttempts=[earlier], attempt=2)]}
    assert [(number, content["type"], content["started_at"]) for number, content in events(viewed(status))][1:] == [
        (2, "step_started", "2026-04-24T09:27:56.000+00:00"),
        (5, "step_finished", "2026-04-24T09:27:56.000+00:00"),
    ]


def test_a_step_that_failed_before_its_pod_began_has_both_times() -> None:
    status = {"phase": "Running", "tasks": [task("a", "Failed", None, 2, scheduledTime="2026-04-24T09:27:58Z")]}
    (_, content) = events(viewed(status))[1]
    assert (content["type"], content["started_at"]) == ("step_finished", "2026-04-24T09:27:58.000+00:00")


def test_cancelled_steps_are_told_of_if_they_had_begun() -> None:
    status = {
        "phase": "Cancelled",
        "message": "cancelled by the user",
        "endEvent": 5,
        "completionTime": QUEUED,
        "tasks": [task("a", "Cancelled", 2, 3), task("b", "Cancelled", None, 4)],
    }
    found = events(viewed(status))
    assert [(number, content["type"]) for number, content in found] == [
        (1, "run_started"),
        (2, "step_started"),
        (3, "step_finished"),
        (5, "run_finished"),
    ]
    assert (found[2][1]["status"], found[3][1]["status"]) == ("cancelled", "cancelled")
    assert [step.node_id for step in snapshot(viewed(status)).steps] == ["a"]


def test_runs_of_other_kinds_are_none() -> None:
    obj = run_object({})
    obj["metadata"]["labels"] = {}
    assert view_scenario_run(obj) is None
    assert make_feed(obj) is None


def test_an_event_is_text_as_the_reference_shows_it_with_its_number() -> None:
    made = format_event(3, {"type": "run_finished", "message": "a\nb ü"})
    assert made.decode() == 'id: 3\nevent: run_finished\ndata: {"type": "run_finished", "message": "a\\nb ü"}\n\n'


def test_only_our_numbers_are_taken_from_a_client() -> None:
    assert [parse_last_event_id(text) for text in ("7", None, "", "x", "-1", "٣", "9" * 5000)] == [7, 0, 0, 0, 0, 0, 0]


@given(st.data())
def test_what_was_told_once_is_never_told_differently(data: st.DataObject) -> None:
    """Random faults under the real planner: the events of each status begin with those of the status before."""
    spec = WorkflowSpec.model_validate(
        {
            "tasks": [
                {"name": "a", "tool": {"name": "t"}, "retry": {"limit": 1, "backoffSeconds": 0}},
                {"name": "b", "tool": {"name": "t"}, "dependsOn": ["a"]},
                {"name": "c", "tool": {"name": "t"}, "dependsOn": ["a"]},
                {"name": "d", "tool": {"name": "t"}, "dependsOn": ["b", "c"]},
            ]
        }
    )
    settings = Settings(default_image="r", report_url="http://o", tools_image="t", mcp_server_url="http://m/mcp")
    status, pods, told = RunStatus(), {}, []
    for turn in range(40):
        results = {}
        for attempt in pods:
            if data.draw(st.booleans()):
                results[attempt] = succeeded() if data.draw(st.integers(0, 3)) else failed()
        wish = {"desired_state": "Cancelled"} if data.draw(st.integers(0, 20)) == 20 else {}
        made = plan(run_view(spec, status, **wish), pods, Facts(results=results), at(turn), settings)
        status = made.status
        for action in made.actions:
            if isinstance(action, CreatePod):
                pods[action.attempt_id] = PodView(
                    name="p", uid="u", attempt_id=AttemptId(action.attempt_id.task, action.attempt_id.attempt)
                )
        told_now = events(viewed(status))
        assert told_now[: len(told)] == told
        numbers = [number for number, _ in told_now]
        assert numbers == sorted(set(numbers))
        told = told_now
        if status.phase in ("Succeeded", "Failed", "Cancelled"):
            break
    assert told[0][1]["type"] == "run_started"
    assert datetime.fromisoformat(told[0][1]["started_at"]).tzinfo == UTC
