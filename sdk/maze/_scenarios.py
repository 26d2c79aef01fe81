"""Scenarios of a Maze server: the catalogue, runs, and their events over server-sent events."""

from __future__ import annotations

import json
import time
from typing import Any, Dict, Iterator, List, Optional
from urllib.parse import quote

import requests

from maze._errors import MazeError, ServerUnreachable, StreamBroken, refusal
from maze._stream import CONNECT_SECONDS, RETRY_SECONDS, SILENCE_SECONDS, reason

CALL_SECONDS = 60

Json = Dict[str, Any]


class Scenarios:
    """Calls on one connection that is kept.

    All raise RequestFailed for what the server refuses, and ServerUnreachable where none answers.
    """

    def __init__(self, server_url: str) -> None:
        if not server_url.startswith(("http://", "https://")):
            raise MazeError(f"server_url is {server_url!r}, but must start with http:// or https://")
        self._url = server_url.rstrip("/")
        self._session = requests.Session()

    def apply(self, definition: Json) -> Json:
        """Make the scenario, or replace the one of the same scenario_id; the definition as the server has it."""
        made: Json = self._call("POST", "/api/scenarios", json=definition).json()
        return made

    def list(self) -> List[Json]:
        """`{scenario_id, name, description, input_schema}` of each."""
        found: List[Json] = self._call("GET", "/api/scenarios").json()
        return found

    def get(self, scenario_id: str) -> Json:
        found: Json = self._call("GET", f"/api/scenarios/{quote(scenario_id, safe='')}").json()
        return found

    def run(self, scenario_id: str, given: Json) -> str:
        """Start a run; its id."""
        body = {"scenario_id": scenario_id, "input": given}
        made: str = self._call("POST", "/api/runs", json=body).json()["run_id"]
        return made

    def snapshot(self, run_id: str) -> Json:
        found: Json = self._call("GET", f"/api/runs/{quote(run_id, safe='')}").json()
        return found

    def events(self, run_id: str) -> Iterator[Json]:
        """The events of a run from its first to run_finished, each once, over as many connections as it takes.

        Raises:
            ServerUnreachable, StreamBroken: they could not be read to their end.
        """
        last = 0
        failures = 0
        while True:
            try:
                for number, event in self._connection(run_id, last):
                    last, failures = number, 0
                    yield event
                    if event.get("type") == "run_finished":
                        return
                raise StreamBroken(f"the events of run '{run_id}' ended before the run did")
            except (ServerUnreachable, StreamBroken):
                if failures == len(RETRY_SECONDS):
                    raise
                time.sleep(RETRY_SECONDS[failures])
                failures += 1

    def _connection(self, run_id: str, after: int) -> Iterator[Any]:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": str(after)} if after else {})}
        path = f"/api/runs/{quote(run_id, safe='')}/events"
        with self._call("GET", path, headers=headers, stream=True) as answer:
            try:
                yield from parse_events(answer.iter_lines(chunk_size=None))
            except requests.RequestException as error:
                raise StreamBroken(f"the events of run '{run_id}' stopped coming: {reason(error)}") from error

    def _call(self, method: str, path: str, **options: Any) -> requests.Response:
        timeout = (CONNECT_SECONDS, SILENCE_SECONDS if options.get("stream") else CALL_SECONDS)
        try:
            answer = self._session.request(method, self._url + path, timeout=timeout, **options)
            if answer.status_code < 300:
                return answer
            detail = _detail(answer)
        except requests.RequestException as error:
            raise ServerUnreachable(self._url, reason(error)) from error
        if answer.status_code == 503:
            raise StreamBroken(f"the server can't answer {path} now: {detail}")
        raise refusal(path, answer.status_code, detail, answer.headers.get("X-Request-ID"))


def parse_events(lines: Iterator[bytes]) -> Iterator[Any]:
    """(number, content) of each event of a stream; comments, and an event that is cut off, are left out."""
    number: Optional[int] = None
    data: List[str] = []
    for raw in lines:
        line = raw.decode(errors="replace")
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if not line and data:
            yield number or 0, json.loads("\n".join(data))
            data = []
        elif field == "id" and value.isdigit():
            number = int(value)
        elif field == "data":
            data.append(value)


def _detail(answer: requests.Response) -> str:
    try:
        content = answer.json()
    except ValueError:
        content = None
    detail = content.get("detail") if isinstance(content, dict) else None
    return str(detail or answer.text[:500] or answer.reason)
