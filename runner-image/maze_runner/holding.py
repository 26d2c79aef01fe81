"""Tells an operator that has lost its memory what this pod works on.

The operator keeps in its memory which pod has which attempt. That it was restarted shows here by the end of the
kept-alive connection to it.
"""

from __future__ import annotations

import time

from maze_runner.limits import HOLDING_AGAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

    from maze_runner.operator import Operator


class Holding:
    """`due`: the time.monotonic() when it is to be said (again), None while the connection is there."""

    def __init__(self, operator: Operator, lease: Dict[str, Any]) -> None:
        self._operator, self._lease = operator, lease
        self.due: Optional[float] = None

    @property
    def socket(self) -> Any:
        """What becomes readable when the operator goes; None where there is nothing to watch."""
        return self._operator.idle_socket() if self.due is None else None

    def lost(self) -> None:
        """The socket was readable while nothing had been asked."""
        self._operator.hang_up()

    def tick(self) -> None:
        """Say it if it is due.

        Raises:
            NotOurs: this pod no longer owns the attempt.
        """
        now = time.monotonic()
        if self.due is None and self.socket is None:
            self.due = now
        if self.due is not None and now >= self.due:
            said = self._operator.hold(self._lease)
            watched = self._operator.idle_socket() is not None
            self.due = None if said and watched else time.monotonic() + HOLDING_AGAIN
