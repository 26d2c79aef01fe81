"""The runner's main: ask for an attempt, execute it, end.

Exit codes: 0 the outcome was reported (also that of a failed task), or there was nothing to do; 1 the operator refused;
143 the pod is being deleted.
"""

# ruff: noqa: PTH112
# pathlib would take a good part of the start.
from __future__ import annotations

import os

from maze_runner.attempt import Attempt
from maze_runner.operator import NotOurs, Operator, Refused
from maze_runner.retry import log
from maze_runner.signals import Signals, Terminated
from maze_runner.wire import Connections


def main() -> int:
    signals = Signals()
    try:
        signals.install()
        connections = Connections()
        operator = Operator(os.environ, connections)
        attempt = Attempt(operator.lease(), work_base(), operator, connections, signals)
        try:
            attempt.execute()
        finally:
            attempt.remove()
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


def work_base() -> str:
    """Where attempts have their directories."""
    found = os.environ.get("MAZE_WORKDIR")
    return found if found and os.path.isdir(found) else "/tmp"
