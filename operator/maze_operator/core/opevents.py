"""Whether a posted event of an OpRun is valid in itself, and what it means; whether it fits the Run is for core/oprun.py."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from maze_crds.base import format_time
from maze_crds.oprun import EVENT_LIMIT, EventType
from maze_crds.plainjson import INT64, encode_json, fits_object, read_json
from maze_crds.protocol import Result
from maze_operator.core.outputs import json_output
from maze_operator.core.values import Posted

T = TypeVar("T")

KEY_LIMIT = 100
"""Characters of a key that a sender gives an event."""
WORKER_LIMIT = 253
"""Characters of payload.worker_id."""
GPU_IDS = range(-(2**31), 2**31)
SHOWN = 200
"""Characters of the msg that the status keeps of an event that is stored elsewhere."""
_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PERCENT = re.compile(r"0*(\d{1,2}|100)", re.ASCII)
_SPECIAL = frozenset(EventType)


class InvalidEvent(ValueError):
    """The text says what to write instead."""


def parse_event(data: bytes, now: datetime, fresh_key: str) -> Posted:
    """See read_event.

    Raises:
        InvalidEvent: what is there instead of a JSON object, too.
    """
    try:
        body = read_json(data)
    except ValueError as error:
        raise InvalidEvent(f"the body is no JSON: {error}") from None
    return read_event(body, now, fresh_key)


def read_event(body: Any, now: datetime, fresh_key: str) -> Posted:
    """`body`, which should be a protocol.OpEventRequest, as an event of no attempt yet.

    fresh_key: for one that its sender gave no key.

    Raises:
        InvalidEvent: see there.
    """
    if not isinstance(body, dict):
        raise InvalidEvent('the body must be a JSON object like {"type": "PROGRESS", "msg": 50}')
    kind, payload = _type(body), body.get("payload")
    if payload is not None and not isinstance(payload, dict):
        raise InvalidEvent(f"payload must be a JSON object or null, not {_shown(payload)}")
    posted = Posted(key=_key(body, fresh_key), type=kind, time=now, msg=_message(body), payload=payload)
    given: Mapping[str, Any] = payload or {}
    match kind:
        case EventType.PROGRESS:
            return replace(posted, msg=_percent(body))
        case EventType.STARTED:
            return replace(posted, worker=_worker(given), gpu=_gpu(given))
        case EventType.COMPLETED:
            return replace(posted, result=outputs_result(_outputs(given), now))
        case EventType.FAILED:
            return replace(posted, error=_optional(given, "error_message", str, "text") or str(posted.msg))
        case EventType.RETRIED:
            return replace(posted, force=_optional(given, "force", bool, "true or false") or False)
    return posted


def outputs_result(outputs: Mapping[str, Any], now: datetime) -> Result:
    """What an attempt is kept as that ended well with these outputs, each any JSON."""
    time = format_time(now)
    made = {key: json_output(value) for key, value in outputs.items()}
    return {"startTime": time, "completionTime": time, "outputs": made}


@dataclass(frozen=True)
class Cut:
    """`data` is for the object store, at the name that `posted.stored` gives."""

    posted: Posted
    data: bytes


def cut_event(posted: Posted) -> Cut | None:
    """What stays of an event that the status can't keep as it is; None: it can."""
    whole = {"msg": posted.msg, "payload": None if posted.payload is None else dict(posted.payload)}
    data = encode_json(whole)
    if len(data) <= EVENT_LIMIT and fits_object(whole):
        return None
    msg = posted.msg if isinstance(posted.msg, int) else posted.msg[:SHOWN]
    return Cut(replace(posted, msg=msg, payload=None, stored=hashlib.sha256(data).hexdigest()), data)


def _type(body: Mapping[str, Any]) -> str:
    kind = body.get("type")
    if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
        text = "type must be 1 to 64 letters, digits or any of _ . -, like PROGRESS"
        raise InvalidEvent(f"{text}; it is {_shown(kind)}" if "type" in body else f"{text}; there is none")
    if kind not in _SPECIAL and kind.upper() in _SPECIAL:
        raise InvalidEvent(f"type '{kind}' must be in capital letters: write {kind.upper()}")
    return kind


def _key(body: Mapping[str, Any], fresh_key: str) -> str:
    key = body.get("key", fresh_key)
    if not isinstance(key, str) or not 1 <= len(key) <= KEY_LIMIT:
        raise InvalidEvent(f"key must be text of 1 to {KEY_LIMIT} characters, not {_shown(key)}; leave it out for none")
    return key


def _message(body: Mapping[str, Any]) -> str | int:
    msg = body.get("msg", "")
    if isinstance(msg, bool) or not isinstance(msg, str | int):
        raise InvalidEvent(f"msg must be text or a whole number, not {_shown(msg)}; leave it out for none")
    if isinstance(msg, int) and msg not in INT64:
        raise InvalidEvent("msg is too large a number; write it as text")
    return msg


def _percent(body: Mapping[str, Any]) -> int:
    msg = body.get("msg")
    if isinstance(msg, int) and 0 <= msg <= 100:
        return msg
    if isinstance(msg, str) and _PERCENT.fullmatch(msg):
        return int(msg)
    raise InvalidEvent(f"msg of PROGRESS must be a whole number from 0 to 100, not {_shown(msg)}")


def _worker(payload: Mapping[str, Any]) -> str | None:
    found = _optional(payload, "worker_id", str, "text")
    if found is not None and len(found) > WORKER_LIMIT:
        raise InvalidEvent(f"payload.worker_id must be text of at most {WORKER_LIMIT} characters")
    return found


def _gpu(payload: Mapping[str, Any]) -> int | None:
    found = _optional(payload, "gpu_id", int, "a whole number")
    if found is not None and found not in GPU_IDS:
        raise InvalidEvent("payload.gpu_id must be the number of a GPU, like 0")
    return found


def _outputs(payload: Mapping[str, Any]) -> dict[str, Any]:
    return _optional(payload, "outputs", dict, 'a JSON object like {"score": 0.9}') or {}


def _optional(payload: Mapping[str, Any], key: str, kind: type[T], words: str) -> T | None:
    """None where it is null or not there."""
    found = payload.get(key)
    if found is None:
        return None
    if isinstance(found, kind) and (kind is bool or not isinstance(found, bool)):
        return found
    raise InvalidEvent(f"payload.{key} must be {words}, not {_shown(found)}; leave it out for none")


def _shown(value: Any) -> str:
    text = encode_json(value).decode()
    return text if len(text) <= 60 else f"{text[:60]}…"
