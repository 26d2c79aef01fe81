"""Events posted to OpRuns on the running operator: stored, then acknowledged; kept once; never lost when it dies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from cluster import awaited, kubectl
from event_desk import Desk
from maze_crds import names
from maze_crds.oprun import PAGE, TAIL, OpEvent
from maze_operator.core.opevents import outputs_result
from own_api import own_namespace

OPERATOR = ("-n", "maze-system", "-l", "app.kubernetes.io/name=maze-operator")

Json = dict[str, Any]


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with own_namespace() as namespace:
        made = Desk(namespace)
        try:
            yield made
        finally:
            made.close()


# -- who may


def test_a_run_takes_events_with_its_own_token_and_no_other(desk: Desk) -> None:
    run, other = desk.run(), desk.run()
    assert desk.post(run, {"type": "NOTE"}, desk.token(run)).status_code == 200
    for wrong in (desk.token(other), "wrong", ""):
        answer = desk.post(run, {"type": "NOTE"}, wrong)
        assert answer.status_code == 401
        assert "MAZE_TOKEN" in answer.json()["detail"]
    assert len(desk.op(run)["events"]) == 1


def test_a_run_that_is_no_op_run_is_not_found(desk: Desk) -> None:
    assert "no OpRun 'nothing'" in desk.refused("nothing", 404)
    plain = desk.run(opRun=None)
    assert f"no OpRun '{plain}'" in desk.refused(plain, 404)


def test_an_event_counts_right_after_the_run_was_made(desk: Desk) -> None:
    assert desk.say(desk.run(), "NOTE") == {"id": 0, "state": "PENDING"}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"type": "NOTE", "payload": {"a": NaN}}', "NaN"),
        (b'{"type": "NOTE", "payload": {"a": 1e999}}', "infinite"),
        (b'{"type": "completed"}', "write COMPLETED"),
        (b'{"type": "PROGRESS", "msg": 101}', "from 0 to 100"),
        (b'{"type": "NOTE", "payload": [1]}', "payload must be a JSON object"),
    ],
)
def test_what_is_not_valid_is_refused_with_what_to_write(desk: Desk, body: bytes, text: str) -> None:
    run = desk.run()
    answer = desk.post(run, body)
    assert answer.status_code == 400
    assert text in answer.json()["detail"]
    assert desk.until(run, lambda op: True).get("events") is None


# -- what is kept


def test_an_event_is_in_the_status_when_it_is_acknowledged(desk: Desk) -> None:
    run = desk.run()
    for n in range(3):
        assert desk.say(run, "NOTE", msg=n, payload={"n": n, "none": None})["id"] == n
        [*_, last] = desk.op(run)["events"]
        assert (last["msg"], last["payload"], last["attempt"]) == (n, {"n": n, "none": None}, 1)
    assert desk.say(run, "PROGRESS", msg="55")["state"] == "PENDING"
    assert desk.op(run)["attempts"][-1]["progress"] == 55


@pytest.mark.parametrize(
    ("msg", "payload"),
    [
        ("m" * 5000, {"a": 1}),
        ("small", {"big": "ü" * 600_000}),
        (7, {"n": 10**400, "deep": json.loads("[" * 200 + "]" * 200)}),
    ],
)
def test_what_is_too_much_for_the_status_is_whole_in_the_store(desk: Desk, msg: str | int, payload: Json) -> None:
    run = desk.run()
    desk.say(run, "NOTE", msg=msg, payload=payload)
    [event] = desk.op(run)["events"]
    assert event.get("payload") is None
    assert event["msg"] == (msg[:200] if isinstance(msg, str) else msg)
    assert desk.stored(names.event_key(desk.uid(run), event["stored"])) == {"msg": msg, "payload": payload}


def test_old_events_move_to_pages_and_none_is_missing(desk: Desk) -> None:
    run, total = desk.run(), TAIL + PAGE + 3
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: desk.say(run, "NOTE", msg=n, key=f"k{n}"), range(total)))
    assert sorted(answer["id"] for answer in answers) == list(range(total))
    op = desk.op(run)
    pages = [desk.stored(names.events_key(desk.uid(run), page)) for page in range(op["events"][0]["id"] // PAGE)]
    events = [OpEvent.model_validate(entry) for entry in [*(one for page in pages for one in page), *op["events"]]]
    assert [event.id for event in events] == list(range(total))
    assert [event.msg for event in events] == [n for _, n in sorted((a["id"], n) for n, a in enumerate(answers))]
    assert len(op["events"]) < TAIL
    assert pages


def test_the_outputs_of_an_end_are_stored_before_it_is_acknowledged(desk: Desk) -> None:
    run = desk.run()
    assert desk.say(run, "COMPLETED", payload={"outputs": {"score": 0.5, "none": None}})["state"] == "COMPLETED"
    op, uid = desk.op(run), desk.uid(run)
    assert (op["state"], op["outputs"], op["attempts"][0]["state"]) == (
        "COMPLETED",
        {"score": 0.5, "none": None},
        "COMPLETED",
    )
    assert desk.stored(names.result_key(uid, "op", 1))["outputs"]["score"]["value"] == 0.5
    assert desk.refused(run, 400) == "Run is already in terminal state COMPLETED"


@pytest.mark.parametrize(
    "outputs",
    [{"text": "x" * 9000}, {"number": 10**30}, {"deep": json.loads("[" * 300 + "]" * 300)}, {"big": "y" * 2_000_000}],
    ids=["long", "number", "deep", "megabytes"],
)
def test_outputs_that_the_status_can_not_hold_are_with_the_result(desk: Desk, outputs: Json) -> None:
    run = desk.run()
    desk.say(run, "COMPLETED", payload={"outputs": outputs})
    op = desk.op(run)
    assert (op.get("outputs"), op["outputsFrom"]) == (None, 1)
    stored = desk.stored(names.result_key(desk.uid(run), "op", 1))["outputs"]
    assert {key: output["value"] for key, output in stored.items()} == outputs


# -- repeats, attempts, and many at once


def test_a_repeat_is_kept_once(desk: Desk) -> None:
    run = desk.run()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: desk.say(run, "NOTE", key=f"k{n % 4}"), range(16)))
    assert len(desk.op(run)["events"]) == 4
    for n in range(4):
        assert len({answer["id"] for answer in answers[n::4]}) == 1
    end = desk.say(run, "COMPLETED", key="end")
    assert desk.say(run, "COMPLETED", key="end") == end


def test_events_of_an_attempt_that_is_over_are_refused(desk: Desk) -> None:
    run = desk.run(opRun={"maxAttempts": 2})
    assert desk.say(run, "FAILED", "?attempt=1", msg="broken")["state"] == "PENDING"
    assert "attempt 2 is the current one" in desk.refused(run, 409, query="?attempt=1")
    assert "attempt 2 is the current one" in desk.refused(run, 409, "COMPLETED", "?attempt=1")
    assert desk.say(run, "COMPLETED", "?attempt=2", payload={"outputs": {"a": 2}})["state"] == "COMPLETED"
    op = desk.op(run)
    assert [attempt["state"] for attempt in op["attempts"]] == ["FAILED", "COMPLETED"]
    assert [event["type"] for event in op["events"]] == ["FAILED", "RETRIED", "COMPLETED"]


def test_of_ends_that_contradict_each_other_one_wins_and_its_outputs_stand(desk: Desk) -> None:
    run = desk.run()
    bodies = [{"type": "COMPLETED", "payload": {"outputs": {"n": n, "big": "x" * 9000}}} for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        codes = [answer.status_code for answer in pool.map(lambda body: desk.post(run, body), bodies)]
    assert sorted(codes) == [200, *[400] * 7]
    stored = desk.stored(names.result_key(desk.uid(run), "op", 1))
    assert stored["outputs"]["n"]["value"] == codes.index(200)


def test_a_wish_and_events_at_the_same_time_lose_nothing(desk: Desk) -> None:
    run = desk.run()
    with ThreadPoolExecutor(8) as pool:
        posts = [pool.submit(desk.post, run, {"type": "NOTE", "key": f"k{n}"}) for n in range(30)]
        desk.cluster.patch_run(run, {"desiredState": "Cancelled"})
        taken = [answer for post in posts if (answer := post.result()).status_code == 200]
    op = desk.until(run, lambda op: op.get("state") == "CANCELLED")
    kept = [event for event in op["events"] if event["type"] == "NOTE"]
    assert sorted(event["id"] for event in kept) == sorted(answer.json()["id"] for answer in taken)
    assert op["events"][-1]["type"] == "CANCELLED"


# -- when the operator dies


def test_what_was_stored_before_an_operator_died_is_as_good_as_new(desk: Desk) -> None:
    """It died after it had stored the outputs and before it wrote the status: the sender says it again."""
    run = desk.run()
    outputs = {"a": "x" * 9000}
    result = outputs_result(outputs, datetime.now(UTC))
    desk.store.put(names.result_key(desk.uid(run), "op", 1), json.dumps(result).encode())
    event = {"type": "COMPLETED", "payload": {"outputs": outputs}, "key": "end"}
    assert desk.post(run, event, query="?attempt=1").json() == {"id": 0, "state": "COMPLETED"}
    assert desk.op(run)["outputsFrom"] == 1


def test_every_acknowledged_event_is_there_once_however_often_the_operator_dies(desk: Desk) -> None:
    runs, total = [desk.run() for _ in range(3)], TAIL + 8
    with ThreadPoolExecutor(6) as pool:
        posts = {
            (run, n): pool.submit(desk.say, run, "NOTE", msg=n, key=f"k{n}", payload={"pad": "p" * (n % 5 * 400)})
            for n in range(total)
            for run in runs
        }
        for enough in (len(posts) // 5, len(posts) // 2):
            awaited(lambda: sum(post.done() for post in posts.values()), enough.__le__)
            kubectl("delete", "pod", *OPERATOR, "--grace-period=0", "--force")
        ids = {said: post.result()["id"] for said, post in posts.items()}
    for run in runs:
        op, uid = desk.op(run), desk.uid(run)
        pages = [desk.stored(names.events_key(uid, page)) for page in range(op["events"][0]["id"] // PAGE)]
        events = [*(one for page in pages for one in page), *op["events"]]
        assert [event["id"] for event in events] == list(range(total))
        for event in events:
            number = int(event["key"][1:])
            assert event["id"] == ids[run, number]
            if "stored" in event:
                assert desk.stored(names.event_key(uid, event["stored"]))["msg"] == number
            else:
                assert event["msg"] == number
    kubectl("rollout", "status", "-n", "maze-system", "deployment/maze-operator", "--timeout=100s")


# -- a real container


def test_a_container_finds_its_inputs_and_posts_its_own_events(desk: Desk) -> None:
    task = {"inputs": {"echo": {"value": "$(HOME) $$ own"}}}
    name = desk.run(task, desiredState="Running", inputs={"echo": "not this", "report": "COMPLETED"})
    op = desk.until(name, lambda op: op.get("state") in ("COMPLETED", "FAILED"))
    assert (op["state"], op["outputs"]["echo"]) == ("COMPLETED", "$(HOME) $$ own")


def test_a_container_reads_large_inputs_from_the_store(desk: Desk) -> None:
    inputs = {"echo": "e" * 300, "pad": "p" * 200_000}
    data = json.dumps(inputs).encode()
    sha = hashlib.sha256(data).hexdigest()
    desk.store.put(names.payload_key(sha), data)
    payload = {"key": names.payload_key(sha), "sha256": sha, "size": len(data)}
    name = desk.run(desiredState="Running", opRun={"inputs": payload})
    op = desk.until(name, lambda op: op.get("state") in ("COMPLETED", "FAILED"))
    assert (op["state"], op["outputs"]["echo"]) == ("COMPLETED", "e" * 300)
