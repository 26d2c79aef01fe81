"""From what a process printed to structured entries. Pure, and takes any text.

Understood, line by line:

    {"level": "info", "message": "…", "timestamp": "…", "step": 1}     JSON; what is left over is the context
    2026-01-01 10:00:00,123 - name - INFO - message                    Python logging, as most write it
    2026-01-01 10:00:00,123 INFO name: message
    2026-01-01 10:00:00.123 | INFO     | name - message                loguru
    INFO:name:message                                                  logging.basicConfig()
    [INFO] message     INFO: message     INFO message
    Traceback (most recent call last): …                               belongs to the error before it, else is one

Anything else is `info`. A line without a time has that of the entry before it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

Json = dict[str, Any]


class Level(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


SPELLINGS = {
    **{level.value: level for level in Level},
    "trace": Level.DEBUG,
    "notice": Level.INFO,
    "success": Level.INFO,
    "warn": Level.WARNING,
    "err": Level.ERROR,
    "exception": Level.ERROR,
    "fatal": Level.CRITICAL,
    "panic": Level.CRITICAL,
}
LEVEL_KEYS = ("level", "severity", "levelname")
MESSAGE_KEYS = ("message", "msg", "event")
TIME_KEYS = ("timestamp", "time", "ts")

_LEVEL = "(?P<level>TRACE|DEBUG|INFO|SUCCESS|WARNING|WARN|ERROR|CRITICAL|FATAL)"
_TIME = re.compile(
    r"\[?(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)\]?(?![\w.,:])[ \t]*"
)
_AFTER_TIME = (
    re.compile(rf"[-|:]?\s*{_LEVEL}\s*(?:\s-\s|\|)\s*(?P<logger>[\w.:<>]+)\s+-\s(?P<message>.*)", re.DOTALL),
    re.compile(rf"[-|:]?\s*\[?{_LEVEL}\]?:?\s+\[?(?P<logger>\w[\w.]*)\]?:\s+(?P<message>.*)", re.DOTALL),
    re.compile(rf"-?\s*(?P<logger>[\w.<>-]+)\s+-\s+{_LEVEL}\s+-\s?(?P<message>.*)", re.DOTALL),
    re.compile(rf"[-|:]?\s*\[?{_LEVEL}\b\]?\s*[-|:]?\s*(?P<message>.*)", re.DOTALL),
)
_WITHOUT_TIME = (
    re.compile(rf"{_LEVEL}:(?P<logger>[\w.]+):(?P<message>.*)", re.DOTALL),
    re.compile(rf"(?:\[{_LEVEL}\]:?|{_LEVEL.replace('level', 'word')}(?::|(?=\s)))\s*(?P<message>.*)", re.DOTALL),
)
_TRACEBACK = re.compile(r"(\s*\+ Exception Group )?Traceback \(most recent call last\):")
_CHAINED = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was logged. `context`: what a structured line says beside message, level and time."""

    timestamp: datetime
    level: Level
    message: str
    context: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Line:
    message: str
    level: Level = Level.INFO
    time: datetime | None = None
    context: Json = field(default_factory=dict)
    plain: bool = False


def parse(text: str, start: datetime) -> list[Entry]:
    """The entries of one process, in order. `start`: the time of lines that come before any that tells its own."""
    made: list[tuple[Entry, list[str]]] = []
    now, at = start, _Traceback()
    for raw in text.split("\n"):
        written = raw.rstrip("\r")
        if at.takes(written):
            made[-1][1].append(written)
            continue
        if not written.strip():
            continue
        line = _read(written)
        now = line.time or now
        level = line.level
        if line.plain and _TRACEBACK.match(written):
            at.begin()
            if made and made[-1][0].level in (Level.ERROR, Level.CRITICAL) and not at.closed:
                made[-1][1].append(written)
                continue
            level = Level.ERROR
        at.closed = False
        made.append((Entry(now, level, line.message, line.context), []))
    return [_joined(entry, more) for entry, more in made]


def _joined(entry: Entry, more: list[str]) -> Entry:
    return replace(entry, message="\n".join((entry.message, *more)).rstrip("\n")) if more else entry


