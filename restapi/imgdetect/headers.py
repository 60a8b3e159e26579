"""What an upload is and how large, from its first bytes and its own structure, without decoding a pixel.

Every walk below takes a bounded number of steps and copies nothing large, so that the process that answers
requests can afford it on any input. Sizes are as stored; `Header.size_wh` is upright.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal

from imgdetect.errors import UnreadableImage, UnsupportedImage

ACCEPTED = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/tiff": ".tiff",
}

# A progressive JPEG needs about ten scans; each scan costs a pass over all pixels whatever its length.
MAX_JPEG_SCANS = 32
# The longest file taken, cut into the usual pieces, has far fewer parts of each kind.
MAX_JPEG_SEGMENTS = 5_000
MAX_PNG_CHUNKS = 20_000
MAX_WEBP_CHUNKS = 5_000
MAX_GIF_BLOCKS = 200_000
MAX_TIFF_TAGS = 1_000

Alpha = Literal["none", "straight", "premultiplied"]


@dataclass(frozen=True)
class Header:
    """What the start of a file claims."""

    media_type: str
    width: int  # as stored, before the orientation is applied
    height: int
    orientation: int = 1  # EXIF: 1 upright, 2..4 turned or mirrored, 5..8 with sides exchanged
    alpha: bool = False  # some pixels may be see-through
    transparent_grey: int | None = None  # the grey level (0..255) that a PNG without alpha declares see-through

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the upright image."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def sniff(data: bytes) -> str:
    """The media type of an image by its first bytes.

    Raises:
        UnsupportedImage: of a type that is not accepted; says what to do where that is known.
    """
    if data[:3] == b"\xff\xd8\xff":
        return "image/jpeg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "image/tiff"
    if data[:2] == b"BM" and len(data) >= 18 and struct.unpack_from("<I", data, 14)[0] in _BMP_HEADERS:
        return "image/bmp"
    raise UnsupportedImage(_what_to_do(data), accepted=list(ACCEPTED))


def _what_to_do(data: bytes) -> str:
    brands = data[8:32] if data[4:8] == b"ftyp" else b""
    if any(brand in brands for brand in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")):
        name = "AVIF" if b"avif" in brands else "HEIC"
    elif b"avif" in brands or b"avis" in brands:
        name = "AVIF"
    elif data[:12] == b"\0\0\0\x0cjP  \r\n\x87\n" or data[:4] == b"\xff\x4f\xff\x51":
        name = "JPEG 2000"
    else:
        return ""
    return f"{name} is not read here; save or export the picture as JPEG and send that."


def read_header(data: bytes) -> Header:
    """Type, size and orientation of an image.

    Raises:
        UnsupportedImage: not an accepted type.
        UnreadableImage: broken or cut off in a way that shows without decoding, or built to waste time.
    """
    media_type = sniff(data)
    try:
        header = _READERS[media_type](data)
    except (struct.error, IndexError):
        raise UnreadableImage("The file ends before its header does.") from None
    if header.width <= 0 or header.height <= 0:
        raise UnreadableImage("The header gives a width or height of zero.")
    return header


# JPEG

_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1


def _jpeg(data: bytes) -> Header:
    at, scans, orientation = 2, 0, 1
    size_wh = (0, 0)
    for _ in range(MAX_JPEG_SEGMENTS):
        found = _MARKER.search(data, at)
        if not found:
            raise UnreadableImage("The JPEG ends in the middle.")
        marker, at = found[1][0], found.end()
        if marker == _EOI:
            if not scans:
                break
            return Header("image/jpeg", *size_wh, orientation=orientation)
        if marker in (0x01, 0xD8):
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if marker in _SOF:
            size_wh = struct.unpack_from(">HH", data, at + 3)[::-1]
        elif marker == _APP1 and data[at + 2 : at + 8] == b"Exif\0\0" and orientation == 1:
            orientation = exif_orientation(data[at + 8 : at + length])
        elif marker == _SOS:
            scans += 1
            if scans > MAX_JPEG_SCANS:
                raise UnreadableImage(f"The JPEG has more than {MAX_JPEG_SCANS} scans.")
        at += length
    else:
        raise UnreadableImage(f"The JPEG has more than {MAX_JPEG_SEGMENTS} segments.")
    raise UnreadableImage("The JPEG has no picture in it.")


# PNG


def _png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise UnreadableImage("The PNG does not start with its header.")
    width, height, depth, colour_type = struct.unpack_from(">IIBB", data, 16)
    orientation, alpha, grey = 1, colour_type in (4, 6), None
    at = 8
    for _ in range(MAX_PNG_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise UnreadableImage("The PNG ends in the middle.")
        if kind == b"IEND":
            return Header("image/png", width, height, orientation, alpha, grey)
        if kind == b"eXIf":
            orientation = exif_orientation(data[at + 8 : at + 8 + min(length, 65_536)])
        elif kind == b"tRNS":
            alpha = True
            if colour_type == 0 and length == 2:
                (level,) = struct.unpack_from(">H", data, at + 8)
                grey = level >> 8 if depth == 16 else level * 255 // (2**depth - 1)
        at += 12 + length
    raise UnreadableImage(f"The PNG has more than {MAX_PNG_CHUNKS} chunks.")


# WebP


def _webp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise UnreadableImage("The WebP ends in the middle.")
    at, end, orientation, alpha = 12, size + 8, 1, False
    size_wh: tuple[int, int] | None = None
    for _ in range(MAX_WEBP_CHUNKS):
        if at + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        body = at + 8
        if kind == b"VP8X":
            alpha = bool(data[body] & 0x10)
            size_wh = (_uint24(data, body + 4) + 1, _uint24(data, body + 7) + 1)
        elif kind == b"VP8 " and size_wh is None:
            width, height = struct.unpack_from("<HH", data, body + 6)
            size_wh = (width & 0x3FFF, height & 0x3FFF)
        elif kind == b"VP8L" and size_wh is None:
            (bits,) = struct.unpack_from("<I", data, body + 1)
            size_wh, alpha = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1), bool(bits >> 28 & 1)
        elif kind == b"EXIF":
            orientation = exif_orientation(data[body : body + min(length, 65_536)])
        at = body + length + (length & 1)
    else:
        raise UnreadableImage(f"The WebP has more than {MAX_WEBP_CHUNKS} chunks.")
    if size_wh is None:
        raise UnreadableImage("The WebP has no picture in it.")
    return Header("image/webp", *size_wh, orientation=orientation, alpha=alpha)


def _uint24(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


# GIF


def _gif(data: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _gif_table(flags)
    for _ in range(MAX_GIF_BLOCKS):
        kind = data[at]
        if kind == 0x2C:
            at = at + 10 + _gif_table(data[at + 9]) + 1
            _after_gif_blocks(data, at)
            return Header("image/gif", width, height, alpha=True)
        if kind == 0x3B:
            break
        if kind != 0x21:
            raise UnreadableImage("The GIF is damaged.")
        at = _after_gif_blocks(data, at + 2)
    raise UnreadableImage("The GIF has no picture in it.")


def _gif_table(flags: int) -> int:
    """Bytes of the colour table that the flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_gif_blocks(data: bytes, at: int) -> int:
    for _ in range(MAX_GIF_BLOCKS):
        if not data[at]:
            return at + 1
        at += data[at] + 1
    raise UnreadableImage(f"The GIF has more than {MAX_GIF_BLOCKS} blocks.")


