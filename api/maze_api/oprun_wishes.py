"""Cancel, retry and update: guarded writes of what is wished (the spec) of an OpRun; the loser of a race decides again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, TypeAlias

from maze_api.cache import Runs
from maze_api.errors import BadRequest, Conflict, NotFound, TooLarge, Unavailable
from maze_api.oprun_bodies import OpRunUpdate
from maze_api.oprun_view import OpView, is_op_run, view_op
from maze_crds.oprun import MAX_ATTEMPTS, OpState
from maze_crds.plainjson import encode_json
from maze_crds.run import DesiredState
from maze_io.kube import KubeError, Object, runs_path

TRIES = 100
"""Each lost race means that somebody else has got on."""
PAUSE_SECONDS = 0.05
"""Before the next try, at most."""
NOTED_SECONDS = 2.0
"""How long an answer waits for the operator to have noted the wish, so that what it makes of it can be read at once."""

OUTPUTS_LIMIT = 128 * 1024
"""Bytes of JSON of outputs that PATCH takes: the Run has them twice, as they were wished and in its status."""

Json = dict[str, Any]
Decide: TypeAlias = Callable[[OpView], Json | None]
"""The spec as it is to be; None: as it is. Raises ApiError where it can't be."""


class NotSettled(Exception):
    """An earlier wish must be noted first."""


def no_run(run_id: str) -> NotFound:
    return NotFound(f"OpRun '{run_id[:100]}' not found")


def cancel(run: OpView) -> Json | None:
    """In the words of the reference."""
    if run.ended:
        raise BadRequest(f"Run is already in terminal state {run.state.value}")
    return {**run.obj["spec"], "desiredState": DesiredState.CANCELLED.value}


def retry(run: OpView) -> Json | None:
    if not run.settled:
        raise NotSettled
    if not run.ended:
        raise BadRequest(f"Cannot retry: the run is {run.state.value}; only one that has ended can be retried")
    require_attempt(run)
    spec = run.obj["spec"]
    done = max(spec.get("retries", 0), run.op.get("retries", 0))
    return {**spec, "retries": done + 1, "desiredState": DesiredState.RUNNING.value}


def require_attempt(run: OpView) -> None:
    if run.attempt >= MAX_ATTEMPTS:
        raise BadRequest(f"Cannot retry: the run has had {MAX_ATTEMPTS} attempts, which is the most; create a new run")


def read_state(text: str) -> OpState:
    """In the words of the reference."""
    try:
        return OpState(text)
    except ValueError:
        raise BadRequest(f"Invalid state '{text[:100]}'") from None


def update(body: OpRunUpdate) -> Decide:
    """What PATCH wishes.

    Raises:
        BadRequest: there is no such state.
        TooLarge: the outputs.
    """
    state = read_state(body.state) if body.state is not None else None
    size = len(encode_json(body.outputs or {}))
    if size > OUTPUTS_LIMIT:
        raise TooLarge(
            f"outputs have {size} bytes of JSON, but at most {OUTPUTS_LIMIT} can be set; let the container report more"
        )

    def decide(run: OpView) -> Json | None:
        spec = dict(run.obj["spec"])
        override = dict(spec.get("override") or {})
        if state is not None and state is not run.state:
            if state is OpState.RUNNING and not run.active:
                raise BadRequest(
                    "Invalid update: a run is RUNNING when its container is; set state PENDING to run it again"
                )
            if state is OpState.PENDING:
                require_attempt(run)
                spec["desiredState"] = DesiredState.RUNNING.value
            number = max((override.get("state") or {}).get("number", 0), run.op.get("stateOverride", 0)) + 1
            override["state"] = {"number": number, "state": state.value}
        if body.outputs is not None:
            number = max((override.get("outputs") or {}).get("number", 0), run.op.get("outputsOverride", 0)) + 1
            override["outputs"] = {"number": number, "outputs": body.outputs}
        if override:
            spec["override"] = override
        if body.priority is not None:
            spec["priority"] = body.priority
        return spec if spec != run.obj["spec"] else None

    return decide


class OpWishes:
    """The wishes that come in through this process."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def change(self, run_id: str, decide: Decide) -> OpView:
        """The OpRun once the wish is written, and most often carried out.

        Raises:
            ApiError: what `decide` raises; NotFound; Conflict: others keep writing the Run.
            KubeError: Kubernetes is out of reach.
        """
        for attempt in range(TRIES):
            found = await self._read(run_id)
            try:
                spec = decide(view_op(found))
            except NotSettled:
                noted = await self._noted(found)
                if attempt and not noted:
                    raise Unavailable("the operator has not noted an earlier wish yet; try again") from None
                continue
            if spec is None:
                return view_op(found)
            try:
                made = await self._runs.kube.put(runs_path(self._runs.namespace, run_id), {**found, "spec": spec})
            except KubeError as error:
                if error.not_found:
                    raise no_run(run_id) from error
                if not error.conflict:
                    raise
                await asyncio.sleep(random.random() * PAUSE_SECONDS)
                continue
            self._runs.put(made)
            await self._noted(made)
            return view_op(self._runs.object(run_id) or made)
        raise Conflict(f"OpRun '{run_id}' changes too often to be changed right now; try again")

    async def _read(self, run_id: str) -> Object:
        try:
            found = await self._runs.kube.get(runs_path(self._runs.namespace, run_id))
        except KubeError as error:
            if error.not_found:
                raise no_run(run_id) from error
            raise
        if not is_op_run(found):
            raise no_run(run_id)
        self._runs.put(found)
        return found

    async def _noted(self, written: Object) -> bool:
        """Wait for the operator to have seen this spec; whether it has."""
        generation = written["metadata"]["generation"]
        try:
            async with (
                asyncio.timeout(NOTED_SECONDS),
                aclosing(self._runs.states(written["metadata"]["name"])) as states,
            ):
                async for state in states:
                    if state is None or state.status.observed_generation >= generation:
                        return True
        except TimeoutError:
            pass
        return False
