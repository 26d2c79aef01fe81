"""Puts the application together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from maze_api import errors
from maze_api.cache import Runs
from maze_api.deps import Services
from maze_api.drafts import Drafts
from maze_api.logs import MOST_FOLLOWERS, Logs
from maze_api.middleware import Envelope, Limits
from maze_api.openapi import with_errors
from maze_api.operator_client import OperatorClient
from maze_api.oprun_services import OpRuns
from maze_api.ratelimit import RateLimit
from maze_api.routes import health, info, langgraph, maze, opruns, payloads, scenarios, tasks, workers
from maze_api.routes import runs as runs_routes
from maze_api.scenario_store import Scenarios
from maze_api.settings import Settings
from maze_api.sse import Feeds
from maze_api.stored_tasks import StoredTasks
from maze_api.task_create import Creation
from maze_api.task_index import TaskIndex
from maze_api.task_metrics import TaskMetrics
from maze_api.task_results import Results
from maze_api.task_serving import Serving
from maze_api.uploads import Uploads
from maze_api.worker_cache import Workers
from maze_api.worker_crew import Crew
from maze_io.kube import Kube
from maze_io.store import AsyncStore, ObjectStore, StoreError

if TYPE_CHECKING:
    from maze_api.archive.archiver import Archiver
    from maze_api.archive.store import Archive

log = logging.getLogger(__name__)

BUCKET_RETRY_SECONDS = 2.0
UPLOADS_BYTES = 256 * 1024 * 1024
"""Of all payloads that are on their way through this process; its memory limit is 1 GiB."""


def create_app(settings: Settings) -> FastAPI:
    """The app; it connects when it starts, and starts also while Kubernetes or the object store is down."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        kube = await Kube.connect()
        logs_kube = await Kube.connect(limit=2 * MOST_FOLLOWERS)
        store = AsyncStore(ObjectStore(settings.store))
        runs = Runs(kube, settings.namespace)
        uploads = Uploads(max(UPLOADS_BYTES, settings.max_body_bytes))
        drafts = Drafts(store, settings.runner_python)
        logs = Logs(logs_kube, runs, store)
        workers = Workers(kube, settings.namespace)
        serving = Serving(kube, settings.namespace, workers)
        index = TaskIndex(runs)
        TaskMetrics(runs, index)
        archive = open_archive(settings)
        operator = OperatorClient(settings.report_url, settings.api_token)
        crew = Crew.make(settings, runs, index, workers, operator)
        results = Results(kube, store, settings.namespace)
        found = Services(
            settings,
            store,
            runs,
            drafts,
            uploads,
            logs,
            tasks=index,
            workers=workers,
            serving=serving,
            creation=Creation(runs, serving, settings, archive),
            results=results,
            crew=crew,
            scenarios=Scenarios(kube, settings.namespace),
            feeds=Feeds(runs.object),
            op_runs=OpRuns.make(settings, runs, store, operator),
            stored_tasks=StoredTasks(store),
            archive=archive,
            archiver=open_archiver(archive, runs, index, results),
        )
        runs.subscribe(found.feeds.changed)
        app.state.services = found
        background = [
            asyncio.create_task(_watched(found, "Runs", found.runs.follow), name="watch-runs"),
            asyncio.create_task(_watched(found, "Workers", found.workers.follow), name="watch-workers"),
            asyncio.create_task(_watched(found, "Workflows", serving.follow), name="watch-workflows"),
            asyncio.create_task(_ensure_bucket(store), name="ensure-bucket"),
            asyncio.create_task(crew.pool.ensure(), name="ensure-pool"),
        ]
        if found.archiver is not None:
            background.append(
                asyncio.create_task(_watched(found, "ended tasks", found.archiver.follow), name="archive")
            )
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await store.close()
            await operator.close()
            if archive is not None:
                await archive.close()
            await logs_kube.close()
            await kube.close()

    app = FastAPI(title="Maze", version="1.0.0", lifespan=lifespan)
    errors.install(app)
    rate = RateLimit(settings.requests_per_minute) if settings.requests_per_minute else None
    app.add_middleware(Envelope, limits=Limits(settings.max_json_bytes, settings.max_body_bytes, rate))
    for routes in (health, maze, langgraph, info, runs_routes, payloads, tasks, workers, scenarios, opruns):
        app.include_router(routes.router)
    app.include_router(tasks.live)
    derive = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = with_errors(derive())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def open_archive(settings: Settings) -> Archive | None:
    """What it needs takes half a second to load, so that is done only where there is one."""
    if settings.database_url is None:
        return None
    from maze_api.archive.store import Archive

    return Archive(settings.database_url, settings.namespace)


def open_archiver(archive: Archive | None, runs: Runs, tasks: TaskIndex, results: Results) -> Archiver | None:
    if archive is None:
        return None
    from maze_api.archive.archiver import Archiver

    return Archiver(archive, runs, tasks, results)


async def _watched(found: Services, kind: str, follow: Callable[[], Awaitable[None]]) -> None:
    """A watch. It never ends by itself; should it, /health fails and the pod is restarted."""
    try:
        await follow()
    except Exception as error:
        found.problem = f"the watch of {kind} ended: {error!r}"
        log.exception("the watch of %s ended", kind)


async def _ensure_bucket(store: AsyncStore) -> None:
    while True:
        try:
            await store.run(store.store.ensure_bucket)
        except StoreError as error:
            log.warning("%s; trying again", error)
            await asyncio.sleep(BUCKET_RETRY_SECONDS)
        else:
            return
