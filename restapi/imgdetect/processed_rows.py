"""The rows of dataset pictures that were processed, which is what lets them be looked at by id later."""

from __future__ import annotations

from sqlalchemy import Connection, delete, exc, insert, select, update

from imgdetect.clock import now_us
from imgdetect.connections import Connections
from imgdetect.schema import processed_images as table


class ProcessedRows:
    """For each owner, the names of pictures and the factor by which they were scaled.

    Raises (all methods): as those of Database.
    """

    def __init__(self, connections: Connections) -> None:
        self._transaction = connections.transaction

    def put(self, owner: str, filename: str, scale: float, most: int = 10_000) -> None:
        """Remember that a picture was processed, the last time counts.

        Args:
            most: how many an owner may have; of more the oldest are forgotten.
        """
        values = {"scale": scale, "processed_at": now_us()}
        mine = (table.c.owner == owner, table.c.filename == filename)
        for _ in range(2):  # between the update and the insert another process may have been first
            try:
                with self._transaction(writes=True) as connection:
                    if not connection.execute(update(table).where(*mine).values(values)).rowcount:
                        connection.execute(insert(table), {"owner": owner, "filename": filename} | values)
                        _forget_beyond(connection, owner, most)
                return
            except exc.IntegrityError:
                continue

    def scale(self, owner: str, filename: str) -> float | None:
        """The factor; None where the picture was not processed."""
        with self._transaction() as connection:
            found: float | None = connection.scalar(
                select(table.c.scale).where(table.c.owner == owner, table.c.filename == filename)
            )
            return found


def _forget_beyond(connection: Connection, owner: str, most: int) -> None:
    newest_first = select(table.c.processed_at).where(table.c.owner == owner).order_by(table.c.processed_at.desc())
    if (limit := connection.scalar(newest_first.offset(most).limit(1))) is not None:
        connection.execute(delete(table).where(table.c.owner == owner, table.c.processed_at <= limit))
