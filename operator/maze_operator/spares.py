"""Pods that are kept ready for Runs: made in the background, claimed with one write, given up where room is short.

core/spares.py decides; this remembers, by the monotonic clock, and asks the API server. Nothing here is needed after a
restart: spares are found by their label, and can be claimed once their runners have asked again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter as Count
from prometheus_client import Gauge

from maze_crds import names
from maze_io.cache import Object
from maze_io.kube import JSON_PATCH, KubeError, pods_path
from maze_operator.core import spares as core
from maze_operator.core.podview import run_uid_of
from maze_operator.core.spares import Kind, Situation, Spare, Trouble
from maze_operator.core.values import RunView, Shape
from maze_operator.forever import forever
from maze_operator.resizing import NotResized, Resizing
from maze_operator.tokens import make_token

if TYPE_CHECKING:
    from maze_operator.engine import Engine

log = logging.getLogger(__name__)

READY = Gauge("maze_operator_spare_pods_ready", "Spare pods that a Run can claim now.")
CLAIMS = Count("maze_operator_spare_claims", "Tries to claim a spare pod.", ["outcome"])
"""outcome: same_size, resized, or failed."""

AGAIN = 5.0
"""Seconds before something is tried again that failed."""
ACCOUNT_SECONDS = 0.5
"""After a claim, before the pod requests what its tasks do."""


class Spares:
    """Spares are pods with an empty LABEL_RUN_UID; from its claim on, a pod is one of its Run like any other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        try:
            self._kinds = core.make_kinds(engine.core)
        except ValueError as error:
            log.error("MAZE_SPARE_PODS: %s", error)
            self._kinds = ()
        self._resizing = Resizing(engine.kube)
        self._pods: dict[str, Object] = {}
        """By uid, as the other ones here."""
        self._taken: set[str] = set()
        self._heard: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        self._waiting: Counter[str] = Counter()
        self._claimed: dict[str, asyncio.Event] = {}
        self._short: set[str] = set()
        """Pods of Runs that lack room."""
        self._trouble: dict[str, Trouble] = {}
        self._refused: set[str] = set()
        """Kinds that could not be made, and people have been told."""
        self._last_short: float | None = None
        self._last_busy: float | None = None
        self._last_full = time.monotonic()
        self._changed = asyncio.Event()
        READY.set_function(lambda: sum(spare.claimable for spare in self._views()))

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What runs while this process leads."""
        return [forever("the keeping of spare pods", self._keep)]

    def see_pod(self, old: Object | None, new: Object | None) -> None:
        """A pod of anybody's has changed: a spare, or one of a Run that may be short of room."""
        if old is not None and new is not None and old["metadata"]["uid"] != new["metadata"]["uid"]:
            self.see_pod(old, None)
            old = None
        pod = new or old
        assert pod is not None
        uid = pod["metadata"]["uid"]
        if new is not None and run_uid_of(new) == "" and names.LABEL_SPARE in new["metadata"]["labels"]:
            self._seen.setdefault(uid, time.monotonic())
            self._pods[uid] = new
            self._resizing.see(uid, new)
            self._changed.set()
            return
        if self._pods.pop(uid, None) is not None:
            self._forget(uid)
        if new is None:
            self._see_room(uid, False)
        elif run_uid_of(new):
            self._see_run_pod(uid, new, fresh=old is None)

    def _forget(self, uid: str) -> None:
        """It is no spare any more: claimed, or gone."""
        self._resizing.see(uid, None)
        self._taken.discard(uid)
        self._heard.pop(uid, None)
        self._seen.pop(uid, None)
        if uid in self._claimed:
            self._claimed[uid].set()
        self._changed.set()

    def _see_run_pod(self, uid: str, pod: Object, fresh: bool) -> None:
        if fresh:
            self._last_busy = time.monotonic()
        self._see_room(uid, core.lacks_room(pod))
        if core.resize_failed(pod) and "deletionTimestamp" not in pod["metadata"]:
            self._resizing.failed(pod["metadata"]["name"])
            self._engine._spawn(self._delete(pod))

    def _see_room(self, uid: str, lacking: bool) -> None:
        if lacking and uid not in self._short:
            self._short.add(uid)
            self._changed.set()
        elif not lacking and uid in self._short:
            self._short.discard(uid)
            self._last_short = time.monotonic()

    def available(self, namespace: str, shape: Shape) -> int:
        """How many could be claimed for this shape right now."""
        return len(self._choose(namespace, shape))

    def _choose(self, namespace: str, shape: Shape) -> list[Spare]:
        if not self._waiting:
            return []
        return core.choose(self._views(), shape, namespace, self._resizing.possible)

    async def claim(self, view: RunView, shape: Shape) -> bool:
        """Give one to the Run. When this returns True it is in engine.pods with the Run's labels and shape.

        Raises:
            KubeError: try again later.
        """
        while found := self._choose(view.namespace, shape):
            spare = found[0]
            self._last_busy = time.monotonic()
            self._taken.add(spare.uid)
            try:
                claimed = await self._claim(spare, view, shape)
            except BaseException:
                self._release_later(spare.uid)
                raise
            CLAIMS.labels(_outcome(spare, shape, claimed)).inc()
            if claimed is not None:
                self._forgive(spare)
                self._engine.pods.put(claimed)
                return True
            self._release_later(spare.uid)
        return False

    def _release_later(self, uid: str) -> None:
        """When the watch has told what has become of it: a spare still, one of the wrong size now, or none any more."""
        asyncio.get_running_loop().call_later(AGAIN, self._release, uid)

    def _release(self, uid: str) -> None:
        self._taken.discard(uid)
        self._changed.set()

    async def _claim(self, spare: Spare, view: RunView, shape: Shape) -> Object | None:
        """None: it could not be had. It is resized first, because no Run is harmed where that fails."""
        kube, target, pod = self._engine.kube, core.target_resources(spare, shape), self._pods[spare.uid]
        resized = core.needs_resize(spare, shape)
        try:
            if resized:
                await self._resizing.resize(pod, target)
            patch = core.claim_patch(pod, view, shape, resized)
            claimed = await kube.patch(pods_path(spare.namespace, spare.name), patch, JSON_PATCH)
        except KubeError as error:
            if error.temporary:
                raise
            if not error.not_found:
                log.warning("spare pod %s can't be claimed: %s", spare.name, error.message)
            return None
        except NotResized:
            self._engine._spawn(self._delete(pod))
            return None
        if not resized and not core.accounts_for(spare, target):
            self._engine._spawn(self._account(claimed, target))
        return claimed

    async def _account(self, pod: Object, target: dict[str, Any]) -> None:
        """The scheduler is to know what the Run's pod requests. Nothing waits for that, and a short Run is over before."""
        await asyncio.sleep(ACCOUNT_SECONDS)
        metadata = pod["metadata"]
        if self._engine.pods.get(metadata["namespace"], metadata["name"]) is None:
            return
        try:
            await self._resizing.ask(pod, target)
        except KubeError as error:
            log.info("pod %s requests less than its tasks ask for: %s", pod["metadata"]["name"], error.message)

    async def wait(self, uid: str, seconds: float) -> bool:
        """The runner of the spare with this uid waits here until it is claimed (True), or the time is over."""
        claimed = self._claimed.setdefault(uid, asyncio.Event())
        self._waiting[uid] += 1
        if uid in self._pods and uid not in self._heard:
            self._heard[uid] = time.monotonic()
            self._changed.set()
        try:
            async with asyncio.timeout(seconds):
                await claimed.wait()
        except TimeoutError:
            return False
        finally:
            self._waiting[uid] -= 1
            if not self._waiting[uid]:
                del self._waiting[uid], self._claimed[uid]
            if uid in self._pods:
                self._heard[uid] = time.monotonic()
        return True

    def _views(self) -> list[Spare]:
        return [self._view(uid, pod) for uid, pod in self._pods.items()]

    def _view(self, uid: str, pod: Object) -> Spare:
        metadata = pod["metadata"]
        ready = self._waiting[uid] > 0
        quiet = 0.0 if ready else time.monotonic() - self._heard.get(uid, self._seen[uid])
        return Spare(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=uid,
            base=metadata["labels"][names.LABEL_SPARE],
            resources=pod["spec"]["containers"][0].get("resources") or {},
            ready=ready,
            heard=uid in self._heard,
            quiet=quiet,
            taken=uid in self._taken,
            ended=(pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"),
            deleting="deletionTimestamp" in metadata,
        )

    async def _keep(self) -> None:
        await self._engine.pods.wait_synced()
        while True:
            self._changed.clear()
            again = await self._round()
            try:
                async with asyncio.timeout(again):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _round(self) -> float | None:
        now = time.monotonic()
        if self._short:
            self._last_short = now
        if self._engine.tasks_wait:
            self._last_busy = now
        situation = Situation(now, self._last_busy, self._last_short, self._last_full, self._trouble)
        decision = core.decide(self._kinds, self._views(), situation)
        if decision.enough or decision.create:
            self._last_full = now
        self._taken |= {spare.uid for spare in decision.delete}
        for spare in decision.delete:
            self._note_end(spare, now)
        deletions = (self._delete(self._pods[spare.uid]) for spare in decision.delete)
        creations = (self._create(kind) for kind in decision.create)
        await asyncio.gather(*deletions, *creations)
        return decision.again

    def _note_end(self, spare: Spare, now: float) -> None:
        if not (spare.ended or spare.quiet >= core.START_SECONDS):
            return
        for key in self._keys_of(spare):
            lived = now - self._seen[spare.uid]
            self._trouble[key] = core.after_failure(self._trouble.get(key, Trouble()), lived, now)

    def _forgive(self, spare: Spare) -> None:
        """Its kind works."""
        for key in self._keys_of(spare):
            self._trouble.pop(key, None)

    def _keys_of(self, spare: Spare) -> list[str]:
        return [core.key_of(kind) for kind in self._kinds if core.belongs(spare, kind)]

    async def _create(self, kind: Kind) -> None:
        name = kind.prefix + secrets.token_hex(4)
        token = make_token(self._engine.shell.hmac_key, kind.namespace, name)
        pod = core.build_spare(kind, name, [{"name": names.ENV_TOKEN, "value": token}])
        key = core.key_of(kind)
        try:
            created = await self._engine.kube.post(pods_path(kind.namespace), pod)
        except KubeError as error:
            self._log_refused(key, error)
            wait = AGAIN if error.temporary or error.conflict else core.REFUSED_SECONDS
            before = self._trouble.get(key, Trouble())
            self._trouble[key] = Trouble(before.failures, time.monotonic() + wait)
            self._changed.set()
            return
        self._refused.discard(key)
        self._engine.pods.put(created)

    def _log_refused(self, key: str, error: KubeError) -> None:
        if key not in self._refused:
            log.warning("spare pod %s… can't be made: %s", key, error.message)
        self._refused.add(key)

    async def _delete(self, pod: Object) -> None:
        metadata = pod["metadata"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        try:
            await self._engine.kube.delete(pods_path(metadata["namespace"], metadata["name"]), options)
        except KubeError as error:
            if error.not_found or error.conflict:
                return
            log.warning("pod %s is not deleted: %s", metadata["name"], error.message)
            self._release_later(metadata["uid"])


def _outcome(spare: Spare, shape: Shape, claimed: Object | None) -> str:
    if claimed is None:
        return "failed"
    return "resized" if core.needs_resize(spare, shape) else "same_size"
