"""If these fail, workers are shown in a wrong state, or get tasks that are not for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from pydantic import ValidationError

from maze_api.cache import Runs
from maze_api.claims import build_claim, choose_task, same_claim
from maze_api.operator_client import Answer
from maze_api.pool import apply_environment, build_pool, is_noted, is_running, members_of, replicas_of
from maze_api.reports import is_final, refusal
from maze_api.task_index import TaskIndex
from maze_api.task_view import TaskView, view_task
from maze_api.worker_bodies import FailBody, RegisterBody, ScaleBody, describe_stats, encode, state_of
from maze_api.worker_cache import EPOCH, WorkerView, view_worker
from maze_api.worker_registry import build_lease, build_worker, needs_renewal
from maze_crds import names
from maze_crds.base import format_time
from maze_crds.worker import WorkerPoolSpec, WorkerSpec
from maze_io.kube import Kube

T0 = datetime(2026, 1, 1, tzinfo=UTC)
Json = dict[str, Any]


def task(name: str, problem: str = "test-1", status: Json | None = None, **spec: Any) -> TaskView:
    metadata = {"name": name, "uid": f"uid-{name}", "namespace": "maze", "resourceVersion": "1"}
    created = {"creationTimestamp": format_time(T0)}
    return view_task({"metadata": metadata | created, "spec": {"problemId": problem, **spec}, "status": status or {}})


def worker(heard: float | None = 0.0, said: str = "", state: str = "idle", **spec: Any) -> WorkerView:
    """A worker that was heard of this many seconds after T0, and may be silent for a minute."""
    full = {"workerId": "w", "backendType": "kind", "registeredTime": format_time(T0), **spec}
    obj = {"metadata": {"name": "w", "uid": "u"}, "spec": full, "status": {"state": state, "tasksCompleted": 3}}
    if heard is None:
        return view_worker(obj, None)
    metadata = {"name": "w", "annotations": {names.ANNOTATION_SAID: said} if said else None}
    renewed = format_time(T0 + timedelta(seconds=heard) if heard >= 0 else EPOCH)
    return view_worker(obj, {"metadata": metadata, "spec": {"renewTime": renewed, "leaseDurationSeconds": 60}})


def index(*tasks: TaskView) -> TaskIndex:
    runs = Runs(cast(Kube, None), "maze")
    for one in tasks:
        runs.put(one.obj)
    return TaskIndex(runs)


HELD = {"phase": "Running", "assignments": [{"number": 1, "worker": "w", "startTime": format_time(T0)}]}
DONE = {
    "phase": "Succeeded",
    "completionTime": format_time(T0 + timedelta(seconds=8)),
    "assignments": [{"number": 1, "worker": "w", "startTime": format_time(T0), "end": "Completed"}],
}
BUSY_WITH_T = '{"status": "busy", "current_task_id": "t"}'


@pytest.mark.parametrize(
    ("shown", "tasks", "state"),
    [
        (worker(), [], "idle"),
        (worker(), [task("t", status=HELD)], "busy"),
        (worker(), [task("t", status=DONE)], "idle"),
        (worker(said='{"status": "busy", "current_task_id": null}'), [], "busy"),
        (worker(said=BUSY_WITH_T), [task("t", status=DONE)], "idle"),
        (worker(said=BUSY_WITH_T), [task("t")], "busy"),
        (worker(said="no JSON"), [], "idle"),
        (worker(said="[1]"), [], "idle"),
        (worker(internal=True, said=BUSY_WITH_T), [], "idle"),
        (worker(heard=-1), [task("t", status=HELD)], "offline"),
        (worker(heard=1, state="offline"), [], "offline"),
        (worker(heard=90, state="offline"), [], "idle"),
        (worker(heard=None, state="offline"), [], "offline"),
        (worker(heard=1), [], "idle"),
    ],
)
def test_state_of_a_worker_100_seconds_later(shown: WorkerView, tasks: list[TaskView], state: str) -> None:
    assert state_of(shown, index(*tasks), T0 + timedelta(seconds=100)).value == state


@pytest.mark.parametrize(
    ("shown", "after", "needed"),
    [
        (worker(), 1.0, False),
        (worker(), 5.9, False),
        (worker(), 6.1, True),
        (worker(), -1.0, True),
        (worker(heard=-1), 1.0, True),
        (worker(heard=None), 1.0, True),
        (worker(state="offline"), 1.0, True),
    ],
)
def test_a_call_renews_the_heartbeat_unless_it_is_fresh(shown: WorkerView, after: float, needed: bool) -> None:
    assert needs_renewal(shown, T0 + timedelta(seconds=after)) is needed


def test_the_first_of_the_queue_that_the_worker_takes_is_chosen() -> None:
    queue = [task("a", "other-1"), task("b"), task("c"), task("d", "other-2")]
    globs = worker(capabilities={"supportedProblems": ["test-*"]})
    assert choose_task(queue, globs.takes, set()) is queue[1]
    assert choose_task(queue, globs.takes, {"b"}) is queue[2]
    assert choose_task(queue, globs.takes, {"b", "c"}) is None
    assert choose_task(queue, worker().takes, set()) is queue[0]


def test_a_claim_asks_for_the_next_assignment() -> None:
    lost = {
        "phase": "Pending",
        "assignments": [{"number": 1, "worker": "x", "startTime": format_time(T0), "end": "Lost"}],
    }
    claim = build_claim(task("t", status=lost), "w", T0)
    assert claim == {"worker": "w", "number": 2, "time": "2026-01-01T00:00:00.000000Z"}
    assert same_claim({"spec": {"claim": claim}}, claim)
    assert not same_claim({"spec": {"claim": {**claim, "worker": "v"}}}, claim)
    assert not same_claim({"spec": {}}, claim)


@pytest.mark.parametrize("worker_id", ["", "a/b", ".", "..", "a\nb", "x" * 254, "\ud800", None, 7])
def test_a_worker_id_must_fit_into_a_path(worker_id: Any) -> None:
    with pytest.raises(ValidationError, match="worker_id"):
        RegisterBody(worker_id=worker_id, backend_type="kind")


@pytest.mark.parametrize(
    "wrong",
    [
        {"backend_type": ""},
        {"capabilities": {"max_parallel_tasks": 0}},
        {"capabilities": {"max_parallel_tasks": "5"}},
        {"capabilities": {"supported_problems": "test-*"}},
        {"capabilities": {"supported_problems": [""]}},
        {"metadata": []},
        {"metadata": {"a": float("nan")}},
        {"metadata": {"a": "\ud800"}},
        {"metadata": {"a": "x" * 70000}},
    ],
)
def test_a_registration_that_makes_no_sense_is_refused(wrong: Json) -> None:
    with pytest.raises(ValidationError):
        RegisterBody.model_validate({"worker_id": "w", "backend_type": "kind", **wrong})


def test_a_registration_becomes_a_worker_with_a_lease() -> None:
    body = RegisterBody.model_validate({"worker_id": "Worker 1", "backend_type": "vm", "metadata": {"a": [None]}})
    obj = build_worker(body, names.worker_name("Worker 1"), format_time(T0))
    spec = WorkerSpec.model_validate(obj["spec"])
    assert (spec.worker_id, spec.internal, spec.capabilities.max_parallel_tasks) == ("Worker 1", False, 1)
    assert spec.metadata == {"a": [None]}
    lease = build_lease(view_worker({**obj, "metadata": {**obj["metadata"], "uid": "u"}}, None), 60, T0)
    assert lease["metadata"]["name"] == obj["metadata"]["name"]
    assert lease["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert lease["metadata"]["labels"] == {names.LABEL_HEARTBEAT: "true", names.LABEL_INTERNAL: "false"}
    assert lease["spec"] == {
        "holderIdentity": "Worker 1",
        "leaseDurationSeconds": 60,
        "renewTime": "2026-01-01T00:00:00.000000Z",
    }


@pytest.mark.parametrize(("error", "text"), [("boom", "boom"), ({"code": 7}, '{"code":7}'), (None, "null"), ("", "")])
def test_an_error_may_be_any_json(error: Any, text: str) -> None:
    assert FailBody(error=error).text == text


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": "\ud800"}, {"\udfff": 1}])
def test_what_is_no_json_does_not_travel(value: Any) -> None:
    with pytest.raises(ValueError, match=r"no JSON|no text"):
        encode(value)


@pytest.mark.parametrize("number", [-1, 10001, "5", 2.5, True, None])
def test_a_number_of_workers_is_a_whole_number(number: Any) -> None:
    with pytest.raises(ValidationError, match="num_workers"):
        ScaleBody(num_workers=number)


def test_stats_count_all_and_time_what_is_known() -> None:
    now = T0 + timedelta(seconds=20)
    stats = describe_stats(worker(), [task("r", status=HELD)], [task("t", status=DONE)], now)
    assert stats == {
        "id": "w",
        "tasks_completed": 3,
        "tasks_failed": 0,
        "tasks_lost": 0,
        "tasks_running": 1,
        "running_tasks": ["r"],
        "success_rate": 1.0,
        "average_duration_seconds": 8.0,
        "uptime_seconds": 20.0,
    }


def test_a_pool_follows_only_what_has_changed_in_the_environment() -> None:
    first = {"replicas": 3, "running": True}
    pool = build_pool(first, first)
    assert WorkerPoolSpec.model_validate(pool["spec"]) == WorkerPoolSpec()
    assert apply_environment(pool, first) is None
    scaled = {**pool, "spec": {"replicas": 7, "running": False}}
    assert apply_environment(scaled, first) is None
    grown = apply_environment(scaled, {"replicas": 4, "running": True})
    assert grown is not None
    assert grown["spec"] == {"replicas": 4, "running": False}
    assert apply_environment(grown, {"replicas": 4, "running": True}) is None


@pytest.mark.parametrize("annotations", [None, {}, {names.ANNOTATION_ENVIRONMENT: "nonsense"}])
def test_a_pool_that_a_person_made_is_left_as_it_is(annotations: Json | None) -> None:
    pool = {"metadata": {"name": "internal", "annotations": annotations}, "spec": {"replicas": 1}}
    noted = apply_environment(pool, {"replicas": 3, "running": True})
    assert noted is not None
    assert noted["spec"] == {"replicas": 1}
    assert apply_environment(noted, {"replicas": 3, "running": True}) is None


def test_what_a_pool_says() -> None:
    pool = {"spec": {"replicas": 2}, "status": {"observedGeneration": 2, "members": ["a", "b"]}}
    assert (replicas_of(pool), is_running(pool), members_of(pool)) == (2, True, ["a", "b"])
    assert is_noted(pool, 2)
    assert not is_noted(pool, 3)
    assert (replicas_of(None), is_running(None), members_of(None), is_noted(None, 1)) == (0, False, [], False)


@pytest.mark.parametrize(
    ("status", "owned", "final"),
    [
        (200, True, True),
        (409, False, True),
        (409, True, False),
        (404, True, False),
        (503, False, False),
        (502, False, False),
        (0, False, False),
        (400, True, True),
    ],
)
def test_an_operator_that_is_not_there_yet_is_asked_again(status: int, owned: bool, final: bool) -> None:
    assert is_final(Answer(status, ""), owned) is final


@pytest.mark.parametrize(
    ("status", "shown"), [(404, 404), (409, 409), (413, 413), (400, 422), (401, 503), (0, 503), (503, 503), (500, 503)]
)
def test_refusals_of_the_operator_are_told_the_worker(status: int, shown: int) -> None:
    assert refusal(Answer(status, "why"), "t").status == shown
