"""What the routes work with, made once per process and handed to them by FastAPI."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Path
from starlette.requests import HTTPConnection

from maze_api.cache import Runs, RunView
from maze_api.drafts import Drafts
from maze_api.errors import NotFound
from maze_api.logs import Logs
from maze_api.oprun_services import OpRuns
from maze_api.scenario_store import Scenarios
from maze_api.settings import Settings
from maze_api.sse import Feeds
from maze_api.stored_tasks import StoredTasks
from maze_api.task_create import Creation
from maze_api.task_index import TaskIndex
from maze_api.task_results import Results
from maze_api.task_serving import Serving
from maze_api.uploads import Uploads
from maze_api.worker_cache import Workers
from maze_api.worker_crew import Crew
from maze_io.store import AsyncStore

if TYPE_CHECKING:
    from maze_api.archive.archiver import Archiver
    from maze_api.archive.store import Archive


_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")


@dataclass(slots=True)
class Services:
    """Clients and caches of this process.

    Attributes:
        tasks: the Runs that are tasks of the Task Executor, as `runs` has them.
        serving: who serves which problem.
        creation: makes tasks.
        results: what became of them.
        op_runs: all that the routes of OpRuns work with.
        archive, archiver: ended tasks in PostgreSQL, where DATABASE_URL names one.
        problem: why the watch of Runs has ended for good (a fault of ours), or None.
    """

    settings: Settings
    store: AsyncStore
    runs: Runs
    drafts: Drafts
    uploads: Uploads
    logs: Logs
    tasks: TaskIndex
    workers: Workers
    serving: Serving
    creation: Creation
    results: Results
    crew: Crew
    scenarios: Scenarios
    feeds: Feeds
    op_runs: OpRuns
    stored_tasks: StoredTasks
    problem: str | None = None
    archive: Archive | None = None
    archiver: Archiver | None = None


async def services(connection: HTTPConnection) -> Services:
    """Asynchronous like the others here: FastAPI calls plain functions in a thread."""
    found: Services = connection.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]


async def drafts(found: ServicesDep) -> Drafts:
    return found.drafts


DraftsDep = Annotated[Drafts, Depends(drafts)]


def can_be_a_name(text: str) -> bool:
    """Whether a Kubernetes object can have this name; anything else must not get into a path."""
    known = all(c in "abcdefghijklmnopqrstuvwxyz0123456789-." for c in text)
    return 0 < len(text) <= 253 and known and text[0] not in "-." and text[-1] not in "-."


async def known_run(run_id: Annotated[str, Path()], found: ServicesDep) -> RunView:
    """The Run that a path names.

    Raises:
        NotFound: there is none.
        KubeError: Kubernetes is out of reach.
    """
    run = await found.runs.get(run_id) if can_be_a_name(run_id) else None
    if run is None:
        raise NotFound(f"there is no run '{run_id[:100]}'")
    return run


async def known_run_with_workflow(run: Annotated[RunView, Depends(known_run)], found: ServicesDep) -> RunView:
    """The Run that a path names, its workflow's tasks included where they are in the object store.

    Raises:
        NotFound, KubeError: as above.
        StoreError: the object store is out of reach.
    """
    return replace(run, workflow=await found.stored_tasks.complete(run.workflow))


RunDep = Annotated[RunView, Depends(known_run)]
WholeRunDep = Annotated[RunView, Depends(known_run_with_workflow)]
