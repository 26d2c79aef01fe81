"""Does what a plan says: creates and deletes pods, deletes Runs. Repeating any of it is harmless."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from maze_crds import names
from maze_crds.base import format_time
from maze_crds.graph import sources
from maze_crds.oprun import OpRunSpec
from maze_crds.plainjson import read_json
from maze_crds.protocol import Result
from maze_crds.workflow import Payload, Task
from maze_io.kube import KubeError, pods_path, resource_path, runs_path
from maze_io.store import StoreError
from maze_operator.core.effective import runs_in_runner
from maze_operator.core.outputs import InputMissing, ResultLost, Upstream, container_inputs, failed_result
from maze_operator.core.podspec import PodNotPossible, build_pod, build_slot_pod, pod_name, uses_bundled_image
from maze_operator.core.podview import run_uid_of
from maze_operator.core.toolinputs import check_required, choose_server
from maze_operator.core.values import (
    STORE_UNAVAILABLE,
    Action,
    AttemptId,
    CreatePod,
    CreateSlot,
    DeletePod,
    DeleteRun,
    Refused,
    ReplacePod,
    RunView,
    Workflow,
)
from maze_operator.tokens import make_run_token, make_token

if TYPE_CHECKING:
    from maze_operator.engine import Engine
    from maze_operator.worker import RunWorker

log = logging.getLogger(__name__)
Json = dict[str, Any]

AT_ONCE = 48
"""Calls under way at once, over all Runs."""
INLINE_INPUTS = 65536
"""Bytes of JSON that go into MAZE_INPUTS; more goes by URL."""


class Executor:
    def __init__(self, engine: Engine, runner_archive: bytes) -> None:
        self._engine = engine
        self._archive = runner_archive
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._delivered: set[str] = set()

    async def execute(self, worker: RunWorker, view: RunView, actions: Sequence[Action]) -> None:
        """All of them, even where one fails; the first error is raised at the end."""
        outcomes = await asyncio.gather(
            *(self._one(worker, view, action) for action in actions), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _one(self, worker: RunWorker, view: RunView, action: Action) -> None:
        if isinstance(action, DeletePod):
            await self._keep_log(worker, view, action)  # a node that does not answer holds up nobody else
        async with self._slots:
            if isinstance(action, CreatePod):
                await self._create(worker, view, action)
            elif isinstance(action, CreateSlot):
                await self._create_slot(worker, view, action)
            elif isinstance(action, DeletePod):
                options = {"gracePeriodSeconds": action.grace_seconds, "preconditions": {"uid": action.uid}}
                await _absent_is_fine(self._engine.kube.delete(pods_path(view.namespace, action.name), options))
            elif isinstance(action, ReplacePod):
                await self._replace(worker, view, action)
            elif isinstance(action, DeleteRun):
                options = {"preconditions": {"uid": view.uid}, "propagationPolicy": "Background"}
                await _absent_is_fine(self._engine.kube.delete(runs_path(view.namespace, view.name), options))

    async def _replace(self, worker: RunWorker, view: RunView, action: ReplacePod) -> None:
        """A pod that has changed meanwhile may have been given to a node; the next plan sees that."""
        preconditions = {"uid": action.uid, "resourceVersion": action.resource_version}
        options = {"gracePeriodSeconds": 0, "preconditions": preconditions}
        try:
            await self._engine.kube.delete(pods_path(view.namespace, action.name), options)
        except KubeError as error:
            if not (error.not_found or error.conflict):
                raise
            return
        worker.pods.replace(action.attempt_id, action.uid)

    async def _keep_log(self, worker: RunWorker, view: RunView, action: DeletePod) -> None:
        pod = worker.pods.named(action.name)
        attempt = pod.attempt_id if pod is not None else worker.slots.last_attempt(action.uid)
        if attempt is not None:  # whether it runs is known a second late, so that is not asked
            await self._engine.logs.keep(view.uid, attempt, view.namespace, action.name, shared=pod is None)

    async def _create(self, worker: RunWorker, view: RunView, action: CreatePod) -> None:
        assert view.workflow is not None
        attempt = action.attempt_id
        task = view.workflow.tasks[attempt.task]
        try:
            env = await self._environment(view, view.workflow, task, attempt)
            pod = build_pod(view, view.workflow, attempt, action.memory_scale, env, self._engine.core)
        except (InputMissing, ResultLost, PodNotPossible) as error:
            await self.fail_early(worker, attempt, error)
            return
        except StoreError as error:
            worker.refused[attempt] = Refused(STORE_UNAVAILABLE, str(error), datetime.now(UTC))
            worker.dirty.set()
            return
        try:
            if runs_in_runner(task) and not uses_bundled_image(task, view.workflow.spec, self._engine.core):
                await self._deliver_runner(view.namespace)
            created = await self._engine.kube.post(pods_path(view.namespace), pod)
        except KubeError as error:
            await self._not_created(worker, view, attempt, pod["metadata"]["name"], error)
            return
        worker.pods.created[attempt] = time.monotonic()
        self._engine.pods.put(created)

    async def _create_slot(self, worker: RunWorker, view: RunView, action: CreateSlot) -> None:
        engine, shape = self._engine, action.shape
        if action.slot == 0:
            if not await engine.spares.claim(view, shape):
                worker.dirty.set()
            return
        name = names.slot_pod_name(view.name, view.uid, action.slot)
        env = [{"name": names.ENV_TOKEN, "value": make_token(engine.shell.hmac_key, view.namespace, name)}]
        try:
            if shape.spec["containers"][0]["image"] not in (engine.core.default_image, engine.core.tools_image):
                await self._deliver_runner(view.namespace)
            created = await engine.kube.post(pods_path(view.namespace), build_slot_pod(view, shape, action.slot, env))
        except KubeError as error:
            refused = await self._refusal(view, name, error)
            if refused is not None:
                worker.slots.refuse(shape.key, refused)
            return
        worker.slots.created(created["metadata"]["uid"], shape.key)
        engine.pods.put(created)

    async def _not_created(
        self, worker: RunWorker, view: RunView, attempt: AttemptId, name: str, error: KubeError
    ) -> None:
        refused = await self._refusal(view, name, error)
        if refused is not None:
            worker.refused[attempt] = refused
            worker.dirty.set()

    async def _refusal(self, view: RunView, name: str, error: KubeError) -> Refused | None:
        """What keeps a pod from being made; None: it is there already. Raises `error` where it is worth another try."""
        if error.status == 409 and error.reason == "AlreadyExists":
            found = await self._engine.kube.get(pods_path(view.namespace, name))
            if run_uid_of(found) != view.uid:
                text = f"a pod named '{name}' is there already and is not of this Run; delete it"
                return Refused(422, text, datetime.now(UTC))
            self._engine.pods.put(found)
            return None
        if 400 <= error.status < 500 and error.status not in (409, 429):
            return Refused(error.status, error.message, datetime.now(UTC))
        raise error

    async def _environment(self, view: RunView, workflow: Workflow, task: Task, attempt: AttemptId) -> list[Json]:
        if task.tool is not None:
            choose_server(task, self._engine.core)
            if task.tool.required_inputs:
                check_required(task, self._engine.run_inputs(view), await self.upstream(view, task))
        if runs_in_runner(task):
            token = make_token(self._engine.shell.hmac_key, view.namespace, pod_name(view, task, attempt))
            return [{"name": names.ENV_TOKEN, "value": token}]
        if view.spec.op_run is not None:
            return await self._op_environment(view, view.spec.op_run, task, attempt)
        values = container_inputs(task, self._engine.run_inputs(view), await self.upstream(view, task))
        return [await self._inputs(view, attempt, values)]

    async def _op_environment(self, view: RunView, op: OpRunSpec, task: Task, attempt: AttemptId) -> list[Json]:
        """All inputs of the Run, with the task's own above them, and what posting events needs."""
        if op.inputs is not None and not task.inputs:
            inputs = self._at(op.inputs.key)
        else:
            given = self._engine.run_inputs(view) if op.inputs is None else await self._read(op.inputs)
            inputs = await self._inputs(view, attempt, {**given, **container_inputs(task, given, {})})
        url = f"{self._engine.core.report_url}/v1/op-runs/{view.namespace}/{view.name}/events?attempt={attempt.attempt}"
        token = make_run_token(self._engine.shell.hmac_key, view.namespace, view.uid)
        return [inputs, {"name": names.ENV_EVENTS_URL, "value": url}, {"name": names.ENV_TOKEN, "value": token}]

    async def _read(self, payload: Payload) -> Json:
        data = await self._engine.store.get(payload.key)
        if data is None:
            raise InputMissing(f"the inputs of the Run are not in the object store: there is no {payload.key}")
        try:
            found = read_json(data)
        except ValueError as error:
            raise InputMissing(f"the inputs of the Run, {payload.key}, are no JSON: {error}") from None
        if not isinstance(found, dict):
            raise InputMissing(f"the inputs of the Run, {payload.key}, are no JSON object")
        return found

    async def _inputs(self, view: RunView, attempt: AttemptId, values: Json) -> Json:
        """The environment variable that has them, or where they are."""
        data = json.dumps(values, ensure_ascii=False)
        if len(data.encode()) <= INLINE_INPUTS:
            return {"name": names.ENV_INPUTS, "value": escape_env(data)}
        key = names.inputs_key(view.uid, attempt.task, attempt.attempt)
        await self._engine.store.put(key, data.encode())
        return self._at(key)

    def _at(self, key: str) -> Json:
        url = self._engine.store.store.presign_get(key, self._engine.shell.url_seconds)
        return {"name": names.ENV_INPUTS_URL, "value": url}

    async def upstream(self, view: RunView, task: Task, attempts: Mapping[str, int] | None = None) -> Upstream:
        """Results of the tasks that this one takes inputs from. attempts: see make_lease.

        Raises:
            ResultLost: one of them is not there any more.
            StoreError: the store can't be asked.
        """
        if attempts is None:
            attempts = view.attempts
        found: dict[str, Result] = {}
        for name in sources(task):
            attempt = AttemptId(name, attempts.get(name, 0))
            result = await self._engine.results.get(view.uid, attempt)
            if result is None:
                raise ResultLost(name)
            found[name] = result
        return found

    async def fail_early(
        self, worker: RunWorker, attempt: AttemptId, error: InputMissing | ResultLost | PodNotPossible
    ) -> None:
        """A failure that is known before code could run is stored as a result, like any other."""
        result = failed_result(format_time(datetime.now(UTC)), error)
        await self._engine.results.put(worker.uid, attempt, result)
        worker.report(attempt, result)

    async def _deliver_runner(self, namespace: str) -> None:
        """The ConfigMap with the runner, for images that do not bring it; named by content, so it never changes."""
        if namespace in self._delivered:
            return
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self._engine.core.runner_config_map, "namespace": namespace},
            "immutable": True,
            "binaryData": {"runner.pyz": base64.b64encode(self._archive).decode()},
        }
        try:
            await self._engine.kube.post(resource_path("v1", "configmaps", namespace), body)
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise
        self._delivered.add(namespace)


def escape_env(text: str) -> str:
    """Kubernetes expands $(NAME) in environment values, and makes one dollar of $$."""
    return text.replace("$", "$$")


async def _absent_is_fine(call: Any) -> None:
    try:
        await call
    except KubeError as error:
        if not (error.not_found or error.conflict):
            raise
