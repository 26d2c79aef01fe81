"""What a runner gets: its task with everything it needs, and places to put what it makes."""

from __future__ import annotations

import base64

from maze_crds import names
from maze_crds.protocol import Lease, Stored
from maze_operator.core import effective
from maze_operator.core.outputs import lease_inputs
from maze_operator.core.values import AttemptId, RunView
from maze_operator.engine import Engine

INLINE_CODE = 65536
"""Bytes of pickled code that travel inside the lease."""


async def make_lease(engine: Engine, view: RunView, attempt: AttemptId) -> Lease:
    """The lease of an attempt.

    Raises:
        InputMissing: an input was not given by the Run or the task before.
        StoreError: a result can't be read.
    """
    assert view.workflow is not None
    task = view.workflow.tasks[attempt.task]
    assert task.python is not None
    store, seconds = engine.store.store, engine.shell.url_seconds
    attempts = {status.name: status.attempt for status in view.status.tasks}
    inputs = lease_inputs(
        task,
        engine.run_inputs(view),
        await engine.executor.upstream(view, task),
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
    timeout = effective.timeout_seconds(task, view.workflow.spec)
    if timeout is not None:
        lease["timeoutSeconds"] = timeout
    if task.python.source is not None:
        lease["source"] = task.python.source
    if task.python.function is not None:
        lease["function"] = task.python.function
    if task.python.call is not None:
        lease["call"] = task.python.call
    if task.python.python_version is not None:
        lease["pythonVersion"] = task.python.python_version
    if task.python.code is not None:
        code = task.python.code
        lease["code"] = {"sha256": code.sha256, "size": code.size, "url": store.presign_get(code.key, seconds)}
        await _inline_small(engine, lease["code"], code.key)
    return lease


async def _inline_small(engine: Engine, code: Stored, key: str) -> None:
    if code["size"] <= INLINE_CODE:
        data = await engine.store.get(key)
        if data is not None:
            code["data"] = base64.b64encode(data).decode()
            del code["url"]
