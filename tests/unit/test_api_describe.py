"""If these fail, people are told something wrong about their Runs, or follow a log that never ends or never comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from maze_api.cache import view
from maze_api.describe import depends_on, output_detail, run_detail, run_summary
from maze_api.errors import BadRequest, Unavailable
from maze_api.logs import Standing, standing
from maze_api.routes.info import stale
from maze_api.routes.payloads import check_json
from maze_api.routes.runs import inline_bytes
from maze_api.uploads import Uploads
from maze_crds.run import TaskPhase, TaskStatus

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


def run_object(**status: Any) -> dict[str, Any]:
    tasks = [
        {"name": "a", "displayName": "first", "python": {"source": "x"}},
        {
            "name": "b",
            "python": {"source": "x"},
            "dependsOn": ["c"],
            "inputs": {"x": {"from": "a.output.y"}, "z": {"from": "input.k"}, "v": {"value": 1}},
        },
    ]
    return {
        "metadata": {
            "name": "r",
            "uid": "u",
            "labels": {"maze.dev/workflow-id": "w"},
            "creationTimestamp": "2026-01-02T03:04:04Z",
        },
        "spec": {"workflow": {"tasks": tasks}},
        "status": status,
    }


def test_a_run_is_told_with_all_its_tasks_also_before_it_has_a_status() -> None:
    fresh = run_detail(view(run_object()))
    assert (fresh["run_id"], fresh["workflow_id"], fresh["status"]) == ("r", "w", "Pending")
    assert [(task["task_id"], task["name"], task["status"]) for task in fresh["tasks"]] == [
        ("a", "first", "Pending"),
        ("b", "b", "Pending"),
    ]
    assert fresh["tasks"][1]["depends_on"] == ["c", "a"]
    assert fresh["created_at"] == "2026-01-02T03:04:04Z"
    assert fresh["started_at"] is None


def test_times_causes_and_exit_codes_are_told() -> None:
    failed = {
        "name": "b",
        "phase": "Failed",
        "attempt": 2,
        "cause": "OutOfMemory",
        "reason": "Killed",
        "message": "m",
        "exitCode": 137,
        "node": "10.0.0.1",
        "startTime": "2026-01-02T03:04:05.000006Z",
        "someNewField": 1,
    }
    told = run_detail(view(run_object(phase="Running", tasks=[failed], progress="0/2")))["tasks"][1]
    assert told["started_at"] == "2026-01-02T03:04:05.000006Z"
    assert told["finished_at"] is None
    assert (told["status"], told["attempt"], told["cause"], told["exit_code"]) == ("Failed", 2, "OutOfMemory", 137)


def test_a_run_by_reference_is_told_from_its_status() -> None:
    obj = run_object(tasks=[{"name": "z", "phase": "Running", "attempt": 1}])
    obj["spec"] = {"workflowRef": {"name": "template"}}
    told = run_detail(view(obj))["tasks"]
    assert [(task["task_id"], task["name"], task["depends_on"]) for task in told] == [("z", "z", [])]
    assert depends_on({}) == []


def test_a_list_does_not_read_tasks() -> None:
    obj = run_object(tasks=[{"name": "a", "phase": "no such phase"}], counts={"total": 2, "failed": 1})
    told = run_summary(view(obj, tasks=[]))
    assert told["counts"] == {
        "total": 2,
        "pending": 0,
        "running": 0,
        "succeeded": 0,
        "failed": 1,
        "skipped": 0,
        "cancelled": 0,
    }


@pytest.mark.parametrize(
    ("phase", "attempt", "asked", "expected"),
    [
        (TaskPhase.PENDING, 0, 1, Standing.TO_COME),
        (TaskPhase.STARTING, 1, 1, Standing.TO_COME),
        (TaskPhase.RUNNING, 1, 1, Standing.RUNNING),
        (TaskPhase.PENDING, 1, 1, Standing.ENDED),
        (TaskPhase.RUNNING, 2, 1, Standing.ENDED),
        (TaskPhase.RUNNING, 1, 2, Standing.TO_COME),
        (TaskPhase.SUCCEEDED, 1, 1, Standing.ENDED),
        (TaskPhase.CANCELLED, 0, 0, Standing.ENDED),
    ],
)
def test_how_it_is_with_an_attempt(phase: TaskPhase, attempt: int, asked: int, expected: Standing) -> None:
    assert standing(TaskStatus(name="t", phase=phase, attempt=attempt), asked) is expected


def test_a_lease_tells_whether_an_operator_leads() -> None:
    fresh = {"holderIdentity": "op", "renewTime": "2026-01-02T03:04:00.000000Z", "leaseDurationSeconds": 10}
    assert stale(fresh, NOW) is None
    assert "op has not renewed" in (stale(fresh, NOW + timedelta(seconds=10)) or "")
    assert stale({**fresh, "holderIdentity": ""}, NOW) == "no operator leads"
    assert stale({}, NOW) == "no operator leads"


def test_inline_outputs_are_the_bytes_that_were_hashed() -> None:
    assert inline_bytes({"encoding": "json", "size": 12, "sha256": "", "value": {"ä": [1.5]}}) == '{"ä":[1.5]}'.encode()
    assert inline_bytes({"encoding": "file", "size": 2, "sha256": "", "data": "aGk=", "fileName": "f"}) == b"hi"
    assert inline_bytes({"encoding": "json", "size": 9**9, "sha256": "", "key": True}) is None
    assert output_detail({"encoding": "file", "size": 2, "sha256": "s", "data": "aGk=", "fileName": "f"}) == {
        "encoding": "file",
        "size": 2,
        "sha256": "s",
        "file_name": "f",
    }


@pytest.mark.parametrize("data", [b"", b"{", b"NaN", b"[Infinity]", b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_refused_when_it_comes(data: bytes) -> None:
    with pytest.raises(BadRequest, match="not JSON"):
        check_json(data)
    check_json(b' {"a": [1, null]} ')


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_uploads_are_bounded_and_what_failed_is_not_counted() -> None:
    uploads = Uploads(10)

    async def body(*chunks: bytes) -> Any:
        for chunk in chunks:
            yield chunk

    async with uploads.receive(body(b"12345", b"6")) as first:
        assert first.data == b"123456"
        with pytest.raises(Unavailable, match="try again"):
            async with uploads.receive(body(b"1234", b"5")):
                pass
        async with uploads.receive(body(b"1234")):
            pass
    async with uploads.receive(body(b"1" * 10)) as last:
        assert len(last.sha256) == 64
