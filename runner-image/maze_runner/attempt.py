"""One attempt from its lease to its report."""

from __future__ import annotations

import json
import time

from maze_runner import child
from maze_runner.cgroup import oom_kills, wait_for_limits
from maze_runner.classify import classify_end, refuse_version
from maze_runner.failures import INFRASTRUCTURE, USER_ERROR, Failed, build_failure
from maze_runner.holding import Holding
from maze_runner.limits import LOG_TRIES, RESULT_LIMIT
from maze_runner.operator import PYTHON
from maze_runner.outputs import store_outputs
from maze_runner.payloads import fetch_payloads
from maze_runner.process import Child
from maze_runner.retry import log, retry
from maze_runner.signals import Terminated
from maze_runner.spool import Spool
from maze_runner.warmup import enable_site_packages, preload
from maze_runner.wire import HttpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from maze_runner.folders import Folders
    from maze_runner.live import Live
    from maze_runner.operator import Operator
    from maze_runner.signals import Signals
    from maze_runner.wire import Connections

    Json = Dict[str, Any]


class Attempt:
    """Nothing of it is left in `folders` after `close`."""

    def __init__(
        self,
        lease: Json,
        folders: Folders,
        live: Live,
        operator: Operator,
        connections: Connections,
        signals: Signals,
    ) -> None:
        self._lease, self._operator, self._connections, self._signals = lease, operator, connections, signals
        self._folders, self._work, self._files = folders, folders.work, folders.files
        self._live, self._spool = live, Spool(f"{self._files}/log", live)

    def execute(self) -> Optional[Json]:
        """Run the task, store and report how it ended. Returns the next lease, if the operator gave one.

        Raises:
            NotOurs, Refused: see Operator.
            Terminated: the pod is being deleted; the child is gone.
        """
        started = now()
        result: Json = {"startTime": started, "completionTime": started, "outputs": {}}
        try:
            entries = self._run()
            self._signals.reporting = True
            result["outputs"] = store_outputs(self._lease, entries, self._operator, self._connections)
        except Failed as error:
            self._signals.reporting = True
            result["failure"] = error.failure
            log(f"{error.failure['reason']}: {error.failure['message']}")
        except OSError as error:
            self._signals.reporting = True
            result["failure"] = build_failure(INFRASTRUCTURE, "DiskFailed", f"in the work directory: {error}")
        result["completionTime"] = now()
        completed = self._report(result)
        self._signals.reporting = False
        return completed.get("next")

    def close(self) -> None:
        self._spool.close()
        self._folders.clear()

    def _run(self) -> List[Json]:
        """The outputs that the child left.

        Raises:
            Failed: how the attempt failed.
        """
        lease = self._lease
        if "marker" in lease:
            self._live.mark(lease["marker"])
        self._folders.prepare()
        limit: Optional[float] = lease.get("timeoutSeconds")
        deadline = None if limit is None else time.monotonic() + limit
        refused = refuse_version(lease.get("pythonVersion"), PYTHON) if "code" in lease else None
        if refused is not None:
            raise failed(refused)
        files = fetch_payloads(lease, self._files, self._connections, deadline)
        enable_site_packages()
        preload(_needed(lease))
        wait_for_limits(lease.get("limits", {}))
        kills = oom_kills()
        status, over_time = self._supervise(files, deadline)
        outcome = self._outcome()
        well = outcome is not None and "failure" not in outcome and not over_time
        failure = None if well else classify_end(status, outcome, limit if over_time else None, oom_kills() > kills)
        if failure is not None:
            raise failed(failure)
        assert outcome is not None
        entries: List[Json] = outcome["outputs"]
        return entries

    def _supervise(self, files: Dict[str, str], deadline: Optional[float]) -> Any:
        process = Child(lambda: self._in_child(files), self._signals)
        try:
            ended = process.supervise(self._spool, deadline, Holding(self._operator, self._lease))
            self._signals.reporting = True
            return ended
        except Terminated:
            process.supervise(self._spool, 0.0)
            raise
        finally:
            process.clean_up(self._spool)

    def _in_child(self, files: Dict[str, str]) -> None:
        self._connections.close()
        self._spool.close()
        child.run(self._lease, files, self._work, self._files)

    def _outcome(self) -> Optional[Json]:
        try:
            with open(f"{self._files}/{child.OUTCOME}", encoding="utf-8") as file:
                outcome: Json = json.load(file)
        except FileNotFoundError:
            return None
        return outcome

    def _report(self, result: Json) -> Json:
        """The log may be lost; the result must be stored before it is reported."""
        self._spool.close()
        if self._spool.size:
            try:
                put = self._connections.put_file
                retry("storing the log", lambda: put(self._lease["logUrl"], self._spool.path), tries=LOG_TRIES)
            except (HttpError, OSError) as error:
                log(f"the log of the task is not stored: {error}")
        body = encode_result(result)
        if len(body) > RESULT_LIMIT:
            result["outputs"] = {}
            result["failure"] = build_failure(USER_ERROR, "TooManyOutputs", _TOO_MANY)
            body = encode_result(result)
        headers = {"Content-Type": "application/json"}
        retry("storing the result", lambda: self._connections.call("PUT", self._lease["resultUrl"], body, headers))
        return self._operator.complete(self._lease, result)


CHILD = ("faulthandler", "types", "importlib.machinery", "linecache")

_TOO_MANY = (
    f"the descriptions of all outputs are larger than {RESULT_LIMIT // 1024**2} MiB; return fewer outputs,"
    " such as one that holds a dict"
)


def _needed(lease: Json) -> List[str]:
    """Modules that the child will import, and that all later ones have when this process does."""
    return [*CHILD, *(("pickle",) if "code" in lease else ("ast",)), "cloudpickle", *lease.get("imports", ())]


def failed(failure: Json) -> Failed:
    error = Failed(failure["cause"], failure["reason"], failure["message"])
    error.failure = failure
    return error


def encode_result(result: Json) -> bytes:
    return json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def now() -> str:
    """RFC 3339 in UTC with microseconds."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds // 1000:06}Z"
