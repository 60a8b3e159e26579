"""What an upload is and how large, from its own structure, without decoding a pixel.

No library is asked: this runs in the process that answers requests, and image libraries follow every claim of
a file (text that unpacks to gigabytes, a thousand tags that all name the same megabytes). Every walk here takes
a bounded number of steps and copies nothing large. Sizes are as stored; `Header.size_wh` is upright.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from imgdetect import tiff
from imgdetect.errors import UnreadableImage, UnsupportedImage

ACCEPTED = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/bmp": ".bmp",
    "image/gif": ".gif",
    "image/tiff": ".tiff",
}

# A progressive JPEG needs about ten scans; each one costs a pass over all pixels, whatever its length.
MAX_JPEG_SCANS = 32
# More parts than any honest file of the largest size taken; each costs about a microsecond here.
MAX_JPEG_SEGMENTS = 5_000
MAX_PNG_CHUNKS = 20_000
MAX_WEBP_CHUNKS = 5_000
MAX_GIF_BLOCKS = 200_000


@dataclass(frozen=True)
class Header:
    """What a file claims."""

    media_type: str
    width: int  # as stored, before the orientation is applied
    height: int
    orientation: int = 1  # EXIF: 1 upright, 2..4 turned or mirrored, 5..8 with sides exchanged
    alpha: bool = False  # some pixels may be see-through
    premultiplied: bool = False  # colours come out of the decoder already weakened by alpha
    transparent_grey: int | None = None  # the grey level (0..255) that a PNG without alpha declares see-through

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the upright image."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def sniff(data: bytes) -> str:
    """The media type of an image by its first bytes.

    Raises:
        UnsupportedImage: of a type that is not accepted; says what to do where that is known.
        UnreadableImage: it ends before its type shows.
    """
    if len(data) < 2:
        raise UnreadableImage("The file ends too early.")
    for start, media_type in _MAGIC:
        if data.startswith(start):
            return media_type
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    # Two letters are a weak sign, so the length of the header behind them has to be one that exists.
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"
    if len(data) < 18 and any(start.startswith(data[: len(start)]) for start in _STARTS):
        raise UnreadableImage("The file ends too early.")
    raise UnsupportedImage(_what_to_do(data), accepted=list(ACCEPTED))


_MAGIC = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),
    (b"MM\0+", "image/tiff"),
)
_STARTS = (*(start for start, _ in _MAGIC), b"RIFF", b"BM")


def _what_to_do(data: bytes) -> str:
    brands = {data[at : at + 4] for at in (8, *range(16, 64, 4))} if data[4:8] == b"ftyp" else set()
    if brands & {b"avif", b"avis"}:
        name = "AVIF"
    elif brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"}:
        name = "HEIC"
    elif data.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        name = "JPEG 2000"
    else:
        return f"Accepted are {', '.join(ACCEPTED)}; the name of the file does not count, its content does."
    return f"{name} is not read here: export the picture as JPEG and send that."


def read_header(data: bytes) -> Header:
    """Type, size and orientation of an image.

    Raises:
        UnsupportedImage: not an accepted type.
        UnreadableImage: broken or cut off in a way that shows without decoding, or built to waste time.
    """
    reader = _READERS[sniff(data)]
    try:
        header = reader(data)
    except (struct.error, IndexError):
        raise UnreadableImage("The file ends too early.") from None
    if header.width <= 0 or header.height <= 0:
        raise UnreadableImage("The header gives a width or height of zero.")
    return header


def without_extras(data: bytes) -> bytes:
    """The same first picture without what a decoder would waste time and memory on.

    JPEG loses its notes (EXIF, profiles, comments), PNG keeps only the chunks that make pixels, GIF ends after its
    first frame, and TIFF gets a directory of only the tags that make pixels; so none has an orientation any more.

    Args:
        data: a file that `read_header` has accepted.
    """
    media_type = sniff(data)
    if media_type == "image/jpeg":
        return _jpeg_without_notes(data)
    if media_type == "image/png":
        view = memoryview(data)
        kept = (view[at : at + 12 + length] for kind, at, length in _png_chunks(data) if kind in _PNG_PIXELS)
        return b"".join((data[:8], *kept))
    if media_type == "image/gif":
        return b"".join((memoryview(data)[: _gif_frame_end(data)], b";"))
    return tiff.pixels_only(data) if media_type == "image/tiff" else data


# JPEG: segments that start with a marker; a scan's data reaches to the next marker

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # not a stuffed byte, a filler or a restart
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOF_HUFFMAN = (0xC0, 0xC1, 0xC2)
_SOI, _EOI, _SOS, _APP1, _TEM = 0xD8, 0xD9, 0xDA, 0xE1, 0x01
# Notes to programs and readers; of these only JFIF (0xE0) and Adobe's (0xEE) say how colours are stored.
_JPEG_NOTES = frozenset((*range(0xE1, 0xEE), 0xEF, 0xFE))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Marker, start, start of the body and end of each segment, EOI included."""
    at = 2
    for _ in range(MAX_JPEG_SEGMENTS):
        start, body = _next_marker(data, at)
        marker, at = data[body - 1], body
        if marker not in (_SOI, _EOI, _TEM):
            at += struct.unpack_from(">H", data, body)[0]
        yield marker, start, body, at
        if marker == _EOI:
            return
    raise UnreadableImage(f"The JPEG has more than {MAX_JPEG_SEGMENTS} segments.")


