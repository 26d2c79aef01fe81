"""Run by Alembic: on the connection that migrate.py hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from maze_api.archive.tables import VERSIONS, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSIONS,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
