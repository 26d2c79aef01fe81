"""An operator that leads, whose API server and object store are stand-ins that fail when a test wants it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from builders import SETTINGS, container_task
from maze_io.cache import Changed
from maze_io.kube import Kube, KubeError
from maze_io.store import AsyncStore, StoreError
from maze_operator.engine import Engine
from maze_operator.server import Server
from maze_operator.settings import ShellSettings

Json = dict[str, Any]
KEY = b"k" * 32
API_TOKEN = "the-token-of-the-api"
RUNS = "/apis/maze.dev/v1alpha1/namespaces/a/runs"
PODS = "/api/v1/namespaces/a/pods"
SECONDS = 60.0


class World:
    """An API server and an object store. `calls`: what was written, in order; `fail(call)` may raise."""

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[str, Json] = {}
        self.stored: dict[str, bytes] = {}
        self.removed: dict[str, Json] = {}
        self.calls: list[str] = []
        self.fail: Callable[[str], None] = lambda call: None
        self.open = asyncio.Event()
        self.open.set()
        self.store = self  # as AsyncStore has it

    # the API server

    def made(self, path: str, body: Json) -> Json:
        self.version += 1
        metadata = {"uid": f"uid-{self.version}", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
        stamp = {**metadata, **body["metadata"], "resourceVersion": str(self.version)}
        self.objects[path] = {**body, "metadata": stamp}
        return self.objects[path]

    async def post(self, path: str, body: Json) -> Json:
        await self._called(f"POST {path}")
        path = f"{path}/{body['metadata']['name']}"
        if path in self.objects:
            raise KubeError(409, "AlreadyExists", "it is there")
        return self.made(path, json.loads(json.dumps(body)))

    async def delete(self, path: str, options: Json) -> Json:
        await self._called(f"DELETE {path}")
        found = self._found(path)
        for key, value in options["preconditions"].items():
            if found["metadata"][key] != value:
                raise KubeError(409, "Conflict", f"{key} is another one")
        return self.remove(path)

    def remove(self, path: str) -> Json:
        """As the watch will tell it: with the version of the deletion."""
        self.version += 1
        gone = self.objects.pop(path)
        metadata = {**gone["metadata"], "resourceVersion": str(self.version)}
        self.removed[metadata["uid"]] = {**gone, "metadata": metadata}
        return self.removed[metadata["uid"]]

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        raise KubeError(400, "BadRequest", "nothing has started")
        yield b""

    def _found(self, path: str) -> Json:
        if path not in self.objects:
            raise KubeError(404, "NotFound", "there is none")
        return self.objects[path]

    # both

    async def get(self, path: str) -> Any:
        await self._called(f"GET {path}")
        return self._found(path) if path.startswith("/") else self.stored.get(path)

    async def put(self, path: str, body: Any) -> Any:
        await self._called(f"PUT {path}")
        if not path.startswith("/"):
            self.stored[path] = body
            return None
        path = path.removesuffix("/status")
        old = self._found(path)
        if body["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]:
            raise KubeError(409, "Conflict", "somebody was first")
        return self.made(path, {**old, "status": json.loads(json.dumps(body["status"]))})

    async def _called(self, call: str) -> None:
        await asyncio.sleep(0)
        if not call.startswith("GET"):
            await self.open.wait()
        self.calls.append(call)
        self.fail(call)

    # the object store

    async def exists(self, key: str) -> bool:
        return key in self.stored

    async def delete_prefix(self, prefix: str) -> int:
        return 0

    def presign_get(self, key: str, seconds: int) -> str:
        return f"http://store/{key}"


def store_down(call: str) -> None:
    if call.startswith("PUT runs/"):
        raise StoreError(call, "http://store/maze", "connection refused")


class Place:
    """A leading operator, with the OpRun `r` in namespace `a`."""

    def __init__(self, world: World, engine: Engine, client: TestClient[Any, Any]) -> None:
        self.world, self.engine, self.client = world, engine, client

    def create(self, name: str = "r", seen: bool = True, **spec: Any) -> Json:
        workflow = spec.pop("workflow", {"tasks": [container_task("op")]})
        body = {"metadata": {"name": name, "namespace": "a"}, "spec": {"workflow": workflow, "opRun": {}, **spec}}
        made = self.world.made(f"{RUNS}/{name}", body)
        if seen:
            self.engine.saw_run(None, made)
        return made

    def wish(self, **spec: Any) -> None:
        old = self.run()
        metadata = {**old["metadata"], "generation": old["metadata"]["generation"] + 1}
        changed = {**old, "metadata": metadata, "spec": {**old["spec"], **spec}}
        self.engine.saw_run("MODIFIED", self.world.made(f"{RUNS}/r", changed))

    def run(self, name: str = "r") -> Json:
        return self.world.objects[f"{RUNS}/{name}"]

    @property
    def uid(self) -> str:
        found: str = self.run()["metadata"]["uid"]
        return found

    def op(self, name: str = "r") -> Json:
        found: Json = self.run(name).get("status", {}).get("op", {})
        return found

    def types(self) -> list[str]:
        return [event["type"] for event in self.op().get("events", ())]

    def pod(self) -> Json | None:
        return next((obj for path, obj in self.world.objects.items() if path.startswith(PODS)), None)

    def see_pod(self, **status: Any) -> Json:
        """The kubelet or the scheduler has written this; the watch tells."""
        old = self.pod()
        assert old is not None
        path = f"{PODS}/{old['metadata']['name']}"
        changed = self.world.made(path, {**old, "status": status})
        self.engine.pods.apply(Changed("MODIFIED", changed))
        return changed

    def seen_gone(self, pod: Json) -> None:
        """The watch tells that this pod has been deleted."""
        self.engine.pods.apply(Changed("DELETED", self.world.removed[pod["metadata"]["uid"]]))

    async def until(self, holds: Callable[[], Any]) -> Any:
        async with asyncio.timeout(SECONDS):
            while not (found := holds()):  # noqa: ASYNC110 - of stand-ins, which tell nobody
                await asyncio.sleep(0.001)
        return found

    async def post(self, body: Any, token: str = API_TOKEN, run: str = "r", query: str = "") -> ClientResponse:
        headers = {"Authorization": f"Bearer {token}"}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await self.client.post(f"/v1/op-runs/a/{run}/events{query}", data=data, headers=headers)
        await answer.read()
        return answer

    async def say(self, kind: str, **more: Any) -> Json:
        """An event that is taken."""
        answer = await self.post({"type": kind, **more})
        assert answer.status == 200, await answer.text()
        found: Json = await answer.json()
        return found


@asynccontextmanager
async def place(**settings: Any) -> AsyncIterator[Place]:
    world = World()
    shell = ShellSettings(KEY, "me", "maze-system", 0, "127.0.0.1", "INFO", API_TOKEN)
    engine = Engine(cast(Kube, world), cast(AsyncStore, world), replace(SETTINGS, **settings), shell, b"")
    engine.ready = True
    server = Server(KEY, API_TOKEN)
    server.engine = engine
    async with TestClient(TestServer(server.application())) as client:
        yield Place(world, engine, client)
        world.open.set()
    await engine.stop()


async def detail(answer: ClientResponse) -> str:
    found: str = (await answer.json())["detail"]
    return found
