"""OpRuns as any HTTP client uses them, and what a test needs to see of their containers."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from cluster import Cluster, awaited
from maze_http import API

SECONDS = 60
EXAMPLE = "maze/op-example"
"""The example image, examples/oprun."""
OVER = "Run is already in terminal state"
TERMINAL = ("COMPLETED", "FAILED", "CANCELLED")
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
FOREVER = {"steps": 1, "seconds": 3600}
"""Inputs of the example image: it runs until it is stopped."""
Json = dict[str, Any]


class OpRuns:
    """One connection to an api; what it makes is deleted with what `cluster` makes."""

    def __init__(self, cluster: Cluster, url: str = API) -> None:
        self.cluster, self.url = cluster, url
        self._session = requests.Session()

    def close(self) -> None:
        self._session.close()

    def reconnect(self) -> None:
        """By a new connection: the one that is kept leads to the pod that answered first, also while that one leaves."""
        self._session.close()
        self._session = requests.Session()

    def call(self, method: str, path: str = "", **more: Any) -> requests.Response:
        """Any call; `path` comes after /runs."""
        return self._session.request(method, f"{self.url}/runs{path}", **{"timeout": SECONDS, **more})

    def create(self, inputs: Json | None = None, **body: Any) -> Json:
        """A new OpRun, of the example image where none is named."""
        answer = self.call("POST", json={"image": EXAMPLE, "inputs": inputs or {}, **body})
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        self.cluster.adopt(made["id"])
        return made

    def start(self, inputs: Json | None = None, **body: Any) -> str:
        """The id of a new OpRun."""
        made: str = self.create(inputs, **body)["id"]
        return made

    def read(self, path: str, **query: Any) -> Any:
        """The JSON of a GET that must succeed."""
        return must(self.call("GET", path, params=query))

    def get(self, run_id: str) -> Json:
        found: Json = self.read(f"/{run_id}")
        return found

    def list(self, **query: Any) -> Json:
        found: Json = self.read("", **query)
        return found

    def ids(self, **query: Any) -> list[str]:
        """Of a page of the list."""
        return [run["id"] for run in self.list(**query)["data"]]

    def events(self, run_id: str, after: int | None = None) -> list[Json]:
        query = {} if after is None else {"after": after}
        found: list[Json] = self.read(f"/{run_id}/events", **query)["events"]
        return found

    def types(self, run_id: str) -> list[str]:
        return [event["type"] for event in self.events(run_id)]

    def attempts(self, run_id: str) -> list[Json]:
        found: list[Json] = self.read(f"/{run_id}/attempts")
        return found

    def post(self, run_id: str, kind: str, msg: Any = "", payload: Any = None) -> requests.Response:
        """An event from outside; said again while no operator hears it."""
        body = {"type": kind, "msg": msg, "payload": payload}
        answer: requests.Response = awaited(
            lambda: self.call("POST", f"/{run_id}/events", json=body), lambda answer: answer.status_code != 503
        )
        return answer

    def said(self, run_id: str, kind: str, msg: Any = "", payload: Any = None) -> Json:
        """An event that must be taken; the run after it."""
        found: Json = must(self.post(run_id, kind, msg, payload))
        return found

    def patch(self, run_id: str, **body: Any) -> requests.Response:
        return self.call("PATCH", f"/{run_id}", json=body)

    def retry(self, run_id: str) -> requests.Response:
        """Said again while the operator has not noted what was wished before."""
        answer: requests.Response = awaited(
            lambda: self.call("POST", f"/{run_id}/retry"), lambda answer: answer.status_code != 503
        )
        return answer

    def cancel(self, run_id: str) -> requests.Response:
        return self.call("POST", f"/{run_id}/cancel")

    def until(self, run_id: str, *states: str, seconds: float = 120) -> Json:
        """Ask until the run is in one of these states; the run."""
        found: Json = awaited(lambda: self.get(run_id), lambda run: run["state"] in states, seconds)
        return found

    def ended(self, run_id: str, seconds: float = 120) -> Json:
        return self.until(run_id, *TERMINAL, seconds=seconds)

    def until_event(self, run_id: str, kind: str, count: int = 1) -> Json:
        """Await the `count`th event of a type; the event."""
        found: list[Json] = awaited(
            lambda: [event for event in self.events(run_id) if event["type"] == kind],
            lambda events: len(events) >= count,
        )
        return found[count - 1]

    def polled(self, run_id: str, seconds: float = 120) -> list[Json]:
        """All events until the end, by asking for those after the last one, as a client does."""
        found: list[Json] = []

        def ask() -> bool:
            ended = self.get(run_id)["state"] in TERMINAL
            found.extend(self.events(run_id, found[-1]["id"] if found else None))
            return ended

        awaited(ask, bool, seconds)
        return found


@pytest.fixture
def runs(cluster: Cluster) -> Iterator[OpRuns]:
    """OpRuns of the deployed api; they are deleted afterwards."""
    made = OpRuns(cluster)
    yield made
    made.close()


def held(runs: OpRuns, inputs: Json | None = None, **body: Any) -> str:
    """The id of an OpRun whose container runs until it is stopped."""
    run_id = runs.start({**FOREVER, **(inputs or {})}, **body)
    runs.until(run_id, "RUNNING")
    return run_id


def waiting(runs: OpRuns, **body: Any) -> str:
    """The id of an OpRun that no node has room for: it stays PENDING, and nothing but what is said of it changes it."""
    return runs.start(constraints={"vram_mb": 10**7}, **body)


def must(answer: requests.Response, status: int = 200) -> Any:
    """The JSON of an answer with this status."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text}"
    return answer.json()


def marker() -> str:
    """A text that is nowhere else, to be put into inputs: the container's process is found by it."""
    return f"marker-{uuid.uuid4().hex}"


def processes(text: str) -> list[int]:
    """The processes of this machine that have `text` in their environment, in containers of the cluster, too."""
    if os.geteuid() != 0:
        pytest.skip("only root sees the processes of the cluster's containers")
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if text.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
    return found


def await_process(text: str) -> list[int]:
    """Until the container's process is there."""
    found: list[int] = awaited(lambda: processes(text), bool)
    return found


def await_no_process(text: str) -> None:
    awaited(lambda: processes(text), lambda found: not found)
