"""A cascade's rectangles held against labelled objects."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasthaar import CascadeClassifier, group_rectangles
from fasthaar.workshop import WorkshopError
from fasthaar.workshop.annotations import Annotated
from fasthaar.workshop.effects import Bytes, Size
from fasthaar.workshop.pictures import read_grey, resized

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """When a rectangle counts as an object.

    Attributes:
        iou: intersection over union from which on they are the same.
        margin: how much larger on each side the cascade's window is than a labelled box, in parts of the box.
        least_px: smaller objects need not be found, nor do rectangles of that size count; see `side_of`.
    """

    iou: float = 0.5
    margin: float = 0
    least_px: float = 0


@dataclass(frozen=True)
class Picture:
    """A picture as it is looked at, uint8 (H, W), its objects, float64 (T, 4) xywh, and which need not be found."""

    name: str
    image: Bytes
    boxes: Floats
    ignored: NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """All windows of a picture that pass a cascade: int32 (N, 4) xywh, level weights (N,), and what that took."""

    rects: NDArray[np.int32]
    weights: Floats
    seconds: float


@dataclass(frozen=True)
class Verdict:
    """What was right and wrong in one picture, or in several one after the other.

    Attributes:
        hits: bool (D,), whether a rectangle is an object; rectangles on ignored objects are left out.
        neighbors, weights: (D,), what rectangles are ranked by, first the one and then the other.
        sizes: (D,), of the object that is hit, else of the rectangle.
        found: bool (T,), of the objects that count.
        object_sizes: (T,).
    """

    hits: NDArray[np.bool_]
    neighbors: NDArray[np.int32]
    weights: Floats
    sizes: Floats
    found: NDArray[np.bool_]
    object_sizes: Floats


def load_cascade(path: Path) -> CascadeClassifier:
    """A cascade from its file.

    Raises:
        WorkshopError: there is no such file, or it is no valid cascade.
    """
    try:
        classifier = CascadeClassifier(path)
    except ValueError as error:
        raise WorkshopError(f"{path}: {error}") from None
    if classifier.empty():
        raise WorkshopError(f"{path}: there is no such file, or it cannot be read; should be a cascade's .xml")
    return classifier


def load_picture(one: Annotated, long_side: int | None) -> Picture:
    """A labelled picture, enlarged or reduced so that its longer side has so many pixels.

    Raises:
        WorkshopError: it cannot be read.
    """
    image, boxes = read_grey(one.path), one.boxes
    height, width = image.shape
    if long_side and long_side != max(width, height):
        scale = long_side / max(width, height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = resized(image, size)
        boxes = boxes * np.array((size[0] / width, size[1] / height) * 2)
    return Picture(str(one.path), image, boxes, one.ignored)


def find_candidates(
    classifier: CascadeClassifier, image: Bytes, scale_factor: float, min_size: Size, threads: int = 1
) -> Candidates:
    """One detection without grouping: `group_rectangles` makes of it what any min_neighbors would give."""
    begin = time.perf_counter()
    rects, levels, weights = classifier.detectMultiScale3(
        image, scale_factor, 0, minSize=min_size, outputRejectLevels=True, num_threads=threads
    )
    seconds = time.perf_counter() - begin
    rects, weights = np.array(rects, np.int32).reshape(-1, 4), np.array(weights, np.float64)
    if len(levels) and max(levels) == 1:
        # With a single stage, windows without contrast come along, which are no candidates.
        passed = classifier.detectMultiScale(image, scale_factor, 0, minSize=min_size, num_threads=threads)
        known = {rect.tobytes() for rect in np.array(passed, np.int32).reshape(-1, 4)}
        kept = np.array([rect.tobytes() in known for rect in rects], bool)
        rects, weights = rects[kept], weights[kept]
    return Candidates(rects, weights, seconds)


def judge(picture: Picture, candidates: Candidates, min_neighbors: int, rules: Rules) -> Verdict:
    """What is right and wrong at a strictness; each object is given to the first rectangle by rank that hits it."""
    rects, neighbors, weights = group_rectangles(candidates.rects, min_neighbors, candidates.weights)
    assert weights is not None
    order = np.lexsort((-weights, -neighbors))
    boxes, neighbors, weights = _shrunk(rects[order].astype(np.float64), rules.margin), neighbors[order], weights[order]
    overlap = iou(boxes, picture.boxes)
    object_sizes = side_of(picture.boxes)
    ignored = picture.ignored | (object_sizes < rules.least_px)
    sizes = side_of(boxes)
    taken = np.zeros(len(ignored), bool)
    hits, counted = np.zeros(len(boxes), bool), np.ones(len(boxes), bool)
    for place in range(len(boxes)):
        free = np.where(taken | ignored | (overlap[place] < rules.iou), -1.0, overlap[place])
        if len(free) and free.max() >= 0:
            best = int(free.argmax())
            taken[best] = hits[place] = True
            sizes[place] = object_sizes[best]
        else:
            counted[place] = sizes[place] >= rules.least_px and not (overlap[place][ignored] >= rules.iou).any()
    return Verdict(
        hits[counted],
        neighbors[counted],
        weights[counted],
        sizes[counted],
        taken[~ignored],
        object_sizes[~ignored],
    )


def joined(verdicts: Sequence[Verdict]) -> Verdict:
    """Several verdicts, at least one, as one."""
    return Verdict(
        np.concatenate([verdict.hits for verdict in verdicts]),
        np.concatenate([verdict.neighbors for verdict in verdicts]),
        np.concatenate([verdict.weights for verdict in verdicts]),
        np.concatenate([verdict.sizes for verdict in verdicts]),
        np.concatenate([verdict.found for verdict in verdicts]),
        np.concatenate([verdict.object_sizes for verdict in verdicts]),
    )


@dataclass(frozen=True)
class Scores:
    """Counts of a verdict, and what follows from them; None is what nothing can be said about."""

    objects: int
    true_positives: int
    false_positives: int

    @property
    def precision(self) -> float | None:
        """The share of rectangles that are objects."""
        rectangles = self.true_positives + self.false_positives
        return self.true_positives / rectangles if rectangles else None

    @property
    def recall(self) -> float | None:
        """The share of objects that are found."""
        return self.true_positives / self.objects if self.objects else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of both."""
        both = self.objects + self.true_positives + self.false_positives
        return 2 * self.true_positives / both if both else None


