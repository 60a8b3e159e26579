"""What renders an object, and its samples cut out: the same from recipes and from template pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from fasthaar.workshop.effects import Bytes, Size

Box = tuple[float, float, float, float]  # x, y, width, height; pixels


class Renderer(Protocol):
    """Pictures of an object, each of which follows from its number and the renderer's seed alone."""

    def sample(self, number: int) -> tuple[Bytes, Box]:
        """The object with what is around it, uint8 (H, W), and its box."""
        ...

    def scene(self, number: int) -> tuple[Bytes, list[Box]]:
        """A whole picture, uint8 (H, W), and the boxes of the objects in it."""
        ...

    def negative(self, number: int) -> Bytes:
        """A whole picture without the object, uint8 (H, W)."""
        ...


def cut(
    picture: Bytes, box: Box, window_wh: Size, margin: float, shift: tuple[float, float, float] = (0, 0, 0)
) -> Bytes:
    """A sample as a detector's window would see the object: the box widened to the window's aspect, then reduced.

    Where the window reaches out of the picture, the picture's edge is repeated.

    Args:
        picture: grey (H, W).
        box: of the object.
        window_wh: of the sample, pixels.
        margin: what is added on each side, in parts of the box that has the window's aspect.
        shift: how far the window is off to the right and down, in parts of its size, and by how much it is larger.
    """
    x, y, width, height = box
    aspect = window_wh[0] / window_wh[1]
    wide = max(width, height * aspect) * (1 + 2 * margin)
    center = (x + width / 2 + shift[0] * wide, y + height / 2 + shift[1] * wide / aspect)
    wide *= 1 + shift[2]
    high = wide / aspect
    left, top = center[0] - wide / 2, center[1] - high / 2
    out = int(np.ceil(max(0, -left, -top, left + wide - picture.shape[1], top + high - picture.shape[0])))
    if out:
        # Only what is cut out is enlarged, not the whole picture.
        x0, y0 = max(0, int(left) - 1), max(0, int(top) - 1)
        x1, y1 = int(np.ceil(left + wide)) + 1, int(np.ceil(top + high)) + 1
        picture = np.pad(picture[y0 : max(y1, 0), x0 : max(x1, 0)], out + 1, mode="edge")
        left, top = left - x0 + out + 1, top - y0 + out + 1
    source = Image.fromarray(np.ascontiguousarray(picture))
    area = (left, top, left + wide, top + high)
    how = Image.Resampling.BOX if wide > window_wh[0] else Image.Resampling.BILINEAR
    return np.array(source.resize(window_wh, how, area), np.uint8)


def positives(renderer: Renderer, numbers: range, seed: int, window_wh: Size, margin: float, jitter: float) -> Bytes:
    """Samples of the object, each a little off as a detector's windows are.

    Args:
        renderer: renders them.
        numbers: which.
        seed: of the jitter.
        window_wh: of the samples, pixels.
        margin: see `cut`.
        jitter: deviation of shift and size in parts of the window; none is off by more than twice that.

    Returns:
        uint8 (len(numbers), height, width).
    """
    samples = np.empty((len(numbers), window_wh[1], window_wh[0]), np.uint8)
    for place, number in enumerate(numbers):
        picture, box = renderer.sample(number)
        samples[place] = cut(picture, box, window_wh, margin, draw_shift((seed, 3, number), jitter))
    return samples


def draw_shift(key: Sequence[int], jitter: float) -> tuple[float, float, float]:
    """How far the sample with this key is off; see `positives`."""
    rng = np.random.default_rng(key)
    x, y, larger = np.clip(rng.normal(0, jitter, 3), -2 * jitter, 2 * jitter).tolist()
    return x, y, larger
