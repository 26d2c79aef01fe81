"""Spare pods as the operator keeps them: made, waited in, claimed; against a stand-in API server that can refuse."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

import stand_ins
from builders import SETTINGS, run_view, shared_task, workflow
from maze_crds import names
from maze_io.cache import Cache, Changed, Replaced
from maze_io.kube import Kube, KubeError
from maze_io.store import AsyncStore
from maze_operator import resizing
from maze_operator.core.shapes import Shapes
from maze_operator.core.values import RunView, Shape, SpareKind
from maze_operator.engine import Engine
from maze_operator.settings import SettingsError, ShellSettings, read_settings
from maze_operator.tokens import make_token

pytestmark = pytest.mark.anyio
Json = dict[str, Any]
PODS = stand_ins.PODS
EMPTY = {"labels": {names.LABEL_RUN_UID: "uid-other", names.LABEL_SHAPE: "s"}}
PENDING = {"type": "PodResizePending", "status": "True", "reason": "Deferred"}
AGREED = {"type": "PodResizeInProgress", "status": "True"}
NO_CPU = "0/1 nodes are available: 1 Insufficient cpu."


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class World(stand_ins.World):
    """With JSON patch, as far as claims need it. `pods` is told what the kubelet says of a new size: `condition`."""

    pods: Cache
    condition: Json | None = None

    async def patch(self, path: str, body: list[Json], content_type: str = "") -> Json:
        await self._called(f"PATCH {path}")
        is_resize = path.endswith("/resize")
        path = path.removesuffix("/resize")
        changed = json.loads(json.dumps(self._found(path)))
        for operation in body:
            *parents, last = [part.replace("~1", "/") for part in operation["path"].split("/")[1:]]
            target = changed
            for part in parents:
                target = target[int(part)] if isinstance(target, list) else target[part]
            if operation["op"] != "test":
                target[last] = operation["value"]
            elif target.get(last) != operation["value"]:
                raise KubeError(422, "Invalid", "the server rejected our request")
        made = self.made(path, changed)
        if is_resize and self.condition is not None:
            told = self.made(path, {**made, "status": {"conditions": [self.condition]}})
            asyncio.get_running_loop().call_soon(self.pods.apply, Changed("MODIFIED", told))
        return made


class Place:
    def __init__(self, world: World, engine: Engine) -> None:
        self.world, self.engine, self.spares = world, engine, engine.spares
        self.waits: dict[str, asyncio.Task[bool]] = {}

    def pods(self) -> list[Json]:
        return [pod for path, pod in self.world.objects.items() if path.startswith(PODS)]

    async def ready(self, count: int) -> None:
        """The runner of each spare asks for work until there are so many."""
        await self.until(lambda: self._all_ask(count))

    def _all_ask(self, count: int) -> bool:
        for pod in self.pods():
            uid = pod["metadata"]["uid"]
            if uid not in self.waits and names.LABEL_SPARE in pod["metadata"]["labels"]:
                self.waits[uid] = asyncio.create_task(self.spares.wait(uid, stand_ins.SECONDS))
        return self.spares.available("a", shape()) == count

    def see(self, name: str, **pod: Any) -> Json:
        """A pod that somebody has made or changed."""
        path = f"{PODS}/{name}"
        old = self.world.objects.get(path, {"metadata": {"name": name, "namespace": "a"}})
        metadata = {**old["metadata"], **pod.pop("metadata", {})}
        changed = self.world.made(path, {"spec": {}, **old, **pod, "metadata": metadata})
        self.engine.pods.apply(Changed("MODIFIED", changed))
        return changed

    async def until(self, holds: Any) -> None:
        async with asyncio.timeout(stand_ins.SECONDS):
            while not holds():  # noqa: ASYNC110 - of stand-ins, which tell nobody
                await asyncio.sleep(0.001)


@asynccontextmanager
async def place(*kinds: SpareKind) -> AsyncIterator[Place]:
    world = World()
    shell = ShellSettings(stand_ins.KEY, "me", "maze-system", 0, "127.0.0.1", "INFO", "")
    engine = Engine(cast(Kube, world), cast(AsyncStore, world), replace(SETTINGS, spares=kinds), shell, b"")
    engine.pods.apply(Replaced([], "1"))
    world.pods = engine.pods
    for work in engine.spares.background():
        engine._spawn(work)
    made = Place(world, engine)
    yield made
    await engine.stop()
    for task in made.waits.values():
        task.cancel()


def view() -> RunView:
    return replace(run_view(workflow(shared_task("t"))), namespace="a")


def shape(**resources: str) -> Shape:
    spec = workflow(shared_task("t", resources=resources))
    found = Shapes(spec, 0, SETTINGS).of(spec.tasks[0], 1.0)
    assert found is not None
    return found


async def test_a_spare_is_made_with_its_own_token_and_no_run() -> None:
    async with place(SpareKind("a", 1)) as here:
        await here.until(here.pods)
        (pod,) = here.pods()
        metadata = pod["metadata"]
        assert metadata["name"].startswith("maze-spare-")
        assert metadata["labels"] == {names.LABEL_RUN_UID: "", names.LABEL_SPARE: shape().base}
        env = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
        assert env[names.ENV_TOKEN] == make_token(stand_ins.KEY, "a", metadata["name"])
        assert here.spares.available("a", shape()) == 0


async def test_one_follows_the_other_when_its_runner_waits() -> None:
    async with place(SpareKind("a", 2)) as here:
        await here.until(here.pods)
        assert len(here.pods()) == 1
        await here.ready(2)
        assert len(here.pods()) == 2


async def test_claims_at_once_get_different_pods_and_one_too_many_gets_none() -> None:
    async with place(SpareKind("a", 2)) as here:
        await here.ready(2)
        first = dict(here.waits)
        answers = await asyncio.gather(*(here.spares.claim(view(), shape()) for _ in range(3)))
        assert sorted(answers) == [False, True, True]
        claimed = [pod for pod in here.pods() if pod["metadata"]["labels"].get(names.LABEL_RUN_UID) == "uid-1"]
        assert {pod["metadata"]["uid"] for pod in claimed} == set(first)
        assert all(here.engine.pods.get("a", pod["metadata"]["name"]) == pod for pod in claimed)
        assert await asyncio.gather(*first.values()) == [True, True]


async def test_one_of_another_size_is_resized_before_the_run_has_it() -> None:
    async with place(SpareKind("a", 1)) as here:
        await here.ready(1)
        here.world.condition = AGREED
        assert await here.spares.claim(view(), shape(cpu="2", memory="1Gi"))
        (pod,) = [pod for pod in here.pods() if names.LABEL_SHAPE in pod["metadata"]["labels"]]
        assert pod["spec"]["containers"][0]["resources"] == {
            "limits": {"cpu": "2000m", "memory": "1073741824"},
            "requests": {"cpu": "2000m", "memory": "1073741823"},
        }
        assert pod["metadata"]["annotations"] == {names.ANNOTATION_RESIZED: "true"}
        patches = [call for call in here.world.calls if call.startswith("PATCH")]
        assert [call.endswith("/resize") for call in patches] == [True, False]


async def test_where_resizing_is_refused_only_the_same_size_is_claimed() -> None:
    def refuse(call: str) -> None:
        if call.endswith("/resize"):
            raise KubeError(404, "NotFound", "the server could not find the requested resource", {"details": {}})

    async with place(SpareKind("a", 1)) as here:
        await here.ready(1)
        here.world.fail = refuse
        assert not await here.spares.claim(view(), shape(cpu="2"))
        assert here.spares.available("a", shape(cpu="2")) == 0
        here.spares._release(next(iter(here.waits)))
        assert here.spares.available("a", shape(cpu="2")) == 0
        assert here.spares.available("a", shape()) == 1
        assert await here.spares.claim(view(), shape())


async def test_one_that_somebody_else_has_is_not_claimed() -> None:
    async with place(SpareKind("a", 1)) as here:
        await here.ready(1)
        (pod,) = here.pods()
        labels = {names.LABEL_RUN_UID: "uid-other"}
        path = f"{PODS}/{pod['metadata']['name']}"
        here.world.made(path, {**pod, "metadata": {**pod["metadata"], "labels": labels}})
        assert not await here.spares.claim(view(), shape())
        assert here.world.objects[path]["metadata"]["labels"] == labels
        assert here.spares.available("a", shape()) == 0


async def test_a_claim_that_the_api_server_can_not_answer_is_to_be_tried_again() -> None:
    def down(call: str) -> None:
        raise KubeError(503, "Unavailable", "later")

    async with place(SpareKind("a", 1)) as here:
        await here.ready(1)
        here.world.fail = down
        with pytest.raises(KubeError):
            await here.spares.claim(view(), shape())
        assert here.spares.available("a", shape()) == 0


async def test_all_are_given_up_for_a_pod_that_lacks_room_and_none_is_made() -> None:
    async with place(SpareKind("a", 2)) as here:
        await here.ready(2)
        scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_CPU}
        meta = {**EMPTY, "creationTimestamp": "2026-01-01T00:00:00Z"}
        here.see("waits", metadata=meta, status={"phase": "Pending", "conditions": [scheduled]})
        await here.until(lambda: len(here.pods()) == 1)
        assert here.spares.available("a", shape()) == 0
        assert [call for call in here.world.calls if call.startswith("DELETE")] != []
        posts = here.world.calls.count(f"POST {PODS}")
        await here.spares._round()
        assert here.world.calls.count(f"POST {PODS}") == posts


async def test_a_claimed_pod_that_its_node_has_no_room_for_is_deleted() -> None:
    async with place(SpareKind("a", 1)) as here:
        await here.ready(1)
        here.world.condition = AGREED
        assert await here.spares.claim(view(), shape(cpu="2"))
        (pod,) = [pod for pod in here.pods() if names.LABEL_SHAPE in pod["metadata"]["labels"]]
        here.see(pod["metadata"]["name"], status={"conditions": [PENDING]})
        await here.until(lambda: pod["metadata"]["uid"] in here.world.removed)


async def test_where_the_node_has_no_room_for_the_size_the_run_gets_no_spare_and_loses_nothing() -> None:
    async with place(SpareKind("a", 1)) as here:
        await here.ready(1)
        (uid,) = here.waits
        here.world.condition = PENDING
        assert not await here.spares.claim(view(), shape(cpu="2"))
        assert all(call.endswith("/resize") for call in here.world.calls if call.startswith("PATCH"))
        await here.until(lambda: uid in here.world.removed)
        here.engine.pods.apply(Changed("DELETED", here.world.removed[uid]))
        await here.ready(1)
        assert here.spares.available("a", shape(cpu="2")) == 0


async def test_a_node_that_does_not_answer_counts_as_one_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resizing, "VERDICT_SECONDS", 0.01)
    async with place(SpareKind("a", 1)) as here:
        await here.ready(1)
        (uid,) = here.waits
        assert not await here.spares.claim(view(), shape(cpu="2"))
        await here.until(lambda: uid in here.world.removed)


async def test_one_that_can_not_be_made_is_not_tried_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    def quota(call: str) -> None:
        if call.startswith("POST"):
            raise KubeError(403, "Forbidden", "exceeded quota: pods")

    async with place(SpareKind("a", 1)) as here:
        here.world.fail = quota
        await here.until(lambda: here.world.calls)
        for _ in range(3):
            assert await here.spares._round() == pytest.approx(60, abs=30)
        assert here.world.calls == [f"POST {PODS}"]
        assert [record for record in caplog.records if "exceeded quota" in record.getMessage()] == caplog.records


async def test_spares_of_an_earlier_operator_can_be_claimed_when_they_ask_again() -> None:
    async with place(SpareKind("a", 1)) as here:
        await here.ready(1)
        (pod,) = here.pods()
    async with place(SpareKind("a", 1)) as later:
        await later.until(later.pods)
        (own,) = later.pods()
        path = f"{PODS}/{pod['metadata']['name']}"
        del later.world.objects[f"{PODS}/{own['metadata']['name']}"]
        later.engine.pods.apply(Replaced([later.world.made(path, pod)], str(later.world.version)))
        assert later.spares.available("a", shape()) == 0
        await later.ready(1)
        assert later.pods() == [later.world.objects[path]]


async def test_a_runner_that_nobody_claims_is_told_so() -> None:
    async with place() as here:
        assert await here.spares.wait("unknown", 0.0) is False
        assert here.spares._waiting == {}


# settings

ENVIRONMENT = {
    "MAZE_RUNNER_IMAGE": "maze/runner",
    "MAZE_REPORT_URL": "http://operator",
    "MAZE_RUNNER_HMAC_KEY": "k" * 32,
}


def test_the_settings_name_what_is_kept() -> None:
    text = (
        '[{"namespace": "maze", "count": 2, "cpu": "1", "memory": "1Gi"}, {"namespace": "b", "count": 1, "image": "i"}]'
    )
    core, _ = read_settings({**ENVIRONMENT, "MAZE_SPARE_PODS": text})
    assert core.spares == (SpareKind("maze", 2, cpu="1", memory="1Gi"), SpareKind("b", 1, image="i"))
    assert read_settings(ENVIRONMENT)[0].spares == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Invalid JSON"),
        ('{"namespace": "a", "count": 1}', "valid array"),
        ('[{"namespace": "a"}]', "0.count: Field required"),
        ('[{"namespace": "a", "count": 1, "size": 1}]', "0.size: Unexpected"),
        ('[{"namespace": "a", "count": "1"}]', "0.count: Input should be a valid integer"),
        ('[{"namespace": "a", "count": -1}]', "0: count is negative"),
        ('[{"namespace": "", "count": 1}]', "0: namespace is empty"),
        ('[{"namespace": "a", "count": 1}, {"namespace": "a", "count": 1, "cpu": "one"}]', "1: cpu: 'one' is not a"),
        ('[{"namespace": "a", "count": 1, "memory": "0"}]', "0: memory must be more than 0"),
        ('[{"namespace": "a", "count": 1}, {"namespace": "a", "count": 2}]', "1: there is one like it already"),
    ],
)
def test_settings_that_are_wrong_are_named(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match="MAZE_SPARE_PODS") as caught:
        read_settings({**ENVIRONMENT, "MAZE_SPARE_PODS": text})
    assert words in str(caught.value)
