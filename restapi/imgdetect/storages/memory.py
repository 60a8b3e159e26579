"""Artifacts in memory, for tests and trials: `memory:` or `memory:?max_bytes=1073741824`. They end with the process."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from imgdetect import errors
from imgdetect.backends import refuse_unknown
from imgdetect.storages import StoredFile
from imgdetect.storages._keys import check_key, check_range
from imgdetect.storages._pieces import pieces

_PIECE_BYTES = 1 << 20


def create(target: str, parameters: dict[str, str]) -> MemoryStorage:
    """An empty storage.

    Args:
        parameters: `max_bytes`, the most it holds, 1 GiB when not given.
    Raises:
        ValueError: a target or an unknown or wrong parameter.
    """
    refuse_unknown(parameters, "max_bytes")
    if target:
        raise ValueError(f"the memory storage takes no target, but was given {target!r}")
    max_bytes = int(parameters.get("max_bytes", 2**30))
    if max_bytes < 1:
        raise ValueError(f"max_bytes must be at least 1, not {max_bytes}")
    return MemoryStorage(max_bytes)


class MemoryStorage:
    """Keeps artifacts in a dict that many threads may use.

    Args:
        max_bytes: the most all artifacts together may take.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._files: dict[str, tuple[bytes, float]] = {}  # bytes, seconds since the epoch
        self._stored_bytes = 0

    def put(self, key: str, data: bytes | BinaryIO, media_type: str) -> None:
        """Store or replace the whole of a key."""
        check_key(key)
        whole = data if isinstance(data, bytes) else self._read(data)
        with self._lock:
            stored = self._stored_bytes - self._size(key) + len(whole)
            if stored > self._max_bytes:
                raise errors.StorageFull
            self._files[key] = (whole, time.time())
            self._stored_bytes = stored

    def open(self, key: str, start: int = 0, end: int | None = None) -> BinaryIO:
        """A stream of the bytes start..end (end exclusive, None: to the end)."""
        check_key(key)
        check_range(start, end)
        with self._lock:
            if key not in self._files:
                raise FileNotFoundError(key)
            data = self._files[key][0]
        return io.BytesIO(data[start:end])

    def locate(self, key: str) -> Path | None:
        """None: there are no files."""
        check_key(key)
        return None

    def link(self, key: str, headers: dict[str, str]) -> str | None:
        """None: clients come to us."""
        check_key(key)
        return None

    def delete(self, key: str) -> None:
        """Remove a key; one that is not there is no error."""
        check_key(key)
        with self._lock:
            self._stored_bytes -= self._size(key)
            self._files.pop(key, None)

    def keys(self) -> Iterator[StoredFile]:
        """Every key there was at the time of the call."""
        with self._lock:
            files = [StoredFile(key, len(data), modified_at) for key, (data, modified_at) in self._files.items()]
        return iter(files)

    def check(self) -> None:
        """There is nothing that could be broken."""

    def _read(self, stream: BinaryIO) -> bytes:
        """The rest of a stream; one that can never fit is not read to its end."""
        whole = bytearray()
        for piece in pieces(stream, _PIECE_BYTES):
            whole += piece
            if len(whole) > self._max_bytes:
                raise errors.StorageFull
        return bytes(whole)

    def _size(self, key: str) -> int:
        return len(self._files[key][0]) if key in self._files else 0
