"""The rows of what people reported, as they wrote it."""

from __future__ import annotations

from sqlalchemy import delete, func, insert, select

from imgdetect.clock import now_us
from imgdetect.connections import Connections
from imgdetect.schema import feedback as table


class FeedbackRows:
    """Reports by owner.

    Raises (all methods): as those of Database.
    """

    def __init__(self, connections: Connections) -> None:
        self._transaction = connections.transaction

    def add(self, report_id: str, owner: str, report: str, most: int = 10_000) -> None:
        """Keep a report.

        Args:
            report_id: 32 hexadecimal digits, random.
            most: how many an owner may have; of more the oldest are removed.
        """
        newest_first = select(table.c.created_at).where(table.c.owner == owner).order_by(table.c.created_at.desc())
        with self._transaction(writes=True) as connection:
            values = {"id": report_id, "owner": owner, "created_at": now_us(), "report": report}
            connection.execute(insert(table), values)
            if (limit := connection.scalar(newest_first.offset(most).limit(1))) is not None:
                connection.execute(delete(table).where(table.c.owner == owner, table.c.created_at <= limit))

    def newest(self, owner: str, count: int) -> list[str]:
        """The newest reports of an owner, the newest first."""
        chosen = select(table.c.report).where(table.c.owner == owner).order_by(table.c.created_at.desc()).limit(count)
        with self._transaction() as connection:
            return list(connection.scalars(chosen))

    def count(self, owner: str) -> int:
        """How many there are of an owner."""
        with self._transaction() as connection:
            return int(connection.scalar(select(func.count()).where(table.c.owner == owner)) or 0)
