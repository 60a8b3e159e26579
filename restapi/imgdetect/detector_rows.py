"""The rows of uploaded cascades. Each method is one transaction, as in database.py."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, delete, exc, insert, select

from imgdetect.connections import Connections
from imgdetect.detection import UploadedCascade
from imgdetect.errors import Conflict
from imgdetect.schema import detectors

_FACTS = [column for column in detectors.c if column.name != "xml"]


class DetectorRows:
    """Uploaded cascades by owner and name.

    Raises (all methods): as those of Database.
    """

    def __init__(self, connections: Connections) -> None:
        self._transaction = connections.transaction

    def must_have_room(self, owner: str, name: str, most: int) -> None:
        """Refuse what `add` would refuse.

        Raises:
            Conflict: the owner has one of that name, or as many as it may have.
        """
        with self._transaction() as connection:
            _must_have_room(connection, owner, name, most)

    def add(self, cascade: UploadedCascade, xml: bytes, most: int) -> None:
        """Insert a cascade.

        Args:
            xml: its canonical form.
            most: how many its owner may have. (Two additions of one owner at the same moment could exceed it on
                PostgreSQL; the caller lets one go on at a time.)
        Raises:
            Conflict: its owner has one of that name, or as many as it may have.
        """
        try:
            with self._transaction(writes=True) as connection:
                _must_have_room(connection, cascade.owner, cascade.name, most)
                connection.execute(insert(detectors), vars(cascade) | {"xml": xml})
        except exc.IntegrityError:  # another process was first
            raise _taken(cascade.name) from None

    def get(self, owner: str, name: str) -> UploadedCascade | None:
        """One cascade without its XML."""
        found = self._all(detectors.c.owner == owner, detectors.c.name == name)
        return found[0] if found else None

    def all_of(self, owner: str) -> list[UploadedCascade]:
        """The cascades of an owner without their XML, by name."""
        return self._all(detectors.c.owner == owner)

    def xml(self, cascade: UploadedCascade) -> bytes | None:
        """The canonical form of a cascade; None when it was deleted or replaced since it was read."""
        same = (detectors.c.owner == cascade.owner, detectors.c.name == cascade.name)
        with self._transaction() as connection:
            found: bytes | None = connection.scalar(
                select(detectors.c.xml).where(*same, detectors.c.sha256 == cascade.sha256)
            )
            return found

    def delete(self, owner: str, name: str) -> bool:
        """Remove a cascade; returns whether it was there."""
        gone = delete(detectors).where(detectors.c.owner == owner, detectors.c.name == name)
        with self._transaction(writes=True) as connection:
            return connection.execute(gone).rowcount == 1

    def _all(self, *where: ColumnElement[bool]) -> list[UploadedCascade]:
        chosen = select(*_FACTS).where(*where).order_by(detectors.c.name)
        with self._transaction() as connection:
            return [UploadedCascade(**row._mapping) for row in connection.execute(chosen)]


def _must_have_room(connection: Connection, owner: str, name: str, most: int) -> None:
    names = set(connection.scalars(select(detectors.c.name).where(detectors.c.owner == owner)))
    if name in names:
        raise _taken(name)
    if len(names) >= most:
        raise Conflict(f"This key has {len(names)} detectors and may have {most}; delete one first.")


def _taken(name: str) -> Conflict:
    return Conflict(f"This key has a detector {name!r} already; delete it first.")
