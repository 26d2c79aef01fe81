"""The one table. Changes of it need a migration."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSON

metadata = sa.MetaData()

VERSIONS = "maze_archive_version"
"""Alembic's own table: the database may be shared with other programs that use it."""

tasks = sa.Table(
    "maze_archived_tasks",
    metadata,
    # Sorted by bytes, as Python sorts.
    sa.Column("namespace", sa.Text(collation="C"), primary_key=True),
    sa.Column("id", sa.Text(collation="C"), primary_key=True),
    sa.Column("uid", sa.Text, nullable=False),
    sa.Column("problem_id", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("worker_id", sa.Text),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("completed_at", sa.DateTime(timezone=True)),
    sa.Column("request_sha256", sa.Text, comment="of the request, where it had an Idempotency-Key"),
    # json, not jsonb: values may hold U+0000, and are given back as they came.
    sa.Column("item", JSON, nullable=False, comment="what lists answer"),
    sa.Column("answer", JSON, nullable=False, comment="what GET of the task answers"),
    sa.Column("run", JSON, nullable=False, comment="the Run"),
    sa.Column("archived_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
)

sa.Index("maze_archived_tasks_newest", tasks.c.namespace, tasks.c.created_at.desc(), tasks.c.id.desc())
