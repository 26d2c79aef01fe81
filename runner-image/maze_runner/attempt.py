"""One attempt from its lease to its report."""

from __future__ import annotations

import json
import time

from maze_runner import child
from maze_runner.cgroup import Cgroup
from maze_runner.classify import classify_end, refuse_version
from maze_runner.failures import INFRASTRUCTURE, USER_ERROR, Failed, build_failure
from maze_runner.holding import Holding
from maze_runner.limits import LOG_TRIES, RESULT_LIMIT
from maze_runner.live import Live
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
    from maze_runner.operator import Operator
    from maze_runner.signals import Signals
    from maze_runner.wire import Connections

    Json = Dict[str, Any]


class Session:
    """What all attempts of this process use. `pickles`: some of their outputs were pickled."""

    def __init__(self, operator: Operator, connections: Connections, signals: Signals, folders: Folders) -> None:
        self.operator, self.connections, self.signals, self.folders = operator, connections, signals, folders
        self.live, self.cgroup = Live(), Cgroup()
        self.pickles = False


class Attempt:
    """Nothing of it is left in the session's folders after `close`."""

    def __init__(self, lease: Json, session: Session) -> None:
        self._lease, self._session = lease, session
        self._operator, self._connections, self._signals = session.operator, session.connections, session.signals
        self._work, self._files = session.folders.work, session.folders.files
        self._spool = Spool(f"{self._files}/log", session.live)

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
        self._session.folders.clear()

    def _run(self) -> List[Json]:
        """The outputs that the child left.

        Raises:
            Failed: how the attempt failed.
        """
        lease = self._lease
        if "marker" in lease:
            self._session.live.mark(lease["marker"])
        self._session.folders.prepare()
        limit: Optional[float] = lease.get("timeoutSeconds")
        deadline = None if limit is None else time.monotonic() + limit
        refused = refuse_version(lease.get("pythonVersion"), PYTHON) if "code" in lease else None
        if refused is not None:
            raise failed(refused)
        files = fetch_payloads(lease, self._files, self._connections, deadline)
        enable_site_packages()
        preload(_needed(lease, self._session.pickles))
        self._session.cgroup.wait_for_limits(lease.get("limits", {}))
        kills = self._session.cgroup.oom_kills()
        status, over_time = self._supervise(files, deadline)
        outcome = self._outcome()
        if outcome is None or "failure" in outcome or over_time:
            killed = self._session.cgroup.oom_kills() > kills
            failure = classify_end(status, outcome, limit if over_time else None, killed)
            assert failure is not None
            raise failed(failure)
        entries: List[Json] = outcome["outputs"]
        self._session.pickles |= any(entry["encoding"] == "pickle" for entry in entries)
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
        self._session.cgroup.close()
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


def _needed(lease: Json, pickles: bool) -> List[str]:
    """Modules that the child will import, and that all later ones have when this process does."""
    pickled = "code" in lease
    return [
        *CHILD,
        *(("pickle",) if pickled else ("ast",)),
        *(("cloudpickle",) if pickled or pickles else ()),
        *lease.get("imports", ()),
    ]


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