# BMP

_BMP_HEADERS = frozenset((12, 40, 52, 56, 64, 108, 124))


def _bmp(data: bytes) -> Header:
    (offset, header_size) = struct.unpack_from("<II", data, 10)
    if header_size == 12:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, depth, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)
    stride = (width * depth + 31) // 32 * 4
    if compression in (0, 3) and offset + stride * height > len(data) + 3:
        raise UnreadableImage("The BMP ends in the middle.")
    return Header("image/bmp", width, height)


# TIFF and EXIF

_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}


def _tiff(data: bytes) -> Header:
    tags = _tiff_tags(data, {256, 257, 274, 277, 338})
    orientation = tags.get(274, 1)
    return Header(
        "image/tiff",
        tags.get(256, 0),
        tags.get(257, 0),
        orientation=orientation if 1 <= orientation <= 8 else 1,
        alpha=338 in tags,
    )


def exif_orientation(exif: bytes) -> int:
    """The orientation, 1..8, that an EXIF block gives; 1 when it gives none or is broken."""
    exif = exif.removeprefix(b"Exif\0\0")
    try:
        orientation = _tiff_tags(exif, {274}).get(274, 1)
    except (struct.error, UnreadableImage):
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _tiff_tags(data: bytes, wanted: set[int]) -> dict[int, int]:
    """The first value of each wanted tag of the first directory."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise UnreadableImage("The TIFF is damaged.")
    (version,) = struct.unpack_from(order + "H", data, 2)
    if version == 43:
        head, entry_format, value_at = "Q", "HHQ", 12
        (directory,) = struct.unpack_from(order + "Q", data, 8)
    else:
        head, entry_format, value_at = "H", "HHI", 8
        (directory,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + head, data, directory)
    if count > MAX_TIFF_TAGS:
        raise UnreadableImage(f"The TIFF has more than {MAX_TIFF_TAGS} tags.")
    step = value_at + struct.calcsize("=" + ("Q" if version == 43 else "I"))
    tags: dict[int, int] = {}
    for at in range(directory + struct.calcsize("=" + head), directory + step * count, step):
        tag, kind, number = struct.unpack_from(order + entry_format, data, at)
        # The values sought are single numbers, and those stand in the entry itself.
        if tag in wanted and kind in _TIFF_TYPES and number >= 1 and tag not in tags:
            (tags[tag],) = struct.unpack_from(order + _TIFF_TYPES[kind], data, at + value_at)
    return tags


_READERS = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/webp": _webp,
    "image/gif": _gif,
    "image/bmp": _bmp,
    "image/tiff": _tiff,
}
