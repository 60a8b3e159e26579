"""Bringing a database to the newest form of the tables.

A new migration is a file in `versions` with the next number as its revision; `schema.HEAD` names the newest.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, select, table
from sqlalchemy.sql import column

from imgdetect import schema

_VERSION = table("alembic_version", column("version_num"))


def revision(connection: Connection) -> str | None:
    """The revision of a database; None when it is empty."""
    if not inspect(connection).has_table(_VERSION.name):
        return None
    found: str | None = connection.scalar(select(_VERSION.c.version_num))
    return found


def upgrade(connection: Connection) -> None:
    """Migrate to the newest revision; the caller has opened a transaction that keeps every other process out.

    Raises:
        ValueError: the database was made by a newer version of the program.
    """
    # Alembic takes longer to import than the rest of a start, and most starts find nothing to migrate.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    found = revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise ValueError(
            f"the database has revision {found}, which this version of the program does not know"
            f" (its own is {schema.HEAD}): it was used by a newer version; install that one"
        )
    command.upgrade(config, "head")
