"""The archive: rows in, answers out. Connects and migrates with the first call that succeeds."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from maze_api.archive.migrate import migrate
from maze_api.archive.record import Archived, ArchiveDown, Row, Wanted, as_text
from maze_api.archive.tables import tasks
from maze_api.archive.url import parse_url

log = logging.getLogger(__name__)

CALL_SECONDS = 15.0
CONNECTIONS = 5

Json = dict[str, Any]


class Archive:
    """The tasks of one namespace in one database."""

    def __init__(self, url: str, namespace: str) -> None:
        """Makes no call yet.

        Raises:
            ValueError: the URL can't be one.
        """
        self._namespace = namespace
        self._migrated = False
        self._migrating = asyncio.Lock()
        # The parameters go to libpq as they are, which knows more forms of them than SQLAlchemy. Prepared statements are
        # off because poolers such as PgBouncer may give every transaction another connection.
        self._engine = create_async_engine(
            "postgresql+psycopg://",
            connect_args={**parse_url(url), "prepare_threshold": None},
            pool_size=CONNECTIONS,
            max_overflow=CONNECTIONS,
            pool_timeout=CALL_SECONDS,
            pool_pre_ping=True,
            json_serializer=functools.partial(json.dumps, allow_nan=False, separators=(",", ":")),
        )

    async def close(self) -> None:
        await self._engine.dispose()

    async def check(self) -> None:
        """A smallest call.

        Raises:
            Unavailable: the database does not answer.
        """
        async with self._begin() as connection:
            await connection.execute(sa.select(1))

    async def prepare(self) -> None:
        """Bring the schema up to date. All other calls do it, too.

        Raises:
            Unavailable: the database does not answer.
        """
        await self.check()

    async def put(self, row: Row) -> None:
        """Keep a task. Saying it twice is fine; of two Runs of one name the newer one is kept.

        Raises:
            Unavailable: the database does not answer.
        """
        made = insert(tasks).values(row)
        newer = sa.and_(tasks.c.uid != made.excluded.uid, tasks.c.created_at <= made.excluded.created_at)
        replaced = {key: made.excluded[key] for key in row if key not in ("namespace", "id")}
        async with self._begin() as connection:
            await connection.execute(
                made.on_conflict_do_update(index_elements=["namespace", "id"], set_=replaced, where=newer)
            )

    async def find(self, task_id: str) -> Archived | None:
        """One task.

        Raises:
            Unavailable: the database does not answer.
        """
        chosen = sa.select(sa.cast(tasks.c.answer, sa.Text), tasks.c.run, tasks.c.request_sha256).where(
            tasks.c.namespace == self._namespace, tasks.c.id == as_text(task_id)
        )
        async with self._begin() as connection:
            found = (await connection.execute(chosen)).one_or_none()
        return None if found is None else Archived(found[0], found[1], found[2])

    async def page(
        self, live: Sequence[tuple[datetime, str]], wanted: Wanted, limit: int, offset: int
    ) -> list[Json | str]:
        """One page of live and archived tasks together, newest first: the item of an archived task, the id of a live one.

        Args:
            live: (created_at, id) of all live tasks that fit, newest first. Read before this is called: a task is in the
                archive before it goes. One that is in both is live.

        Raises:
            Unavailable: the database does not answer.
        """
        query = build_page(self._namespace, live[: offset + limit], wanted, limit, offset)
        async with self._begin() as connection:
            rows = (await connection.execute(query)).all()
        return [row.id if row.item is None else row.item for row in rows]

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction on an up-to-date schema."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                if not self._migrated:
                    await self._migrate()
                async with self._engine.begin() as connection:
                    yield connection
        except ProgrammingError as error:
            self._migrated = False  # somebody may have dropped the table
            raise down(error) from error
        except (SQLAlchemyError, OSError) as error:
            raise down(error) from error
        except TimeoutError as error:
            raise ArchiveDown(f"the archive in PostgreSQL did not answer within {CALL_SECONDS:.0f} s") from error

    async def _migrate(self) -> None:
        async with self._migrating:
            if not self._migrated:
                async with self._engine.begin() as connection:
                    await connection.run_sync(migrate)
                self._migrated = True
                log.info("the archive in PostgreSQL is ready")


def down(error: Exception) -> ArchiveDown:
    """What the driver said, in its first line."""
    cause = getattr(error, "orig", None) or error
    text = " ".join(str(cause).split()) or type(cause).__name__
    return ArchiveDown(f"the archive in PostgreSQL can't be used: {text[:500]}")


def build_page(
    namespace: str, live: Sequence[tuple[datetime, str]], wanted: Wanted, limit: int, offset: int
) -> sa.Select[Any]:
    """The query of `Archive.page`. Pure. Of the live tasks the first `offset + limit` are enough."""
    given = sa.func.unnest(
        sa.bindparam("ids", [name for _, name in live], ARRAY(sa.Text)),
        sa.bindparam("times", [made for made, _ in live], ARRAY(sa.DateTime(timezone=True))),
    )
    alive = given.table_valued(
        sa.column("id", sa.Text), sa.column("created_at", sa.DateTime(timezone=True)), name="live"
    ).render_derived()
    kept = sa.select(tasks.c.id, tasks.c.created_at, tasks.c.item).where(tasks.c.namespace == namespace)
    if wanted.state is not None:
        kept = kept.where(tasks.c.status == wanted.state.value)
    if wanted.problem_id is not None:
        kept = kept.where(tasks.c.problem_id == as_text(wanted.problem_id))
    if wanted.worker_id is not None:
        kept = kept.where(tasks.c.worker_id == as_text(wanted.worker_id))
    kept = kept.where(~sa.exists(sa.select(1).where(alive.c.id == tasks.c.id)))
    both = sa.union_all(
        sa.select(sa.collate(alive.c.id, "C").label("id"), alive.c.created_at, sa.null().cast(tasks.c.item.type)), kept
    ).subquery("both")
    columns = both.c
    return (
        sa.select(columns[0].label("id"), columns[2].label("item"))
        .order_by(columns[1].desc(), columns[0].desc())
        .limit(limit)
        .offset(offset)
    )
