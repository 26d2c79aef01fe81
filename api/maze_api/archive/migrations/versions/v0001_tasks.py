"""The table of ended tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "maze_archived_tasks",
        sa.Column("namespace", sa.Text(collation="C"), primary_key=True),
        sa.Column("id", sa.Text(collation="C"), primary_key=True),
        sa.Column("uid", sa.Text, nullable=False),
        sa.Column("problem_id", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("worker_id", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True)),
        sa.Column("request_sha256", sa.Text, comment="of the request, where it had an Idempotency-Key"),
        sa.Column("item", postgresql.JSON, nullable=False, comment="what lists answer"),
        sa.Column("answer", postgresql.JSON, nullable=False, comment="what GET of the task answers"),
        sa.Column("run", postgresql.JSON, nullable=False, comment="the Run"),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_index(
        "maze_archived_tasks_newest",
        "maze_archived_tasks",
        ["namespace", sa.text("created_at DESC"), sa.text("id DESC")],
    )


def downgrade() -> None:
    op.drop_table("maze_archived_tasks")
