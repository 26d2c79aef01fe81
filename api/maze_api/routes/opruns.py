"""OpRuns: ad-hoc runs of one container, with attempts, retries and a timeline of events."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import JSONResponse

from maze_api.deps import Services, ServicesDep, can_be_a_name
from maze_api.errors import BadRequest, Unavailable
from maze_api.oprun_bodies import (
    AddEventRequest,
    EventsResponse,
    OpAttemptResponse,
    OpRunCreate,
    OpRunListResponse,
    OpRunResponse,
    OpRunUpdate,
)
from maze_api.oprun_events import Lost
from maze_api.oprun_index import Created, Filter, Place, place_of
from maze_api.oprun_view import OpView, attempts_json, is_op_run, op_json, view_op
from maze_api.oprun_wishes import cancel, no_run, read_state, retry, update
from maze_io.kube import KubeError, runs_path

router = APIRouter(prefix="/runs", tags=["op runs"])
log = logging.getLogger(__name__)

Json = dict[str, Any]
MOST_EVENTS = 2**53


async def find_op_run(found: Services, run_id: str, newest: bool = False) -> OpView | None:
    """The OpRun from the cache, or from the API server where the cache does not have it (yet).

    Raises:
        KubeError: Kubernetes is out of reach.
    """
    known = found.op_runs.index.get(run_id)
    if (known is not None and not newest) or not can_be_a_name(run_id):
        return known
    try:
        obj = await found.runs.kube.get(runs_path(found.settings.namespace, run_id))
    except KubeError as error:
        if error.not_found:
            return None
        raise
    found.runs.put(obj)
    return view_op(obj) if is_op_run(obj) else None


async def known_op_run(run_id: Annotated[str, Path(alias="id")], found: ServicesDep) -> OpView:
    """The OpRun that a path names.

    Raises:
        NotFound: there is none.
    """
    run = await find_op_run(found, run_id)
    if run is None:
        raise no_run(run_id)
    return run


OpRunDep = Annotated[OpView, Depends(known_op_run)]
Timestamp = Annotated[int | None, Query(description="UNIX seconds.")]


@router.get("", response_model=OpRunListResponse, responses={400: {"description": "Invalid pagination parameters"}})
async def list_op_runs(
    found: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
    starting_after: Annotated[str | None, Query(description="Id: the page after this run, of older ones.")] = None,
    ending_before: Annotated[str | None, Query(description="Id: the page before this run, of newer ones.")] = None,
    state: str | None = None,
    status: Annotated[str | None, Query(description="The same as state.")] = None,
    op_definition: str | None = None,
    image: str | None = None,
    created_gte: Annotated[Timestamp, Query(alias="created[gte]")] = None,
    created_lte: Annotated[Timestamp, Query(alias="created[lte]")] = None,
    created_gt: Annotated[Timestamp, Query(alias="created[gt]")] = None,
    created_lt: Annotated[Timestamp, Query(alias="created[lt]")] = None,
) -> JSONResponse:
    """Runs that fit all filters, newest first."""
    if state and status and state != status:
        raise BadRequest("state and status must match when both are provided")
    selected = state or status
    wanted = Filter(read_state(selected) if selected else None, op_definition or None, image or None)
    created = read_created(created_gte, created_gt, created_lte, created_lt)
    if starting_after and ending_before:
        raise BadRequest("starting_after and ending_before can't be given both; give one of them")
    if not found.runs.synced:
        raise Unavailable("the runs could not be listed yet; try again")
    after = await _cursor(found, starting_after)
    before = await _cursor(found, ending_before)
    page, more = found.op_runs.index.page(wanted, created, limit, after, before)
    data = await asyncio.gather(*(_listed(found, run) for run in page))
    return JSONResponse({"object": "list", "data": data, "has_more": more, "url": "/runs"})


def read_created(gte: int | None, gt: int | None, lte: int | None, lt: int | None) -> Created:
    """Bounds of created_at from UNIX seconds.

    Raises:
        BadRequest: one is no time.
    """
    moment = timedelta(microseconds=1)
    try:
        least = [_time(gte)] if gte is not None else []
        least += [_time(gt) + moment] if gt is not None else []
        end = [_time(lt)] if lt is not None else []
        end += [_time(lte) + moment] if lte is not None else []
    except (OverflowError, OSError, ValueError):
        raise BadRequest("Invalid created timestamp") from None
    return Created(max(least, default=None), min(end, default=None))


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)


async def _cursor(found: Services, run_id: str | None) -> Place | None:
    if not run_id:
        return None
    run = await find_op_run(found, run_id)
    if run is None:
        raise BadRequest(f"Invalid cursor: OpRun '{run_id[:100]}' not found")
    return place_of(run)


async def _shown(found: Services, run: OpView) -> Json:
    timelines = found.op_runs.timelines
    return op_json(run, await timelines.inputs(run), await timelines.outputs(run))


async def _listed(found: Services, run: OpView) -> Json:
    """One run of which a value is lost keeps no page from being shown; its message tells of it."""
    try:
        return await _shown(found, run)
    except Lost as lost:
        return {**op_json(run, {}, {}), "message": lost.detail}


async def _answer(found: Services, run: OpView, status: int = 200) -> JSONResponse:
    """Not by the model, which gives up on what is nested deeply."""
    return JSONResponse(await _shown(found, run), status)


@router.post("", status_code=201, response_model=OpRunResponse, responses={400: {"description": "Invalid input"}})
async def create_op_run(body: OpRunCreate, found: ServicesDep) -> JSONResponse:
    """Run a container, ad hoc."""
    run = await found.op_runs.creation.create(body)
    log.info("OpRun %s of image %s", run.id, run.image)
    return await _answer(found, run, 201)


@router.get("/{id}", response_model=OpRunResponse)
async def get_op_run(run: OpRunDep, found: ServicesDep) -> JSONResponse:
    """One run."""
    return await _answer(found, run)


@router.patch("/{id}", response_model=OpRunResponse, responses={400: {"description": "Invalid update"}})
async def update_op_run(body: OpRunUpdate, run: OpRunDep, found: ServicesDep) -> JSONResponse:
    """Change the priority or the outputs; in emergencies the state, of which no event tells."""
    return await _answer(found, await found.op_runs.wishes.change(run.id, update(body)))


@router.post("/{id}/retry", response_model=OpRunResponse, responses={400: {"description": "Cannot retry"}})
async def retry_op_run(run: OpRunDep, found: ServicesDep) -> JSONResponse:
    """A new attempt of a run that has ended."""
    return await _answer(found, await found.op_runs.wishes.change(run.id, retry))


@router.post("/{id}/cancel", response_model=OpRunResponse, responses={400: {"description": "Run already terminal"}})
async def cancel_op_run(run: OpRunDep, found: ServicesDep) -> JSONResponse:
    """End a run that has not ended, and its container."""
    return await _answer(found, await found.op_runs.wishes.change(run.id, cancel))


@router.get("/{id}/events", response_model=EventsResponse)
async def poll_op_run_events(
    run: OpRunDep,
    found: ServicesDep,
    after: Annotated[
        int | None, Query(ge=-MOST_EVENTS, le=MOST_EVENTS, description="Id of the last one known.")
    ] = None,
) -> JSONResponse:
    """What has happened after event `after`; their ids are contiguous from 0."""
    return JSONResponse({"events": await found.op_runs.timelines.events(run, after)})


@router.post(
    "/{id}/events", response_model=OpRunResponse, responses={400: {"description": "Invalid event or run locked"}}
)
async def add_event_to_run(body: AddEventRequest, run: OpRunDep, found: ServicesDep) -> JSONResponse:
    """Add to the timeline of the current attempt, as its worker does."""
    await found.op_runs.timelines.add(run, body)
    newest = await find_op_run(found, run.id, newest=True)  # the event is in its status
    if newest is None:
        raise no_run(run.id)
    return await _answer(found, newest)


@router.get("/{id}/attempts", response_model=list[OpAttemptResponse])
async def get_op_attempts(run: OpRunDep) -> JSONResponse:
    """All attempts, oldest first."""
    return JSONResponse(attempts_json(run))