def scores(verdict: Verdict, low: float = 0, high: float = np.inf) -> Scores:
    """The scores of what is at least `low` and below `high` pixels large; see `side_of`."""
    of_size = (verdict.sizes >= low) & (verdict.sizes < high)
    objects = (verdict.object_sizes >= low) & (verdict.object_sizes < high)
    hits = verdict.hits[of_size]
    return Scores(int(objects.sum()), int(hits.sum()), int((~hits).sum()))


def curve(verdict: Verdict) -> tuple[Floats, Floats]:
    """Recall and precision after each rectangle, those of all pictures in one rank; both (D,)."""
    order = np.lexsort((-verdict.weights, -verdict.neighbors))
    hits = np.cumsum(verdict.hits[order])
    recall = hits / max(1, len(verdict.found))
    return recall, hits / np.arange(1, len(hits) + 1)


def average_precision(verdict: Verdict) -> float | None:
    """The area below the curve, precision being the best that is reached at this recall or a higher one."""
    if not len(verdict.found):
        return None
    recall, precision = curve(verdict)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * best))


def iou(a_xywh: Floats, b_xywh: Floats) -> Floats:
    """Intersection over union of each of `a` with each of `b`: (N, M)."""
    a, b = a_xywh[:, None], b_xywh[None]
    sides = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = sides.clip(0).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared
    return np.asarray(shared / np.where(union > 0, union, 1), np.float64)


def side_of(xywh: Floats) -> Floats:
    """How large boxes are: the side of a square with their area, pixels."""
    return np.asarray(np.sqrt(xywh[:, 2] * xywh[:, 3]), np.float64)


def _shrunk(xywh: Floats, margin: float) -> Floats:
    size = xywh[:, 2:] / (1 + 2 * margin)
    return np.hstack([xywh[:, :2] + (xywh[:, 2:] - size) / 2, size])
