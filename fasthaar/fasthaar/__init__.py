"""Cascade detection as `cv2.CascadeClassifier` does it, only faster: the same rectangles, without OpenCV.

import fasthaar
faces = fasthaar.CascadeClassifier("haarcascade_frontalface_default.xml")
faces.detectMultiScale(image, scaleFactor=1.1, minNeighbors=3)
"""

from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthaar import _native
from fasthaar._group import group_rectangles
from fasthaar._xml import MAX_BYTES, parse, write

__all__ = ["Budget", "BudgetExceeded", "CascadeClassifier", "__version__", "canonical", "group_rectangles", "target"]

__version__ = "0.1.0"

Size = tuple[int, int]
Rectangles = NDArray[np.int32] | tuple[()]
_MOST = 32767  # of an image's sides


class BudgetExceeded(Exception):
    """A detection met more candidates, or took longer, than its budget allows."""


class Budget(NamedTuple):
    """What one detection may cost; None is no limit."""

    candidates: int | None = None  # windows that pass the cascade, before grouping
    seconds: float | None = None  # of wall clock


def target() -> str:
    """The instruction set in use: avx512, avx2, sse4, neon or scalar."""
    return _native.TARGET


def canonical(data: bytes) -> bytes:
    """The same cascade in OpenCV's new format, written anew: nothing of the file's own bytes is left.

    Raises:
        ValueError: no valid cascade; names the first broken rule.
    """
    return write(parse(data))


class CascadeClassifier:
    """A cascade of HAAR or LBP features, with the names, parameters and answers of `cv2.CascadeClassifier`.

    Any number of threads may use one object at once.
    """

    def __init__(self, filename: str | os.PathLike[str] | bytes = "") -> None:
        """Load a cascade file, or the XML itself when given as bytes.

        A file that cannot be read gives an empty classifier, as in OpenCV.

        Raises:
            ValueError: no valid cascade; names the first broken rule.
        """
        self._loaded: _native.Loaded | None = None
        self._window_wh: Size = (0, 0)
        self._feature_type = 0
        if filename:
            self.load(filename)

    def load(self, filename: str | os.PathLike[str] | bytes) -> bool:
        """Load another cascade; False, and empty from then on, when the file cannot be read.

        Raises:
            ValueError: no valid cascade; names the first broken rule. What was loaded before stays.
        """
        data = filename if isinstance(filename, bytes) else _read(Path(filename))
        if data is None:
            self._loaded = None
            return False
        cascade = parse(data)
        self._loaded = _native.Loaded(cascade)
        self._window_wh = cascade.window_wh
        self._feature_type = _native.FEATURE_TYPES[cascade.feature_type]
        return True

    def empty(self) -> bool:
        """Whether no cascade is loaded."""
        return self._loaded is None

    def getOriginalWindowSize(self) -> Size:
        """Width and height of the smallest object that the cascade can see, pixels.

        Raises:
            ValueError: no cascade is loaded.
        """
        self._cascade()
        return self._window_wh

    def getFeatureType(self) -> int:
        """0 for HAAR, 1 for LBP.

        Raises:
            ValueError: no cascade is loaded.
        """
        self._cascade()
        return self._feature_type

    def isOldFormatCascade(self) -> bool:
        """False: files of the old format are converted when loaded, as OpenCV 4 does.

        Raises:
            ValueError: no cascade is loaded.
        """
        self._cascade()
        return False

    def detectMultiScale(
        self,
        image: NDArray[np.uint8],
        scaleFactor: float = 1.1,
        minNeighbors: int = 3,
        flags: int = 0,
        minSize: Size = (0, 0),
        maxSize: Size = (0, 0),
        *,
        num_threads: int = 1,
        budget: Budget | None = None,
        roi: tuple[int, int, int, int] | None = None,
    ) -> Rectangles:
        """Find objects of different sizes.

        Args:
            image: uint8, grey (height, width) or (height, width, 1), BGR (height, width, 3) or BGRA
                (height, width, 4), sides of 1 to 32767 pixels, any strides.
            scaleFactor: how much larger each step of the search is than the one before, at least 1.0001.
            minNeighbors: a rectangle needs more candidates than this; 0 gives every candidate.
            flags: without meaning, as in OpenCV 4.
            minSize, maxSize: smallest and largest object, (width, height); a maximum with a 0 is the image's size.
            num_threads: 1 to 64; the answer does not depend on it.
            budget: what the detection may cost.
            roi: (x, y, width, height) inside the image; only there is looked.
        Returns:
            int32 (N, 4): x, y, width, height in the image; () when nothing was found.
        Raises:
            ValueError: no cascade is loaded, or an argument is invalid.
            BudgetExceeded: the budget did not suffice.
        """
        del flags
        options = (scaleFactor, minNeighbors, minSize, maxSize, num_threads, budget, roi)
        rects, _, _ = self._detect(image, _native.RECTANGLES, *options)
        return rects if len(rects) else ()

    def detectMultiScale2(
        self,
        image: NDArray[np.uint8],
        scaleFactor: float = 1.1,
        minNeighbors: int = 3,
        flags: int = 0,
        minSize: Size = (0, 0),
        maxSize: Size = (0, 0),
        *,
        num_threads: int = 1,
        budget: Budget | None = None,
        roi: tuple[int, int, int, int] | None = None,
    ) -> tuple[Rectangles, NDArray[np.int32] | tuple[()]]:
        """As `detectMultiScale`, with how many candidates each rectangle has, int32 (N,)."""
        del flags
        options = (scaleFactor, minNeighbors, minSize, maxSize, num_threads, budget, roi)
        rects, counts, _ = self._detect(image, _native.COUNTS, *options)
        return (rects, counts) if len(rects) else ((), ())

    def detectMultiScale3(
        self,
        image: NDArray[np.uint8],
        scaleFactor: float = 1.1,
        minNeighbors: int = 3,
        flags: int = 0,
        minSize: Size = (0, 0),
        maxSize: Size = (0, 0),
        outputRejectLevels: bool = False,
        *,
        num_threads: int = 1,
        budget: Budget | None = None,
        roi: tuple[int, int, int, int] | None = None,
    ) -> tuple[Rectangles, NDArray[np.int32] | tuple[()], NDArray[np.float64] | tuple[()]]:
        """As `detectMultiScale`, with reject levels, int32 (N,), and level weights, float64 (N,).

        Both are () without outputRejectLevels, where OpenCV raises an error as soon as something is found.
        """
        del flags
        options = (scaleFactor, minNeighbors, minSize, maxSize, num_threads, budget, roi)
        output = _native.LEVELS if outputRejectLevels else _native.RECTANGLES
        rects, levels, weights = self._detect(image, output, *options)
        if not len(rects):
            return (), (), ()
        return (rects, levels, weights) if outputRejectLevels else (rects, (), ())

    def _cascade(self) -> _native.Loaded:
        if self._loaded is None:
            raise ValueError("no cascade is loaded")
        return self._loaded

    def _detect(
        self,
        image: NDArray[np.uint8],
        output: int,
        scale_factor: float,
        min_neighbors: int,
        min_size: Size,
        max_size: Size,
        num_threads: int,
        budget: Budget | None,
        roi: tuple[int, int, int, int] | None,
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
        cascade = self._cascade()
        scale_factor = _real("scaleFactor", scale_factor)
        if not 1.0001 <= scale_factor <= 1e6:
            raise ValueError(f"scaleFactor is {scale_factor}; it should be from 1.0001 to 1000000")
        if not 1 <= _int32("num_threads", num_threads) <= 64:
            raise ValueError(f"num_threads is {num_threads}; it should be from 1 to 64")
        candidates, seconds = (-1, -1.0) if budget is None else _limits(budget)
        pixels = _pixels(image)
        if roi is not None:
            x, y, width, height = _region(roi, (pixels.shape[1], pixels.shape[0]))
            pixels = pixels[y : y + height, x : x + width]
        # In the order of the structure: names would take longer than a detection in a tiny image.
        request = _native.Request(
            pixels.ctypes.data,
            pixels.strides[0],
            pixels.shape[1],
            pixels.shape[0],
            pixels.shape[2],
            _int32("minNeighbors", min_neighbors),
            scale_factor,
            *_size("minSize", min_size),
            *_size("maxSize", max_size),
            output,
            num_threads,
            candidates,
            seconds,
        )
        rects, numbers, weights, status = cascade.detect(request)
        if status == _native.TOO_MANY_CANDIDATES:
            raise BudgetExceeded(f"more than {candidates} candidates")
        if status == _native.TOO_SLOW:
            raise BudgetExceeded(f"more than {seconds} seconds")
        if roi is not None:
            rects[:, :2] += np.array((x, y), np.int32)
        return rects, numbers, weights


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError):  # a NUL in the name is no file either
        return None


