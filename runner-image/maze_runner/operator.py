"""The operator's report endpoint, as maze_crds.protocol describes it."""

from __future__ import annotations

import json
import select
import sys

from maze_runner.backoff import is_transient
from maze_runner.limits import WARM_UP_AFTER
from maze_runner.retry import retry
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

    def lease(self) -> Json:
        """A protocol.Lease."""
        return self._post("asking for work", "/v1/lease", {}, waiting=warm_up)

    def uploads(self, lease: Json, keys: List[str]) -> Dict[str, str]:
        """Presigned PUT URLs by output."""
        body = {"task": lease["task"], "attempt": lease["attempt"], "outputs": keys}
        urls: Dict[str, str] = self._post("asking where to store outputs", "/v1/uploads", body)["urls"]
        return urls

    def complete(self, lease: Json, result: Json) -> Json:
        """Returns once the report is durable."""
        body = {"task": lease["task"], "attempt": lease["attempt"], "result": result}
        return self._post("reporting the result", "/v1/complete", body)

    def _post(self, what: str, path: str, extra: Json, waiting: Optional[Callable[[Any], None]] = None) -> Json:
        body = json.dumps({**self._pod, **extra}, ensure_ascii=False).encode("utf-8")
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}

        def call() -> Json:
            answer = self._connections.call("POST", self._url + path, body, headers, waiting)
            try:
                parsed: Json = json.loads(answer or b"{}")
            except ValueError as error:
                raise HttpError(f"the answer is not JSON: {answer[:200]!r}") from error
            return parsed

        try:
            return retry(what, call, final=_is_final)
        except HttpError as error:
            if error.status == 409:
                raise NotOurs(str(error)) from error
            raise Refused(f"{what}: {error}") from error


def _is_final(error: HttpError) -> bool:
    return error.status != 0 and not is_transient(error.status)


def warm_up(sock: Any) -> None:
    """Use the time until the operator answers: what pickled tasks need is imported before the fork, for all of them."""
    if "cloudpickle" not in sys.modules and not select.select([sock], [], [], WARM_UP_AFTER)[0]:
        import cloudpickle  # noqa: F401
