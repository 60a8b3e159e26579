"""Masks of objects in COCO's forms: run lengths down the columns, compressed as pycocotools does it, and polygons.

A mask is made from its box alone and never held as a whole picture, so that a hundred objects on a large picture cost
what their boxes cost.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgdetect.detection import Mask

Bits = NDArray[np.bool_]
Ints = NDArray[np.int64]

# Outlines are simplified to within this many pixels.
_PRECISION = 0.5
# A count has at most 2^34 pixels: seven groups of five bits with a sign.
_GROUPS = 7


def encode(bits: Bits, left_top: tuple[int, int], size_wh: tuple[int, int]) -> Mask:
    """The mask of an object.

    Args:
        bits: shape (height, width), where the object is; the part of the picture that begins at `left_top`.
        left_top: x and y of that part, which lies inside the picture.
        size_wh: of the whole picture.
    """
    width, height = size_wh
    outlines, _ = cv2.findContours(bits.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=left_top)
    simple = [cv2.approxPolyDP(outline, _PRECISION, True).reshape(-1) for outline in outlines]
    polygons = tuple(tuple(float(v) for v in outline.tolist()) for outline in simple if len(outline) >= 6)
    return Mask(height, width, _compressed(_counts(bits, left_top, size_wh)), polygons)


def decode(mask: Mask, left: int = 0, right: int | None = None) -> Bits:
    """The pixels of a mask, shape (height, right - left): all of it, or the columns from `left` to `right`.

    Raises:
        ValueError: the counts are not those of a mask of its size.
    """
    right = mask.width if right is None else right
    ends = np.cumsum(_expanded(mask.counts))
    if not len(ends) or ends[-1] != mask.height * mask.width or np.any(np.diff(ends) < 0) or ends[0] < 0:
        raise ValueError("the run lengths do not fill the picture")
    low, high = left * mask.height, right * mask.height
    edges = np.clip(ends, low, high) - low
    # Runs alternate from 0 to 1: each edge turns the value over.
    turned = np.bincount(edges, minlength=high - low + 1)[: high - low]
    bits: Bits = (np.cumsum(turned) % 2).astype(bool)
    return bits.reshape(right - left, mask.height).T


def area(mask: Mask) -> int:
    """How many pixels a mask covers."""
    return int(_expanded(mask.counts)[1::2].sum())


def _counts(bits: Bits, left_top: tuple[int, int], size_wh: tuple[int, int]) -> Ints:
    """Lengths of the runs of 0 and 1 in turn, down the columns of the whole picture, beginning with 0."""
    left, top = left_top
    width, height = size_wh
    columns = np.pad(bits.T, ((0, 0), (1, 1))).astype(np.int8)
    step = np.diff(columns, axis=1)
    column, row = np.nonzero(step == 1)
    starts = (left + column) * height + top + row
    column, row = np.nonzero(step == -1)
    ends = (left + column) * height + top + row
    # A run that reaches the bottom goes on at the top of the next column where that is set.
    joined = np.flatnonzero(ends[:-1] == starts[1:])
    starts, ends = np.delete(starts, joined + 1), np.delete(ends, joined)
    edges = np.concatenate([[0], np.column_stack([starts, ends]).reshape(-1)])
    counts = np.diff(edges)
    rest = width * height - edges[-1]
    return np.append(counts, rest) if rest or not len(counts) else counts


def _compressed(counts: Ints) -> str:
    """pycocotools' text of run lengths: differences to the run two before, five bits a character, low ones first."""
    values = counts.astype(np.int64)
    values[3:] -= counts[1:-2]
    shifts = 5 * np.arange(_GROUPS)
    groups = (values[:, None] >> shifts) & 0x1F
    rest = values[:, None] >> (shifts + 5)
    # No group follows where what is left is nothing but copies of the sign, which the group's highest bit holds.
    ends_here = np.where(groups & 0x10, rest == -1, rest == 0)
    last = ends_here.argmax(1)
    place = np.arange(_GROUPS)
    characters = (groups | np.where(place < last[:, None], 0x20, 0)) + 48
    return bytes(characters[place <= last[:, None]].astype(np.uint8).tolist()).decode("ascii")


def _expanded(text: str) -> Ints:
    """The inverse of `_compressed`."""
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    if not len(codes) or np.any((codes < 0) | (codes > 63)) or codes[-1] & 0x20:
        raise ValueError("these are no compressed run lengths")
    ends = np.flatnonzero((codes & 0x20) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if np.any(ends - starts >= _GROUPS):
        raise ValueError("a run length is too long")
    number = np.repeat(np.arange(len(ends)), ends - starts + 1)
    bits = (codes & 0x1F) << (5 * (np.arange(len(codes)) - starts[number]))
    values: NDArray[Any] = np.bincount(number, bits, len(ends)).astype(np.int64)
    values -= np.where(codes[ends] & 0x10, np.int64(1) << (5 * (ends - starts + 1)), 0)
    # Each value was the difference to the one two places before, from the fourth on.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
