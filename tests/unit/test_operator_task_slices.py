"""TaskSlices: whatever fails between them and their Run, what the Run names is there, and nothing else is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze_crds.run import SLICED, TaskPhase, TaskStatus
from maze_crds.slices import tasks_at
from maze_io.kube import KubeError
from maze_operator.core.slicing import cut, is_sliced, undone
from maze_operator.task_slices import RunIsNewer, TaskSlices

Json = dict[str, Any]
COUNT = 2 * SLICED + 1


def done(name: str, number: int) -> TaskStatus:
    return TaskStatus(name=name, phase=TaskPhase.SUCCEEDED, attempt=1, start_event=number, end_event=number + 1)


def blank() -> list[TaskStatus]:
    return [TaskStatus(name=f"t{number}") for number in range(COUNT)]


def told(tasks: list[TaskStatus]) -> dict[str, TaskStatus]:
    return {task.name: task for each in cut(tasks) for task in each}


class Api:
    """TaskSlices in an API server of values, of whose answers some are lost."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.version = 0
        self.faults: list[str] = []
        """For the next writes: "" (none), "refused", "unheard" (written, but nobody is told)."""

    async def get(self, path: str) -> Json:
        if path not in self.objects:
            raise KubeError(404, "NotFound", path)
        return self.objects[path]

    async def post(self, path: str, body: Json) -> Json:
        if f"{path}/{body['metadata']['name']}" in self.objects:
            raise KubeError(409, "AlreadyExists", path)
        return self._store(f"{path}/{body['metadata']['name']}", body)

    async def put(self, path: str, body: Json) -> Json:
        if path not in self.objects:
            raise KubeError(404, "NotFound", path)
        if self.objects[path]["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise KubeError(409, "Conflict", path)
        return self._store(path, body)

    def _store(self, path: str, body: Json) -> Json:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "refused":
            raise KubeError(500, "InternalError", "refused")
        self.version += 1
        self.objects[path] = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        if fault == "unheard":
            raise KubeError(0, "Unreachable", "no answer")
        return self.objects[path]


def slices_on(api: Api) -> TaskSlices:
    return TaskSlices(api, "maze", "run", "uid-1")  # type: ignore[arg-type]


def test_a_run_of_few_tasks_has_no_slices() -> None:
    assert not is_sliced(SLICED)
    assert is_sliced(SLICED + 1)


def test_a_slice_tells_of_tasks_that_something_is_known_of() -> None:
    tasks = blank()
    tasks[1] = done("t1", 2)
    tasks[SLICED] = TaskStatus(name=f"t{SLICED}", reason="ParallelismLimit")
    assert cut(tasks) == [(tasks[1],), (tasks[SLICED],), ()]


def test_what_was_is_told_of_what_changed_alone() -> None:
    same, was, now = done("same", 2), TaskStatus(name="a", reason="ParallelismLimit"), done("a", 4)
    gone = TaskStatus(name="gone", reason="Suspended")
    assert undone((same, was, gone), (same, now, done("new", 6))) == (was, TaskStatus(name="new"), gone)


def test_a_slice_has_the_revision_before_and_no_other() -> None:
    found = {
        "revision": 5,
        "tasks": [{"name": "a", "phase": "Succeeded"}, {"name": "b", "phase": "Running"}],
        "before": {"revision": 3, "tasks": [{"name": "a", "phase": "Running"}]},
    }
    assert tasks_at(found, 5) == found["tasks"]
    assert tasks_at(found, 3) == [{"name": "a", "phase": "Running"}, {"name": "b", "phase": "Running"}]
    assert tasks_at(found, 4) is None
    assert tasks_at(found, 6) is None
    assert tasks_at(found, 0) == []


def test_only_slices_that_changed_are_written() -> None:
    async def story() -> None:
        api, tasks = Api(), blank()
        slices = slices_on(api)
        tasks[0] = done("t0", 2)
        revisions = await slices.write(tasks)
        slices.held(revisions)
        assert (revisions, api.version) == ([1, 0, 0], 1)
        assert await slices.write(tasks) == revisions
        tasks[SLICED] = done(f"t{SLICED}", 4)
        assert (await slices.write(tasks), api.version) == ([1, 1, 0], 2)

    asyncio.run(story())


def test_a_slice_that_somebody_deleted_is_made_again() -> None:
    async def story() -> None:
        api, tasks = Api(), blank()
        slices = slices_on(api)
        tasks[0] = done("t0", 2)
        slices.held(await slices.write(tasks))
        api.objects.clear()
        tasks[1] = done("t1", 4)
        with pytest.raises(KubeError):
            await slices.write(tasks)
        revisions = await slices.write(tasks)
        assert [task.name for task in await slices_on(api).read(revisions)] == ["t0", "t1"]

    asyncio.run(story())


def test_slices_of_a_newer_run_are_not_taken_for_an_older_ones() -> None:
    async def story() -> None:
        api, tasks = Api(), blank()
        slices = slices_on(api)
        for number in range(3):
            tasks[number] = done(f"t{number}", 2 * number)
            slices.held(await slices.write(tasks))
        with pytest.raises(RunIsNewer):
            await slices_on(api).read([1, 0, 0])

    asyncio.run(story())


STEPS = st.tuples(
    st.sets(st.integers(0, COUNT - 1), min_size=1, max_size=6),
    st.lists(st.sampled_from(["", "", "refused", "unheard"]), max_size=3),
    st.sampled_from(["written", "written", "refused", "unheard"]),
    st.booleans(),
)
"""Tasks that change, what happens to the writes of slices, and to the Run's, and whether the operator dies then."""


@given(st.lists(STEPS, max_size=12))
def test_whatever_is_lost_the_run_and_its_slices_tell_what_was_true_when_it_was_written(
    steps: list[tuple[set[int], list[str], str, bool]],
) -> None:
    async def story() -> None:
        api = Api()
        slices = slices_on(api)
        revisions: list[int] = []
        written = tasks = blank()
        number = 0
        for changed, faults, run, dies in steps:
            tasks = list(tasks)
            for index in changed:
                number += 2
                tasks[index] = done(f"t{index}", number)
            api.faults = list(faults)
            try:
                named = await slices.write(tasks)
            except KubeError:
                pass
            else:
                if run != "refused":
                    revisions, written = named, tasks
                if run == "written":
                    slices.held(revisions)
            api.faults = []
            if dies:
                slices = slices_on(api)
            for reader in (slices, slices_on(api)):
                assert {task.name: task for task in await reader.read(revisions)} == told(written)
            tasks = written

    asyncio.run(story())
