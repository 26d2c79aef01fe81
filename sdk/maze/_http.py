"""A Maze server: calls by REST over one connection that is kept, results by WebSocket (`_stream`)."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import IO, Any, Dict, Iterable, Iterator, List, Optional, Union
from urllib.parse import quote

import requests

from maze import _stream
from maze._backend import Json, Message
from maze._errors import MazeError, NotFound, ServerUnreachable, StreamBroken, UnknownRun, refusal

CONNECT_SECONDS = 5
CALL_SECONDS = 120
TRANSFER_SECONDS = 600
"""Silence after which an upload, download or followed log is given up."""
CHUNK = 1024 * 1024


class HttpBackend:
    """See Backend."""

    def __init__(self, server_url: str) -> None:
        if not server_url.startswith(("http://", "https://")):
            raise MazeError(f"server_url is {server_url!r}, but must start with http:// or https://")
        self.server_url = server_url.rstrip("/")
        self._session = requests.Session()

    def create_workflow(self) -> str:
        made: str = self._maze("POST", "/create_workflow")["workflow_id"]
        return made

    def add_task(self, workflow_id: str, task_type: str, name: Optional[str]) -> str:
        body = {"workflow_id": workflow_id, "task_type": task_type, "task_name": name}
        made: str = self._maze("POST", "/add_task", body)["task_id"]
        return made

    def save_task(self, body: Json, with_edges: bool) -> None:
        self._maze("POST", "/save_task_and_add_edge" if with_edges else "/save_task", body)

    def add_tasks(self, workflow_id: str, content: Json, tasks: List[Json]) -> List[str]:
        body = {**content, "workflow_id": workflow_id, "tasks": tasks}
        made: List[str] = _decoded(self._send("POST", "/api/maze/tasks", json=body).content)["task_ids"]
        return made

    def delete_task(self, workflow_id: str, task_id: str) -> None:
        self._maze("POST", "/del_task", {"workflow_id": workflow_id, "task_id": task_id})

    def add_edge(self, workflow_id: str, source: str, target: str) -> None:
        self._maze("POST", "/add_edge", _edge(workflow_id, source, target))

    def delete_edge(self, workflow_id: str, source: str, target: str) -> None:
        self._maze("POST", "/del_edge", _edge(workflow_id, source, target))

    def tasks(self, workflow_id: str) -> List[Json]:
        found: List[Json] = self._maze("GET", f"/get_workflow_tasks/{quote(workflow_id, safe='')}")["tasks"]
        return found

    def run(self, workflow_id: str) -> str:
        run_id: str = self._maze("POST", "/run_workflow", {"workflow_id": workflow_id})["run_id"]
        return run_id

    def messages(self, workflow_id: str, run_id: str, timeout: Optional[float] = None) -> Iterator[Message]:
        return _stream.messages(self.server_url, workflow_id, run_id, timeout)

    def upload(self, data: Union[bytes, Path], encoding: str, file_name: Optional[str] = None) -> Json:
        parameters = {"encoding": encoding, **({"file_name": file_name} if file_name else {})}
        if isinstance(data, bytes):
            return self._upload(data, parameters)
        with data.open("rb") as file:
            # Of an empty file requests would make a body of unknown length.
            return self._upload(file if data.stat().st_size else b"", parameters)

    def _upload(self, data: Union[bytes, IO[bytes]], parameters: Dict[str, str]) -> Json:
        headers = {"Content-Type": "application/octet-stream"}
        answer = self._send("PUT", "/api/maze/payloads", params=parameters, data=data, headers=headers)
        made: Json = _decoded(answer.content)["payload"]
        return made

    def runs(self, limit: int, workflow_id: Optional[str] = None) -> List[Json]:
        parameters = {"limit": limit, **({"workflow_id": workflow_id} if workflow_id else {})}
        found: List[Json] = _decoded(self._send("GET", "/api/maze/runs", params=parameters).content)["runs"]
        return found

    def get_run(self, run_id: str) -> Json:
        return _decoded(self._of_run("GET", run_id).content)

    def cancel(self, run_id: str) -> None:
        self._of_run("POST", run_id, "/cancel")

    def logs(self, run_id: str, task_id: str, follow: bool, attempt: Optional[int]) -> Iterator[str]:
        parameters = {"follow": str(follow).lower(), **({} if attempt is None else {"attempt": str(attempt)})}
        answer = self._send("GET", f"{_task(run_id, task_id)}/logs", params=parameters, stream=True)
        with answer:
            yield from _lines(_received(answer))

    def outputs(self, run_id: str, task_id: str) -> Dict[str, Json]:
        found: Dict[str, Json] = _decoded(self._send("GET", f"{_task(run_id, task_id)}/outputs").content)["outputs"]
        return found

    def fetch_output(self, run_id: str, task_id: str, key: str, into: IO[bytes]) -> None:
        path = f"{_task(run_id, task_id)}/outputs/{quote(key, safe='')}"
        with self._send("GET", path, stream=True) as answer:
            for piece in _received(answer):
                into.write(piece)

    def info(self) -> Json:
        return _decoded(self._send("GET", "/api/maze/info").content)

    def _of_run(self, method: str, run_id: str, path: str = "") -> requests.Response:
        try:
            return self._send(method, f"/api/maze/runs/{quote(run_id, safe='')}{path}")
        except NotFound as error:
            raise UnknownRun(error.detail) from error

    def _maze(self, method: str, path: str, body: Optional[Json] = None) -> Json:
        """A call of the Maze protocol: success says so in its body, too."""
        answer = self._send(method, path, json=body)
        content = _decoded(answer.content)
        if content.get("status") != "success":
            raise self._refused(path, answer)
        return content

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        long = "data" in options or options.get("stream")
        timeout = (CONNECT_SECONDS, TRANSFER_SECONDS if long else CALL_SECONDS)
        try:
            answer = self._session.request(method, self.server_url + path, timeout=timeout, **options)
            if answer.status_code == 200:
                return answer
            raise self._refused(path, answer)
        except requests.RequestException as error:
            raise ServerUnreachable(self.server_url, _stream.reason(error)) from error

    def _refused(self, path: str, answer: requests.Response) -> MazeError:
        content = _decoded(answer.content)
        detail = content.get("detail") or content.get("message") or answer.text[:500] or answer.reason
        return refusal(path, answer.status_code, str(detail), answer.headers.get("X-Request-ID"))


def _edge(workflow_id: str, source: str, target: str) -> Json:
    return {"workflow_id": workflow_id, "source_task_id": source, "target_task_id": target}


def _task(run_id: str, task_id: str) -> str:
    return f"/api/maze/runs/{quote(run_id, safe='')}/tasks/{quote(task_id, safe='')}"


def _received(answer: requests.Response) -> Iterator[bytes]:
    """The body as it comes: a piece of a body that grows is not held back until a buffer is full."""
    size = None if answer.headers.get("Transfer-Encoding") == "chunked" else CHUNK
    try:
        yield from answer.iter_content(chunk_size=size)
    except requests.RequestException as error:
        raise StreamBroken(f"{answer.url} broke off: {_stream.reason(error)}") from error


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + decoder.decode(piece)).split("\n")
        yield from whole
    rest += decoder.decode(b"", True)
    if rest:
        yield rest


def _decoded(raw: bytes) -> Json:
    try:
        content = json.loads(raw)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
