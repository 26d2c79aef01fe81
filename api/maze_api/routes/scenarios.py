"""Scenario runs with live events, the catalogue of scenarios, and the tools of the MCP servers."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Response
from starlette.responses import StreamingResponse

from maze_api import metrics
from maze_api.deps import Services, ServicesDep, can_be_a_name
from maze_api.errors import NotFound
from maze_api.scenario_bodies import (
    RunSubmitResponse,
    ScenarioRunRequest,
    ScenarioRunResponse,
    ScenarioSummary,
    ToolSummary,
)
from maze_api.scenario_store import build_run, check_run
from maze_api.scenario_view import ScenarioRun, snapshot, submitted, view_scenario_run
from maze_api.sse import parse_last_event_id
from maze_api.tools import fetch_tools

router = APIRouter(prefix="/api", tags=["scenarios"])
log = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream"
EVENTS_EXAMPLE = (
    "id: 1\n"
    "event: run_started\n"
    'data: {"type":"run_started","run_id":"76d6903c-f520-4a40-b0fc-8fed3f7955d2",'
    '"scenario_id":"news_source_discovery_v1","started_at":"2026-04-24T09:27:59.873+00:00"}\n\n'
    "id: 2\n"
    "event: step_started\n"
    'data: {"type":"step_started","run_id":"76d6903c-...","step_name":"search_news_sources",'
    '"index":0,"started_at":"2026-04-24T09:27:59.875+00:00"}\n\n'
    "id: 3\n"
    "event: step_finished\n"
    'data: {"type":"step_finished","run_id":"76d6903c-...","step_name":"search_news_sources",'
    '"index":0,"status":"success","started_at":"2026-04-24T09:27:59.875+00:00",'
    '"finished_at":"2026-04-24T09:28:00.028+00:00","message":""}\n\n'
    "id: 4\n"
    "event: run_finished\n"
    'data: {"type":"run_finished","run_id":"76d6903c-...","status":"success",'
    '"finished_at":"2026-04-24T09:28:01.750+00:00","message":""}\n\n'
)
EVENT_SCHEMA: dict[str, Any] = {
    "description": "One event; `data` is JSON.",
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string"},
        "event": {"enum": ["run_started", "step_started", "step_finished", "run_finished"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
DEFINITION_EXAMPLE: dict[str, Any] = {
    "schema_version": "1",
    "scenario_id": "news_source_discovery_v1",
    "name": "News Source Discovery V1",
    "description": "Find earliest news source using sequential MCP tools.",
    "input_schema": {
        "type": "object",
        "required": ["url"],
        "properties": {"url": {"type": "string", "description": "URL of source news article"}},
    },
    "steps": [
        {
            "name": "search_news_sources",
            "type": "tool",
            "tool": "search_news_sources",
            "input": {"url": {"from": "input.url"}},
            "required_input_fields": ["url"],
        }
    ],
}


class EventStreamResponse(StreamingResponse):
    media_type = EVENT_STREAM


@router.post(
    "/runs",
    status_code=202,
    summary="Schedule a scenario run",
    description=(
        "Creates a Run and returns immediately with a `run_id`; poll `GET /api/runs/{run_id}` or subscribe to "
        "`GET /api/runs/{run_id}/events` for progress. An input that does not fit the scenario's `input_schema` is "
        "refused with all that is wrong."
    ),
    responses={404: {"description": "Unknown scenario_id"}, 422: {"description": "The input does not fit"}},
)
async def post_run(request: ScenarioRunRequest, found: ServicesDep) -> RunSubmitResponse:
    workflow = await found.scenarios.find(request.scenario_id)
    given = dict(request.input)
    await asyncio.to_thread(check_run, workflow, given)
    made = build_run(workflow, given, found.settings.namespace, found.settings.run_ttl_seconds)
    await found.runs.create(made)
    run = view_scenario_run({**made, "status": {}})
    assert run is not None
    log.info("run %s of scenario %s", run.run_id, run.scenario_id)
    return submitted(run)


@router.get(
    "/runs/{run_id}",
    summary="Get run snapshot",
    description=(
        "Returns the current state of a run. For running runs the `steps` list reflects progress so far; for terminal "
        "runs it is complete."
    ),
    responses={404: {"description": "Unknown run_id"}},
)
async def get_run(run_id: str, found: ServicesDep) -> ScenarioRunResponse:
    return snapshot(await _require_run(found, run_id))


@router.get(
    "/runs/{run_id}/events",
    summary="Live run progress (SSE)",
    description=(
        "Server-Sent Events stream. Late subscribers receive a replay of all events first, then new events until "
        "`run_finished`. Each event has a number as its `id:`; with it in `Last-Event-ID` the stream goes on after it, and "
        "where nothing comes after it the answer is 204, which tells an EventSource not to come back.\n\n"
        "Event types: `run_started`, `step_started`, `step_finished`, `run_finished`. Each event is JSON in the SSE "
        "`data:` field."
    ),
    response_class=EventStreamResponse,
    responses={
        200: {
            "description": "SSE stream of run events",
            "content": {EVENT_STREAM: {"schema": EVENT_SCHEMA, "example": EVENTS_EXAMPLE}},
        },
        204: {"description": "The run has ended, and the client has seen all of it"},
        404: {"description": "Unknown run_id"},
    },
)
async def get_run_events(
    run_id: str, found: ServicesDep, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    run = await _require_run(found, run_id)
    after = parse_last_event_id(last_event_id)
    feed = found.feeds.get(run.run_id)
    if feed is None or (after >= feed.numbers[-1] and feed.ended):
        return Response(status_code=204)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return EventStreamResponse(_tracked(found, run.run_id, after), headers=headers)


async def _tracked(found: Services, name: str, after: int) -> Any:
    with metrics.STREAMS.track_inprogress():
        async for chunk in found.feeds.follow(name, after):
            yield chunk


async def _require_run(found: Services, run_id: str) -> ScenarioRun:
    obj = found.runs.object(run_id)
    if obj is None and can_be_a_name(run_id):
        await found.runs.get(run_id)
        obj = found.runs.object(run_id)
    run = view_scenario_run(obj) if obj is not None else None
    if run is None:
        raise NotFound(f"Unknown run_id: {run_id[:253]}")
    return run


@router.get(
    "/scenarios",
    summary="List available scenarios",
    description="Returns metadata (id, name, description, input schema) for every scenario.",
)
async def get_scenarios(found: ServicesDep) -> list[ScenarioSummary]:
    return await found.scenarios.list()


@router.post(
    "/scenarios",
    status_code=201,
    summary="Apply a scenario definition",
    description="Makes the scenario, or replaces the one of this `scenario_id`. Runs that have started go on as they were.",
    responses={
        201: {"description": "The definition as it was given", "content": {"application/json": {}}},
        409: {"description": "A Workflow that is no scenario has its name"},
        422: {"description": "All that is wrong with the definition"},
    },
)
async def post_scenario(
    definition: Annotated[dict[str, Any], Body(openapi_examples={"news": {"value": DEFINITION_EXAMPLE}})],
    found: ServicesDep,
) -> dict[str, Any]:
    return await found.scenarios.apply(definition)


@router.get(
    "/scenarios/{scenario_id}",
    summary="Get full scenario definition",
    description="Returns the raw scenario JSON (including the `steps` graph) for UI visualization.",
    responses={
        200: {
            "description": "Scenario definition",
            "content": {"application/json": {"example": DEFINITION_EXAMPLE}},
        },
        404: {"description": "Unknown scenario_id"},
    },
)
async def get_scenario(scenario_id: str, found: ServicesDep) -> dict[str, Any]:
    return await found.scenarios.definition(scenario_id)


@router.delete(
    "/scenarios/{scenario_id}",
    status_code=204,
    summary="Delete a scenario",
    description="Its Runs stay, and those that have started go on.",
    responses={404: {"description": "Unknown scenario_id"}},
)
async def delete_scenario(scenario_id: str, found: ServicesDep) -> None:
    await found.scenarios.delete(scenario_id)


@router.get(
    "/tools",
    summary="List MCP tools",
    description="Asks the MCP server of the installation, and returns name, description, and input schema for each tool.",
    responses={502: {"description": "MCP transport error"}},
)
async def get_tools(found: ServicesDep) -> list[ToolSummary]:
    return await fetch_tools(found.settings.mcp_server_url)
