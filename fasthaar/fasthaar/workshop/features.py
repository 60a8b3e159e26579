"""The features that a training chooses from: those of opencv_traincascade 3.4."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["BASIC", "CORE", "ALL", "LBP"]
KINDS: tuple[Kind, ...] = ("BASIC", "CORE", "ALL", "LBP")

Cells = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """All features of a kind in a window, in one order.

    Attributes:
        feature_type: HAAR or LBP.
        window_wh: width and height of the window, pixels.
        rects, weights, tilted: as in `Cascade`; int32 (F, 3, 4), float32 (F, 3), uint8 (F,), LBP: int32 (F, 1, 4),
            float32 (F, 0) and zeros.
    """

    feature_type: Literal["HAAR", "LBP"]
    window_wh: tuple[int, int]
    rects: NDArray[np.int32]
    weights: NDArray[np.float32]
    tilted: NDArray[np.uint8]

    def take(self, numbers: NDArray[np.int32]) -> FeatureSet:
        """Some of the features, in the order of their numbers."""
        # Indexed with numbers, arrays are copied: they lie in one piece.
        rects, weights, tilted = self.rects[numbers], self.weights[numbers], self.tilted[numbers]
        return FeatureSet(self.feature_type, self.window_wh, rects, weights, tilted)


@dataclass(frozen=True)
class _Shape:
    """A HAAR feature in cells of any width and height: a whole, and parts of it as (x, y, width, height) in cells."""

    cells_wh: tuple[int, int]
    parts: tuple[Cells, ...]
    weight: float
    tilted: bool = False


_BASIC = (
    _Shape((2, 1), ((1, 0, 1, 1),), 2),
    _Shape((1, 2), ((0, 1, 1, 1),), 2),
    _Shape((3, 1), ((1, 0, 1, 1),), 3),
    _Shape((1, 3), ((0, 1, 1, 1),), 3),
    _Shape((2, 2), ((0, 0, 1, 1), (1, 1, 1, 1)), 2),
)
_CORE = (
    *_BASIC,
    _Shape((4, 1), ((1, 0, 2, 1),), 2),
    _Shape((1, 4), ((0, 1, 1, 2),), 2),
    _Shape((3, 3), ((1, 1, 1, 1),), 9),
)
_ALL = (
    *_CORE,
    _Shape((2, 1), ((0, 0, 1, 1),), 2, tilted=True),
    _Shape((1, 2), ((0, 0, 1, 1),), 2, tilted=True),
    _Shape((3, 1), ((1, 0, 1, 1),), 3, tilted=True),
    _Shape((1, 3), ((0, 1, 1, 1),), 3, tilted=True),
    _Shape((4, 1), ((1, 0, 2, 1),), 2, tilted=True),
    _Shape((1, 4), ((0, 1, 1, 2),), 2, tilted=True),
)
_SHAPES = {"BASIC": _BASIC, "CORE": _CORE, "ALL": _ALL}


@cache
def feature_set(kind: Kind, window_wh: tuple[int, int]) -> FeatureSet:
    """Every feature of a kind that fits into a window: at every place, in every size.

    Args:
        kind: BASIC (two and three stripes, checks), CORE (four stripes and a middle as well), ALL (stripes that are
            turned by 45 degrees as well), or LBP.
        window_wh: 8 to 128 pixels each.
    """
    if kind == "LBP":
        rects = _places(window_wh, (3, 3), tilted=False)[:, None]
        nothing = np.zeros((len(rects), 0), np.float32)
        return FeatureSet("LBP", window_wh, np.ascontiguousarray(rects), nothing, np.zeros(len(rects), np.uint8))
    made = [_haar(shape, window_wh) for shape in _SHAPES[kind]]
    rects = np.concatenate([rects for rects, _ in made])
    # Neighbours in this order share corners, which are still in the cache.
    order = np.lexsort(rects[:, 0, ::-1].T)
    tilted = np.concatenate(
        [np.full(len(rects), shape.tilted) for shape, (rects, _) in zip(_SHAPES[kind], made, strict=True)]
    )
    return FeatureSet(
        "HAAR",
        window_wh,
        np.ascontiguousarray(rects[order]),
        np.ascontiguousarray(np.concatenate([weights for _, weights in made])[order]),
        np.ascontiguousarray(tilted[order].astype(np.uint8)),
    )


def _places(window_wh: tuple[int, int], cells_wh: tuple[int, int], *, tilted: bool) -> NDArray[np.int32]:
    """Where a shape fits, in every size of its cells: x, y, width and height of a cell, int32 (P, 4)."""
    width, height = window_wh
    columns, rows = cells_wh
    cell_w, cell_h = (a.ravel() for a in np.mgrid[1 : width // columns + 1, 1 : height // rows + 1])
    found = []
    for w, h in zip((cell_w * columns).tolist(), (cell_h * rows).tolist(), strict=True):
        # Turned, (x, y) is the topmost corner: w goes down to the right, h down to the left.
        left, right, below = (h, width - w, height - w - h) if tilted else (0, width - w, height - h)
        if right < left or below < 0:
            continue
        x, y = (a.ravel() for a in np.mgrid[left : right + 1, 0 : below + 1])
        found.append(np.stack([x, y, np.full_like(x, w // columns), np.full_like(x, h // rows)], axis=1))
    return np.concatenate(found).astype(np.int32)


def _haar(shape: _Shape, window_wh: tuple[int, int]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    places = _places(window_wh, shape.cells_wh, tilted=shape.tilted)
    x, y, w, h = places.T
    rects = np.zeros((len(places), 3, 4), np.int32)
    rects[:, 0] = np.stack([x, y, w * shape.cells_wh[0], h * shape.cells_wh[1]], axis=1)
    for number, (column, row, columns, rows) in enumerate(shape.parts, 1):
        across, down = column * w, row * h
        at = (x + across - down, y + across + down) if shape.tilted else (x + across, y + down)
        rects[:, number] = np.stack([*at, w * columns, h * rows], axis=1)
    weights = np.zeros((len(places), 3), np.float32)
    weights[:, 0] = -1
    weights[:, 1 : 1 + len(shape.parts)] = shape.weight
    return rects, weights
