"""Bring the schema up to date. Any number of processes may do it at the same time: one works, the others find it done."""

from __future__ import annotations

import logging
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from maze_api.archive.tables import VERSIONS

log = logging.getLogger(__name__)

LOCK = 0x6D617A65  # "maze"
"""Of PostgreSQL's advisory locks."""


def migrate(connection: sa.Connection) -> None:
    """Within the transaction of the caller, which holds the lock until its end."""
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    current = MigrationContext.configure(connection, opts={"version_table": VERSIONS}).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        # Replicas of two versions run side by side while a new one is rolled out, or back.
        log.warning("the archive's schema is of a newer version (%s); using it as it is", current)
        return
    command.upgrade(config, "head")
