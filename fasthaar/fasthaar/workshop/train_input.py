"""What a training starts from: samples of the object, and pictures without it."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fasthaar._cascade import SIDE_RANGE
from fasthaar.workshop import WorkshopError

Pixels = NDArray[np.uint8]
Size = tuple[int, int]

PICTURES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_VEC_HEADER = 12


def load_samples(path: Path, window_wh: Size | None) -> Pixels:
    """Samples from an `.npz` with the uint8 array `samples`, or from a `.vec` of opencv_createsamples.

    Args:
        path: the file.
        window_wh: the size they should have; None is for those of an `.npz`, which knows it.

    Returns:
        uint8 (N, height, width), at least one.

    Raises:
        WorkshopError: no such file, or there are no samples, or not of this size.
        OSError: the file cannot be read.
    """
    if not path.is_file():
        raise WorkshopError(f"{path}: there is no such file; samples are an .npz or a .vec file")
    samples = _read_vec(path, window_wh or (24, 24)) if path.suffix == ".vec" else _read_npz(path)
    if not len(samples):
        raise WorkshopError(f"{path}: there are no samples in it")
    found = samples.shape[2], samples.shape[1]
    if window_wh and found != window_wh:
        raise WorkshopError(f"{path}: samples are {_wh(found)} pixels, but the window is {_wh(window_wh)}")
    if not all(SIDE_RANGE[0] <= side <= SIDE_RANGE[1] for side in found):
        raise WorkshopError(
            f"{path}: samples are {_wh(found)} pixels; sides should be {SIDE_RANGE[0]} to {SIDE_RANGE[1]}"
        )
    return samples


def _read_npz(path: Path) -> Pixels:
    try:
        with np.load(path, allow_pickle=False) as file:
            samples = file["samples"]
    except KeyError:
        raise WorkshopError(f"{path}: there is no array called samples in it") from None
    except (ValueError, zipfile.BadZipFile, EOFError, TypeError, AttributeError):
        raise WorkshopError(f"{path}: this is no .npz file; samples are an .npz or a .vec file") from None
    if not isinstance(samples, np.ndarray) or samples.dtype != np.uint8 or samples.ndim != 3:
        raise WorkshopError(
            f"{path}: samples is {samples.dtype} {samples.shape}; should be uint8 (count, height, width)"
        )
    return samples


def _read_vec(path: Path, window_wh: Size) -> Pixels:
    """OpenCV writes these as the machine's own numbers: a count, a size, two zeros, and for each sample a zero byte and
    16 bits for each pixel. Which order of bytes it was, the length of the file says."""
    data = path.read_bytes()
    pixels = window_wh[0] * window_wh[1]
    for order in "<>":
        if len(data) < _VEC_HEADER:
            break
        count, size = np.frombuffer(data, f"{order}i4", 2).tolist()
        if count < 0 or size < 1 or len(data) != _VEC_HEADER + count * (1 + 2 * size):
            continue
        if size != pixels:
            raise WorkshopError(
                f"{path}: samples have {size} pixels, but a window of {_wh(window_wh)} has {pixels}; "
                "name the samples' size with --width and --height"
            )
        rows = np.frombuffer(data, np.uint8, offset=_VEC_HEADER).reshape(count, 1 + 2 * size)
        values = np.ascontiguousarray(rows[:, 1:]).view(f"{order}i2")
        if values.size and not (values.min() >= 0 and values.max() <= 255):
            raise WorkshopError(f"{path}: there are pixels outside of 0 to 255")
        return values.astype(np.uint8).reshape(count, window_wh[1], window_wh[0])
    raise WorkshopError(f"{path}: this is no complete .vec file of opencv_createsamples")


@dataclass(frozen=True)
class Negatives:
    """Pictures without the object, in a fixed order.

    Attributes:
        paths: at least one.
        digest: changes where the pictures do.
    """

    paths: tuple[Path, ...]
    digest: str


def list_negatives(source: Path) -> Negatives:
    """The pictures in a folder and the folders in it, or those that a text file names, one on each line.

    Names in a list are seen from where the list is.

    Raises:
        WorkshopError: there is no such folder or list, or no picture, or a picture of the list is not there.
        OSError: it cannot be read.
    """
    if source.is_dir():
        paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())
        names = [path.relative_to(source).as_posix() for path in paths]
    elif source.is_file():
        try:
            names = [line.strip() for line in source.read_text("utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError:
            raise WorkshopError(f"{source}: this is neither a folder nor a list of pictures in UTF-8") from None
        paths = [source.parent / name for name in names]
    else:
        raise WorkshopError(f"{source}: there is no such folder or list of pictures")
    if missing := next((path for path in paths if not path.is_file()), None):
        raise WorkshopError(f"{source}: there is no picture {missing}")
    if not paths:
        raise WorkshopError(f"{source}: there are no pictures in it ({', '.join(sorted(PICTURES))})")
    text = "\n".join(f"{name} {path.stat().st_size}" for name, path in zip(names, paths, strict=True))
    return Negatives(tuple(paths), hashlib.sha256(text.encode()).hexdigest()[:16])


def read_grey(path: Path) -> Pixels:
    """A picture in grey, uint8 (height, width).

    Raises:
        WorkshopError: it is none, or is damaged.
    """
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L"), np.uint8)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise WorkshopError(f"{path}: this is no picture that can be read ({error})") from None


def _wh(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
