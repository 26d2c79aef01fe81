"""`python -m maze_operator`: stands by until it leads, then reconciles until it is told to stop or loses its Lease."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import logging
import signal
import sys
from dataclasses import replace

import uvloop
from aiohttp import web

from maze_io.kube import Kube
from maze_io.store import AsyncStore, ObjectStore, StoreError, StoreSettings
from maze_operator.core.values import Settings
from maze_operator.election import Election
from maze_operator.engine import Engine
from maze_operator.server import Server
from maze_operator.settings import LEASE_NAME, SettingsError, ShellSettings, read_settings
from maze_operator.watch import watch_runs
from maze_runner.build_pyz import build_archive

log = logging.getLogger("maze_operator")


async def serve(core: Settings, shell: ShellSettings, store: AsyncStore) -> None:
    """Run the operator until SIGTERM, SIGINT or a lost Lease."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    archive = build_archive()
    core = replace(core, runner_config_map=f"maze-runner-{hashlib.sha256(archive).hexdigest()[:10]}")
    kube = await Kube.connect()
    server = Server(shell.hmac_key, shell.api_token)
    http = web.AppRunner(server.application(), access_log=None)
    await http.setup()
    await web.TCPSite(http, shell.bind, shell.port).start()
    election = Election(kube, shell.namespace, LEASE_NAME, shell.identity, shell.election_seconds)
    if await _unless(stop, election.acquire()):
        await _lead(Engine(kube, store, core, shell, archive), server, election, store, stop)
        await election.release()
    await http.cleanup()
    await kube.close()


async def _lead(engine: Engine, server: Server, election: Election, store: AsyncStore, stop: asyncio.Event) -> None:
    holding = asyncio.create_task(election.hold())
    holding.add_done_callback(lambda _: stop.set())
    if await _unless(stop, _bucket(store)) and await _unless(stop, engine.start()):
        end_watch = watch_runs(engine.saw_run, asyncio.get_running_loop(), stop.set)
        server.engine = engine
        log.info("reconciling")
        await stop.wait()
        server.engine = None
        end_watch()
    await engine.stop()
    holding.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await holding


async def _unless(stop: asyncio.Event, work: object) -> bool:
    """Wait for `work`, but not longer than until `stop`. True: it was done."""
    doing = asyncio.ensure_future(work)  # type: ignore[call-overload]
    waiting = asyncio.ensure_future(stop.wait())
    await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if doing.done():
        doing.result()
        return not stop.is_set()
    doing.cancel()
    return False


async def _bucket(store: AsyncStore) -> None:
    while True:
        try:
            await store.run(store.store.ensure_bucket)
            return
        except StoreError as error:
            log.warning("waiting for the object store: %s", error)
            await asyncio.sleep(0.5)


def collect_less_garbage() -> None:
    """Runs and pods are trees, which go without the collector. It would walk through all of them again and again, and each of
    these walks is a pause of a tenth of a second and more with thousands of tasks."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 20)


def main() -> int:
    try:
        core, shell = read_settings()
        store = AsyncStore(ObjectStore(StoreSettings.from_env()))
    except (SettingsError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    logging.basicConfig(level=shell.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)  # that signals are ours is meant so
    collect_less_garbage()
    uvloop.run(serve(core, shell, store))
    return 0


if __name__ == "__main__":
    sys.exit(main())
