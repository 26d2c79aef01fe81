"""What a runner gets: its task with everything it needs, and places to put what it makes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime

from maze_crds import names
from maze_crds.protocol import Lease, Stored
from maze_crds.workflow import PythonExecutor
from maze_operator.core import effective
from maze_operator.core.deadline import deadline, lease_timeout
from maze_operator.core.outputs import InputMissing, lease_inputs
from maze_operator.core.podspec import PodNotPossible
from maze_operator.core.toolinputs import check_required
from maze_operator.core.values import AttemptId, RunView
from maze_operator.engine import Engine
from maze_operator.toolcall import call_lease


async def make_lease(
    engine: Engine, view: RunView, attempt: AttemptId, attempts: Mapping[str, int] | None = None
) -> Lease:
    """The lease of an attempt. attempts: the current ones of all tasks, where the status does not say them yet.

    Raises:
        InputMissing: an input was not given by the Run or the task before, or a tool has no server.
        StoreError: a result can't be read.
    """
    assert view.workflow is not None
    task = view.workflow.tasks[attempt.task]
    store, seconds = engine.store.store, engine.shell.url_seconds
    if attempts is None:
        attempts = view.attempts
    run_inputs, upstream = engine.run_inputs(view), await engine.executor.upstream(view, task, attempts)
    check_required(task, run_inputs, upstream)
    inputs = lease_inputs(
        task,
        run_inputs,
        upstream,
        lambda key: store.presign_get(key, seconds),
        lambda upstream, key: names.output_key(view.uid, upstream, attempts[upstream], key),
    )
    lease: Lease = {
        "run": view.name,
        "runUid": view.uid,
        "task": attempt.task,
        "attempt": attempt.attempt,
        "inputs": inputs,
        "outputs": list(task.outputs or ()),
        "resultUrl": store.presign_put(names.result_key(view.uid, attempt.task, attempt.attempt), seconds),
        "logUrl": store.presign_put(names.log_key(view.uid, attempt.task, attempt.attempt), seconds),
    }
    own = effective.timeout_seconds(task, view.workflow.spec)
    timeout = lease_timeout(own, deadline(view.spec, view.status), datetime.now(UTC))
    if timeout is not None:
        lease["timeoutSeconds"] = timeout
    if task.tool is not None:
        try:
            lease.update(call_lease(task, engine.core))
        except PodNotPossible as error:  # the operator's settings have changed since it made the pod
            raise InputMissing(str(error), error.reason) from None
    elif task.python is not None:
        await _add_code(engine, lease, task.python)
    return lease


async def _add_code(engine: Engine, lease: Lease, python: PythonExecutor) -> None:
    if python.source is not None:
        lease["source"] = python.source
    if python.function is not None:
        lease["function"] = python.function
    if python.call is not None:
        lease["call"] = python.call
    if python.python_version is not None:
        lease["pythonVersion"] = python.python_version
    if python.code is not None:
        code = python.code
        url = engine.store.store.presign_get(code.key, engine.shell.url_seconds)
        lease["code"] = {"sha256": code.sha256, "size": code.size, "url": url}
        await _inline_small(engine, lease["code"], code.key)


async def _inline_small(engine: Engine, code: Stored, key: str) -> None:
    data = await engine.codes.get(key, code["size"])
    if data is not None:
        code["data"] = base64.b64encode(data).decode()
        del code["url"]
