"""Joining candidates that mean the same object."""

from __future__ import annotations

import ctypes
import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthaar import _native


def group_rectangles(
    rects: Any, min_neighbors: int, weights: Any = None
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64] | None]:
    """Join candidates as `detectMultiScale` does, with those that it gives for minNeighbors 0.

    So one detection serves every minNeighbors. It is cv2's groupRectangles with eps 0.2.

    Args:
        rects: (N, 4) whole numbers, x, y, width, height, up to a million from 0.
        min_neighbors: a rectangle needs more candidates than this; 0 gives the candidates as they are.
        weights: (N,), a number for each candidate, such as its level weight.
    Returns:
        int32 (M, 4), the rectangles; int32 (M,), how many candidates each has; float64 (M,), the largest of their
        weights, or None without weights.
    Raises:
        ValueError: an argument is invalid.
    """
    strictness = operator.index(min_neighbors)
    candidates = np.array(rects).reshape(-1, 4)
    if candidates.size and candidates.dtype.kind not in "iu":
        raise ValueError(f"rects is {candidates.dtype}; it should be whole numbers")
    joined = np.array(candidates.clip(-(1 << 31), (1 << 31) - 1), np.int32)
    counts = np.ones(len(joined), np.int32)
    left = _join(joined, counts, None, strictness)
    if weights is None:
        return joined[:left], counts[:left], None
    best = np.array(weights, np.float64).reshape(-1)
    if len(best) != len(candidates):
        raise ValueError(f"there are {len(best)} weights for {len(candidates)} rects; should be one for each")
    again = np.array(candidates, np.int32)
    _join(again, np.ones(len(again), np.int32), best, strictness)
    return joined[:left], counts[:left], best[:left]


def _join(
    rects: NDArray[np.int32], numbers: NDArray[np.int32], weights: NDArray[np.float64] | None, min_neighbors: int
) -> int:
    left = ctypes.c_int32()
    status = _native.library.fh_group(
        rects.ctypes.data,
        numbers.ctypes.data,
        None if weights is None else weights.ctypes.data,
        len(rects),
        max(-1, min(min_neighbors, (1 << 31) - 1)),
        left,
    )
    _native.raise_for(status, "rects should have sides of 0 or more, and lie within a million of 0")
    return left.value
