"""The directory of tags that TIFF files and EXIF blocks share."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from imgdetect.errors import UnreadableImage

MAX_TAGS = 1_000
MAX_VALUES = 200_000  # of one tag: 25 million pixels in tiles of 16x16 are 98,000

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
ORIENTATION, SAMPLES, EXTRA_SAMPLES = 274, 277, 338
_FILL_ORDER, _STRIPS, _STRIP_ROWS, _STRIP_BYTES, _PLANES, _FAX3, _FAX4 = 266, 273, 278, 279, 284, 292, 293
_PREDICTOR, _PALETTE, _TILES, _SAMPLE_FORMAT, _JPEG_TABLES = 317, 320, range(322, 326), 339, 347
_OLD_JPEG, _YCBCR = range(512, 522), range(529, 533)
# All that say how pixels are laid out, packed and coloured; not: orientation, profiles, notes, further pages.
_PIXELS = (
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, EXTRA_SAMPLES}
    | {_FILL_ORDER, _STRIPS, _STRIP_ROWS, _STRIP_BYTES, _PLANES, _FAX3, _FAX4, _PREDICTOR, _PALETTE}
    | {*_TILES, _SAMPLE_FORMAT, _JPEG_TABLES, *_OLD_JPEG, *_YCBCR}
)
_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True)
class Directory:
    """The first directory of a TIFF file or EXIF block."""

    order: str  # "<" or ">"
    big: bool  # BigTIFF: eight-byte counts and offsets
    entries: dict[int, bytes]  # by tag, as stored

    def number(self, data: bytes, tag: int, default: int) -> int:
        """The tag's first value, or the default when it is absent or no number."""
        entry = self.entries.get(tag)
        if entry is None:
            return default
        kind, count = struct.unpack_from(self.order + ("HQ" if self.big else "HI"), entry, 2)
        code, room = self.order + _NUMBERS.get(kind, "x"), 8 if self.big else 4
        if kind not in _NUMBERS or not count:
            return default
        value = entry[-room:]
        if struct.calcsize(code) * count <= room:
            return int(struct.unpack_from(code, value)[0])
        (offset,) = struct.unpack(self.order + ("Q" if self.big else "I"), value)
        return int(struct.unpack_from(code, data, offset)[0]) if offset < len(data) else default

    def orientation(self, data: bytes) -> int:
        """1..8; 1 when it is absent or something else."""
        value = self.number(data, ORIENTATION, 1)
        return value if 1 <= value <= 8 else 1


def read_directory(data: bytes) -> Directory:
    """Find and read the first directory; of a tag that is there twice the first counts.

    Raises:
        UnreadableImage: there is none, or it has more than MAX_TAGS tags.
        struct.error: the data end too early.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise UnreadableImage("The TIFF is damaged.")
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    if at >= len(data):
        raise UnreadableImage("The TIFF ends in the middle.")
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    if count > MAX_TAGS:
        raise UnreadableImage(f"The TIFF has more than {MAX_TAGS} tags.")
    at, size = at + (8 if big else 2), 20 if big else 12
    if at + size * count > len(data):
        raise UnreadableImage("The TIFF ends in the middle.")
    entries: dict[int, bytes] = {}
    for start in range(at, at + size * count, size):
        entries.setdefault(struct.unpack_from(order + "H", data, start)[0], data[start : start + size])
    return Directory(order, big, entries)


def pixels_only(data: bytes) -> bytes:
    """The same file with a directory of only the tags that make the pixels of its first page.

    A decoder loads every tag it meets: a thousand of them may name the same megabytes.

    Raises:
        UnreadableImage: a tag has more than MAX_VALUES values.
    """
    directory = read_directory(data)
    order, big = directory.order, directory.big
    entries = [entry for tag, entry in sorted(directory.entries.items()) if tag in _PIXELS]
    for entry in entries:
        if struct.unpack_from(order + ("Q" if big else "I"), entry, 4)[0] > MAX_VALUES:
            raise UnreadableImage(f"A tag of the TIFF has more than {MAX_VALUES} values.")
    at = len(data) + len(data) % 2
    head = data[:8] + struct.pack(order + "Q", at) if big else data[:4] + struct.pack(order + "I", at)
    count = struct.pack(order + ("Q" if big else "H"), len(entries))
    # The zeros at the end say that no further page follows.
    return b"".join((head, memoryview(data)[len(head) :], bytes(len(data) % 2), count, *entries, bytes(8)))


def exif_orientation(exif: bytes) -> int:
    """The orientation, 1..8, that an EXIF block gives; 1 when it gives none or is broken."""
    exif = exif.removeprefix(b"Exif\0\0")
    try:
        return read_directory(exif).orientation(exif)
    except (struct.error, UnreadableImage):
        return 1
