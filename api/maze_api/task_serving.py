"""Who serves a problem: Workflows by their globs, or else external workers by theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from maze_api.errors import Invalid, Unavailable
from maze_api.worker_cache import Workers
from maze_crds import names
from maze_crds.inputs import check_inputs, fill_defaults
from maze_crds.problems import choose_workflow
from maze_crds.workflow import WorkflowSpec
from maze_io.cache import Key
from maze_io.kube import Cache, Kube, Object, workers_path, workflows_path

SHOWN = 50
"""Globs that an answer lists."""
SYNC_SECONDS = 5.0


class Serving:
    """The Workflows of one namespace that serve problems, and the external workers."""

    def __init__(self, kube: Kube, namespace: str, workers: Workers) -> None:
        self._kube, self._namespace, self._workers = kube, namespace, workers
        self._workflows = Cache(self._changed)
        self._globs: dict[str, list[str]] = {}

    @property
    def synced(self) -> bool:
        return self._workflows.synced

    async def follow(self) -> None:
        """Keep the cache; ends only by cancel."""
        await self._workflows.follow(self._kube.list_and_watch(workflows_path(self._namespace)))

    async def workflow_for(self, problem_id: str) -> Object | None:
        """The Workflow that serves the problem; None: only external workers do.

        What the caches don't know yet, Kubernetes does: a Workflow can be used as soon as it is applied.

        Raises:
            Invalid: nobody serves it; lists what is served.
            Unavailable: the Workflows could not be listed yet.
            KubeError: Kubernetes is out of reach.
        """
        await self._listed()
        found = self._choose(problem_id)
        if found is not None or self._taken(problem_id):
            return found
        external = {"labelSelector": f"{names.LABEL_INTERNAL}=false"}
        for worker in (await self._kube.list_all(workers_path(self._namespace), external)).items:
            self._workers.put_worker(worker)
        for workflow in (await self._kube.list_all(workflows_path(self._namespace))).items:
            self._workflows.put(workflow)
        found = self._choose(problem_id)
        if found is not None or self._taken(problem_id):
            return found
        workers = {worker.id: worker.supported_problems for worker in self._workers.external()}
        raise Invalid(nobody_serves(problem_id, self._globs, workers))

    async def _listed(self) -> None:
        """A process that has just started has them in a moment."""
        try:
            await asyncio.wait_for(self._workflows.wait_synced(), SYNC_SECONDS)
        except TimeoutError:
            raise Unavailable("the Workflows could not be listed yet; try again") from None

    def _choose(self, problem_id: str) -> Object | None:
        name = choose_workflow(self._globs, problem_id)
        return None if name is None else self._workflows.get(self._namespace, name)

    def _taken(self, problem_id: str) -> bool:
        return any(worker.takes(problem_id) for worker in self._workers.external())

    def _changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        globs = new["spec"].get("problems") if new is not None else None
        if globs:
            self._globs[key[1]] = globs
        else:
            self._globs.pop(key[1], None)


def nobody_serves(problem_id: str, workflows: Mapping[str, Iterable[str]], workers: Mapping[str, Sequence[str]]) -> str:
    """Why a problem is refused, and which ones would not be. Values are globs."""
    found = [f"{glob} (Workflow {name})" for name, globs in sorted(workflows.items()) for glob in globs]
    found += [f"{glob} (worker {name})" for name, globs in sorted(workers.items()) for glob in globs]
    more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    served = f"served are {', '.join(found[:SHOWN])}{more}" if found else "there are none that serve any"
    return (
        f"no Workflow and no registered worker serves problem_id '{problem_id}': {served};"
        " create a Workflow with a glob in spec.problems that matches, or register a worker"
    )


def require_fitting(workflow: Object, inputs: Mapping[str, Any]) -> None:
    """Raises Invalid, with all that is wrong, where the Workflow does not take these inputs."""
    try:
        spec = WorkflowSpec.model_validate(workflow["spec"])
    except ValidationError:
        return  # made for a newer version; the operator says what it thinks of it
    found = check_inputs(spec, fill_defaults(spec, inputs))
    problems = [text.replace("spec.inputs of the Run", "parameters") for text in found]
    if problems:
        name = workflow["metadata"]["name"]
        raise Invalid(f"the parameters are inputs of Workflow '{name}' and don't fit it: {'; '.join(problems)}")
