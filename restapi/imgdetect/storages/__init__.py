"""The storage seam: one file per kind, chosen by the scheme of a URL such as `file:./data/images`.

Each file exposes `create(target, parameters) -> Storage`. Keys are made by us (`[0-9a-z./-]+`), never by a
client. Errors: a missing key is FileNotFoundError; no space left is `errors.StorageFull`; anything else
that keeps the storage from working is `errors.BackendUnavailable`. A key is either wholly there or not at
all, also after a crash, and what `put` acknowledged survives a power loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol


class StoredFile(NamedTuple):
    """One entry of `Storage.keys`."""

    key: str
    size: int  # bytes
    modified_at: float  # seconds since the epoch


class Storage(Protocol):
    """Keeps artifacts under keys."""

    def put(self, key: str, data: bytes | BinaryIO, media_type: str) -> None:
        """Store or replace the whole of a key.

        Args:
            data: all of it, or a binary stream that is read from where it stands to its end, a few megabytes at a time,
                and left open. What reading it raises comes out as it is, and nothing is stored.
        """
        ...

    def open(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """A stream of the bytes start..end (end exclusive, None: to the end); the caller closes it."""
        ...

    def locate(self, key: str) -> Path | None:
        """The local file of a key that a front server may send; None where there is none."""
        ...

    def link(self, key: str, headers: dict[str, str]) -> str | None:
        """An address where clients themselves can fetch a key for a short while; None where they come to us.

        Args:
            headers: what the answer there has to carry: Content-Type, Content-Disposition, Cache-Control.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove a key; one that is not there is no error."""
        ...

    def keys(self) -> Iterator[StoredFile]:
        """Every stored file, leftovers of interrupted writes included."""
        ...

    def check(self) -> None:
        """Prove by a real write, read and delete that the storage works."""
        ...
