"""Pictures on disk: finding them, reading them in grey, and sheets of samples to look at."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fasthaar.workshop import WorkshopError
from fasthaar.workshop.effects import Bytes, Size

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_QUARTER_TURNS = (5, 6, 7, 8)  # values of EXIF's orientation
_ORIENTATION = 0x0112
_BROKEN = (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def find_pictures(folder: Path) -> list[Path]:
    """All pictures in a folder and the folders in it, sorted.

    Raises:
        WorkshopError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise WorkshopError(f"{folder}: there is no such folder; should be one with pictures")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise WorkshopError(f"{folder}: there are no pictures in it ({', '.join(sorted(SUFFIXES))})")
    return found


def read_size(path: Path) -> Size:
    """Width and height of a picture as it is seen, upright, from its header.

    Raises:
        WorkshopError: it is none, or is damaged.
    """
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            turned = picture.getexif().get(_ORIENTATION) in _QUARTER_TURNS
    except _BROKEN as error:
        raise _unreadable(path, error) from None
    return (height, width) if turned else (width, height)


def read_grey(path: Path) -> Bytes:
    """A picture in grey and upright, uint8 (H, W).

    Raises:
        WorkshopError: it is none, or is damaged.
    """
    try:
        with Image.open(path) as picture:
            return np.array(ImageOps.exif_transpose(picture).convert("L"), np.uint8)
    except _BROKEN as error:
        raise _unreadable(path, error) from None


def read_cut_out(path: Path) -> tuple[Bytes, Bytes]:
    """A picture's colours, uint8 (H, W, 3), and its alpha, uint8 (H, W); 255 where it has none.

    Raises:
        WorkshopError: it is none, or is damaged.
    """
    try:
        with Image.open(path) as picture:
            pixels = np.array(ImageOps.exif_transpose(picture).convert("RGBA"), np.uint8)
    except _BROKEN as error:
        raise _unreadable(path, error) from None
    return pixels[..., :3], pixels[..., 3]


def _unreadable(path: Path, error: Exception) -> WorkshopError:
    reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error).replace("\n", " ")
    return WorkshopError(f"{path}: this is no picture that can be read ({reason})")


def png(picture: Bytes) -> bytes:
    """A picture as the bytes of a PNG file."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG")
    return data.getvalue()


def resized(picture: Bytes, size_wh: Size) -> Bytes:
    """The picture in another size: by the mean of areas where it shrinks, linearly where it grows."""
    shrinks = size_wh[0] < picture.shape[1]
    how = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.array(Image.fromarray(picture).resize(size_wh, how), np.uint8)


def contact_sheet(samples: Bytes, most: int = 240, columns: int = 20, least_px: int = 48) -> Bytes:
    """Samples side by side, enlarged so that they can be looked at; where there are too many, every so many-th.

    Args:
        samples: uint8 (N, h, w), at least one.
        most: samples on the sheet.
        columns: samples in a row.
        least_px: the shorter side of a sample on the sheet, at least.
    """
    count = min(most, len(samples))
    shown = samples[np.linspace(0, len(samples) - 1, count).astype(int)]
    times = max(1, -(-least_px // min(samples.shape[1:])))
    shown = shown.repeat(times, 1).repeat(times, 2)
    height, width = shown.shape[1:]
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 1), columns * (width + 1)), 255, np.uint8)
    for place, sample in enumerate(shown):
        y, x = place // columns * (height + 1), place % columns * (width + 1)
        sheet[y : y + height, x : x + width] = sample
    return sheet
