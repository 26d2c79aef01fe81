"""If these fail, an update of an OpRun is lost, a page misses a run, or the timeline has a gap: two api processes of our own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from cluster import GROUP, Cluster, awaited
from maze_crds import names
from oprun_http import EXAMPLE, FOREVER, OpRuns, must
from own_api import OwnApi, own_api, own_namespace
from task_http import require_error

Json = dict[str, Any]
LARGE = "x" * 100_000
MANY = 150
"""Events: more than a status keeps."""


@pytest.fixture(scope="module")
def apis() -> Iterator[list[OwnApi]]:
    """Two processes on one namespace."""
    with ExitStack() as stack:
        namespace = stack.enter_context(own_namespace())
        yield [stack.enter_context(own_api(namespace)) for _ in range(2)]


@pytest.fixture
def clients(apis: list[OwnApi]) -> Iterator[list[OpRuns]]:
    cluster = Cluster(apis[0].namespace)
    made = [OpRuns(cluster, api.url) for api in apis]
    yield made
    cluster.clean()
    for one in made:
        one.close()
    cluster.close()


def held_back(runs: OpRuns, **spec: Any) -> str:
    """The id of an OpRun that makes no pod: it is suspended."""
    task = {"name": "op", "container": {"image": EXAMPLE}}
    return runs.cluster.create_run({"workflow": {"tasks": [task]}, "opRun": {}, "desiredState": "Suspended", **spec})


def seen_by(clients: list[OpRuns], run_id: str) -> None:
    """Both processes, and the operator, know of it."""
    for one in clients:
        awaited(lambda one=one: one.call("GET", f"/{run_id}").status_code, lambda status: status == 200)
    awaited(lambda: clients[0].cluster.get_run(run_id).get("status", {}).get("op"), bool)


def at_once(calls: list[Callable[[], requests.Response]]) -> list[requests.Response]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def test_of_many_writers_at_once_none_loses_an_update(clients: list[OpRuns]) -> None:
    run_id = held_back(clients[0])
    seen_by(clients, run_id)
    first, second = clients
    calls: list[Callable[[], requests.Response]] = []
    for number in range(10):
        calls.append(lambda number=number: second.post(run_id, f"NOTE-{number}"))
        calls.append(lambda number=number: first.post(run_id, f"MARK-{number}"))
    calls.append(lambda: first.patch(run_id, priority=7))
    calls.append(lambda: second.patch(run_id, outputs={"by": "second"}))
    for answer in at_once(calls):
        must(answer)
    now = awaited(lambda: first.get(run_id), lambda run: run["outputs"] == {"by": "second"})
    assert now["priority"] == 7
    kinds = [event["type"] for event in first.events(run_id)]
    assert sorted(kinds) == sorted(f"{kind}-{number}" for kind in ("NOTE", "MARK") for number in range(10))
    assert [event["id"] for event in second.events(run_id)] == list(range(20))


def test_updates_of_different_fields_at_once_are_all_written(clients: list[OpRuns]) -> None:
    run_id = held_back(clients[0])
    seen_by(clients, run_id)
    before = clients[0].get(run_id)["updated_at"]
    priorities, outputs = list(range(1, 11)), [{"by": number} for number in range(10)]
    calls = [lambda value=value: clients[value % 2].patch(run_id, priority=value) for value in priorities]
    calls += [lambda value=value: clients[value["by"] % 2].patch(run_id, outputs=value) for value in outputs]
    for answer in at_once(calls):
        must(answer)
    spec = clients[0].cluster.get_run(run_id)["spec"]
    assert spec["override"]["outputs"]["number"] == len(outputs)
    assert spec["override"]["outputs"]["outputs"] in outputs
    assert spec["priority"] in priorities
    wanted = (spec["priority"], spec["override"]["outputs"]["outputs"])
    for one in clients:
        now = awaited(
            lambda one=one: one.get(run_id),
            lambda run: (run["priority"], run["outputs"]) == wanted and run["updated_at"] > before,
        )
        assert now["state"] == "PENDING"


def test_of_many_that_retry_or_cancel_at_once_one_wins(clients: list[OpRuns]) -> None:
    run_id = held_back(clients[0], inputs=FOREVER)  # to retry it lets it run
    seen_by(clients, run_id)
    statuses = sorted(
        answer.status_code for answer in at_once([lambda one=one: one.cancel(run_id) for one in clients * 4])
    )
    assert statuses == [200] + [400] * 7
    statuses = sorted(
        answer.status_code for answer in at_once([lambda one=one: one.retry(run_id) for one in clients * 4])
    )
    assert statuses == [200] + [400] * 7
    assert clients[0].get(run_id)["current_attempt"] == 2
    events = awaited(lambda: clients[0].events(run_id), lambda events: len(events) >= 2)
    assert [event["type"] for event in events[:2]] == ["CANCELLED", "RETRIED"]


def test_a_cancel_and_an_end_that_is_posted_agree(clients: list[OpRuns]) -> None:
    """Whoever comes first wins, and the other one is told so."""
    first, second = clients
    for _ in range(5):
        run_id = held_back(first)
        seen_by(clients, run_id)
        cancelled, completed = at_once(
            [lambda: first.cancel(run_id), lambda: second.post(run_id, "COMPLETED", "", {"outputs": {"a": 1}})]  # noqa: B023
        )
        assert sorted([cancelled.status_code, completed.status_code]) == [200, 400], (cancelled.text, completed.text)
        state = "CANCELLED" if cancelled.status_code == 200 else "COMPLETED"
        assert {one.ended(run_id)["state"] for one in clients} == {state}
        events = awaited(lambda: first.events(run_id), bool)  # noqa: B023
        assert [event["type"] for event in events] == [state]


def test_a_walk_meets_every_older_run_once_while_others_are_made(clients: list[OpRuns]) -> None:
    first, second = clients
    older = [held_back(first) for _ in range(12)]
    for run_id in older:
        seen_by(clients, run_id)
    stop = threading.Event()

    def keep_making() -> None:
        while not stop.is_set():
            held_back(first)

    maker = threading.Thread(target=keep_making)
    maker.start()
    try:
        met: list[str] = []
        after: str | None = None
        for turn in range(1000):
            reader = clients[turn % 2]
            page = must(reader.call("GET", params={"limit": 2, **({"starting_after": after} if after else {})}))
            met += [run["id"] for run in page["data"]]
            if not page["has_more"]:
                break
            after = met[-1]
    finally:
        stop.set()
        maker.join()
    assert len(met) == len(set(met))
    assert set(older) <= set(met)
    assert second.list(limit=100, ending_before=met[-1])["data"]


def test_the_timeline_goes_on_where_the_status_ends(clients: list[OpRuns], apis: list[OwnApi]) -> None:
    run_id = held_back(clients[0])
    seen_by(clients, run_id)
    for start in range(0, MANY, 25):
        posts = [
            lambda number=number: clients[number % 2].post(run_id, "PROGRESS", number % 101)
            for number in range(start, start + 25)
        ]
        for answer in at_once(posts):
            must(answer)
    tail = clients[0].cluster.get_run(run_id)["status"]["op"]["events"]
    assert 0 < len(tail) < 64
    whole = clients[0].events(run_id)
    assert [event["id"] for event in whole] == list(range(MANY))
    assert sorted(event["msg"] for event in whole) == sorted(number % 101 for number in range(MANY))
    for after in (-5, -1, 0, 30, 31, 32, 100, MANY - 2, MANY - 1, MANY + 7):
        assert clients[1].events(run_id, after) == [event for event in whole if event["id"] > after]
    apis[1].restart()
    assert clients[1].events(run_id) == whole


def test_what_is_large_comes_back_whole(clients: list[OpRuns]) -> None:
    runs = clients[0]
    run_id = runs.start({"text": LARGE, "steps": 1, "seconds": 3600})
    assert runs.get(run_id)["inputs"]["text"] == LARGE
    assert "text" not in runs.cluster.get_run(run_id)["spec"].get("inputs", {})
    runs.until_event(run_id, "STARTED")
    runs.said(run_id, "NOTE", LARGE, {"a": [LARGE]})
    note = runs.until_event(run_id, "NOTE")
    assert (note["msg"], note["payload"]) == (LARGE, {"a": [LARGE]})
    done = runs.said(run_id, "COMPLETED", "", {"outputs": {"text": LARGE}})
    assert (done["state"], done["outputs"]) == ("COMPLETED", {"text": LARGE})
    assert runs.until_event(run_id, "COMPLETED")["payload"] == {"outputs": {"text": LARGE}}
    assert len(str(runs.cluster.get_run(run_id))) < 50_000


def test_a_lost_value_of_one_run_keeps_no_page_from_being_shown(clients: list[OpRuns]) -> None:
    runs, sha256 = clients[0], "0" * 64
    payload = {"key": names.payload_key(sha256), "sha256": sha256, "size": 2}
    other, run_id = held_back(runs), held_back(runs, opRun={"inputs": payload})
    awaited(lambda: runs.ids(limit=100), lambda ids: {other, run_id} <= set(ids))
    listed = {run["id"]: run for run in runs.list(limit=100)["data"]}
    assert listed[run_id]["inputs"] == {}
    assert payload["key"] in listed[run_id]["message"]
    assert "lost" not in (listed[other]["message"] or "")
    require_error(runs.call("GET", f"/{run_id}"), 503, "unavailable", f"the object store has lost {payload['key']}")


def test_outputs_that_a_run_can_not_hold_are_refused(clients: list[OpRuns]) -> None:
    run_id = held_back(clients[0])
    seen_by(clients, run_id)
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    require_error(clients[0].patch(run_id, outputs={"text": "x" * 300_000}), 413, "too_large", "outputs")
    for outputs in ({"deep": deep}, {"number": 2**70}):
        require_error(clients[0].patch(run_id, outputs=outputs), 422, "invalid", "outputs")
    assert clients[0].get(run_id)["outputs"] == {}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"type": ""}, "type must be"),
        ({"type": "completed"}, "write COMPLETED"),
        ({"type": "PROGRESS", "msg": 101}, "0 to 100"),
        ({"type": "PROGRESS"}, "0 to 100"),
        ({"type": "STARTED", "payload": {"gpu_id": "one"}}, "gpu_id"),
        ({"type": "COMPLETED", "payload": {"outputs": [1]}}, "outputs"),
        ({"type": "FAILED", "payload": {"error_message": 5}}, "error_message"),
    ],
)
def test_an_event_that_is_not_valid_is_refused_with_what_to_write(
    clients: list[OpRuns], body: Json, words: str
) -> None:
    run_id = held_back(clients[0])
    seen_by(clients, run_id)
    require_error(clients[0].call("POST", f"/{run_id}/events", json=body), 400, "bad_request", words)
    assert clients[0].events(run_id) == []


def test_a_run_that_is_no_op_run_is_not_found(clients: list[OpRuns]) -> None:
    task = {"name": "op", "container": {"image": EXAMPLE}}
    name = clients[0].cluster.create_run({"workflow": {"tasks": [task]}, "desiredState": "Suspended"})
    for method, path in (("GET", ""), ("POST", "/cancel"), ("GET", "/events")):
        require_error(clients[0].call(method, f"/{name}{path}"), 404, "not_found", f"OpRun '{name}' not found")
    answer = clients[0].call("GET", params={"starting_after": name})
    require_error(answer, 400, "bad_request", name)


def test_while_no_operator_answers_wishes_count_and_events_wait(apis: list[OwnApi]) -> None:
    with own_api(apis[0].namespace, MAZE_REPORT_URL="http://127.0.0.1:1") as api:
        cluster = Cluster(api.namespace)
        runs = OpRuns(cluster, api.url)
        run_id = held_back(runs)
        awaited(lambda: runs.call("GET", f"/{run_id}").status_code, lambda status: status == 200)
        answer = runs.call("POST", f"/{run_id}/events", json={"type": "NOTE"})
        require_error(answer, 503, "unavailable", "send it again")
        assert "Retry-After" in answer.headers
        assert must(runs.cancel(run_id))["state"] == "CANCELLED"
        cluster.clean()
        runs.close()
        cluster.close()


def test_the_custom_resource_is_refused_where_it_makes_no_sense(clients: list[OpRuns]) -> None:
    cluster = clients[0].cluster
    name = held_back(clients[0])
    for spec, words in (
        ({"opRun": {"maxAttempts": 5}}, "opRun of a Run can't be changed"),
        ({"retries": -1}, "retries"),
    ):
        with pytest.raises(Exception, match=words):
            cluster.custom.patch_namespaced_custom_object(*GROUP, cluster.namespace, "runs", name, {"spec": spec})
    with pytest.raises(Exception, match="at most one of opRun and problemId"):
        held_back(clients[0], problemId="p")
