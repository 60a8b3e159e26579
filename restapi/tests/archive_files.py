"""ZIP archives for tests: honest ones, and those that are built to do harm."""

import io
import struct
import zipfile
import zlib
from typing import Any


def archive(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An honest archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:
        for name, data in files:
            made.writestr(name, data)
    return stream.getvalue()


def deflated(data: bytes) -> bytes:
    """The bytes of a deflated entry."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def listed(name: bytes = b"a.jpg", **fields: Any) -> bytes:
    """An entry of the list; every field can be a lie."""
    extra = fields.get("extra", b"")
    numbers = (
        *(fields.get("made_by", 20), 20, fields.get("flags", 0), fields.get("method", 0), 0, 0),
        *(fields.get("crc", 0), fields.get("packed", 0), fields.get("size", 0), len(name), len(extra), 0),
        *(fields.get("disk", 0), 0, fields.get("attributes", 0), fields.get("offset", 0)),
    )
    return struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *numbers) + name + extra


def local(data: bytes, name: bytes = b"a.jpg", method: int = 0, flags: int = 0) -> bytes:
    """An entry itself."""
    return struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, flags, method, 0, 0, 0, 0, 0, len(name), 0) + name + data


def end(entries: bytes, count: int, begin: int, **fields: Any) -> bytes:
    """The end record."""
    here, length = fields.get("here", count), fields.get("length", len(entries))
    return struct.pack("<4s4H2LH", b"PK\x05\x06", fields.get("disk", 0), 0, here, count, length, begin, 0)


def made(*entries: tuple[bytes, dict[str, Any]], **fields: Any) -> bytes:
    """An archive of local entries with what the list says of each; offsets are right unless given."""
    body = rows = b""
    for data, told in entries:
        rows += listed(**{"offset": len(body)} | told)
        body += data
    return body + rows + end(rows, fields.pop("count", len(entries)), fields.pop("begin", len(body)), **fields)


def one(data: bytes, *, size: int | None = None, method: int = 8, **told: Any) -> bytes:
    """An archive of one entry, whose list may lie about it."""
    packed = deflated(data) if method == 8 else data
    facts = {"method": method, "packed": len(packed), "crc": zlib.crc32(data)}
    return made((local(packed, method=method), facts | {"size": len(data) if size is None else size} | told))


def overlapping(count: int, kernel: bytes) -> bytes:
    """Many entries that share one kernel, each quoting the headers behind it (after Fifield's zip of death)."""
    packed = deflated(kernel)
    headers = [local(b"", f"{n}.jpg".encode(), 8) for n in range(count)]
    tail, sizes = local(packed, b"k.jpg", 8), [(len(packed), len(kernel))]
    body, rows = tail, []
    for header in reversed(headers):
        quoted = struct.pack("<BHH", 0, len(body[: len(body)]) & 0xFFFF, (len(body) & 0xFFFF) ^ 0xFFFF)
        sizes.append((sizes[-1][0] + len(header) + len(quoted), sizes[-1][1] + len(header)))
        body = header + body
    place = 0
    for n, (packed_size, size) in enumerate(reversed(sizes[1:])):
        rows.append(listed(f"{n}.jpg".encode(), method=8, packed=packed_size, size=size, offset=place))
        place += len(headers[n])
    rows.append(listed(b"k.jpg", method=8, packed=len(packed), size=len(kernel), offset=place))
    return body + b"".join(rows) + end(b"".join(rows), len(rows), len(body))
