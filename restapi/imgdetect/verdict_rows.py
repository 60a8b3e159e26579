"""The rows of feedback. Each method is one transaction, as in database.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, insert, select

from imgdetect.connections import Connections
from imgdetect.detection import Feedback
from imgdetect.errors import Conflict, NotFound
from imgdetect.schema import records, verdicts

_SAME = ("detector", "class_name", "x", "y", "width", "height")
_ROWS_AT_ONCE = 100


class Count(NamedTuple):
    """How often something was said of a detector's boxes."""

    detector: str
    verdict: str
    boxes: int


class VerdictRows:
    """What was said of the detections of records.

    Raises (all methods): as those of Database.
    """

    def __init__(self, connections: Connections) -> None:
        self._transaction = connections.transaction

    def add(self, rows: Sequence[Feedback], most: int) -> None:
        """Insert what is said of one record; of the same box the last word counts.

        Args:
            rows: all of one record and owner.
            most: how many a record may have.
        Raises:
            NotFound: the record is not there any more.
            Conflict: it has as many as it may have.
        """
        record_id, owner = rows[0].record_id, rows[0].owner
        with self._transaction(writes=True) as connection:
            # Whoever deletes the record waits for this, and then finds the rows as well.
            there = select(records.c.id).where(records.c.id == record_id, records.c.owner == owner)
            if connection.scalar(there.with_for_update()) is None:
                raise NotFound("There is no image with this id.")
            said = connection.execute(select(verdicts).where(verdicts.c.record_id == record_id)).all()
            told = {tuple(getattr(row, name) for name in _SAME) for row in rows}
            gone = [row.id for row in said if tuple(getattr(row, name) for name in _SAME) in told]
            if len(said) - len(gone) + len(rows) > most:
                raise Conflict(f"There are {len(said)} pieces of feedback on this image; it may have {most}.")
            for start in range(0, len(gone), _ROWS_AT_ONCE):
                connection.execute(delete(verdicts).where(verdicts.c.id.in_(gone[start : start + _ROWS_AT_ONCE])))
            connection.execute(insert(verdicts), [vars(row) for row in rows])

    def of(self, record_ids: Sequence[str], owner: str) -> list[Feedback]:
        """What was said of some records, so few that they fit into one statement; of each the oldest first."""
        chosen = select(verdicts).where(verdicts.c.record_id.in_(record_ids), verdicts.c.owner == owner)
        with self._transaction() as connection:
            ordered = chosen.order_by(verdicts.c.record_id, verdicts.c.created_at, verdicts.c.id)
            return [Feedback(**row._mapping) for row in connection.execute(ordered)]

    def counts(self, owner: str) -> list[Count]:
        """How many boxes each detector had right, wrong and missed."""
        grouped = (
            select(verdicts.c.detector, verdicts.c.verdict, func.count(verdicts.c.x))
            .where(verdicts.c.owner == owner)
            .group_by(verdicts.c.detector, verdicts.c.verdict)
            .order_by(verdicts.c.detector, verdicts.c.verdict)
        )
        with self._transaction() as connection:
            return [Count(*row) for row in connection.execute(grouped)]


def delete_of(connection: Connection, record_id: str) -> None:
    """Remove what was said of a record, in the transaction that removes the record."""
    connection.execute(delete(verdicts).where(verdicts.c.record_id == record_id))
