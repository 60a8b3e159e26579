"""What is put into a storage, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO


def pieces(data: bytes | BinaryIO, piece_bytes: int) -> Iterator[bytes | memoryview]:
    """Everything from where the stream stands to its end; every piece but the last has just this size, none is empty.

    Args:
        data: the bytes, which are not copied, or a stream, which is read and neither sought nor closed.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        view = memoryview(data)
        for start in range(0, len(view), piece_bytes):
            yield view[start : start + piece_bytes]
        return
    while piece := _read(data, piece_bytes):
        yield piece


def _read(stream: BinaryIO, size: int) -> bytes:
    """Fewer bytes only at the end of the stream; pipes, sockets and raw files give less than asked at any time."""
    first = stream.read(size)
    if not first or len(first) == size:
        return first
    parts, missing = [first], size - len(first)
    while missing and (more := stream.read(missing)):
        parts.append(more)
        missing -= len(more)
    return b"".join(parts)
