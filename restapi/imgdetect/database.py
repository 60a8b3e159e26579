"""The rows: records and named leases, and by the modules beside it all others, in SQLite or PostgreSQL.

Each method is one transaction, and its WHERE clauses hold the owner wherever a client may have named the row. Writing
transactions of SQLite begin with BEGIN IMMEDIATE: one that starts by reading could not become a writing one later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    delete,
    exc,
    func,
    insert,
    inspect,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy import table as a_table
from sqlalchemy.sql import column as a_column

from imgdetect import errors
from imgdetect.clock import now_us
from imgdetect.connections import Connections, reason
from imgdetect.detection import Job, Record
from imgdetect.detector_rows import DetectorRows
from imgdetect.feedback_rows import FeedbackRows
from imgdetect.job_rows import JobRows
from imgdetect.processed_rows import ProcessedRows
from imgdetect.schema import HEAD, leases, records
from imgdetect.verdict_rows import VerdictRows, delete_of

_MIGRATION_SECONDS = 120.0
_KEYS_AT_ONCE = 500
_BY_ID = select(*(records.c[field.name] for field in fields(Record))).where(
    records.c.id == bindparam("id"), records.c.owner == bindparam("owner")
)
_NEWEST_FIRST = (records.c.created_at.desc(), records.c.id.desc())
_OLDEST_FIRST = (records.c.created_at, records.c.id)


class Database:
    """Rows for many threads at once.

    Args:
        url: an SQLAlchemy URL; `sqlite:///FILE` makes the folder of its file, `memory:` ends with the process.
        busy_seconds: how long to wait for a lock or a free connection of SQLite before giving up.
        server_connections: how many connections to PostgreSQL there may be at once.
    Raises:
        ValueError: the URL is not one, or its driver is not installed.
        errors.BackendUnavailable (all methods): the database does not answer, or not in time.
        errors.StorageFull (writing methods): there is no space left.
    """

    def __init__(self, url: str, busy_seconds: float = 5.0, server_connections: int = 10) -> None:
        self._connections = Connections(url, busy_seconds, server_connections)
        self._transaction = self._connections.transaction
        self.detectors = DetectorRows(self._connections)
        self.verdicts = VerdictRows(self._connections)
        self.jobs = JobRows(self._connections)
        self.feedback = FeedbackRows(self._connections)
        self.processed = ProcessedRows(self._connections)

    def migrate(self) -> None:
        """Bring the tables to the newest form; safe when several processes do so at once.

        Raises:
            ValueError: the database was made by a newer version of the program.
            BackendUnavailable: it cannot be reached; the detail says why, for the operator's eyes.
        """
        try:
            self._migrate()
        except errors.BackendUnavailable as problem:
            raise errors.BackendUnavailable(f"The database does not answer: {reason(problem)}") from problem

    def _migrate(self) -> None:
        with self._transaction() as connection:
            if _revision(connection) == HEAD:
                return
        # Alembic takes longer to import than the rest of a start, and most starts find nothing to migrate.
        from imgdetect import migrations  # noqa: PLC0415

        with self._transaction(writes=True, busy_seconds=_MIGRATION_SECONDS) as connection:
            self._connections.keep_migrations_out(connection)
            migrations.upgrade(connection)

    def check(self) -> None:
        """Prove by a real write that the database works."""
        self.take_lease("check", "check", 0)

    def close(self) -> None:
        """Close every connection."""
        self._connections.close()

    # Records

    def add_record(self, record: Record) -> Record:
        """Insert a record; where its owner used its idempotency key before, the earlier record is returned instead."""
        try:
            with self._transaction(writes=True) as connection:
                connection.execute(insert(records), vars(record))
        except exc.IntegrityError:
            with self._transaction() as connection:
                earlier = _idempotent_record(connection, record.owner, record.idempotency_key)
            if earlier is None:
                raise
            return earlier
        return record

    def get_record(self, record_id: str, owner: str) -> Record | None:
        """One record."""
        row = self._connections.first(_BY_ID, {"id": record_id, "owner": owner})
        return Record(*row) if row else None

    def get_records(self, ids: Sequence[str], owner: str) -> dict[str, Record]:
        """Those of some records that are there, by id; so few that they fit into one statement."""
        found = self._records(select(records).where(records.c.id.in_(ids), records.c.owner == owner))
        return {record.id: record for record in found}

    def latest_named(self, filename: str, owner: str) -> Record | None:
        """The newest record of a file name."""
        return self._one_record(records.c.filename == filename, records.c.owner == owner)

    def ids_named(self, filename: str, owner: str, limit: int) -> list[str]:
        """The ids of the records of a file name, newest first."""
        chosen = select(records.c.id).where(records.c.owner == owner, records.c.filename == filename)
        with self._transaction() as connection:
            return list(connection.scalars(chosen.order_by(*_NEWEST_FIRST).limit(limit)))

    def find_idempotent(self, owner: str, key: str) -> Record | Job | None:
        """What an earlier request of the owner with the same idempotency key made."""
        if job := self.jobs.find_idempotent(owner, key):
            return job
        with self._transaction() as connection:
            return _idempotent_record(connection, owner, key)

    def list_records(self, owner: str, limit: int, before: tuple[int, str] | None = None) -> list[Record]:
        """Records, newest first.

        Args:
            before: (created_at, id) of the last record of the page before this one.
        """
        chosen = select(records).where(records.c.owner == owner).order_by(*_NEWEST_FIRST).limit(limit)
        if before is not None:
            chosen = chosen.where(tuple_(records.c.created_at, records.c.id) < before)
        return self._records(chosen)

    def record_places(
        self, owner: str, limit: int, before: tuple[int, str] | None, since: int | None, until: int | None
    ) -> list[tuple[int, str]]:
        """(created_at, id) of records, newest first.

        Args:
            before: of the last record of the page before this one.
            since, until: only those made from then on, and before then.
        """
        chosen = select(records.c.created_at, records.c.id).where(records.c.owner == owner)
        if before is not None:
            chosen = chosen.where(tuple_(records.c.created_at, records.c.id) < before)
        if since is not None:
            chosen = chosen.where(records.c.created_at >= since)
        if until is not None:
            chosen = chosen.where(records.c.created_at < until)
        with self._transaction() as connection:
            return [(row[0], row[1]) for row in connection.execute(chosen.order_by(*_NEWEST_FIRST).limit(limit))]

    def set_processed(
        self,
        record_id: str,
        owner: str,
        processed_key: str | None,
        processed_media_type: str | None,
        parameters: dict[str, Any],
        result: dict[str, Any],
        stored_bytes: int,
        detector: str | None = None,
    ) -> Record | None:
        """Put another processed picture, or none, in the place of a record's.

        Args:
            stored_bytes: of both artifacts afterwards.
            detector: None leaves it as it is.
        Returns:
            The record as it was before, so that the caller can remove its picture; None when there is no such record.
        """
        mine = (records.c.id == record_id, records.c.owner == owner)
        changes: dict[str, Any] = {
            "processed_key": processed_key,
            "processed_media_type": processed_media_type,
            "parameters": parameters,
            "result": result,
            "stored_bytes": stored_bytes,
        }
        if detector is not None:
            changes["detector"] = detector
        with self._transaction(writes=True) as connection:
            before = connection.execute(select(records).where(*mine).with_for_update()).first()
            connection.execute(update(records).where(*mine).values(changes))
            return Record(**before._mapping) if before else None

    def delete_record(self, record_id: str, owner: str) -> Record | None:
        """Remove a record and the feedback on it; returns it, so that the caller can remove its files."""
        gone = delete(records).where(records.c.id == record_id, records.c.owner == owner).returning(records)
        with self._transaction(writes=True) as connection:
            row = connection.execute(gone).first()
            if row:
                delete_of(connection, record_id)
            return Record(**row._mapping) if row else None

    def records_older_than(self, created_at: int, limit: int) -> list[Record]:
        """Records of every owner made before a time, oldest first."""
        return self._records(
            select(records).where(records.c.created_at < created_at).order_by(*_OLDEST_FIRST).limit(limit)
        )

    def oldest_records(self, limit: int) -> list[Record]:
        """Records of every owner, oldest first."""
        return self._records(select(records).order_by(*_OLDEST_FIRST).limit(limit))

    def total_stored_bytes(self) -> int:
        """What the artifacts of all records take together."""
        with self._transaction() as connection:
            return int(connection.scalar(select(func.sum(records.c.stored_bytes))) or 0)

    def known_keys(self, keys: Sequence[str]) -> set[str]:
        """Those of some artifact keys that a record or a job still points at."""
        known: set[str] = set()
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[start : start + _KEYS_AT_ONCE]
            with self._transaction() as connection:
                for column in (records.c.original_key, records.c.processed_key):
                    known.update(connection.scalars(select(column).where(column.in_(some))))
                known |= self.jobs.known_keys(connection, some)
        return known

    # Leases

    def take_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or renew a named lease; one holder among all processes has it until it runs out."""
        now = now_us()
        values = {"holder": holder, "held_until": now + _us(seconds)}
        mine = or_(leases.c.holder == holder, leases.c.held_until < now)
        try:
            with self._transaction(writes=True) as connection:
                if connection.execute(update(leases).where(leases.c.name == name, mine).values(values)).rowcount:
                    return True
                if connection.scalar(select(leases.c.holder).where(leases.c.name == name)) is not None:
                    return False
                connection.execute(insert(leases), {"name": name} | values)
                return True
        except exc.IntegrityError:  # another process was first
            return False

    def _one_record(self, *where: ColumnElement[bool]) -> Record | None:
        found = self._records(select(records).where(*where).order_by(*_NEWEST_FIRST).limit(1))
        return found[0] if found else None

    def _records(self, chosen: Select[Any]) -> list[Record]:
        with self._transaction() as connection:
            return [Record(**row._mapping) for row in connection.execute(chosen)]


def _us(seconds: float) -> int:
    return int(seconds * 1_000_000)


def _idempotent_record(connection: Connection, owner: str, key: str | None) -> Record | None:
    mine = (records.c.owner == owner, records.c.idempotency_key == key, records.c.idempotency_key.is_not(None))
    row = connection.execute(select(records).where(*mine)).first()
    return Record(**row._mapping) if row else None


def _revision(connection: Connection) -> str | None:
    """The migration that a database is at; None when it is empty."""
    versions = a_table("alembic_version", a_column("version_num"))
    if not inspect(connection).has_table(versions.name):
        return None
    found: str | None = connection.scalar(select(versions.c.version_num))
    return found