def _jpeg(data: bytes) -> Header:
    at, scans, scan_bytes, least_bytes = 2, 0, 0, 0
    orientation: int | None = None
    size_wh = (0, 0)
    for marker, start, body, end in _jpeg_segments(data):
        scan_bytes += start - at
        at = end
        if marker in _SOF:
            size_wh, least_bytes = _jpeg_frame(data, body, marker)
        elif marker == _APP1 and orientation is None and data[body + 2 : body + 8] == b"Exif\0\0":
            orientation = tiff.exif_orientation(data[body + 8 : end])
        elif marker == _SOS:
            scans += 1
            if scans > MAX_JPEG_SCANS:
                raise UnreadableImage(f"The JPEG has more than {MAX_JPEG_SCANS} scans.")
    if not scans or scan_bytes < least_bytes:
        raise UnreadableImage("The JPEG has no picture in it.")
    return Header("image/jpeg", *size_wh, orientation=orientation or 1)


def _jpeg_without_notes(data: bytes) -> bytes:
    view, kept, noted = memoryview(data), [memoryview(data)[:2]], False
    for marker, start, _, end in _jpeg_segments(data):
        if marker == _SOS:
            kept.append(view[start:])
            break
        if marker in _JPEG_NOTES:
            noted = True
        else:
            kept.append(view[start:end])
    return b"".join(kept) if noted else data


