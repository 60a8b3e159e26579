"""Pictures without the object: rendered, or parts of pictures that no labelled object touches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fasthaar.workshop import WorkshopError
from fasthaar.workshop.annotations import Annotated
from fasthaar.workshop.effects import Bytes, Size
from fasthaar.workshop.pictures import read_grey
from fasthaar.workshop.render import Renderer, cut

_TRIES = 24


class Negatives(Protocol):
    """Pictures without the object, by number."""

    def picture(self, number: int) -> Bytes:
        """One of them, uint8 (H, W)."""
        ...


@dataclass(frozen=True)
class Rendered:
    """Negatives from a renderer."""

    renderer: Renderer

    def picture(self, number: int) -> Bytes:
        """A whole picture."""
        return self.renderer.negative(number)


@dataclass(frozen=True)
class Mined:
    """Negatives that are parts of pictures, outside of all labelled objects; again from the first after the last.

    Attributes:
        annotated: the pictures.
        least_wh: no part is smaller, pixels.
        seed: of the places where parts are looked for.
    """

    annotated: Sequence[Annotated]
    least_wh: Size
    seed: int

    def picture(self, number: int) -> Bytes:
        """The largest of some parts that touch no object; all of the picture where there is none.

        Raises:
            WorkshopError: the picture is too small, or objects leave no room in it.
        """
        one = self.annotated[number % len(self.annotated)]
        picture = read_grey(one.path)
        refuse_small(one.size_wh, self.least_wh, str(one.path))
        rng = np.random.default_rng((self.seed, 4, number))
        points = rng.uniform(0, 1, (_TRIES, 2)) * one.size_wh
        parts = [_part(one, float(x), float(y)) for x, y in points]
        fitting = [part for part in parts if all(part[i + 2] - part[i] >= self.least_wh[i] for i in (0, 1))]
        if not fitting:
            raise WorkshopError(
                f"{one.path}: objects leave no part of {self.least_wh[0]}x{self.least_wh[1]} pixels free"
            )
        x, y, right, bottom = max(fitting, key=lambda part: (part[2] - part[0]) * (part[3] - part[1]))
        return np.ascontiguousarray(picture[y:bottom, x:right])


def _part(one: Annotated, x: float, y: float) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a part around a point that touches no object; empty when the point is in one."""
    part = [0.0, 0.0, *map(float, one.size_wh)]
    for left, top, width, height in one.boxes.tolist():
        right, bottom = left + width, top + height
        if right <= part[0] or bottom <= part[1] or left >= part[2] or top >= part[3]:
            continue
        # Each cut that parts the point from the object, with the share of the picture that it costs.
        cuts = [
            ((right - part[0]) / one.size_wh[0], 0, np.ceil(right), x >= right),
            ((bottom - part[1]) / one.size_wh[1], 1, np.ceil(bottom), y >= bottom),
            ((part[2] - left) / one.size_wh[0], 2, np.floor(left), x < left),
            ((part[3] - top) / one.size_wh[1], 3, np.floor(top), y < top),
        ]
        possible = [(cost, side, at) for cost, side, at, parts in cuts if parts]
        if not possible:
            return 0, 0, 0, 0
        _, side, at = min(possible)
        part[side] = float(at)
    return int(part[0]), int(part[1]), int(part[2]), int(part[3])


def window_of(negatives: Negatives, window_wh: Size, seed: int, number: int) -> Bytes:
    """A window of a negative, anywhere and of any size, reduced to `window_wh`.

    Raises:
        WorkshopError: the negative is smaller than the window, or there is none.
    """
    picture = negatives.picture(number)
    height, width = picture.shape
    refuse_small((width, height), window_wh, "a picture without the object")
    rng = np.random.default_rng((seed, 5, number))
    scale = float(np.exp(rng.uniform(0, np.log(min(width / window_wh[0], height / window_wh[1])))))
    wide, high = window_wh[0] * scale, window_wh[1] * scale
    return cut(picture, (rng.uniform(0, width - wide), rng.uniform(0, height - high), wide, high), window_wh, 0)


def refuse_small(size_wh: Size, window_wh: Size, name: str) -> None:
    """Refuse a picture that no window fits into.

    Raises:
        WorkshopError: it is smaller.
    """
    if size_wh[0] < window_wh[0] or size_wh[1] < window_wh[1]:
        raise WorkshopError(
            f"{name}: the window of {window_wh[0]}x{window_wh[1]} is larger than its {size_wh[0]}x{size_wh[1]} pixels"
        )
