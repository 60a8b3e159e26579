"""Bringing a database to the newest form of the tables.

A new migration is a file in `versions` with the next number as its revision; `schema.HEAD` names the newest.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from imgdetect import schema


def upgrade(connection: Connection) -> None:
    """Migrate to the newest revision.

    Args:
        connection: with a transaction that keeps every other process from migrating.
    Raises:
        ValueError: the database was made by a newer version of the program.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    found = set(MigrationContext.configure(connection).get_current_heads())
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if not found <= known:
        raise ValueError(
            f"the database has revision {', '.join(sorted(found))}, which this program does not know (its own is"
            f" {schema.HEAD}): a newer version has used it; install that version, or restore a copy from before"
        )
    command.upgrade(config, "head")
