"""The compiled core, by ctypes: the structures of fasthaar.h, and a loaded cascade.

A call into the core releases the GIL; the core starts and ends its own threads.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthaar._xml import Cascade

FEATURE_TYPES = {"HAAR": 0, "LBP": 1}
RECTANGLES, COUNTS, LEVELS = range(3)
OK, INVALID, OUT_OF_MEMORY, TOO_MANY_CANDIDATES, TOO_SLOW = range(5)

_int32, _float, _pointer = ctypes.c_int32, ctypes.c_float, ctypes.c_void_p


class _CascadeData(ctypes.Structure):
    _fields_ = [
        *((name, _int32) for name in ("feature_type", "window_width", "window_height")),
        *((name, _int32) for name in ("stages", "trees", "nodes", "features")),
        *((name, _pointer) for name in ("stage_thresholds", "stage_trees", "tree_nodes", "left", "right", "feature")),
        *((name, _pointer) for name in ("threshold", "subsets", "leaves", "rects", "weights", "tilted")),
    ]


class Request(ctypes.Structure):
    """`fh_request`; the image's memory is the caller's to keep."""

    _fields_ = [
        ("image", _pointer),
        ("row_stride", ctypes.c_int64),
        *((name, _int32) for name in ("width", "height", "channels", "min_neighbors")),
        ("scale_factor", ctypes.c_double),
        *((name, _int32) for name in ("min_width", "min_height", "max_width", "max_height", "output", "threads")),
        ("max_candidates", ctypes.c_int64),
        ("max_seconds", ctypes.c_double),
    ]


class _Result(ctypes.Structure):
    _fields_ = [("count", _int32), ("rects", _pointer), ("numbers", _pointer), ("weights", _pointer)]


def _open() -> ctypes.CDLL:
    core = ctypes.CDLL(str(Path(__file__).with_name("_fasthaar.so")))
    core.fh_load.argtypes = [ctypes.POINTER(_CascadeData), ctypes.POINTER(_pointer)]
    core.fh_free.argtypes = [_pointer]
    core.fh_free.restype = None
    core.fh_detect.argtypes = [_pointer, ctypes.POINTER(Request), ctypes.POINTER(_Result)]
    core.fh_release.argtypes = [ctypes.POINTER(_Result)]
    core.fh_release.restype = None
    core.fh_group.argtypes = [_pointer, _pointer, _pointer, _int32, _int32, ctypes.POINTER(_int32)]
    core.fh_targets.restype = ctypes.c_char_p
    core.fh_use_target.argtypes = [ctypes.c_char_p]
    return core


def _choose_target(core: ctypes.CDLL) -> str:
    """Take the target that FASTHAAR_TARGET names, or the best one that this machine can run."""
    possible = core.fh_targets().decode().split()
    wanted = os.environ.get("FASTHAAR_TARGET") or possible[0]
    if core.fh_use_target(wanted.encode()) != OK:
        raise ImportError(f"FASTHAAR_TARGET={wanted}: this machine can run {', '.join(possible)}")
    return wanted


library = _open()
TARGET: str = _choose_target(library)


class Loaded:
    """A cascade in the core. It never changes, so any number of threads may use it at once."""

    def __init__(self, cascade: Cascade) -> None:
        """Hand a parsed cascade over.

        Raises:
            ValueError: the core refuses it; parsed cascades are valid, so this means one that was made by hand.
            MemoryError: there is not enough memory.
        """
        self._handle: int | None = None
        arrays: dict[str, NDArray[Any]] = {
            "stage_thresholds": np.ascontiguousarray(cascade.stage_thresholds, np.float32),
            "stage_trees": np.ascontiguousarray(cascade.stage_trees, np.int32),
            "tree_nodes": np.ascontiguousarray(cascade.tree_nodes, np.int32),
            "left": np.ascontiguousarray(cascade.left, np.int32),
            "right": np.ascontiguousarray(cascade.right, np.int32),
            "feature": np.ascontiguousarray(cascade.feature, np.int32),
            "threshold": np.ascontiguousarray(cascade.threshold, np.float32),
            "subsets": np.ascontiguousarray(cascade.subsets, np.uint32),
            "leaves": np.ascontiguousarray(cascade.leaves, np.float32),
            "rects": np.ascontiguousarray(cascade.rects, np.int32),
            "weights": np.ascontiguousarray(cascade.weights, np.float32),
            "tilted": np.ascontiguousarray(cascade.tilted, np.uint8),
        }
        data = _CascadeData(
            FEATURE_TYPES[cascade.feature_type],
            *cascade.window_wh,
            len(cascade.stage_trees),
            len(cascade.tree_nodes),
            len(cascade.left),
            len(cascade.rects),
            *(array.ctypes.data for array in arrays.values()),
        )
        handle = _pointer()
        raise_for(library.fh_load(data, handle), "the cascade breaks a rule of the format")
        self._handle = handle.value

    def __del__(self) -> None:
        if self._handle is not None:
            library.fh_free(self._handle)

    def detect(self, request: Request) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64], int]:
        """Run one detection.

        Returns:
            rectangles xywh (N, 4), numbers (N,), level weights (N,), and OK, TOO_MANY_CANDIDATES or TOO_SLOW.
        Raises:
            ValueError: the request is invalid.
            MemoryError: there is not enough memory.
        """
        result = _Result()
        status = library.fh_detect(self._handle, request, result)
        if status in (TOO_MANY_CANDIDATES, TOO_SLOW):
            return (*_nothing(), status)
        raise_for(status, "the core refuses these arguments")
        count: int = result.count
        if not count:
            library.fh_release(result)
            return (*_nothing(), OK)
        try:
            rects = _copy(result.rects, np.dtype(np.int32), 4 * count).reshape(-1, 4)
            return (
                rects,
                _copy(result.numbers, np.dtype(np.int32), count),
                _copy(result.weights, np.dtype(float), count),
                OK,
            )
        finally:
            library.fh_release(result)


def _nothing() -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    return np.empty((0, 4), np.int32), np.empty(0, np.int32), np.empty(0)


def _copy(address: int, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    return np.frombuffer(ctypes.string_at(address, count * dtype.itemsize), dtype).copy()


def raise_for(status: int, invalid: str) -> None:
    if status == INVALID:
        raise ValueError(invalid)
    if status == OUT_OF_MEMORY:
        raise MemoryError("fasthaar: there is not enough memory")
