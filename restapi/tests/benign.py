"""Pictures that have to be read, plain and odd; each is made when asked for, the same bytes every time.

`BENIGN` maps a name to (factory, size of the upright image).
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Factory = Callable[[], bytes]

# The four corners of the test picture, RGB.
RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
SIZE_WH = (64, 48)


def corners(size_wh: tuple[int, int] = SIZE_WH) -> Image.Image:
    """A picture whose corners tell which way up it is: red, green on top, blue, yellow below."""
    width, height = size_wh
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[: height // 2, : width // 2], rgb[: height // 2, width // 2 :] = RED, GREEN
    rgb[height // 2 :, : width // 2], rgb[height // 2 :, width // 2 :] = BLUE, YELLOW
    return Image.fromarray(rgb)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """The picture as a file of a kind that Pillow writes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(kind: str, orientation: int, **options: object) -> bytes:
    """The test picture, stored as it is, with an EXIF orientation."""
    exif = Image.Exif()
    exif[274] = orientation
    return saved(corners(), kind, exif=exif, **options)


def jpeg() -> bytes:
    return saved(corners(), "JPEG", quality=95, subsampling=0)


def png() -> bytes:
    return saved(corners(), "PNG")


# Every accepted type, and the ways of packing that have code of their own.
VALID: dict[str, Factory] = {
    "jpeg": jpeg,
    "jpeg_progressive": lambda: saved(corners(), "JPEG", quality=95, subsampling=0, progressive=True),
    "png": png,
    "webp": lambda: saved(corners(), "WEBP", quality=95),
    "webp_lossless": lambda: saved(corners(), "WEBP", lossless=True),
    "gif": lambda: saved(corners(), "GIF"),
    "bmp": lambda: saved(corners(), "BMP"),
    "tiff": lambda: saved(corners(), "TIFF"),
    "tiff_lzw": lambda: saved(corners(), "TIFF", compression="tiff_lzw"),
    "tiff_deflate": lambda: saved(corners(), "TIFF", compression="tiff_adobe_deflate"),
    "tiff_jpeg": lambda: saved(corners(), "TIFF", compression="jpeg"),
    "tiff_fax": lambda: saved(corners().convert("1"), "TIFF", compression="group4"),
}


# Parts that odd files are made of


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(*chunks: bytes, after: bool = False) -> bytes:
    """The test picture with more chunks behind its header, or before its end."""
    plain = png()
    at = len(plain) - 12 if after else 33
    return plain[:at] + b"".join(chunks) + plain[at:]


def png_header(width: int, height: int, depth: int = 8, colour_type: int = 2) -> bytes:
    start = b"\x89PNG\r\n\x1a\n"
    return start + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))


def jpeg_segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg_with(*segments: bytes) -> bytes:
    """The test picture with more segments behind its start."""
    plain = jpeg()
    return plain[:2] + b"".join(segments) + plain[2:]


def png_end(content: bytes) -> bytes:
    return png_chunk(b"IDAT", content) + png_chunk(b"IEND", b"")


def zip_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("photo.jpg", jpeg())
    return buffer.getvalue()


# Odd, but pictures


def frames(kind: str, **options: object) -> bytes:
    """Three frames; the first is the test picture."""
    others = [Image.new("RGB", SIZE_WH, colour) for colour in ((9, 9, 9), (200, 200, 200))]
    return saved(corners(), kind, save_all=True, append_images=others, **options)


def deep(extension: str, alpha: bool = False) -> bytes:
    """The test picture in 16 bits, which Pillow does not write."""
    from imgdetect.images import cv2  # not at the top: OpenCV has to be imported by the package, which sets its limits

    bgr: NDArray[np.uint16] = np.asarray(corners(), np.uint16)[..., ::-1] * 257
    if alpha:
        bgr = np.dstack([bgr, np.full(bgr.shape[:2], 65_535, np.uint16)])
    return bytes(cv2.imencode(extension, bgr)[1].data)


def half_clear() -> Image.Image:
    """The test picture, half see-through all over."""
    image = corners().convert("RGBA")
    image.putalpha(128)
    return image


