"""The status of one OpRun while a plan is being made: its attempts, and its events with their ids."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from maze_crds.oprun import (
    EVENT_LIMIT,
    OUTPUTS_LIMIT,
    PAGE,
    TAIL,
    EventType,
    OpAttempt,
    OpEvent,
    OpState,
    OpStatus,
)
from maze_crds.plainjson import encode_json, fits_object
from maze_crds.protocol import Result
from maze_crds.run import TEXT_LIMIT
from maze_operator.core.values import EventPage, Posted


class Timeline:
    """Mutable only inside one call of `plan`."""

    def __init__(self, op: OpStatus | None, now: datetime) -> None:
        self.op = op or OpStatus(attempts=[OpAttempt(number=1, state=OpState.PENDING, created_time=now)])
        self.now = now
        self.attempts = list(self.op.attempts)
        self.events = list(self.op.events)
        self.next_event = self.op.next_event
        self._changes: dict[str, Any] = {}

    @property
    def state(self) -> OpState:
        return self.attempts[-1].state

    @property
    def attempt(self) -> int:
        return self.attempts[-1].number

    @property
    def started(self) -> bool:
        return self.attempts[-1].start_time is not None

    def change(self, **values: Any) -> None:
        """Fields of the status."""
        self._changes.update(values)

    def set(self, **values: Any) -> None:
        """Fields of the current attempt."""
        if "message" in values and values["message"] is not None:
            values["message"] = values["message"][:TEXT_LIMIT]
        self.attempts[-1] = self.attempts[-1].model_copy(update=values)

    def begin(self) -> None:
        """The next attempt."""
        self.attempts.append(OpAttempt(number=self.attempt + 1, state=OpState.PENDING, created_time=self.now))

    def close(self, state: OpState, reason: str | None, message: str | None, exit_code: int | None) -> None:
        """The current attempt has ended."""
        self.set(state=state, completion_time=self.now, reason=reason, message=message, exit_code=exit_code)

    def say(self, kind: EventType, msg: str, payload: Mapping[str, Any], outputs: bool = False) -> None:
        """An event of our own."""
        self._add(
            OpEvent(**self._common(kind.value, self.now), msg=msg, payload=dict(payload) or None, outputs=outputs)
        )

    def keep(self, posted: Posted) -> int:
        """A posted event; its id."""
        payload = dict(posted.payload) if posted.payload is not None else None
        common = self._common(posted.type, posted.time)
        return self._add(OpEvent(**common, msg=posted.msg, payload=payload, stored=posted.stored, key=posted.key))

    def find(self, key: str) -> OpEvent | None:
        """The event that has been posted with this key, as far as the status goes back."""
        return next((event for event in reversed(self.events) if event.key == key), None)

    def take_outputs(self, result: Result | None) -> None:
        """What the current attempt gave."""
        values = output_values(result)
        small = _size(values) <= OUTPUTS_LIMIT and fits_object(values)
        self.change(outputs=values if small else None, outputs_from=None if small else self.attempt)

    def drop_outputs(self) -> None:
        self.change(outputs=None, outputs_from=None)

    def status(self) -> tuple[OpStatus, tuple[EventPage, ...]]:
        """What the status is to be, and the events that leave it."""
        pages = []
        while len(self.events) >= TAIL:
            pages.append(EventPage(self.events[0].id // PAGE, tuple(self.events[:PAGE])))
            del self.events[:PAGE]
        changes = {"attempts": self.attempts, "events": self.events, "next_event": self.next_event}
        return self.op.model_copy(update={**changes, "state": self.state, **self._changes}), tuple(pages)

    def _common(self, kind: str, time: datetime) -> dict[str, Any]:
        """Times grow with the ids, also where one came while another was being looked at."""
        latest = max(time, self.events[-1].time) if self.events else time
        return {"id": self.next_event, "type": kind, "time": latest, "attempt": self.attempt}

    def _add(self, event: OpEvent) -> int:
        self.events.append(event)
        self.next_event += 1
        return event.id


def output_values(result: Result | None) -> dict[str, Any]:
    """Those that are plain JSON, which is all that a container can give."""
    outputs = result["outputs"] if result is not None else {}
    return {key: output["value"] for key, output in outputs.items() if "value" in output}


def fits_event(payload: Mapping[str, Any]) -> bool:
    """Whether it may stay in the status."""
    return _size(payload) <= EVENT_LIMIT and fits_object(payload)


def _size(value: Any) -> int:
    return len(encode_json(value))
