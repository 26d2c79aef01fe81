"""Keeps the caches, and one worker for every Run that has something to do."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

from maze_crds import names
from maze_crds.inputs import fill_defaults
from maze_io.cache import Cache, Changed, Key, Object
from maze_io.kube import Kube, pods_path, runs_path
from maze_io.store import AsyncStore, StoreError
from maze_operator.codes import Codes
from maze_operator.core.podview import run_uid_of, view_pod, view_slot
from maze_operator.core.starts import Starts
from maze_operator.core.values import AttemptId, RunView, Settings
from maze_operator.delivery import Deliveries
from maze_operator.dispatch import Dispatch
from maze_operator.executor import Executor
from maze_operator.forever import forever
from maze_operator.podlogs import PodLogs
from maze_operator.results import Results
from maze_operator.settings import ShellSettings
from maze_operator.spares import Spares
from maze_operator.worker import RunWorker

log = logging.getLogger(__name__)

COUNT_SECONDS = 5.0
LAST_WRITES = 5.0
"""Seconds for what is still to be written when this process is told to end."""


class Engine:
    """Made once this process leads; `start` fills the caches before anything is decided."""

    def __init__(self, kube: Kube, store: AsyncStore, core: Settings, shell: ShellSettings, archive: bytes) -> None:
        self.kube, self.store, self.core, self.shell = kube, store, core, shell
        self.began = datetime.now(UTC)
        self.results = Results(store)
        self.executor = Executor(self, archive)
        self.spares = Spares(self)
        self.starts = Starts(core.pods_starting_total, self._wake)
        self.codes = Codes(store)
        self.logs = PodLogs(kube, store, self._spawn)
        self.dispatch = Dispatch(kube, self._wake)
        self.heartbeats = self.dispatch.heartbeats
        self.deliveries = Deliveries(store, core, self._delivered)
        self.runs = Cache(self._run_changed)
        self.pods = Cache(self._pod_changed)
        self.ready = False
        self._pods_of: defaultdict[str, dict[Key, Object]] = defaultdict(dict)
        self._gone: defaultdict[str, set[AttemptId]] = defaultdict(set)
        """Attempts whose pods went while the Runs were not known yet, by the uids of these: they are not to be made again."""
        self._workers: dict[str, RunWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Pods first: a worker must never see a Run without the pods it has."""
        labelled = {"labelSelector": names.LABEL_RUN_UID}
        follow = lambda: self.pods.follow(self.kube.list_and_watch(pods_path(), labelled))  # noqa: E731
        self._spawn(forever("the watch of pods", follow))
        for work in self.dispatch.background():
            self._spawn(work)
        await self.pods.wait_synced()
        await self.dispatch.wait_synced()
        self.runs.apply(await self.kube.list_all(runs_path()))
        self._gone.clear()
        self.dispatch.start()
        await self.deliveries.start()
        self._spawn(self._relist())
        self._spawn(self._count_pods())
        for work in self.spares.background():
            self._spawn(work)
        self.ready = True

    async def stop(self) -> None:
        self.ready = False
        await self.deliveries.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(LAST_WRITES):
                await self.dispatch.statuses.flush()
        except TimeoutError:
            log.warning("not all counters of workers are written")

    def saw_run(self, kind: str | None, obj: Object) -> None:
        """A watch event; kind is None for what a first list gives."""
        if kind == "DELETED":
            self.runs.apply(Changed("DELETED", obj))
        else:
            self.runs.apply(Changed("MODIFIED", obj))

    def worker_of(self, uid: str) -> RunWorker | None:
        return self._workers.get(uid)

    @property
    def tasks_wait(self) -> bool:
        """Whether tasks of some Run wait for a pod that they share."""
        return any(worker.slots.desk.has_any_work for worker in self._workers.values())

    def _wake(self, uid: str) -> None:
        worker = self._workers.get(uid)
        if worker is not None:
            worker.dirty.set()

    def run_inputs(self, view: RunView) -> dict[str, Any]:
        """What the Run gives, with the defaults of the workflow's schema."""
        return fill_defaults(view.workflow.spec, view.spec.inputs) if view.workflow else dict(view.spec.inputs)

    def _run_changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        obj = new or old
        assert obj is not None
        uid = obj["metadata"]["uid"]
        if old is not None and new is not None and old["metadata"]["uid"] != uid:
            self._see_run(old["metadata"]["uid"], None)
            self._forget(old)
        self._see_run(uid, new)
        if new is None:
            self._forget(obj)
            return
        worker = self._ensure_worker(key, uid)
        if "problemId" in new["spec"] or "opRun" in new["spec"]:
            worker.dirty.set()
        else:
            worker.saw_run(new["metadata"]["resourceVersion"])

    def _see_run(self, uid: str, run: Object | None) -> None:
        self.dispatch.see_run(uid, run)
        self.deliveries.see_run(uid, run)

    def _ensure_worker(self, key: Key, uid: str) -> RunWorker:
        """That of an ended Run is gone once nothing was left to do."""
        worker = self._workers.get(uid)
        if worker is None:
            worker = RunWorker(self, key[0], key[1], uid)
            for pod in self._pods_of.get(uid, {}).values():
                self._add_pod(worker, pod)
            worker.pods.known |= self._gone.get(uid, set())
            worker.slots.begin()
            self._workers[uid] = worker
            self._spawn(self._work(worker))
        return worker

    def ensure_worker(self, run: Object) -> RunWorker:
        """Who looks after the Run; made anew where it had nothing left to do."""
        metadata = run["metadata"]
        return self._ensure_worker((metadata["namespace"], metadata["name"]), metadata["uid"])

    def _delivered(self, run: Object, count: int, problem: str | None) -> None:
        worker = self.ensure_worker(run)
        worker.delivered, worker.delivery_problem = max(worker.delivered or 0, count), problem
        worker.dirty.set()

    async def _work(self, worker: RunWorker) -> None:
        try:
            await worker.work()
        finally:
            self.starts.forget(worker.uid)
        if self._workers.get(worker.uid) is worker:
            del self._workers[worker.uid]

    def _forget(self, run: Object) -> None:
        uid = run["metadata"]["uid"]
        worker = self._workers.pop(uid, None)
        if worker is not None:
            worker.dirty.set()
        self._spawn(self._delete_data(uid))

    async def _delete_data(self, uid: str) -> None:
        try:
            await self.store.delete_prefix(names.run_prefix(uid))
        except StoreError as error:
            log.warning("data of the deleted run %s stays: %s", uid, error)

    def _pod_changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        pod = new or old
        assert pod is not None
        run_uid = run_uid_of(pod) or ""
        before = run_uid_of(old) if old is not None else None
        if before is not None and (new is None or before != run_uid):
            self._pods_of[before].pop(key, None)
            if not self._pods_of[before]:
                del self._pods_of[before]
        if new is not None:
            self._pods_of[run_uid][key] = new
        self.spares.see_pod(old, new)
        worker = self._workers.get(run_uid)
        if worker is None:
            view = view_pod(pod) if new is None and not self.ready else None
            if view is not None:
                self._gone[run_uid].add(view.attempt_id)
            return
        if new is not None:
            self._add_pod(worker, new)
        else:
            self._remove_pod(worker, pod)

    @staticmethod
    def _add_pod(worker: RunWorker, pod: Object) -> None:
        view, slot = view_pod(pod), view_slot(pod)
        if view is not None:
            worker.pods.see(view)
        elif slot is not None:
            worker.slots.add(slot)

    @staticmethod
    def _remove_pod(worker: RunWorker, pod: Object) -> None:
        view = view_pod(pod)
        if view is None:
            worker.slots.remove(pod["metadata"]["uid"])
        else:
            worker.pods.lose(view)

    async def _count_pods(self) -> None:
        """A pod that starts for too long holds up no other one."""
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            for worker in list(self._workers.values()):
                if worker.slots.pods:
                    worker.count_pods()

    async def _relist(self) -> None:
        """Heals missed events, whatever lost them."""
        while True:
            await asyncio.sleep(self.shell.relist_seconds)
            try:
                self.runs.apply(await self.kube.list_all(runs_path()))
            except Exception as error:  # noqa: BLE001 - the next round tries again
                log.warning("listing runs failed: %s", error)
            for worker in list(self._workers.values()):
                worker.dirty.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a background task died", exc_info=error)
