"""The archive of ended tasks on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from maze_api.archive.record import ArchiveDown, Wanted, build_row
from maze_api.archive.store import Archive
from maze_api.archive.tables import VERSIONS, metadata
from maze_api.archive.url import parse_url
from maze_api.task_describe import item_json, task_json
from maze_api.task_view import TaskState, TaskView, view_task
from postgres import Postgres, postgres

pytestmark = pytest.mark.anyio

BEGAN = datetime(2025, 1, 14, 10, 30, tzinfo=UTC)
PHASES = {
    "completed": ("Succeeded", None),
    "failed": ("Failed", "TaskFailed"),
    "timeout": ("Failed", "TimedOut"),
    "cancelled": ("Cancelled", None),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as made:
        yield made


@pytest.fixture
def url(server: Postgres) -> str:
    """Of an empty database."""
    return server.create(f"d{uuid.uuid4().hex}")


@pytest.fixture
async def archive(url: str) -> AsyncIterator[Archive]:
    made = Archive(url, "maze")
    yield made
    await made.close()


def ended(
    name: str, second: int, state: str = "completed", problem: str = "p", worker: str = "w", uid: str | None = None
) -> TaskView:
    """A task that was created `second` seconds (and a fraction) after BEGAN."""
    phase, reason = PHASES[state]
    made = BEGAN + timedelta(seconds=second, microseconds=second)
    assignment = {"number": 1, "worker": worker, "startTime": made.isoformat(), "startEvent": 1, "end": "Completed"}
    return view_task(
        {
            "metadata": {"name": name, "namespace": "maze", "uid": uid or f"uid-{name}", "labels": {}},
            "spec": {"problemId": problem, "queuedTime": made.isoformat(), "inputs": {"max_steps": 3}},
            "status": {
                "phase": phase,
                "reason": reason,
                "assignments": [assignment],
                "completionTime": (made + timedelta(seconds=1)).isoformat(),
            },
        }
    )


async def put(archive: Archive, task: TaskView, result: Any = None) -> None:
    await archive.put(build_row("maze", task, result))


async def test_the_schema_is_made_once_by_whoever_comes_first(url: str) -> None:
    archives = [Archive(url, "maze") for _ in range(5)]
    await asyncio.gather(*(archive.prepare() for archive in archives))
    await put(archives[0], ended("t", 0))
    for archive in archives:
        assert await archive.find("t") is not None
        await archive.close()


async def test_migrations_make_what_the_code_uses(url: str, archive: Archive) -> None:
    await archive.prepare()
    engine = sa.create_engine("postgresql+psycopg://", connect_args=parse_url(url))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSIONS})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


async def test_a_schema_of_a_newer_version_is_used_as_it_is(server: Postgres, url: str, archive: Archive) -> None:
    """Replicas of two versions run side by side while a new one is rolled out."""
    await archive.prepare()
    with server.connect(url.rpartition("/")[2]) as connection:
        connection.execute(f"UPDATE {VERSIONS} SET version_num = '9999'")  # type: ignore[arg-type]
    older = Archive(url, "maze")
    await put(older, ended("t", 0))
    assert await older.find("t") is not None
    await older.close()


@pytest.mark.parametrize(
    "result",
    [
        None,
        {"text": "a\x00b\ud800", "\x00": 1, "big": 10**40, "float": 1e300},
        {"output": "ü" * 5_000_000},
        json.loads("[" * 400 + "]" * 400),
    ],
    ids=["null", "characters", "large", "deep"],
)
async def test_an_answer_comes_back_as_it_was(archive: Archive, result: Any) -> None:
    task = ended("t", 7, problem="p-\x00", worker="w-\x00")
    await put(archive, task, result)
    found = await archive.find("t")
    assert found is not None
    assert json.loads(found.answer) == task_json(task, result)
    assert view_task(found.run).inputs == {"max_steps": 3}
    assert task_json(view_task(found.run), result) == task_json(task, result)
    assert await archive.page([], Wanted(), 10, 0) == [item_json(task)]
    assert await archive.page([], Wanted(problem_id="p-\x00", worker_id="w-\x00"), 10, 0) == [item_json(task)]


async def test_putting_it_twice_keeps_the_first_and_a_newer_run_of_that_name_replaces_it(archive: Archive) -> None:
    """A key makes the same id again where somebody has deleted the Run with kubectl."""
    first, newer = ended("t", 1, uid="first"), ended("t", 2, "failed", uid="newer")
    for task, result, shown in ((first, 1, 1), (first, 2, 1), (newer, 3, 3), (first, 4, 3), (newer, 5, 3)):
        await put(archive, task, result)
        found = await archive.find("t")
        assert found is not None
        assert json.loads(found.answer)["result"] == shown


async def test_namespaces_do_not_see_each_other(url: str, archive: Archive) -> None:
    other = Archive(url, "other")
    await put(archive, ended("t", 0))
    assert await other.find("t") is None
    assert await other.page([], Wanted(), 10, 0) == []
    await other.close()


async def test_pages_are_those_of_all_tasks_in_one_order(archive: Archive) -> None:
    """Live and archived ones, tasks that are both, and equal times, against the plain way to do it."""
    chance = random.Random(5)
    tasks = [
        ended(
            f"{'aZ09-'[number % 5]}{number:03}",
            chance.randrange(20),
            chance.choice(list(PHASES)),
            chance.choice("pq"),
            chance.choice("vw"),
        )
        for number in range(60)
    ]
    places = {task.id: chance.choice(("live", "archived", "both")) for task in tasks}
    for task in tasks:
        if places[task.id] != "live":
            await put(archive, task)
    for wanted in (
        Wanted(),
        Wanted(state=TaskState.COMPLETED),
        Wanted(problem_id="p"),
        Wanted(worker_id="w"),
        Wanted(TaskState.FAILED, "p", "v"),
        Wanted(problem_id="none"),
    ):
        fitting = [task for task in tasks if fits(task, wanted)]
        whole = sorted(fitting, key=lambda task: (task.created_at, task.id), reverse=True)
        live = [(task.created_at, task.id) for task in whole if places[task.id] != "archived"]
        expected = [item_json(task) if places[task.id] == "archived" else task.id for task in whole]
        for limit, offset in ((1, 0), (7, 0), (7, 3), (10, 25), (100, 0), (5, 58), (3, 1000)):
            assert await archive.page(live, wanted, limit, offset) == expected[offset : offset + limit]
        pages = [item for offset in range(0, 63, 7) for item in await archive.page(live, wanted, 7, offset)]
        assert pages == expected


def fits(task: TaskView, wanted: Wanted) -> bool:
    return (
        wanted.state in (None, task.state)
        and wanted.problem_id in (None, task.problem_id)
        and wanted.worker_id in (None, task.worker_id)
    )


async def test_a_server_that_is_away_is_named_and_used_again_when_it_is_back() -> None:
    with postgres() as own:
        archive = Archive(own.url(), "maze")
        own.stop()
        with pytest.raises(ArchiveDown, match="PostgreSQL"):
            await archive.find("t")
        own.start()
        await put(archive, ended("t", 0))
        own.stop()
        own.start()
        assert await archive.find("t") is not None
        with own.connect() as connection:
            connection.execute(f"DROP TABLE maze_archived_tasks, {VERSIONS}")  # type: ignore[arg-type]
        with pytest.raises(ArchiveDown):
            await archive.find("t")
        assert await archive.find("t") is None
        await archive.close()
