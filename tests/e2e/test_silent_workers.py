"""External workers that go silent, leave or come back, by their Leases and claims alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from kubernetes import client

from cluster import GROUP
from maze_crds import names
from maze_crds.base import format_time
from place import Json, Place, own_place

EPOCH = "1970-01-01T00:00:00.000000Z"


@pytest.fixture
def place() -> Iterator[Place]:
    with own_place() as made:
        yield made


class External:
    """A worker that renews its Lease as long as the block lasts, and then says nothing any more."""

    def __init__(self, place: Place, worker: str, patience: int) -> None:
        self.place, self.worker = place, worker
        self._stop = threading.Event()
        self._coordination = client.CoordinationV1Api(place.core.api_client)
        place.make("workers", "Worker", worker, {"workerId": worker, "backendType": "test"})
        lease = {
            "metadata": {"name": worker, "labels": {names.LABEL_HEARTBEAT: "true", names.LABEL_INTERNAL: "false"}},
            "spec": {
                "holderIdentity": worker,
                "leaseDurationSeconds": patience,
                "renewTime": format_time(datetime.now(UTC)),
            },
        }
        self._coordination.create_namespaced_lease(place.namespace, lease)
        self._thread = threading.Thread(target=self._beat)

    def __enter__(self) -> External:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def renew(self, at: str) -> None:
        self._coordination.patch_namespaced_lease(self.worker, self.place.namespace, {"spec": {"renewTime": at}})

    def claim(self, run: str, number: int) -> None:
        now = format_time(datetime.now(UTC))
        self.place.patch_run(run, {"claim": {"worker": self.worker, "number": number, "time": now}})

    def _beat(self) -> None:
        while not self._stop.wait(0.3):
            self.renew(format_time(datetime.now(UTC)))


def lost(number: int) -> Callable[[Json], bool]:
    """The assignment is lost, and the Run waits again."""

    def holds(run: Json) -> bool:
        status = run.get("status", {})
        found = status.get("assignments", [])
        ends = [one.get("end") for one in found]
        return ends == ["Lost"] * number and (status["phase"], status["reason"]) == ("Pending", "WaitingForWorker")

    return holds


def test_a_silent_worker_loses_its_task_to_the_next_one(place: Place) -> None:
    place.task("r")
    place.waits("r")
    silent = External(place, "silent", 2)
    silent.claim("r", 1)
    run = place.await_run("r", lost(1))
    assert run["status"]["assignments"][0]["message"] == "worker 'silent' went silent"
    place.until(lambda: place.states() == {"silent": "offline"}, "it is shown as offline")
    place.until(lambda: place.workers()["silent"]["status"].get("tasksLost") == 1, "the loss is counted")

    with External(place, "steady", 60) as steady:
        steady.claim("r", 2)
        assert place.assigned("r") == "steady"
        place.until(lambda: place.states()["steady"] == "busy", "it is busy")
    steady.renew(EPOCH)
    place.await_run("r", lost(2))
    steady.renew(format_time(datetime.now(UTC)))
    place.until(lambda: place.states()["steady"] == "idle", "it is back")
    steady.claim("r", 3)
    assert place.assigned("r") == "steady"
    place.custom.delete_namespaced_custom_object(*GROUP, place.namespace, "workers", "steady")
    place.await_run("r", lost(3))

    back = External(place, "back", 60)
    back.claim("r", 4)
    assert place.assigned("r") == "back"
    status = place.cancel("r")
    assert [one["end"] for one in status["assignments"]] == ["Lost", "Lost", "Lost", "Cancelled"]
    events = [one[key] for one in status["assignments"] for key in ("startEvent", "endEvent")]
    assert events == list(range(1, 9))
    assert (status["endEvent"], status["lastEvent"]) == (8, 8)


def test_a_worker_that_comes_back_with_a_claim_keeps_it(place: Place) -> None:
    """Its Lease and its claim are seen in any order."""
    worker = External(place, "w", 60)
    for turn in range(5):
        worker.renew(EPOCH)
        place.until(lambda: place.states().get("w") == "offline", "it has left")
        name = place.task(f"r-{turn}")
        place.waits(name)
        worker.renew(format_time(datetime.now(UTC)))
        worker.claim(name, 1)
        place.assigned(name)
        status = place.cancel(name)
        assert [one["end"] for one in status["assignments"]] == ["Cancelled"]
