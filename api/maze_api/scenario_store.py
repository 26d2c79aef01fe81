"""Scenarios in Kubernetes: Workflows with a label. They are few and change rarely, so they are read when asked for."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from maze_api.errors import Conflict, Invalid, NotFound, validation_text
from maze_api.scenario_bodies import ScenarioSummary
from maze_crds import names
from maze_crds.base import API_VERSION, format_time
from maze_crds.inputs import check_inputs, fill_defaults
from maze_crds.run import RunSpec
from maze_crds.scenario import (
    ScenarioError,
    as_scenario_text,
    is_scenario,
    scenario_id,
    to_definition,
    to_workflow,
    workflow_name,
)
from maze_crds.scenario_files import unstorable
from maze_crds.workflow import WorkflowSpec
from maze_io.kube import Kube, KubeError, Object, workflows_path

log = logging.getLogger(__name__)

Json = dict[str, Any]
WRITE_TRIES = 5
SELECTOR = {"labelSelector": f"{names.LABEL_SCENARIO}=true"}
DEEPEST = 4000
"""Characters of a list of problems."""


class Scenarios:
    """The scenarios of one namespace."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace

    async def list(self) -> list[ScenarioSummary]:
        """By id. A Workflow that is labelled as a scenario, and can't be one, is left out, and named in the log."""
        listed = await self._kube.list_all(workflows_path(self._namespace), SELECTOR)
        return sorted(await asyncio.to_thread(summaries, listed.items), key=lambda summary: summary.scenario_id)

    async def find(self, identity: str) -> Object:
        """The Workflow of a scenario.

        Raises:
            NotFound: there is none.
            KubeError: Kubernetes is out of reach.
        """
        name = workflow_name(identity)
        found = await self._get(name)
        if found is None or not is_scenario(found) or scenario_id(found) != identity:
            raise NotFound(f"Unknown scenario_id: {identity[:253]}")
        return found

    async def definition(self, identity: str) -> Json:
        """As it was given.

        Raises:
            NotFound: there is none, or no definition can tell it.
        """
        found = await self.find(identity)
        try:
            return to_definition(found)
        except ScenarioError as error:
            raise NotFound(f"Unknown scenario_id: {identity}: {error}") from error

    async def apply(self, definition: Json) -> Json:
        """Make or replace a scenario; what `definition` would say.

        Raises:
            Invalid: all that is wrong with it.
            Conflict: a Workflow that is no scenario has its name, or others keep writing it.
        """
        try:
            made = await asyncio.to_thread(to_workflow, definition)
        except ScenarioError as error:
            raise Invalid(join(error.problems)) from error
        name, identity = made["metadata"]["name"], scenario_id(made)
        for _ in range(WRITE_TRIES):
            found = await self._get(name)
            try:
                if found is None:
                    await self._kube.post(workflows_path(self._namespace), made)
                else:
                    await self._kube.put(workflows_path(self._namespace, name), merged(found, made))
            except KubeError as error:
                if not error.conflict and not error.not_found:
                    raise
                continue
            log.info("scenario %s is Workflow %s", identity, name)
            return to_definition(made)
        raise Conflict(f"scenario '{identity}' is being written by others; try again")

    async def delete(self, identity: str) -> None:
        """Raises: NotFound. Runs that have started go on: they keep the scenario as it was."""
        found = await self.find(identity)
        options = {"preconditions": {"uid": found["metadata"]["uid"]}}
        try:
            await self._kube.delete(workflows_path(self._namespace, found["metadata"]["name"]), options)
        except KubeError as error:
            if not error.not_found and not error.conflict:
                raise
            raise NotFound(f"Unknown scenario_id: {identity}") from error

    async def _get(self, name: str) -> Object | None:
        try:
            return await self._kube.get(workflows_path(self._namespace, name))
        except KubeError as error:
            if error.not_found:
                return None
            raise


def join(problems: list[str]) -> str:
    return "; ".join(problems)[:DEEPEST]


def summaries(workflows: list[Object]) -> list[ScenarioSummary]:
    return list(_summaries(workflows))


def _summaries(workflows: list[Object]) -> Iterator[ScenarioSummary]:
    for workflow in workflows:
        if workflow["metadata"]["name"] != workflow_name(scenario_id(workflow)):
            log.warning("Workflow %s is no scenario: its id is another's", workflow["metadata"]["name"])
            continue
        try:
            found = to_definition(workflow)
        except ScenarioError as error:
            log.warning("Workflow %s is labelled as a scenario, but is none: %s", workflow["metadata"]["name"], error)
            continue
        yield ScenarioSummary(
            scenario_id=found["scenario_id"],
            name=found.get("name") or found["scenario_id"],
            description=found.get("description") or "",
            input_schema=found.get("input_schema") or {},
        )


def merged(found: Object, made: Object) -> Object:
    """The scenario in the place of an earlier one, whose other labels and annotations stay.

    Raises:
        Conflict: it is no scenario, or another one.
    """
    metadata = found["metadata"]
    if not is_scenario(found) or scenario_id(found) != scenario_id(made):
        raise Conflict(
            f"there is a Workflow '{metadata['name']}' that is not this scenario; choose another scenario_id"
        )
    kept = {key: metadata[key] for key in ("name", "namespace", "resourceVersion", "uid")}
    for key in ("labels", "annotations"):
        kept[key] = {**(metadata.get(key) or {}), **made["metadata"][key]}
    return {**made, "metadata": kept}


def check_run(workflow: Object, given: Json) -> None:
    """Whether a run of this scenario can have this input.

    Raises:
        Invalid: all that is wrong.
    """
    if problems := unstorable(given):
        raise Invalid(join([f"input: {problem}" for problem in problems]))
    try:
        RunSpec(inputs=given)
        spec = WorkflowSpec.model_validate(workflow["spec"])
    except ValidationError as error:
        raise Invalid(validation_text([dict(item) for item in error.errors()])) from error
    if problems := check_inputs(spec, fill_defaults(spec, given)):
        raise Invalid(join([_of_input(problem) for problem in problems]))


def _of_input(problem: str) -> str:
    problem = as_scenario_text(problem).replace("; add it to spec.inputs of the Run", "; add it to input")
    return f"input{problem.removeprefix('inputs')}" if problem.startswith("inputs") else problem


def build_run(workflow: Object, given: Json, namespace: str, keep_seconds: int, now: datetime | None = None) -> Object:
    """A new run of a scenario."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Run",
        "metadata": {
            "name": str(uuid.uuid4()),
            "namespace": namespace,
            "labels": {names.LABEL_SCENARIO: "true"},
            "annotations": {names.ANNOTATION_SCENARIO_ID: scenario_id(workflow)},
        },
        "spec": {
            "workflowRef": {"name": workflow["metadata"]["name"]},
            "inputs": given,
            "ttlSecondsAfterFinished": keep_seconds,
            "queuedTime": format_time(now or datetime.now(UTC)),
        },
    }