def _pixels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with three dimensions, each row contiguous.

    Raises:
        ValueError: not uint8, not 1, 3 or 4 channels, or sides that are out of range.
    """
    if not isinstance(image, np.ndarray) or image.dtype.char != "B":
        raise ValueError(f"image is {getattr(image, 'dtype', type(image).__name__)}; it should be a uint8 array")
    pixels = image[:, :, None] if image.ndim == 2 else image
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise ValueError(f"image has shape {image.shape}; it should be (height, width), or with 1, 3 or 4 channels")
    height, width, channels = pixels.shape
    if not (1 <= height <= _MOST and 1 <= width <= _MOST):
        raise ValueError(f"image has shape {image.shape}; sides should be from 1 to {_MOST} pixels")
    rows_contiguous = pixels.strides[1] == channels and (channels == 1 or pixels.strides[2] == 1)
    return pixels if rows_contiguous else np.ascontiguousarray(pixels)


def _region(roi: Any, image_wh: Size) -> tuple[int, int, int, int]:
    """The part of an image that is looked at.

    Raises:
        ValueError: not four whole numbers, or not inside the image.
    """
    try:
        x, y, width, height = (operator.index(side) for side in roi)
    except (TypeError, ValueError):
        raise ValueError(f"roi is {roi!r}; it should be (x, y, width, height) in whole pixels") from None
    if not (0 <= x < x + width <= image_wh[0] and 0 <= y < y + height <= image_wh[1]):
        raise ValueError(f"roi is {roi}; it should lie inside the image, which is {image_wh[0]}x{image_wh[1]} pixels")
    return x, y, width, height


def _size(name: str, size: Any) -> Size:
    try:
        width, height = size
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {size!r}; it should be (width, height)") from None
    return _int32(name, width), _int32(name, height)


def _limits(budget: Budget) -> tuple[int, float]:
    """Most candidates and seconds, -1 for no limit."""
    candidates, seconds = budget
    if not all(limit is None or _real("budget", limit) >= 0 for limit in budget):
        raise ValueError(f"budget is {budget}; limits should be 0 or more, or None")
    most = -1 if candidates is None else min(int(candidates), 1 << 62)
    return most, -1.0 if seconds is None else min(float(seconds), 1e9)


def _real(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is {value!r}; it should be a number") from None


def _int32(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}; it should be a whole number") from None
    if not -(1 << 31) <= number < 1 << 31:
        raise ValueError(f"{name} is {value}; it should fit 32 bits")
    return number
