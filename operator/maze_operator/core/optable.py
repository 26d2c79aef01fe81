"""What an event does to an OpRun, by the state it finds: the table of core/oprun.py.

              PENDING            RUNNING            ended
    STARTED   Start              Start (noted)      locked
    PROGRESS  Progress           Progress           locked
    COMPLETED Succeed            Succeed            locked
    FAILED    Fail               Fail               locked
    CANCELLED Cancel             Cancel             locked
    RETRIED   GiveUp             GiveUp             Reopen with force, else locked
    others    Note               Note               locked

Fail and GiveUp end the attempt. Fail leads to the next one while attempts remain, GiveUp is refused when none remain
(unless forced).
"""

from __future__ import annotations

from enum import StrEnum

from maze_crds.oprun import MAX_ATTEMPTS, TERMINAL_STATES, EventType, OpState


class Effect(StrEnum):
    NOTE = "Note"
    START = "Start"
    PROGRESS = "Progress"
    SUCCEED = "Succeed"
    FAIL = "Fail"
    CANCEL = "Cancel"
    GIVE_UP = "GiveUp"
    REOPEN = "Reopen"


SETTLING = frozenset({Effect.SUCCEED, Effect.FAIL, Effect.CANCEL, Effect.GIVE_UP, Effect.REOPEN})
"""Effects that end an attempt or begin one; what is said after them finds another state."""

_OPEN: dict[str, Effect] = {
    EventType.STARTED: Effect.START,
    EventType.PROGRESS: Effect.PROGRESS,
    EventType.COMPLETED: Effect.SUCCEED,
    EventType.FAILED: Effect.FAIL,
    EventType.CANCELLED: Effect.CANCEL,
    EventType.RETRIED: Effect.GIVE_UP,
}


class Refused(Exception):
    """The event does not fit the state; the text says why."""


def judge_event(kind: str, force: bool, state: OpState, attempt: int, max_attempts: int) -> Effect:
    """What an event of type `kind` does.

    Raises:
        Refused: see the table.
    """
    if state in TERMINAL_STATES:
        if kind == EventType.RETRIED and force:
            _require_attempt(attempt)
            return Effect.REOPEN
        raise Refused(locked_text(state))
    effect = _OPEN.get(kind, Effect.NOTE)
    if effect is Effect.GIVE_UP:
        _require_attempt(attempt)
        if not force and attempt >= max_attempts:
            raise Refused(
                f"Cannot retry: attempt {attempt} of {max_attempts} is the last; give payload.force: true to make one more"
            )
    return effect


def locked_text(state: OpState) -> str:
    """In the words of the reference."""
    return f"Run is already in terminal state {state.value}"


def _require_attempt(attempt: int) -> None:
    if attempt >= MAX_ATTEMPTS:
        raise Refused(f"Cannot retry: the run has had {MAX_ATTEMPTS} attempts, which is the most; create a new run")
