"""The form of a storage key: `ID.NAME`, for example `3f9c5e.original.jpg`; also what a range of bytes is."""

from __future__ import annotations

import re

# At least four characters before the dot: what a storage names for itself (`tmp-...`) can never be a key.
_KEY = re.compile(r"[0-9a-z]{4,64}\.[0-9a-z][0-9a-z.-]{0,99}", re.ASCII)


def is_key(text: str) -> bool:
    """Whether a text is a key: no folder, no hidden file, no name that a file system could read in another way."""
    return bool(_KEY.fullmatch(text)) and ".." not in text and not text.endswith(".")


def check_key(key: str) -> None:
    """Raise ValueError when a text is no key. Keys are made by the service; this is the second line of defence."""
    if not is_key(key):
        raise ValueError(f"{key!r} is not a storage key")


def check_range(start: int, end: int | None) -> None:
    """Raise ValueError when the bytes start..end (end exclusive) are no range."""
    if start < 0 or (end is not None and end < start):
        raise ValueError(f"{start}..{end} is not a range of bytes")
