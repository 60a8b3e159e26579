"""The form of a storage key: `RECORD_ID/NAME`, for example `3f9c.../original.jpg`."""

from __future__ import annotations

import re
from typing import NamedTuple

# An id is longer than any name of a file that a storage keeps for itself, so that the two cannot meet.
_KEY = re.compile(r"([0-9a-z]{4,64})/([0-9a-z][0-9a-z.-]{0,99})", re.ASCII)


class Key(NamedTuple):
    """A key in its two parts."""

    id: str  # all artifacts of one record have the same
    name: str

    def __str__(self) -> str:
        return f"{self.id}/{self.name}"


def parse(key: str) -> Key:
    """Split a key; keys are made by the service, so this is the second line of defence against paths in them.

    Raises:
        ValueError: the key is not of that form.
    """
    match = _KEY.fullmatch(key)
    if not match or ".." in key:
        raise ValueError(f"{key!r} is not a storage key")
    return Key(match[1], match[2])


def check_range(start: int, end: int | None) -> None:
    """Raise ValueError when the bytes start..end (end exclusive) are no range."""
    if start < 0 or (end is not None and end < start):
        raise ValueError(f"{start}..{end} is not a range of bytes")
