"""Pictures of the tests and benchmarks, each made anew from a few numbers that a failing test can print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

PHOTOGRAPHS = Path(__file__).parent / "photographs"


@cache
def photograph(name: str) -> Image:
    """The photograph `astronaut`, `chelsea` or `rocket`, BGR, shape (height, width, 3)."""
    encoded = np.fromfile(PHOTOGRAPHS / f"{name}.jpg", np.uint8)
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def resized(image: Image, size_wh: tuple[int, int]) -> Image:
    """The image in another size, proportions ignored; shape (height, width, 3)."""
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True)
class Picture:
    """One picture: what it shows, its size in pixels, what its randomness starts from, how it lies in memory."""

    content: str
    size_wh: tuple[int, int]
    seed: int = 0
    layout: str = "grey"

    def image(self) -> Image:
        """The pixels, uint8: shape (height, width), or (height, width, 1, 3 or 4) as the layout says."""
        width, height = self.size_wh
        colours = CONTENTS[self.content](width, height, np.random.default_rng(self.seed))
        return LAYOUTS[self.layout](colours)


def _photograph(rng: np.random.Generator) -> Image:
    return photograph(("astronaut", "chelsea", "rocket")[rng.choice(3, p=(0.6, 0.3, 0.1))])


def _crop(width: int, height: int, rng: np.random.Generator) -> Image:
    """A part of a photograph, as if taken with another lens; a small photograph is enlarged first."""
    source = _photograph(rng)
    enlarged = max(width / source.shape[1], height / source.shape[0], float(rng.uniform(0.2, 1.5)))
    full = resized(source, (max(width, int(source.shape[1] * enlarged)), max(height, int(source.shape[0] * enlarged))))
    x, y = int(rng.integers(full.shape[1] - width + 1)), int(rng.integers(full.shape[0] - height + 1))
    part: Image = full[y : y + height, x : x + width]
    return part


def _whole(width: int, height: int, rng: np.random.Generator) -> Image:
    return resized(_photograph(rng), (width, height))


def _crowd(width: int, height: int, rng: np.random.Generator) -> Image:
    """One face again and again, lighter and darker: many objects to be grouped."""
    side = int(rng.integers(24, 81))
    face = resized(photograph("astronaut")[20:220, 130:330], (side, side))
    if rng.random() < 0.3:
        face = resized(photograph("chelsea")[40:260, 100:360], (side, side))
    tiled = np.tile(face, (height // side + 1, width // side + 1, 1))[:height, :width]
    light = cv2.resize(rng.uniform(0.3, 1.3, (4, 4)), (width, height))
    image: Image = np.clip(tiled * light[..., None], 0, 255).astype(np.uint8)
    return image


def _noise(width: int, height: int, rng: np.random.Generator) -> Image:
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def _gradient(width: int, height: int, rng: np.random.Generator) -> Image:
    slopes = rng.uniform(-3, 3, (3, 2))
    ramps = [np.add.outer(np.arange(height) * dy, np.arange(width) * dx) for dy, dx in slopes]
    image: Image = (np.stack(ramps, axis=-1).astype(np.int64) % 256).astype(np.uint8)
    return image


def _constant(width: int, height: int, rng: np.random.Generator) -> Image:
    return np.full((height, width, 3), rng.choice([0, 1, 127, 128, 254, 255]), np.uint8)


def _checkerboard(width: int, height: int, rng: np.random.Generator) -> Image:
    side = int(rng.integers(1, 12))
    squares = np.add.outer(np.arange(height) // side, np.arange(width) // side) % 2
    dark, light = rng.integers(0, 256, (2, 3))
    image: Image = np.where(squares[..., None] == 1, light, dark).astype(np.uint8)
    return image


def _low_contrast(width: int, height: int, rng: np.random.Generator) -> Image:
    """A crop with two to eight levels of brightness, around the limit of the test of variance."""
    levels = int(rng.integers(2, 9))
    return (_crop(width, height, rng) // (256 // levels) + rng.integers(0, 247)).astype(np.uint8)


def _saturated(width: int, height: int, rng: np.random.Generator) -> Image:
    """A crop with large parts of exactly 0 and 255."""
    return np.clip((_crop(width, height, rng).astype(np.int32) - 128) * 6 + 128, 0, 255).astype(np.uint8)


def _half_blank(width: int, height: int, rng: np.random.Generator) -> Image:
    """A crop whose upper left part is blank: windows without contrast come before those with some."""
    image = _crop(width, height, rng).copy()
    image[: height * int(rng.integers(1, 8)) // 8, : width * int(rng.integers(1, 9)) // 8] = rng.integers(0, 256)
    return image


CONTENTS: dict[str, Callable[[int, int, np.random.Generator], Image]] = {
    "crop": _crop,
    "whole": _whole,
    "crowd": _crowd,
    "noise": _noise,
    "gradient": _gradient,
    "constant": _constant,
    "checkerboard": _checkerboard,
    "low contrast": _low_contrast,
    "saturated": _saturated,
    "half blank": _half_blank,
}


def _padded(colours: Image) -> Image:
    """Rows that lie further apart than they are long."""
    height, width = colours.shape[:2]
    room = np.full((height, width + 13), 77, np.uint8)
    room[:, 5 : 5 + width] = colours[..., 1]
    return room[:, 5 : 5 + width]


def _sparse(colours: Image) -> Image:
    """Every other pixel of every third row of a larger array."""
    height, width = colours.shape[:2]
    room = np.full((height * 3, width * 2), 77, np.uint8)
    room[::3, ::2] = colours[..., 1]
    return room[::3, ::2]


LAYOUTS: dict[str, Callable[[Image], Image]] = {
    "grey": lambda colours: np.ascontiguousarray(colours[..., 1]),
    "grey, one channel": lambda colours: np.ascontiguousarray(colours[..., 1:2]),
    "BGR": np.ascontiguousarray,
    "BGRA": lambda colours: np.dstack([colours, colours[..., 0] ^ 255]),
    "grey, padded": _padded,
    "grey, sparse": _sparse,
    "grey, a channel of BGR": lambda colours: np.ascontiguousarray(colours)[..., 1],
    "grey, by columns": lambda colours: np.asfortranarray(colours[..., 1]),
    "grey, upside down": lambda colours: np.ascontiguousarray(colours[::-1, :, 1])[::-1],
    "grey, mirrored": lambda colours: np.ascontiguousarray(colours[:, ::-1, 1])[:, ::-1],
    "BGR from RGB": lambda colours: np.ascontiguousarray(colours[..., ::-1])[..., ::-1],
    "BGR, padded": lambda colours: np.ascontiguousarray(np.pad(colours, ((0, 0), (3, 4), (0, 0))))[:, 3:-4],
    "BGR without A": lambda colours: np.dstack([colours, colours[..., 0] ^ 255])[..., :3],
}
