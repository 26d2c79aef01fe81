"""The runner's main: ask for an attempt, execute it, go on with the next, and end when there is none.

Exit codes: 0 there is nothing to do for this pod (any more), or the outcome of its last attempt was reported; 1 the
operator refused; 143 the pod is being deleted.
"""

# ruff: noqa: PTH109, PTH112
# pathlib would take a good part of the start.
from __future__ import annotations

import os
import sys

from maze_runner.attempt import Attempt, Session
from maze_runner.folders import Folders
from maze_runner.operator import NotOurs, Operator, Refused
from maze_runner.retry import log
from maze_runner.signals import Signals, Terminated
from maze_runner.wire import Connections

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List


def main() -> int:
    signals = Signals()
    try:
        signals.install()
        connections = Connections()
        harden()
        serve(Operator(os.environ, connections), connections, signals)
    except NotOurs as error:
        log(f"nothing to do: {error}")
        return 0
    except Refused as error:
        log(str(error))
        return 1
    except Terminated:
        log("stopped by SIGTERM")
        return 143
    return 0


def serve(operator: Operator, connections: Connections, signals: Signals) -> None:
    """Execute what the operator gives, until it has nothing for this pod any more.

    Raises:
        NotOurs, Refused, Terminated: see Attempt.execute.
    """
    session = Session(operator, connections, signals, Folders(work_base(), shared_folders()))
    lease = operator.lease()
    try:
        while lease is not None:
            attempt = Attempt(lease, session)
            try:
                lease = attempt.execute()
            finally:
                attempt.close()
            if signals.stopping:
                if lease is not None:
                    raise Terminated
                return
            lease = lease or operator.lease()
    finally:
        session.folders.remove()


def harden() -> None:
    """Of all tasks: no core dumps, which would fill the disk, and nothing that they wrote is imported by this process."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]


def shared_folders() -> List[str]:
    """What is emptied after each attempt: MAZE_CLEAN has absolute paths with colons between them. Only a container whose
    folders are nobody else's may set it."""
    return [path for path in os.environ.get("MAZE_CLEAN", "").split(":") if path.startswith("/")]


def work_base() -> str:
    """Where attempts have their directories."""
    found = os.environ.get("MAZE_WORKDIR")
    return found if found and os.path.isdir(found) else "/tmp"
