"""What is kept of a container's end in the object store, and what is not."""

from __future__ import annotations

from typing import Any, cast

import pytest

from builders import at, container_task, pod, workflow
from maze_crds import names
from maze_crds.workflow import Task
from maze_io.store import AsyncStore
from maze_operator.core.values import Ended, PodView, Workflow
from maze_operator.results import Results

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Store:
    """Stands for the object store."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self.stored.get(key)

    async def put(self, key: str, data: bytes) -> None:
        self.stored[key] = data


def ended(message: str = "") -> PodView:
    return pod("t", ended=Ended(succeeded=True, termination_message=message))


def task(**more: Any) -> Task:
    return workflow(container_task("t", **more)).tasks[0]


@pytest.mark.parametrize(
    ("message", "declared", "is_source", "stored"),
    [
        ("", None, False, False),
        ("no JSON", None, False, False),
        ("", None, True, True),
        ('{"n": 1}', None, False, True),
        ("", ["n"], False, True),
    ],
    ids=["said nothing", "said nothing that counts", "others take inputs from it", "outputs", "failed"],
)
async def test_a_result_is_stored_where_it_says_more_than_the_status(
    message: str, declared: list[str] | None, is_source: bool, stored: bool
) -> None:
    store = Store()
    results = Results(cast(AsyncStore, store))
    made, attempt = ended(message), ended().attempt_id
    for _ in range(2):
        found = await results.find("u", task(outputs=declared), attempt, made, at(0), anew=True, is_source=is_source)
        assert found is not None
    assert (names.result_key("u", "t", 1) in store.stored) is stored
    assert await results.get("u", attempt) == found, "this process knows it, whatever becomes of the pod"


def test_sources_are_the_tasks_that_inputs_come_from() -> None:
    spec = workflow(
        container_task("a"),
        container_task("b"),
        container_task("c", "a", inputs={"x": {"from": "b.output.n"}, "y": {"from": "input.a"}}),
        inputSchema={"type": "object", "properties": {"a": {}}},
    )
    assert Workflow.of(spec).sources == {"b"}