def _jpeg_frame(data: bytes, body: int, marker: int) -> tuple[tuple[int, int], int]:
    """Size, and the fewest bytes that its scans can take: one bit for each unit of blocks (Huffman only)."""
    height, width, components = struct.unpack_from(">HHB", data, body + 3)
    if marker not in _SOF_HUFFMAN:
        return (width, height), 0
    samplings = [data[body + 9 + 3 * n] for n in range(components)]
    unit_width = 8 * max((s >> 4 for s in samplings), default=1) or 8
    unit_height = 8 * max((s & 15 for s in samplings), default=1) or 8
    return (width, height), -(-width // unit_width) * -(-height // unit_height) // 8


def _next_marker(data: bytes, at: int) -> tuple[int, int]:
    """Where the next marker starts and where its body does."""
    near = at + 4096
    found = _MARKER.search(data, at, near)
    # A long scan is searched by numpy, ten times as fast and equally fast on every content.
    block_start = near - 1
    while not found and block_start < len(data) - 1:
        block = np.frombuffer(data, np.uint8, min(1 << 20, len(data) - block_start), block_start)
        code = block[1:]
        hits = (block[:-1] == 0xFF) & (code != 0) & (code != 0xFF) & (code & 0xF8 != 0xD0)
        first = int(hits.argmax())
        if hits[first]:
            return block_start + first, block_start + first + 2
        block_start += len(code)
    if not found:
        raise UnreadableImage("The JPEG ends in the middle.")
    return found.start(), found.end()


# PNG: chunks of length, kind, content, checksum

_PNG_PIXELS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and length of content of each chunk up to IEND."""
    at, kind = 8, b""
    for _ in range(MAX_PNG_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise UnreadableImage("The PNG ends in the middle.")
        yield kind, at, length
        if kind == b"IEND":
            return
        at += 12 + length
    raise UnreadableImage(f"The PNG has more than {MAX_PNG_CHUNKS} chunks.")


def _png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise UnreadableImage("The PNG does not start with its header.")
    width, height, depth, colour_type = struct.unpack_from(">IIBB", data, 16)
    orientation, alpha, grey = None, colour_type in (4, 6), None
    for kind, at, length in _png_chunks(data):
        if kind == b"eXIf" and orientation is None:
            orientation = tiff.exif_orientation(data[at + 8 : at + 8 + min(length, 65_536)])
        elif kind == b"tRNS":
            alpha = True
            if colour_type == 0 and length == 2:
                (level,) = struct.unpack_from(">H", data, at + 8)
                grey = level >> 8 if depth == 16 else level * 255 // (2**depth - 1)
    return Header("image/png", width, height, orientation or 1, alpha, transparent_grey=grey)


# WebP: RIFF chunks


def _webp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise UnreadableImage("The WebP ends in the middle.")
    at, orientation, alpha = 12, None, False
    size_wh: tuple[int, int] | None = None
    for _ in range(MAX_WEBP_CHUNKS):
        if at + 8 > size + 8:
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        body = at + 8
        if kind in (b"VP8X", b"VP8 ", b"VP8L") and size_wh is None:
            size_wh, alpha = _webp_size(data, kind, body)
        elif kind == b"EXIF" and orientation is None:
            orientation = tiff.exif_orientation(data[body : body + min(length, 65_536)])
        at = body + length + (length & 1)
    else:
        raise UnreadableImage(f"The WebP has more than {MAX_WEBP_CHUNKS} chunks.")
    if size_wh is None:
        raise UnreadableImage("The WebP has no picture in it.")
    return Header("image/webp", *size_wh, orientation or 1, alpha)


def _webp_size(data: bytes, kind: bytes, body: int) -> tuple[tuple[int, int], bool]:
    """Size of the canvas, and whether there is alpha."""
    if kind == b"VP8X":
        flags, width, height = struct.unpack_from("<I3s3s", data, body)
        return (int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1), bool(flags & 0x10)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, body + 1)
        return ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1), bool(bits >> 28 & 1)
    width, height = struct.unpack_from("<HH", data, body + 6)
    return (width & 0x3FFF, height & 0x3FFF), False


# GIF: blocks, each a chain of pieces of up to 255 bytes


def _gif(data: bytes) -> Header:
    width, height = struct.unpack_from("<HH", data, 6)
    _gif_frame_end(data)
    return Header("image/gif", width, height, alpha=True)


def _gif_frame_end(data: bytes) -> int:
    """Where the first frame ends."""
    at, steps = 13 + _gif_table(data[10]), 0
    while True:
        kind = data[at]
        if kind not in (0x21, 0x2C):
            raise UnreadableImage("The GIF has no picture in it.")
        at += 2 if kind == 0x21 else 11 + _gif_table(data[at + 9])
        while data[at]:
            at += data[at] + 1
            steps += 1
            if steps > MAX_GIF_BLOCKS:
                raise UnreadableImage(f"The GIF has more than {MAX_GIF_BLOCKS} blocks.")
        at += 1
        steps += 1
        if kind == 0x2C:
            return at


def _gif_table(flags: int) -> int:
    """Bytes of the colour table that the flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


# BMP

_BMP_HEADERS = frozenset((12, 40, 52, 56, 64, 108, 124))


def _bmp(data: bytes) -> Header:
    offset, header_size = struct.unpack_from("<II", data, 10)
    compression = 0
    if header_size == 12:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, depth, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)  # negative: top row first
    stride = (width * depth + 31) // 32 * 4
    if compression in (0, 3) and offset + stride * height > len(data) + 3:
        raise UnreadableImage("The BMP ends in the middle.")
    return Header("image/bmp", width, height)


# TIFF


def _tiff(data: bytes) -> Header:
    directory = tiff.read_directory(data)
    width, height = directory.number(data, tiff.WIDTH, 0), directory.number(data, tiff.HEIGHT, 0)
    bits, samples = directory.number(data, tiff.BITS, 1), directory.number(data, tiff.SAMPLES, 1)
    if directory.number(data, tiff.COMPRESSION, 1) == 1 and width * height * bits * samples > 8 * len(data):
        raise UnreadableImage("The TIFF ends in the middle.")
    extra = directory.number(data, tiff.EXTRA_SAMPLES, 0)
    return Header(
        "image/tiff",
        width,
        height,
        orientation=directory.orientation(data),
        alpha=samples == 4 and directory.number(data, tiff.PHOTOMETRIC, 2) == 2,
        # The decoder multiplies straight alpha (2) itself, but only for 8 bits.
        premultiplied=extra == 1 or (extra == 2 and bits == 8),
    )


_READERS = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/webp": _webp,
    "image/gif": _gif,
    "image/bmp": _bmp,
    "image/tiff": _tiff,
}
