"""Hard negatives: windows of pictures without the object that a cascade takes for it.

Each picture is scaled in steps, from a first size that is drawn anew for every visit, and the detector looks at every
step as at a picture of its own. So a window is found with the very pixels that a detection would see.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fasthaar import CascadeClassifier
from fasthaar.workshop import WorkshopError
from fasthaar.workshop.pictures import read_grey
from fasthaar.workshop.train_core import resize
from fasthaar.workshop.train_input import Pixels, Size

PASSES = 16  # over all pictures, each time in other sizes
_STEP = 1.2  # between the sizes of one visit
_GRID = 2  # pixels between windows, as in a detection in full size
_MOST_SIDE = 32767

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Mined:
    """What a search for negatives brought.

    Attributes:
        pixels: uint8 (N, height, width).
        accepted: windows that passed, kept or not.
        windows: windows that were looked at.
        rare: whether the search ended as windows that pass are rarer than was asked for.
    """

    pixels: Pixels
    accepted: int
    windows: int
    rare: bool

    @property
    def rate(self) -> float:
        """The share of windows that passed: the false alarm rate of the cascade."""
        return self.accepted / max(self.windows, 1)


class Miner:
    """Finds negatives in pictures. The same for any number of threads."""

    def __init__(
        self,
        paths: Iterable[Path],
        window_wh: Size,
        *,
        seed: int,
        threads: int,
        cache_bytes: int,
        progress: Callable[[int], None] = lambda pictures: None,
    ) -> None:
        """Read all pictures once.

        Args:
            paths: the pictures.
            window_wh: of the cascades.
            seed: the same seed finds the same windows.
            threads: how many pictures are looked at at once.
            cache_bytes: how much memory decoded pictures may take; the others are decoded anew for each visit.
            progress: told how many pictures were read.

        Raises:
            WorkshopError: a picture cannot be read, or all are smaller than the window.
        """
        self._paths = tuple(paths)
        self._window_wh = window_wh
        self._seed = seed
        self._threads = threads
        self._room = cache_bytes
        self._cache: dict[int, Pixels] = {}
        self._lock = threading.Lock()
        width, height = window_wh
        self._usable = []
        for number, (wide, high) in enumerate(_in_order(threads, self._size, range(len(self._paths)))):
            progress(number + 1)
            if width <= wide <= _MOST_SIDE and height <= high <= _MOST_SIDE:
                self._usable.append(number)
        if not self._usable:
            raise WorkshopError(
                f"all {len(self._paths)} negative pictures are smaller than the window, {width}x{height}"
            )

    @property
    def pictures(self) -> int:
        """How many pictures are as large as the window or larger."""
        return len(self._usable)

    def mine(
        self,
        cascade: bytes,
        stage: int,
        wanted: int,
        target: float = 0.0,
        progress: Callable[[int], None] = lambda found: None,
    ) -> Mined:
        """Find windows that pass a cascade.

        Args:
            cascade: the XML.
            stage: makes the search another one for each stage.
            wanted: how many.
            target: the search ends when windows that pass are surely rarer than this.
            progress: told how many have been found.

        Returns:
            As many as wanted, or fewer when all pictures were looked at often, or when they are too rare.
        """
        classifier = CascadeClassifier(cascade)
        found: list[Pixels] = []
        accepted = windows = 0
        for patches, passed, seen in _in_order(self._threads, self._visit, self._visits(classifier, stage, wanted)):
            accepted += passed
            windows += seen
            found += patches[: wanted - len(found)]
            progress(len(found))
            # Three, and two standard deviations, more than were seen.
            rare = accepted + 2 * math.sqrt(accepted) + 3 < target * windows
            if len(found) == wanted or rare:
                break
        shape = (0, *self._window_wh[::-1])
        pixels = np.stack(found) if found else np.empty(shape, np.uint8)
        return Mined(pixels, accepted, windows, rare)

    def _visits(self, classifier: CascadeClassifier, stage: int, wanted: int) -> Iterator[_Visit]:
        for turn in range(PASSES):
            rng = np.random.default_rng([self._seed, stage, turn])
            # In the first passes a few windows of every picture, so that no picture outweighs the others.
            most = math.ceil(1.25 * wanted / len(self._usable)) * 2**turn
            for place in rng.permutation(len(self._usable)).tolist():
                picture = self._usable[place]
                yield _Visit(picture, classifier, (self._seed, stage, turn, picture), most)

    def _picture(self, number: int) -> Pixels:
        if number in self._cache:
            return self._cache[number]
        picture = read_grey(self._paths[number])
        with self._lock:
            if picture.nbytes <= self._room:
                self._room -= picture.nbytes
                self._cache[number] = picture
        return picture

    def _size(self, number: int) -> Size:
        height, width = self._picture(number).shape
        return width, height

    def _visit(self, visit: _Visit) -> tuple[list[Pixels], int, int]:
        """Some of a picture's windows that pass, how many do, and how many there are."""
        image = self._picture(visit.picture)
        rng = np.random.default_rng(visit.seeds)
        width, height = self._window_wh
        first = _STEP ** rng.random()
        largest = min(image.shape[1] / width, image.shape[0] / height)
        steps = 1 + max(0, math.floor(math.log(largest / first, _STEP))) if largest >= first else 1
        patches: list[Pixels] = []
        passed = windows = 0
        for step in rng.permutation(steps).tolist():
            scale = min(first * _STEP**step, largest)
            level = _scaled(image, scale, self._window_wh)
            y, x = (
                int(rng.integers(min(_GRID, side - own + 1)))
                for side, own in zip(level.shape, (height, width), strict=True)
            )
            level = level[y:, x:]
            corners, here = _look(level, visit.classifier, self._window_wh)
            passed += len(corners)
            windows += here
            kept = rng.permutation(len(corners))[: min(math.ceil(visit.most / 3), visit.most - len(patches))]
            patches += [level[y : y + height, x : x + width].copy() for x, y in corners[kept].tolist()]
            if len(patches) >= visit.most:
                break
        return patches, passed, windows


