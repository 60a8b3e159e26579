"""Uploads that mean harm; each is made when asked for, the same bytes every time.

`HOSTILE` maps a name to (factory, statuses that are a right answer); `BENIGN`, from next door, holds the odd ones
that have to be read. Limits are the defaults: 25 million bytes, 25 million pixels, 16,384 a side.
"""

from __future__ import annotations

import random
import struct
import zlib
from functools import partial

from PIL import Image

from tests.benign import (
    BENIGN,
    SIZE_WH,
    VALID,
    Factory,
    corners,
    jpeg,
    jpeg_segment,
    jpeg_with,
    png_chunk,
    png_end,
    png_header,
    png_with,
    saved,
    zip_file,
)

__all__ = ["BENIGN", "CHUNK_BOMBS", "HEADERS_WITHOUT_DATA", "HOSTILE", "NOT_IMAGES", "PIXEL_BOMBS", "SIZE_WH", "VALID"]

_OK_OR_UNREADABLE = frozenset((200, 422))
_UNREADABLE = frozenset((422,))
_UNSUPPORTED = frozenset((415,))


# Parts that the files below are made of


def jpeg_claiming(width: int, height: int, padding: int = 0) -> bytes:
    """A small JPEG whose header claims another size, with that many zeros as more data of its scan."""
    data = bytearray(jpeg()[:-2] + bytes(padding) + b"\xff\xd9")
    at = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, height, width)
    return bytes(data)


def tiff_of(tags: dict[int, tuple[int, int, int]], body: bytes) -> bytes:
    """A little-endian TIFF: tags as (type, count, value or offset), the body at offset 8."""
    body += bytes(len(body) % 2)
    entries = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + bytes(4)


def tiff_strip(width: int, height: int, body: bytes, compression: int = 8, **more: tuple[int, int, int]) -> bytes:
    """A grey TIFF of one strip; `more` are further tags, as `t322=(4, 1, 16)`."""
    tags = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, compression), 262: (3, 1, 1)}
    tags |= {273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, len(body))}
    return tiff_of(tags | {int(name[1:]): entry for name, entry in more.items()}, body)


