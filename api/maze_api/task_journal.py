"""The log of a task: all attempts of all steps of its workflow, and what external workers did, as structured entries."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from maze_api.cache import RunView
from maze_api.logs import Logs
from maze_api.task_logs import Entry, Level, parse, without_cut_line
from maze_crds.run import Assignment, AssignmentEnd, RunStatus, TaskStatus

MOST_BYTES = 4 * 1024 * 1024
"""Of what was printed that one answer looks at: the newest."""

ENDS = {
    AssignmentEnd.COMPLETED: (Level.INFO, "completed"),
    AssignmentEnd.FAILED: (Level.ERROR, "failed"),
    AssignmentEnd.TIMED_OUT: (Level.ERROR, "timed out"),
    AssignmentEnd.CANCELLED: (Level.WARNING, "cancelled"),
    AssignmentEnd.LOST: (Level.WARNING, "lost: the worker went silent, the task waits for another one"),
}


@dataclass(frozen=True, slots=True)
class Printed:
    """One attempt of one step that may have printed something. `start`: as far as it is known."""

    step: TaskStatus
    attempt: int
    start: datetime


async def journal(logs: Logs, run: RunView, fallback: datetime) -> list[Entry]:
    """All entries in order, of at most the newest MOST_BYTES. `fallback`: the time of what has none.

    Raises:
        KubeError, StoreError: out of reach.
    """
    attempts = printed(run.status, fallback)
    left, texts = MOST_BYTES, []
    for one in reversed(attempts):
        tail, cut = await read_tail(logs.read(run, one.step, one.attempt), left)
        texts.append(without_cut_line(tail, cut))
        left -= len(tail)
        if left <= 0:
            break
    texts.reverse()
    read = attempts[len(attempts) - len(texts) :]
    return await asyncio.to_thread(assemble, run.status, read, texts)


async def read_tail(chunks: AsyncGenerator[bytes, None], most: int) -> tuple[bytes, bool]:
    """The last `most` bytes, and whether there were more."""
    kept: deque[bytes] = deque()
    size, cut = 0, False
    async with aclosing(chunks):
        async for chunk in chunks:
            kept.append(chunk)
            size += len(chunk)
            while size - len(kept[0]) >= most:
                left = len(kept.popleft())
                size, cut = size - left, cut or left > 0
    found = b"".join(kept)
    return (found[-most:], True) if len(found) > most else (found, cut)


def printed(status: RunStatus, fallback: datetime) -> list[Printed]:
    """All attempts that have begun, in the order of their starts."""
    found = []
    for step in status.tasks:
        for earlier in step.failed_attempts:
            if earlier.start_time is not None:
                found.append(Printed(step, earlier.attempt, earlier.start_time))
        known = {earlier.attempt for earlier in step.failed_attempts}
        if step.attempt > 0 and step.attempt not in known:
            found.append(Printed(step, step.attempt, step.start_time or step.scheduled_time or fallback))
    return sorted(found, key=lambda one: (one.start, one.step.name, one.attempt))


def assemble(status: RunStatus, attempts: Sequence[Printed], texts: Sequence[bytes]) -> list[Entry]:
    """What workers did and what was printed, in order. Where there is more than one, entries name step and attempt."""
    several = len(status.tasks) > 1 or any(step.failed_attempts for step in status.tasks)
    found = [(entry.timestamp, [entry]) for one in status.assignments if not one.internal for entry in deeds(one)]
    for one, text in zip(attempts, texts, strict=True):
        entries = parse(text.decode(errors="replace"), one.start.astimezone(UTC))
        if several:
            entries = [_labelled(entry, one) for entry in entries]
        found.append((one.start, entries))
    found.sort(key=lambda part: part[0])
    return [entry for _, entries in found for entry in entries]


def deeds(one: Assignment) -> list[Entry]:
    """What an external worker did with the task."""
    context = {"worker_id": one.worker, "attempt": one.number}
    found = [Entry(one.start_time, Level.INFO, f"claimed by worker '{one.worker}'", context)]
    if one.end is not None:
        level, text = ENDS[one.end]
        said = f"{text}: {one.message}" if one.message and one.end is not AssignmentEnd.LOST else text
        found.append(Entry(one.end_time or one.start_time, level, said, context))
    return found


def _labelled(entry: Entry, one: Printed) -> Entry:
    return replace(entry, context={"task": one.step.name, "attempt": one.attempt, **entry.context})
