"""Scenarios as any HTTP client speaks to them: what is on the wire, event by event."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import requests

SECONDS = 200
"""Until the end of a run: a machine may be busy with much else."""
Json = dict[str, Any]


@dataclass
class Event:
    number: int
    name: str
    data: str

    @property
    def content(self) -> Json:
        found: Json = json.loads(self.data)
        return found


@dataclass
class Scenarios:
    """One api; its address may change its process."""

    url: str
    session: requests.Session = field(default_factory=requests.Session)

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.session.request(method, self.url + path, **{"timeout": SECONDS, **more})

    def get(self, path: str) -> Any:
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def apply(self, definition: Json) -> Json:
        answer = self.call("POST", "/api/scenarios", json=definition)
        assert answer.status_code == 201, answer.text
        found: Json = answer.json()
        return found

    def start(self, scenario_id: str, **given: Any) -> str:
        """A new run of the scenario; its id."""
        answer = self.call("POST", "/api/runs", json={"scenario_id": scenario_id, "input": given})
        assert answer.status_code == 202, answer.text
        found: str = answer.json()["run_id"]
        return found

    def events(self, run_id: str, after: int | None = None) -> Iterator[Event]:
        """One connection, until it ends."""
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        address = f"{self.url}/api/runs/{run_id}/events"
        with requests.get(address, headers=headers, stream=True, timeout=SECONDS) as answer:
            assert answer.status_code in (200, 204), answer.text
            yield from parse(answer.iter_lines(chunk_size=1))

    def ended(self, run_id: str) -> Json:
        """Waits for the end; the snapshot."""
        events = list(self.follow(run_id))
        assert events[-1].name == "run_finished"
        found: Json = self.get(f"/api/runs/{run_id}")
        return found

    def follow(self, run_id: str) -> Iterator[Event]:
        """As an EventSource does it: over as many connections as it takes, each from where the last one broke."""
        last: Event | None = None
        deadline = time.monotonic() + SECONDS
        while last is None or last.name != "run_finished":
            assert time.monotonic() < deadline, f"run {run_id} has not ended; the last event is {last}"
            with suppress(requests.RequestException):
                for event in self.events(run_id, None if last is None else last.number):
                    last = event
                    yield event
            time.sleep(0.05)


def parse(lines: Iterator[bytes]) -> Iterator[Event]:
    """Events of a stream; comments are left out, an event that is cut off is lost."""
    fields: dict[str, str] = {}
    for raw in lines:
        line = raw.decode()
        if not line:
            if fields:
                yield Event(int(fields["id"]), fields["event"], fields["data"])
            fields = {}
        elif not line.startswith(":"):
            key, _, value = line.partition(": ")
            assert key not in fields, f"a field comes twice: {line}"
            fields[key] = value
