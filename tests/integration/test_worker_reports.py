"""What external workers report, on the running operator: taken once, from who has the task, and never lost."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from kubernetes import client

from cluster import GROUP
from maze_crds import names
from maze_crds.base import format_time
from operator_desk import SECONDS, Json, OperatorDesk
from own_api import own_namespace


class Desk(OperatorDesk):
    """The api's part: makes tasks and workers, claims, and forwards reports."""

    def register(self, worker: str) -> None:
        """A Worker whose heartbeat stays fresh for longer than any test takes."""
        labels = {names.LABEL_INTERNAL: "false"}
        spec = {"workerId": worker, "backendType": "test"}
        made = self.cluster.custom.create_namespaced_custom_object(
            *GROUP,
            self.namespace,
            "workers",
            {
                "apiVersion": "/".join(GROUP),
                "kind": "Worker",
                "metadata": {"name": worker, "labels": labels},
                "spec": spec,
            },
        )
        owner = {"apiVersion": "/".join(GROUP), "kind": "Worker", "name": worker, "uid": made["metadata"]["uid"]}
        lease = {
            "metadata": {
                "name": worker,
                "labels": {**labels, names.LABEL_HEARTBEAT: "true"},
                "ownerReferences": [owner],
            },
            "spec": {
                "holderIdentity": worker,
                "leaseDurationSeconds": 3600,
                "renewTime": format_time(datetime.now(UTC)),
            },
        }
        client.CoordinationV1Api(self.cluster.core.api_client).create_namespaced_lease(self.namespace, lease)

    def task(self, annotations: Json | None = None, **spec: Any) -> str:
        """A task that no Workflow serves; its name."""
        name = str(uuid.uuid4())
        metadata = {"name": name, "labels": {names.LABEL_PROBLEM: "true"}, "annotations": annotations or {}}
        body = {"apiVersion": "/".join(GROUP), "kind": "Run", "metadata": metadata, "spec": {"problemId": "p", **spec}}
        self.cluster.custom.create_namespaced_custom_object(*GROUP, self.namespace, "runs", body)
        return name

    def claim(self, task: str, worker: str, number: int = 1) -> None:
        claim = {"worker": worker, "number": number, "time": format_time(datetime.now(UTC))}
        self.cluster.patch_run(task, {"claim": claim})

    def claimed(self, worker: str, **spec: Any) -> str:
        """A task that the operator has noted as the worker's."""
        task = self.task(**spec)
        self.claim(task, worker)
        self.cluster.await_run(task, lambda run: run.get("status", {}).get("assignments"), SECONDS)
        return task

    def say(self, task: str, worker: str, outcome: str, **more: Any) -> requests.Response:
        """One report, said again while the operator asks for that or is being replaced."""
        body = {"namespace": self.namespace, "run": task, "worker": worker, "outcome": outcome, **more}
        return self.post(body, self.api_token)

    def post(self, body: Json, token: str | None) -> requests.Response:
        return self.send("/v1/worker-reports", json.dumps(body).encode(), token)

    def status(self, task: str) -> Json:
        found: Json = self.cluster.get_run(task)["status"]
        return found

    def key(self, task: str) -> str:
        return names.result_key(self.cluster.get_run(task)["metadata"]["uid"], names.EXTERNAL_TASK, 1)

    def gone(self, task: str) -> bool:
        try:
            self.cluster.get_run(task)
        except client.ApiException as error:
            if error.status != 404:
                raise
            return True
        return False

    def await_gone(self, task: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not self.gone(task):
            assert time.monotonic() < deadline, f"the Run is still there: {self.status(task)}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with own_namespace() as namespace:
        made = Desk(namespace)
        try:
            for worker in ("w", "v"):
                made.register(worker)
            yield made
        finally:
            made.close()


@pytest.mark.parametrize("token", [None, "", "wrong", "Bearer"])
def test_only_the_api_may_forward_reports(desk: Desk, token: str | None) -> None:
    body = {"namespace": desk.namespace, "run": "any", "worker": "w", "outcome": "completed"}
    answer = desk.post(body, token)
    assert answer.status_code == 401
    assert "MAZE_API_TOKEN" in answer.json()["detail"]


def test_a_report_that_makes_no_sense_is_refused(desk: Desk) -> None:
    answer = desk.say("any", "w", "exploded")
    assert answer.status_code == 400
    assert "outcome" in answer.json()["detail"]


def test_a_report_of_a_task_that_is_not_there_is_told_so(desk: Desk) -> None:
    answer = desk.say("no-such-run", "w", "completed", result=1)
    assert answer.status_code == 404
    assert "no-such-run" in answer.json()["detail"]


def test_nobody_reports_a_task_without_having_claimed_it(desk: Desk) -> None:
    task = desk.task()
    answer = desk.say(task, "w", "completed", result=1)
    assert answer.status_code == 409
    assert "claim it first" in answer.json()["detail"]
    waits = desk.cluster.await_run(task, lambda run: run.get("status", {}).get("reason"), SECONDS)["status"]
    assert (waits["phase"], waits["reason"]) == ("Pending", "WaitingForWorker")
    desk.claim(task, "w")
    assert desk.say(task, "v", "completed", result=1).status_code == 409
    assert desk.say(task, "w", "completed", result=1).status_code == 200


def test_a_report_is_kept_and_in_the_status_when_it_is_acknowledged(desk: Desk) -> None:
    task = desk.claimed("w")
    assert desk.status(task)["phase"] == "Running"
    result = {"score": 0.5, "steps": [1, None, "ü"], "nested": {"deep": True}}
    assert desk.say(task, "w", "completed", result=result).status_code == 200
    status = desk.status(task)
    assert (status["phase"], status["worker"]) == ("Succeeded", "w")
    [only] = status["assignments"]
    assert (only["startEvent"], only["end"], only["endEvent"], status["endEvent"]) == (1, "Completed", 2, 2)
    stored = desk.store.get(desk.key(task))
    assert stored is not None
    assert json.loads(stored)["outputs"]["result"]["value"] == result


def test_a_report_counts_right_after_the_claim(desk: Desk) -> None:
    task = desk.task()
    desk.claim(task, "w")
    assert desk.say(task, "w", "completed", result=None).status_code == 200
    assert desk.status(task)["phase"] == "Succeeded"


def test_the_first_report_stands_and_may_be_repeated(desk: Desk) -> None:
    task = desk.claimed("w")
    assert desk.say(task, "w", "failed", error="the cluster was gone").status_code == 200
    for _ in range(2):
        assert desk.say(task, "w", "failed", error="the cluster was gone").status_code == 200
    other = desk.say(task, "w", "completed", result=1)
    assert other.status_code == 409
    assert "first report stands" in other.json()["detail"]
    assert desk.say(task, "v", "failed", error="mine").status_code == 409
    status = desk.status(task)
    shown = (status["phase"], status["reason"], status["message"])
    assert shown == ("Failed", "ReportedFailed", "the cluster was gone")


def test_of_reports_that_contradict_each_other_one_kind_wins_for_all(desk: Desk) -> None:
    task = desk.claimed("w")
    outcomes = ["completed", "failed"] * 5
    with ThreadPoolExecutor(len(outcomes)) as pool:
        codes = list(pool.map(lambda outcome: desk.say(task, "w", outcome).status_code, outcomes))
    won = {"Succeeded": "completed", "Failed": "failed"}[desk.status(task)["phase"]]
    assert codes == [200 if outcome == won else 409 for outcome in outcomes]


def test_what_was_stored_before_an_operator_died_stands(desk: Desk) -> None:
    task = desk.claimed("w")
    time_ = format_time(datetime.now(UTC))
    stored = {"startTime": time_, "completionTime": time_, "outputs": {}}
    desk.store.put(desk.key(task), json.dumps(stored).encode())
    assert desk.say(task, "w", "failed", error="changed my mind").status_code == 409
    assert desk.status(task)["phase"] == "Succeeded"
    assert desk.say(task, "w", "completed").status_code == 200


def test_a_cancelled_task_takes_no_report(desk: Desk) -> None:
    task = desk.claimed("w")
    desk.cluster.patch_run(task, {"desiredState": "Cancelled"})
    answer = desk.say(task, "w", "completed", result=1)
    assert answer.status_code == 409
    assert "cancelled" in answer.json()["detail"]
    assert desk.status(task)["assignments"][0]["end"] == "Cancelled"


def test_a_task_that_takes_too_long_is_taken_from_its_worker(desk: Desk) -> None:
    task = desk.claimed("w", timeoutSeconds=1)
    status = desk.cluster.ended(task, SECONDS)
    assert (status["phase"], status["reason"], status["assignments"][0]["end"]) == ("Failed", "TimedOut", "TimedOut")
    late = desk.say(task, "w", "completed", result=1)
    assert late.status_code == 409
    assert "timeout" in late.json()["detail"]


def test_a_task_stays_until_the_archive_has_it(desk: Desk) -> None:
    held = desk.task({names.ANNOTATION_ARCHIVE: "wanted"}, ttlSecondsAfterFinished=1)
    free = desk.task(ttlSecondsAfterFinished=1)
    for task in (held, free):
        desk.claim(task, "w")
        assert desk.say(task, "w", "completed", result=1).status_code == 200
    desk.await_gone(free)
    assert not desk.gone(held)
    body = {"metadata": {"annotations": {names.ANNOTATION_ARCHIVE: "done"}}}
    desk.cluster.custom.patch_namespaced_custom_object(*GROUP, desk.namespace, "runs", held, body)
    desk.await_gone(held)