@dataclass(frozen=True)
class _Visit:
    """One look at a picture, for at most so many windows."""

    picture: int
    classifier: CascadeClassifier
    seeds: tuple[int, ...]
    most: int


def _scaled(image: Pixels, scale: float, window_wh: Size) -> Pixels:
    height, width = (max(own, round(side / scale)) for side, own in zip(image.shape, window_wh[::-1], strict=True))
    return image if (height, width) == image.shape else resize(image, (width, height))


def _look(level: Pixels, classifier: CascadeClassifier, window_wh: Size) -> tuple[NDArray[np.int64], int]:
    """Where windows pass, int64 (N, 2) x and y, and how many windows there are."""
    rows, columns = ((side - own) // _GRID + 1 for side, own in zip(level.shape, window_wh[::-1], strict=True))
    rects = classifier.detectMultiScale(level, 2.0, 0, minSize=window_wh, maxSize=window_wh)
    return np.asarray(rects, np.int64).reshape(-1, 4)[:, :2], rows * columns


def passing(cascade: bytes, pixels: Pixels, threads: int) -> NDArray[np.bool_]:
    """Which samples, uint8 (N, height, width), a detection finds, (N,)."""
    classifier = CascadeClassifier(cascade)

    def found(some: Pixels) -> list[bool]:
        return [len(classifier.detectMultiScale(sample, 2.0, 0)) > 0 for sample in some]

    parts = np.array_split(pixels, max(1, len(pixels) // 500))
    return np.array([yes for part in _in_order(threads, found, parts) for yes in part], np.bool_)


def _in_order(threads: int, make: Callable[[_Item], _Made], items: Iterable[_Item]) -> Iterator[_Made]:
    """What is made of items, in their order, by threads that are a few items ahead."""
    waiting: deque[Future[_Made]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
