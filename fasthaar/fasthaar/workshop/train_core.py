"""The compiled core's part in training, by ctypes: features in samples, and the best split of samples by a feature."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthaar._native import FEATURE_TYPES, library, raise_for
from fasthaar.workshop.features import FeatureSet

SQUARES, ABSOLUTES = range(2)

_int32, _pointer = ctypes.c_int32, ctypes.c_void_p


class _SamplesData(ctypes.Structure):
    _fields_ = [
        *((name, _int32) for name in ("feature_type", "window_width", "window_height")),
        *((name, _int32) for name in ("samples", "features", "threads")),
        ("cache_bytes", ctypes.c_int64),
        *((name, _pointer) for name in ("pixels", "rects", "weights", "tilted")),
    ]


class _SplitRequest(ctypes.Structure):
    _fields_ = [
        *((name, _int32) for name in ("criterion", "count", "candidates")),
        *((name, _pointer) for name in ("indices", "weights", "targets", "features")),
    ]


class _Split(ctypes.Structure):
    _fields_ = [
        ("feature", _int32),
        ("threshold", ctypes.c_float),
        ("subset", ctypes.c_uint32 * 8),
        ("gain", ctypes.c_double),
    ]


library.fh_samples_load.argtypes = [ctypes.POINTER(_SamplesData), ctypes.POINTER(_pointer)]
library.fh_samples_free.argtypes = [_pointer]
library.fh_samples_free.restype = None
library.fh_samples_contrast.argtypes = [_pointer, _pointer]
library.fh_samples_contrast.restype = None
library.fh_samples_values.argtypes = [_pointer, _int32, _pointer]
library.fh_samples_split.argtypes = [_pointer, ctypes.POINTER(_SplitRequest), ctypes.POINTER(_Split)]
library.fh_resize.argtypes = [_pointer, ctypes.c_int64, _int32, _int32, _pointer, _int32, _int32]


@dataclass(frozen=True)
class Split:
    """Which samples go left: HAAR those below the threshold, LBP those whose code is in the subset."""

    feature: int
    threshold: float
    subset: tuple[int, ...]  # 8 words of 32 bits
    gain: float


class Samples:
    """Samples in the core, with what was computed of their features. One thread may use it at a time."""

    def __init__(
        self, pixels: NDArray[np.uint8], features: FeatureSet, *, threads: int = 1, cache_bytes: int = 1 << 30
    ) -> None:
        """Hand samples over.

        Args:
            pixels: uint8 (N, height, width), of the features' window.
            features: what can be asked for.
            threads: 1 to 64; no answer depends on it.
            cache_bytes: how much memory what was computed of features may take; no answer depends on it.

        Raises:
            ValueError: there are no samples, more than a million, or they are of another size than the window.
            MemoryError: there is not enough memory.
        """
        self._handle: int | None = None
        if pixels.ndim != 3 or pixels.shape[:0:-1] != features.window_wh or pixels.dtype != np.uint8:
            raise ValueError(f"samples are {pixels.shape} {pixels.dtype}; should be uint8 of {features.window_wh}")
        self.count = len(pixels)
        self.features = features
        kept = np.ascontiguousarray(pixels)
        data = _SamplesData(
            FEATURE_TYPES[features.feature_type],
            *features.window_wh,
            len(kept),
            len(features.rects),
            threads,
            cache_bytes,
            *(array.ctypes.data for array in (kept, features.rects, features.weights, features.tilted)),
        )
        handle = _pointer()
        raise_for(library.fh_samples_load(data, handle), f"{len(kept)} samples; should be 1 to 1000000")
        self._handle = handle.value

    def __del__(self) -> None:
        if self._handle is not None:
            library.fh_samples_free(self._handle)

    def have_contrast(self) -> NDArray[np.bool_]:
        """Which samples the detector would look at, (N,): it passes over those without contrast."""
        flags = np.empty(self.count, np.uint8)
        library.fh_samples_contrast(self._handle, flags.ctypes.data)
        return flags.astype(np.bool_)

    def values(self, feature: int) -> NDArray[np.float32]:
        """A feature in every sample, (N,): what the detector compares with a threshold, or the LBP code.

        Raises:
            ValueError: there is no such feature.
        """
        values = np.empty(self.count, np.float32)
        raise_for(library.fh_samples_values(self._handle, feature, values.ctypes.data), f"no feature {feature}")
        return values

    def goes_left(self, split: Split) -> NDArray[np.bool_]:
        """Which samples go left, (N,), exactly as in a detection."""
        values = self.values(split.feature)
        if self.features.feature_type == "HAAR":
            below: NDArray[np.bool_] = values < np.float32(split.threshold)
            return below
        codes = values.astype(np.int64)
        words = np.array(split.subset, np.uint32)[codes >> 5]
        left: NDArray[np.bool_] = np.not_equal(words >> (codes & 31).astype(np.uint32) & 1, 0)
        return left

    def best_split(
        self,
        criterion: int,
        indices: NDArray[np.int32],
        weights: NDArray[np.float64],
        targets: NDArray[np.float64],
        candidates: NDArray[np.int32] | None = None,
    ) -> Split | None:
        """The feature that tells some samples apart best, and how.

        Args:
            criterion: SQUARES or ABSOLUTES: what the sum of weighted targets on each side is worth, its square by the
                weight or its absolute.
            indices: int32 (M,), which samples, ascending.
            weights: (M,), above 0.
            targets: (M,), weight x target.
            candidates: int32, which features, ascending; None for all.

        Returns:
            The split; None where no feature is worth anything.

        Raises:
            MemoryError: there is not enough memory.
        """
        arrays: list[NDArray[Any] | None] = [
            np.ascontiguousarray(indices, np.int32),
            np.ascontiguousarray(weights, np.float64),
            np.ascontiguousarray(targets, np.float64),
            None if candidates is None else np.ascontiguousarray(candidates, np.int32),
        ]
        request = _SplitRequest(
            criterion,
            len(indices),
            len(self.features.rects) if candidates is None else len(candidates),
            *(None if array is None else array.ctypes.data for array in arrays),
        )
        found = _Split()
        raise_for(library.fh_samples_split(self._handle, request, found), "the core refuses to split these samples")
        if found.feature < 0:
            return None
        return Split(found.feature, found.threshold, tuple(found.subset), found.gain)


def resize(image: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """A grey image in another size, bit for bit as the detector makes its levels; sides are 1 to 32767 pixels."""
    source = image if image.strides[1] == 1 else np.ascontiguousarray(image)
    out = np.empty(size_wh[::-1], np.uint8)
    height, width = source.shape
    status = library.fh_resize(source.ctypes.data, source.strides[0], width, height, out.ctypes.data, *size_wh)
    raise_for(status, f"{width}x{height} to {size_wh[0]}x{size_wh[1]}; sides should be 1 to 32767 pixels")
    return out
