"""Reports of external workers, which the api forwards (protocol.WorkerReport): weighed, stored, then acknowledged."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from maze_crds.base import format_time
from maze_crds.names import EXTERNAL_TASK
from maze_crds.protocol import Result, WorkerReport
from maze_crds.run import Cause, RunStatus
from maze_io.kube import KubeError, runs_path
from maze_operator.core.assignment import REPORTED_FAILED, Standing, Verdict, judge_report
from maze_operator.core.diagnosis import failure
from maze_operator.core.outputs import json_output
from maze_operator.core.values import AttemptId
from maze_operator.engine import Engine
from maze_operator.run_reader import Gone
from maze_operator.worker import RunWorker
from maze_operator.workflows import read_spec

DURABLE_SECONDS = 20.0
"""How long any report waits to be in the status before its sender is told to say it again."""

Json = dict[str, Any]


class NotJson(ValueError):
    """The result holds what JSON can't, such as NaN; the text says what."""


@dataclass(frozen=True)
class Answer:
    """HTTP status and, unless it is 200, why."""

    status: int
    detail: str = ""


async def take_report(engine: Engine, report: WorkerReport) -> Answer:
    """200 once the report is in the status of its Run (a repeat too), 404, 409, or 503: it is to be said again.

    Raises:
        NotJson: the result can't be kept.
        KubeError, StoreError: the API server or the object store can't be asked; to be said again, too.
    """
    result = make_result(report, datetime.now(UTC))
    obj, verdict = await _find(engine, report)
    if obj is None:
        return Answer(404, f"there is no Run '{report['run']}' in namespace '{report['namespace']}'")
    if verdict.standing is not Standing.OWNER:
        return _answer(verdict)
    worker = engine.worker_of(obj["metadata"]["uid"])
    if worker is None:
        return Answer(503, "the Run is not looked after yet")
    try:
        return await _take(engine, worker, report, result)
    except Gone:
        return Answer(404, "the Run has been deleted")
    except TimeoutError:
        return Answer(503, "the report is not written yet")


async def _take(engine: Engine, worker: RunWorker, report: WorkerReport, result: Result) -> Answer:
    async with worker.reporting:
        verdict = _newest(engine, worker, report)
        if verdict.standing is not Standing.OWNER:
            return _answer(verdict)
        attempt = AttemptId(EXTERNAL_TASK, verdict.number)
        first = await _first(engine, worker, attempt)
        if first is None:
            await engine.results.put(worker.uid, attempt, result, remember=False)
        verdict = _newest(engine, worker, report)
        if verdict != Verdict(Standing.OWNER, attempt.attempt):
            return _answer(verdict)
        done = worker.report(attempt, first or result)
    async with asyncio.timeout(DURABLE_SECONDS):
        await done
    return _answer(_newest(engine, worker, report))


async def _first(engine: Engine, worker: RunWorker, attempt: AttemptId) -> Result | None:
    """What has been stored before: by this process, or by one that died before it could write the status."""
    if attempt in worker.reports:
        return worker.reports[attempt][0]
    return await engine.results.get(worker.uid, attempt)


async def _find(engine: Engine, report: WorkerReport) -> tuple[Json | None, Verdict]:
    """The Run and what it says about the report. Asked for anew before anyone is refused: the watch may be behind."""
    obj = engine.runs.get(report["namespace"], report["run"])
    if obj is not None:
        verdict = _judge(obj, obj["metadata"]["uid"], report)
        if verdict.standing is not Standing.STRANGER:
            return obj, verdict
    try:
        obj = await engine.kube.get(runs_path(report["namespace"], report["run"]))
    except KubeError as error:
        if not error.not_found:
            raise
        return None, Verdict(Standing.STRANGER)
    engine.runs.put(obj)
    return obj, _judge(obj, obj["metadata"]["uid"], report)


def _newest(engine: Engine, worker: RunWorker, report: WorkerReport) -> Verdict:
    """By the Run as this process knows it, its own last write included."""
    return _judge(engine.runs.get(worker.namespace, worker.name), worker.uid, report)


def _judge(obj: Json | None, uid: str, report: WorkerReport) -> Verdict:
    """Raises Gone where it is not the Run with this UID any more."""
    if obj is None or obj["metadata"]["uid"] != uid:
        raise Gone
    spec, _ = read_spec(obj)
    status = RunStatus.model_validate(obj.get("status") or {})
    return judge_report(spec, status, report["worker"], report["outcome"] == "completed")


def _answer(verdict: Verdict) -> Answer:
    if verdict.standing is Standing.REPEAT:
        return Answer(200)
    if verdict.standing is Standing.STRANGER:
        return Answer(409, verdict.why)
    return Answer(503, "the report is not written yet")


def make_result(report: WorkerReport, now: datetime) -> Result:
    """What is kept of a report.

    Raises:
        NotJson: see there.
    """
    time = format_time(now)
    made: Result = {"startTime": time, "completionTime": time, "outputs": {}}
    if report["outcome"] == "failed":
        message = report.get("error") or "the worker gave no reason"
        made["failure"] = failure(Cause.USER_ERROR, REPORTED_FAILED, message)
        return made
    try:
        made["outputs"]["result"] = json_output(report.get("result"))
    except ValueError as error:
        raise NotJson(f"the result is no JSON: {error}") from None
    return made
