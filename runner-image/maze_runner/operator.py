"""The operator's report endpoint, as maze_crds.protocol describes it."""

from __future__ import annotations

import json
import sys

from maze_runner.backoff import is_transient
from maze_runner.limits import CALL_AGAIN_LAST, HOLDING_TIMEOUT, LEASE_TIMEOUT, OPERATOR_TIMEOUT
from maze_runner.retry import retry
from maze_runner.warmup import warm_up
from maze_runner.wire import HttpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Dict, List, Optional

    from maze_runner.wire import Connections

    Json = Dict[str, Any]

VARIABLES = ("MAZE_REPORT_URL", "MAZE_TOKEN", "MAZE_NAMESPACE", "MAZE_POD_NAME", "MAZE_POD_UID")
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


class NotOurs(Exception):
    """409: there is nothing for this pod (any more). It ends, and nothing has gone wrong."""


class Refused(Exception):
    """The operator will never take this request; the text is its answer."""


class Operator:
    """Every call is repeated until it is answered.

    All of them raise:
        NotOurs, Refused.
    """

    def __init__(self, environ: Mapping[str, str], connections: Connections) -> None:
        missing = [name for name in VARIABLES if not environ.get(name)]
        if missing:
            raise Refused(f"not in the environment: {', '.join(missing)}; the operator starts this program in its pods")
        self._url = environ["MAZE_REPORT_URL"].rstrip("/")
        self._token = environ["MAZE_TOKEN"]
        self._connections = connections
        self._pod = {
            "namespace": environ["MAZE_NAMESPACE"],
            "pod": environ["MAZE_POD_NAME"],
            "uid": environ["MAZE_POD_UID"],
            "python": PYTHON,
        }

    def lease(self) -> Optional[Json]:
        """A protocol.Lease, however long it takes; None when there is nothing for this pod any more."""
        try:
            while True:
                found = self._post("asking for work", "/v1/lease", {}, LEASE_TIMEOUT, waiting=warm_up)
                if found:
                    return found
        except NotOurs:
            return None

    def uploads(self, lease: Json, keys: List[str]) -> Dict[str, str]:
        """Presigned PUT URLs by output."""
        body = {"task": lease["task"], "attempt": lease["attempt"], "outputs": keys}
        urls: Dict[str, str] = self._post("asking where to store outputs", "/v1/uploads", body)["urls"]
        return urls

    def complete(self, lease: Json, result: Json) -> Json:
        """Returns a protocol.Completed, once the report is durable."""
        body = {"task": lease["task"], "attempt": lease["attempt"], "result": result}
        return self._post("reporting the result", "/v1/complete", body)

    def hold(self, lease: Json) -> bool:
        """Say once, quickly, that the attempt is being worked on. False: it was not heard."""
        try:
            self._call("/v1/holding", {"task": lease["task"], "attempt": lease["attempt"]}, HOLDING_TIMEOUT)
        except HttpError as error:
            if error.status == 409:
                raise NotOurs(str(error)) from error
            return False
        return True

    def idle_socket(self) -> Any:
        """Of the kept-alive connection, while nothing is asked; None where there is none."""
        return self._connections.idle_socket(self._url)

    def hang_up(self) -> None:
        self._connections.drop(self._url)

    def _post(
        self,
        what: str,
        path: str,
        extra: Json,
        timeout: float = OPERATOR_TIMEOUT,
        waiting: Optional[Callable[[Any], None]] = None,
    ) -> Json:
        try:
            return retry(
                what, lambda: self._call(path, extra, timeout, waiting), final=_is_final, longest=CALL_AGAIN_LAST
            )
        except HttpError as error:
            if error.status == 409:
                raise NotOurs(str(error)) from error
            raise Refused(f"{what}: {error}") from error

    def _call(
        self,
        path: str,
        extra: Json,
        timeout: float,
        waiting: Optional[Callable[[Any], None]] = None,
    ) -> Json:
        body = json.dumps({**self._pod, **extra}, ensure_ascii=False).encode("utf-8")
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        answer = self._connections.call("POST", self._url + path, body, headers, waiting, timeout)
        try:
            parsed: Json = json.loads(answer or b"{}")
        except ValueError as error:
            raise HttpError(f"the answer is not JSON: {answer[:200]!r}") from error
        return parsed


def _is_final(error: HttpError) -> bool:
    return error.status != 0 and not is_transient(error.status)
