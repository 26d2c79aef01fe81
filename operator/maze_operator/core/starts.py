"""Which Runs may start pods that their tasks share, where many Runs want some.

Pods that start at the same time slow each other down, and what a node can't start in time waits on it. So there are at most
`most` of them at once in all, and the next one goes to the Run that has the fewest pods, of the namespace that has the fewest,
and first to the one that has waited longest. A Run that wants one while there is room and nobody waits need not wait.

Mutable; used by one thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count


@dataclass(slots=True)
class _Run:
    """making: pods that it has decided on and that are not counted yet. granted: pods that it may start with its next plan."""

    namespace: str
    pods: int = 0
    starting: int = 0
    making: int = 0
    granted: int = 0
    waits_since: int | None = None

    @property
    def taken(self) -> int:
        return self.starting + self.making + self.granted


class Starts:
    """`wake(uid)`: this Run may start a pod now."""

    def __init__(self, most: int, wake: Callable[[str], None]) -> None:
        self._most, self._wake = most, wake
        self._runs: dict[str, _Run] = {}
        self._taken = 0
        self._pods: Counter[str] = Counter()
        """By namespace."""
        self._waiting: set[str] = set()
        self._arrivals = count()

    def may_start(self, uid: str) -> int:
        """Pods that this Run may start with the plan that is made now."""
        run = self._runs.get(uid)
        if run is not None and run.granted:
            return run.granted
        others_wait = len(self._waiting) > (uid in self._waiting)
        return 0 if others_wait else max(0, self._most - self._taken)

    def planned(self, uid: str, namespace: str, making: int, wants_more: bool) -> None:
        """A plan has been made: it makes so many pods, and would have made more."""
        run = self._runs.setdefault(uid, _Run(namespace))
        if wants_more and run.waits_since is None:
            run.waits_since = next(self._arrivals)
        elif not wants_more:
            run.waits_since = None
        (self._waiting.add if wants_more else self._waiting.discard)(uid)
        self._change(run, making=making, granted=0)

    def count(self, uid: str, namespace: str, pods: int, starting: int) -> None:
        """What the Run has: living pods, and how many of them are starting and nothing is known to be wrong with them."""
        run = self._runs.setdefault(uid, _Run(namespace))
        self._pods[namespace] += pods - run.pods
        run.pods = pods
        self._change(run, starting=starting, making=0)

    def forget(self, uid: str) -> None:
        """The Run has ended, or is gone."""
        run = self._runs.pop(uid, None)
        if run is not None:
            self._waiting.discard(uid)
            self._pods[run.namespace] -= run.pods
            self._taken -= run.taken
            self._hand_out()

    def _change(self, run: _Run, **changes: int) -> None:
        self._taken -= run.taken
        for name, value in changes.items():
            setattr(run, name, value)
        self._taken += run.taken
        self._hand_out()

    def _hand_out(self) -> None:
        while self._taken < self._most:
            entitled = [uid for uid in self._waiting if not self._runs[uid].granted]
            if not entitled:
                return
            uid = min(entitled, key=self._place)
            self._runs[uid].granted += 1
            self._taken += 1
            self._wake(uid)

    def _place(self, uid: str) -> tuple[int, int, int]:
        run = self._runs[uid]
        return run.pods + run.making, self._pods[run.namespace], run.waits_since or 0
