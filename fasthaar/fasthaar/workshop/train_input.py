"""What a training starts from: samples of the object, and pictures without it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasthaar._cascade import SIDE_RANGE
from fasthaar.workshop import WorkshopError
from fasthaar.workshop.pictures import SUFFIXES, find_pictures
from fasthaar.workshop.sample_files import read_samples

Pixels = NDArray[np.uint8]
Size = tuple[int, int]


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
    samples = read_samples(path, window_wh or (24, 24))
    found = samples.shape[2], samples.shape[1]
    if window_wh and found != window_wh:
        raise WorkshopError(f"{path}: samples are {_wh(found)} pixels, but the window is {_wh(window_wh)}")
    if not all(SIDE_RANGE[0] <= side <= SIDE_RANGE[1] for side in found):
        raise WorkshopError(
            f"{path}: samples are {_wh(found)} pixels; sides should be {SIDE_RANGE[0]} to {SIDE_RANGE[1]}"
        )
    return samples


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
        paths = find_pictures(source)
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
        raise WorkshopError(f"{source}: there are no pictures in it ({', '.join(sorted(SUFFIXES))})")
    text = "\n".join(f"{name} {path.stat().st_size}" for name, path in zip(names, paths, strict=True))
    return Negatives(tuple(paths), hashlib.sha256(text.encode()).hexdigest()[:16])


def _wh(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