class _Traceback:
    """Whether the next line still belongs to a traceback: indented lines, the exception, and chained ones after it."""

    def __init__(self) -> None:
        self._inside = False
        self._told = False
        """The exception itself has been told: only a chained traceback may follow."""
        self._chained = False
        self.closed = False
        """The entry before is a traceback that is complete: the next one is not part of it."""

    def begin(self) -> None:
        self._inside, self._told, self._chained = True, False, False

    def takes(self, line: str) -> bool:
        if not self._inside:
            return False
        blank = not line.strip()
        if self._told:
            return self._follows(line, blank)
        if blank or line[0] in " \t":
            return True
        self._told = True
        if _read(line).plain:
            return True
        self._end()
        return False

    def _follows(self, line: str, blank: bool) -> bool:
        """After the exception itself."""
        if blank or line in _CHAINED:
            self._chained = self._chained or not blank
            return True
        if self._chained and _TRACEBACK.match(line):
            self.begin()
            return True
        self._end()
        return False

    def _end(self) -> None:
        self._inside, self.closed = False, True


def _read(line: str) -> _Line:
    found = _json(line) if line.lstrip()[:1] == "{" else None
    if found is not None:
        return found
    timed = _TIME.match(line)
    time = parse_any_time(timed["time"]) if timed else None
    if timed is not None and time is not None:
        rest = line[timed.end() :]
        return _match(_AFTER_TIME, rest, time) or _Line(rest or line, time=time)
    return _match(_WITHOUT_TIME, line, None) or _Line(line, plain=True)


def _match(patterns: Iterable[re.Pattern[str]], text: str, time: datetime | None) -> _Line | None:
    for pattern in patterns:
        if found := pattern.fullmatch(text):
            parts = found.groupdict()
            logger = parts.get("logger")
            level = SPELLINGS[(parts["level"] or parts.get("word") or "").lower()]
            return _Line(parts["message"], level, time, {"logger": logger} if logger else {})
    return None


def _json(line: str) -> _Line | None:
    """A JSON object that says a message or a level; None: it is not one."""
    try:
        said = json.loads(line, parse_constant=str, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not any(key in said for key in (*MESSAGE_KEYS, *LEVEL_KEYS)):
        return None
    level = _take(said, LEVEL_KEYS, _level)
    time = _take(said, TIME_KEYS, parse_any_time)
    message = _take(said, MESSAGE_KEYS, _text)
    return _Line(line.strip() if message is None else message, level or Level.INFO, time, said)


def _take(said: Json, keys: Iterable[str], read: Any) -> Any:
    """The first of the keys that holds what can be read; it is taken out."""
    for key in keys:
        if key in said and (found := read(said[key])) is not None:
            del said[key]
            return found
    return None


def _level(value: Any) -> Level | None:
    """A name in any case, or a number of Python's logging."""
    if isinstance(value, str):
        return SPELLINGS.get(value.strip().lower())
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    steps = ((50, Level.CRITICAL), (40, Level.ERROR), (30, Level.WARNING), (20, Level.INFO))
    return next((level for least, level in steps if value >= least), Level.DEBUG)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _finite(text: str) -> float | str:
    """No JSON document may hold infinity."""
    value = float(text)
    return value if math.isfinite(value) else text


def parse_any_time(value: Any) -> datetime | None:
    """ISO 8601, also with a comma and without a zone (which then is UTC); or seconds, ms, µs, ns since 1970."""
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value.strip().replace(",", "."))
            return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            seconds = float(value)
            for _ in range(3):
                seconds = seconds / 1000 if seconds > 1e11 else seconds
            return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def chosen(entries: Iterable[Entry], level: Level | None, limit: int) -> list[Entry]:
    """The newest `limit` entries of exactly this level, in order."""
    fitting = [entry for entry in entries if level is None or entry.level is level]
    return fitting[-limit:]


def without_cut_line(tail: bytes, cut: bool) -> bytes:
    """The end of a log; where its beginning was cut off, without the first line, which is not whole."""
    return tail.partition(b"\n")[2] if cut else tail


def entries_json(entries: Iterable[Entry], show: Any) -> Iterator[Json]:
    """`{timestamp, level, message, context}` each. `show` prints a time."""
    for entry in entries:
        yield {
            "timestamp": show(entry.timestamp),
            "level": entry.level.value,
            "message": entry.message,
            "context": entry.context,
        }