def interlaced_png() -> bytes:
    """Pillow writes none, so the seven passes are laid out here."""
    rgb, (width, height) = np.asarray(corners()), SIZE_WH
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = [b"\0" + row.tobytes() for y, x, down, right in passes for row in rgb[y::down, x::right]]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    start = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    return start + png_end(zlib.compress(b"".join(rows)))


POLYGLOTS: dict[str, Factory] = {
    "jpeg_html": lambda: (
        jpeg_with(jpeg_segment(0xFE, b"<script>alert(1)</script>")) + b"<html><script>alert(2)</script>"
    ),
    "gif_js": lambda: saved(corners(), "GIF") + b"=1;alert(document.domain);",
    "png_php": lambda: png_with(png_chunk(b"tEXt", b"Comment\0<?php system($_GET['c']); ?>")) + b"<?php phpinfo(); ?>",
    "jpeg_zip": lambda: jpeg() + zip_file(),
    "png_jpeg": lambda: png() + jpeg(),
}

_UPRIGHT, _SIDEWAYS = SIZE_WH, SIZE_WH[::-1]

BENIGN: dict[str, tuple[Factory, tuple[int, int]]] = {
    **{name: (make, SIZE_WH) for name, make in VALID.items()},
    **{name: (make, SIZE_WH) for name, make in POLYGLOTS.items()},
    **{
        f"{kind.lower()}_orientation_{n}": (partial(oriented, kind, n), _SIDEWAYS if n >= 5 else _UPRIGHT)
        for kind in ("JPEG", "PNG", "WEBP", "TIFF")
        for n in range(9)
    },
    "jpeg_trailing_zeros": (lambda: jpeg() + bytes(10_000), SIZE_WH),
    "jpeg_cmyk": (lambda: saved(corners().convert("CMYK"), "JPEG", quality=95, subsampling=0), SIZE_WH),
    "jpeg_grey": (lambda: saved(corners().convert("L"), "JPEG"), SIZE_WH),
    "png_16_bit": (lambda: deep(".png"), SIZE_WH),
    "png_16_bit_alpha": (lambda: deep(".png", alpha=True), SIZE_WH),
    "png_alpha": (lambda: saved(half_clear(), "PNG"), SIZE_WH),
    "png_grey_alpha": (lambda: saved(half_clear().convert("LA"), "PNG"), SIZE_WH),
    "png_palette": (lambda: saved(corners().quantize(4), "PNG"), SIZE_WH),
    "png_1_bit": (lambda: saved(corners().convert("1"), "PNG"), SIZE_WH),
    "png_interlaced": (interlaced_png, SIZE_WH),
    "tiff_16_bit": (lambda: deep(".tiff"), SIZE_WH),
    "tiff_cmyk": (lambda: saved(corners().convert("CMYK"), "TIFF"), SIZE_WH),
    "tiff_alpha": (lambda: saved(half_clear(), "TIFF"), SIZE_WH),
    "tiff_palette": (lambda: saved(corners().quantize(4), "TIFF"), SIZE_WH),
    "tiff_1_bit": (lambda: saved(corners().convert("1"), "TIFF"), SIZE_WH),
    "tiff_grey_alpha": (lambda: saved(half_clear().convert("LA"), "TIFF"), SIZE_WH),
    "webp_alpha": (lambda: saved(half_clear(), "WEBP", lossless=True), SIZE_WH),
    "bmp_palette": (lambda: saved(corners().quantize(4), "BMP"), SIZE_WH),
    "gif_animation": (lambda: frames("GIF", duration=50), SIZE_WH),
    "png_animation": (lambda: frames("PNG", duration=50), SIZE_WH),
    "webp_animation": (lambda: frames("WEBP", duration=50, lossless=True), SIZE_WH),
    "tiff_pages": (lambda: frames("TIFF"), SIZE_WH),
    "one_pixel": (lambda: saved(Image.new("RGB", (1, 1), RED), "PNG"), (1, 1)),
    "one_pixel_jpeg": (lambda: saved(Image.new("RGB", (1, 1), RED), "JPEG"), (1, 1)),
    "one_column": (lambda: saved(Image.new("RGB", (1, 16_384), RED), "PNG"), (1, 16_384)),
    "smaller_than_a_window": (lambda: saved(corners((12, 9)), "PNG"), (12, 9)),
}
