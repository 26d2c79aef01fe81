"""Delivery of the events of an OpRun, as far as it needs no I/O: what is due, as which CloudEvent, and when to try again.

Events travel in the structured content mode: all of a CloudEvent is in the body, so its attributes hold any text of any
length, where the headers of the binary mode would meet the limits of servers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from cloudevents.core.bindings.http import HTTPMessage, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from maze_crds.oprun import PAGE

Json = dict[str, Any]

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds before an event is tried again: after its first failure, and at most."""
LONGEST_WISH = 3600.0
"""Seconds that a sink can ask for by Retry-After."""
NO_SINK = (
    "no sink is configured: set MAZE_EVENT_SINK_URL on the operator (Deployment maze-operator) to the http(s) URL that"
    " takes CloudEvents"
)

TYPE_PREFIX = "dev.maze.oprun."
_EXTENSION = re.compile(r"[a-z0-9]{1,20}")
_TAKEN = frozenset(
    ("specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", "topic")
)
_FORMAT = JSONFormat()


@dataclass(frozen=True, slots=True)
class Delivered:
    """What the status of a Run that asks for delivery says of it.

    Attributes:
        total: how many events there are.
        taken: how many of them the sink has taken.
        problem: why it has not taken the next one.
    """

    total: int
    taken: int
    problem: str | None


def view_delivered(run: Json) -> Delivered | None:
    """None: no delivery is asked for, the operator has not seen the Run yet, or it is being deleted."""
    asked = (run.get("spec", {}).get("opRun") or {}).get("eventDelivery")
    op = (run.get("status") or {}).get("op")
    if asked is None or op is None or "deletionTimestamp" in run["metadata"]:
        return None
    return Delivered(op.get("nextEvent", 0), op.get("delivered", 0), op.get("deliveryProblem"))


def due_in_status(run: Json, taken: int) -> list[Json] | None:
    """Entries from the id `taken` on; None: that one has left the status, see page_of."""
    events: list[Json] = run["status"]["op"].get("events", [])
    due = [event for event in events if event["id"] >= taken]
    return due if due and due[0]["id"] == taken else None


def page_of(event: int) -> int:
    """Number of the page in the object store that has the event once it has left the status."""
    return event // PAGE


def make_message(run: Json, event: Json, msg: str | int, payload: Json | None) -> HTTPMessage:
    """The HTTP form of an entry; `msg` and `payload` whole, as they may be cut in the entry."""
    name, asked = run["metadata"]["name"], run["spec"]["opRun"]["eventDelivery"]
    topic, given = asked["topic"], asked.get("attributes") or {}
    attributes = {
        "id": f"{run['metadata']['uid']}/{event['id']}",
        "source": f"/runs/{name}",
        "type": TYPE_PREFIX + event["type"].lower(),
        "subject": name,
        "time": datetime.fromisoformat(event["time"]),
        "datacontenttype": "application/json",
        "topic": as_attribute(topic),
        **extensions(given),
    }
    data = {
        "run_id": name,
        "topic": topic,
        "attributes": given,
        "attempt": event["attempt"],
        "event": {
            "id": event["id"],
            "type": event["type"],
            "t": event["time"],
            "msg": msg,
            "state": run["status"]["op"].get("state", "PENDING"),
            "payload": payload or {},
        },
    }
    return to_structured(CloudEvent(attributes, data), _FORMAT)


def extensions(given: dict[str, str]) -> dict[str, str]:
    """Those attributes whose names can be extension attributes of a CloudEvent; all of them are in its data."""
    usable = {name for name in given if _EXTENSION.fullmatch(name)} - _TAKEN
    return {name: as_attribute(given[name]) for name in sorted(usable)}


def as_attribute(text: str) -> str:
    """With U+FFFD for what a String of CloudEvents may not hold: control characters, surrogates, noncharacters."""
    return "".join("\ufffd" if _is_forbidden(ord(char)) else char for char in text)


def _is_forbidden(code: int) -> bool:
    control, surrogate = code < 0x20 or 0x7F <= code <= 0x9F, 0xD800 <= code <= 0xDFFF
    return control or surrogate or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE


def is_taken(status: int) -> bool:
    """What the sink's answer means: 2xx alone is a yes."""
    return 200 <= status < 300


def wait_after(failures: int, wished: float, chance: float) -> float:
    """Seconds until the next try of an event that has failed `failures` times in a row.

    Args:
        wished: what the sink has asked for.
        chance: 0 to 1; spreads Runs that failed together over the second half of the wait.
    """
    wait = min(FIRST_WAIT * 2.0 ** min(failures - 1, 16), LONGEST_WAIT)
    return max(wait * (1 - chance / 2), wished)


def wished_wait(retry_after: str | None, now: datetime) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 where it says nothing of use."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_WISH)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return min(max((until - now).total_seconds(), 0.0), LONGEST_WISH)