def zeros_deflated(size: int) -> bytes:
    """That many zero bytes, deflated about 1,000 to 1, made without ever holding them."""
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(size // len(block))]
    return b"".join((*parts, packer.compress(bytes(size % len(block))), packer.flush()))


# Pixel bombs: small files of very many pixels


def png_bomb() -> bytes:
    """30,000 x 30,000 pixels of one bit, all there."""
    return png_header(30_000, 30_000, 1, 0) + png_end(zeros_deflated(30_000 * 3_751))


def webp_bomb() -> bytes:
    """A lossless WebP of one colour needs no data for its 16,383 x 16,383 pixels."""
    data = bytearray(saved(Image.new("RGB", (16, 16)), "WEBP", lossless=True))
    at = data.index(b"VP8L") + 9
    (bits,) = struct.unpack_from("<I", data, at)
    struct.pack_into("<I", data, at, bits & ~0xFFFFFFF | 16_382 << 14 | 16_382)
    return bytes(data)


def webp_canvas_bomb() -> bytes:
    """An animation that claims the largest canvas."""
    frames = [Image.new("RGB", (16, 16), (n, n, n)) for n in (0, 99)]
    data = bytearray(saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    at = data.index(b"VP8X") + 12
    data[at : at + 6] = b"\xfe\x3f\0" * 2
    return bytes(data)


def gif_bomb() -> bytes:
    data = bytearray(saved(corners(), "GIF"))
    struct.pack_into("<HH", data, 6, 65_535, 65_535)
    struct.pack_into("<HH", data, data.index(b"\0\0\0\0" + struct.pack("<HH", *SIZE_WH)) + 4, 65_535, 65_535)
    return bytes(data)


def bmp_bomb() -> bytes:
    """Run lengths: one "end of picture" for 60,000 x 60,000 pixels."""
    return bmp_runs(60_000, 60_000, b"\0\1")


def bmp_runs(width: int, height: int, body: bytes) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(body), 0, 0, 1078) + header + bytes((10, 20, 30, 0)) * 256 + body


PIXEL_BOMBS: dict[str, Factory] = {
    "png_bomb": png_bomb,
    "png_interlaced_bomb": lambda: png_header(65_535, 65_535)[:28] + b"\1" + bytes(4) + png_end(zeros_deflated(99)),
    "apng_bomb": lambda: png_header(30_000, 30_000) + png_chunk(b"acTL", b"\0\1\0\0\0\0\0\0") + png_end(b""),
    "jpeg_bomb": lambda: jpeg_claiming(20_000, 15_000, 600_000),
    "jpeg_side_bomb": lambda: jpeg_claiming(65_500, 1, 2_000),
    "webp_bomb": webp_bomb,
    "webp_canvas_bomb": webp_canvas_bomb,
    "gif_bomb": gif_bomb,
    "bmp_bomb": bmp_bomb,
    "bmp_top_down_bomb": lambda: bmp_runs(60_000, -60_000, b"\0\1"),
    "tiff_bomb": lambda: tiff_strip(30_000, 30_000, zeros_deflated(90_000_000)),
}

# Within the limits of pixels, but a lie: nothing, or far too little, is behind the header.
HEADERS_WITHOUT_DATA: dict[str, Factory] = {
    "png_header_only": lambda: png_header(5_000, 5_000),
    "png_without_data": lambda: png_header(5_000, 5_000) + png_end(b""),
    "jpeg_without_data": lambda: jpeg_claiming(5_000, 5_000),
    "jpeg_far_without_data": lambda: jpeg_claiming(65_500, 65_500),
    "jpeg_header_only": lambda: jpeg()[: jpeg().index(b"\xff\xda")],
    "webp_header_only": lambda: VALID["webp"]()[:30],
    "gif_header_only": lambda: VALID["gif"]()[:13],
    "bmp_header_only": lambda: VALID["bmp"]()[:54],
    "tiff_header_only": lambda: VALID["tiff"]()[:8],
    "tiff_without_data": lambda: tiff_strip(5_000, 5_000, b"abcd", compression=1),
    "tiff_tile_bomb": lambda: tiff_strip(
        *(100, 100, zeros_deflated(90_000_000)),
        t322=(4, 1, 16_384),
        t323=(4, 1, 16_384),
        t324=(4, 1, 8),
        t325=(4, 1, 9),
    ),
    "tiff_samples_bomb": lambda: tiff_strip(5_000, 5_000, b"abcd", t277=(3, 1, 60_000)),
}


# Files that cost more time or memory than their pixels


def jpeg_scans(scans: int = 1_000) -> bytes:
    """A progressive JPEG of 25 million pixels that repeats a scan which says nothing new."""
    data = saved(Image.new("RGB", (5_000, 5_000), (128, 128, 128)), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * scans + data[-2:]


def tiff_shared_tags() -> bytes:
    """Nine hundred tags that all name the same four megabytes."""
    extra = {f"t{tag}": (1, 4_000_000, 8) for tag in range(40_000, 40_900)}
    return tiff_strip(*SIZE_WH, zeros_deflated(64 * 48) + bytes(4_000_000), **extra)


def jpeg_exif_tags() -> bytes:
    """EXIF blocks full of tags, as many as there is room for."""
    tags = b"II*\0\x08\0\0\0" + struct.pack("<H", 5_000) + struct.pack("<HHII", 40_000, 1, 60_000, 8) * 5_000
    return jpeg_with(*[jpeg_segment(0xE1, b"Exif\0\0" + tags)] * 400)


def png_exif_chunks() -> bytes:
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 1_000) + struct.pack("<HHII", 40_000, 1, 1, 0) * 1_000
    return png_with(png_chunk(b"eXIf", exif) * 1_900)


def gif_pieces(pieces: int) -> bytes:
    """A comment in pieces of one byte before the picture."""
    data = VALID["gif"]()
    at = 13 + (3 << (data[10] & 7) + 1)
    return data[:at] + b"\x21\xfe" + b"\1a" * pieces + b"\0" + data[at:]


def webp_chunks(chunks: int) -> bytes:
    data = VALID["webp"]() + b"junk\0\0\0\0" * chunks
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


CHUNK_BOMBS: dict[str, Factory] = {
    "png_ztxt_bomb": lambda: png_with(png_chunk(b"zTXt", b"a\0\0" + zeros_deflated(50_000_000)) * 400),
    "png_ztxt_bomb_after": lambda: png_with(
        png_chunk(b"zTXt", b"a\0\0" + zeros_deflated(50_000_000)) * 400, after=True
    ),
    "png_itxt_bomb": lambda: png_with(png_chunk(b"iTXt", b"a\0\1\0\0\0" + zeros_deflated(100_000_000))),
    "png_icc_bomb": lambda: png_with(png_chunk(b"iCCP", b"a\0\0" + zeros_deflated(100_000_000))),
    "png_text_20_mb": lambda: png_with(png_chunk(b"tEXt", b"a\0" + b"x" * 20_000_000)),
    "png_200000_chunks": lambda: png_with(png_chunk(b"tEXt", b"a\0b") * 200_000),
    "png_19000_chunks": lambda: png_with(png_chunk(b"prVt", b"a") * 19_000),
    "png_19000_empty_idat": lambda: png_with(png_chunk(b"IDAT", b"") * 19_000),
    "png_exif_chunks": png_exif_chunks,
    "jpeg_200000_comments": lambda: jpeg_with(jpeg_segment(0xFE, b"ab") * 200_000),
    "jpeg_exif_tags": jpeg_exif_tags,
    "jpeg_icc_16_mb": lambda: jpeg_with(
        *(jpeg_segment(0xE2, b"ICC_PROFILE\0" + bytes((n, 255)) + bytes(65_000)) for n in range(1, 256))
    ),
    "jpeg_fill_bytes": lambda: jpeg()[:-2] + b"\xff" * 20_000_000 + b"\xd9",
    "jpeg_stuffed_scan": lambda: jpeg()[:-2] + b"\xff\0" * 10_000_000 + b"\xff\xd9",
    "jpeg_restarts": lambda: jpeg()[:-2] + b"\xff\xd0" * 10_000_000 + b"\xff\xd9",
    "gif_150000_pieces": lambda: gif_pieces(150_000),
    "gif_10000000_pieces": lambda: gif_pieces(10_000_000),
    "webp_4000_chunks": lambda: webp_chunks(4_000),
    "webp_1000000_chunks": lambda: webp_chunks(1_000_000),
    "tiff_shared_tags": tiff_shared_tags,
    "tiff_strip_count": lambda: tiff_strip(*SIZE_WH, b"abcd", t273=(4, 0x7FFFFFFF, 8), t279=(4, 0x7FFFFFFF, 8)),
}


# Damaged files


def truncated(kind: str) -> bytes:
    """The first half."""
    data = VALID[kind]()
    return data[: len(data) // 2]


def shortened(kind: str) -> bytes:
    """All but the last few bytes."""
    return VALID[kind]()[:-3]


def flipped(kind: str, seed: int = 0) -> bytes:
    """A few bits changed, anywhere but in the first twelve bytes."""
    data, choice = bytearray(VALID[kind]()), random.Random(f"{kind} {seed}")
    for _ in range(choice.choice((1, 2, 5, 20))):
        data[choice.randrange(12, len(data))] ^= 1 << choice.randrange(8)
    return bytes(data)


# Not images at all


def noise() -> bytes:
    return random.Random(7).randbytes(100_000)


NOT_IMAGES: dict[str, Factory] = {
    "html": lambda: b"<!DOCTYPE html><script>alert(document.cookie)</script>",
    "text": lambda: b"hello, I am a picture\n" * 100,
    "zip": zip_file,
    "pdf": lambda: b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n",
    "exe": lambda: b"MZ\x90\0\3\0\0\0\4\0\0\0\xff\xff\0\0" + bytes(4_000),
    "elf": lambda: b"\x7fELF\2\1\1\0" + bytes(4_000),
    "svg": lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "xml_entities": lambda: b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
    "noise": noise,
    "zeros": lambda: bytes(100_000),
    "bm_text": lambda: b"BM is how this text begins, but it is no bitmap.",
    "riff_wave": lambda: b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0" + bytes(20),
    "psd": lambda: b"8BPS\0\1" + bytes(100),
    "icon": lambda: saved(corners((32, 32)), "ICO"),
    "ppm": lambda: saved(corners(), "PPM"),
    "avif": lambda: saved(corners(), "AVIF"),
    "jpeg_2000": lambda: saved(corners(), "JPEG2000"),
    "jpeg_2000_stream": lambda: b"\xff\x4f\xff\x51" + bytes(200),
    "heic": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
    "exr": lambda: b"\x76\x2f\x31\x01" + bytes(200),
    "hdr": lambda: b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 60000 +X 60000\n" + bytes(200),
}

HOSTILE: dict[str, tuple[Factory, frozenset[int]]] = {
    "empty": (lambda: b"", frozenset((400,))),
    "one_byte": (lambda: b"\xff", _UNREADABLE),
    "three_bytes": (lambda: b"\xff\xd8\xff", _UNREADABLE),
    "png_signature": (lambda: b"\x89PNG\r\n\x1a\n", _UNREADABLE),
    "jpeg_many_scans": (jpeg_scans, _UNREADABLE),
    "thin": (lambda: saved(Image.new("L", (1, 65_500)), "PNG"), _OK_OR_UNREADABLE),
    "zero_size": (lambda: png_header(0, 5) + png_end(zeros_deflated(5)), _UNREADABLE),
    **{name: (make, _UNREADABLE) for name, make in PIXEL_BOMBS.items()},
    **{name: (make, _UNREADABLE) for name, make in HEADERS_WITHOUT_DATA.items()},
    **{name: (make, _OK_OR_UNREADABLE) for name, make in CHUNK_BOMBS.items()},
    **{f"{kind}_truncated": (partial(truncated, kind), _UNREADABLE) for kind in VALID},
    **{f"{kind}_shortened": (partial(shortened, kind), _OK_OR_UNREADABLE) for kind in VALID},
    **{f"{kind}_flipped": (partial(flipped, kind), _OK_OR_UNREADABLE) for kind in VALID},
    **{name: (make, _UNSUPPORTED) for name, make in NOT_IMAGES.items()},
}
