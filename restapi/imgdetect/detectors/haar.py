"""Cascades of Haar or LBP features: `haar:face`, or `haar:/cascades/stop_sign.xml?min_neighbors=5`.

Boxes are those of OpenCV's `detectMultiScale` with the same parameters, and scores are the level weights of
`detectMultiScale3`, whichever engine looks. One native pass gives the raw candidates; they are grouped here, so that a
look that found nothing can say what less strictness would have found.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from imgdetect import boxes
from imgdetect.backends import refuse_unknown
from imgdetect.detection import Box, Detection, DetectionResult, DetectOptions, Facts, UploadedCascade
from imgdetect.detectors import Image, _cascades, refuse
from imgdetect.detectors._cascades import BUNDLED, MAX_BYTES, Bundled, CascadeFile, Size
from imgdetect.detectors._engines import MAX_CANDIDATES, MISSING, Candidates, Engine, FastHaar, Grey, engine_of
from imgdetect.detectors._trial import try_out
from imgdetect.errors import DetectorFailed, InvalidRequest

__all__ = [
    "BUNDLED",
    "MAX_BYTES",
    "MISSING",
    "CascadeFile",
    "HaarDetector",
    "create",
    "engine_of",
    "try_out",
    "uploaded",
]

# What other detectors take and a cascade has not.
_NOT_HERE = {
    "confidence": "a cascade has no probabilities; min_neighbors says how strict it is",
    "iou_threshold": "a cascade groups its candidates; min_neighbors says how",
    "classes": "a cascade knows one class",
    "top_k": "belongs to classification; max_detections keeps the best",
    "class_confidence": "a cascade has no probabilities",
}
# The longest time that an uploaded cascade may take for a picture at one rotation.
UPLOADED_SECONDS = 10.0
# Boxes seen at different rotations that overlap this much (intersection over union) are the same object.
MERGE_IOU = 0.3
# How many lower values of min_neighbors the near misses name.
MAX_NEAR_MISSES = 10
# The mean grey value, of 255, below which a picture is called dark, and above which it is called washed out.
DARK, BRIGHT = 40, 225
_MOST_PIXELS = 1 << 20  # no side of a picture is longer; OpenCV's sizes are 32-bit


def create(
    name: str, target: str, parameters: dict[str, str], *, working_pixels: int, threads: int = 1
) -> HaarDetector:
    """Build the detector of a bundled cascade's name or of a cascade file.

    Args:
        name: the public name.
        target: a key of BUNDLED, or the path of an XML file (new or old format).
        parameters: defaults that differ from the cascade's own: scale_factor, min_neighbors, min_size, max_size,
            equalize; class_name; engine.
        working_pixels: pictures that have more, or would when turned, are scaled down to this many pixels.
        threads: not needed; a look uses one.
    Raises:
        ValueError: a bad parameter, or a file that is missing or no cascade; one line.
    """
    refuse_unknown(parameters, *_cascades.READERS, "class_name", "engine")
    engine = engine_of(parameters.get("engine"))
    if not target:
        raise ValueError("haar: needs the name of a bundled cascade or the path of an XML file")
    bundled = BUNDLED.get(target)
    path = Path(cv2.__file__).with_name("data") / bundled.file if bundled else Path(target)
    if not bundled and not path.suffix and not path.exists():
        raise ValueError(f"there is no cascade {target!r}; known here: {', '.join(BUNDLED)}, or the path of a file")
    file = _cascades.read(path)
    if not bundled:
        engine.vet(file)
    bundled = bundled or Bundled("", name)
    return HaarDetector(
        name,
        parameters.get("class_name") or bundled.class_name,
        file=file,
        engine=engine(file),
        defaults=_cascades.defaults(bundled, file.window_wh, parameters),
        working_pixels=working_pixels,
    )


def uploaded(cascade: UploadedCascade, working_pixels: int, xml: bytes = b"") -> HaarDetector:
    """Build the detector of a cascade that a client uploaded. Only fasthaar looks with it, and within a budget.

    Args:
        cascade: its row.
        working_pixels: see `create`.
        xml: the cascade itself, which only the process that looks with it needs.
    """
    window_wh = cascade.window_width, cascade.window_height
    file = CascadeFile(cascade.sha256, window_wh, cascade.stages, xml=xml)
    return HaarDetector(
        cascade.name,
        cascade.class_name,
        file=file,
        engine=FastHaar(file, seconds=UPLOADED_SECONDS),
        defaults=_cascades.DEFAULTS | {"min_size": window_wh} | cascade.defaults,
        working_pixels=working_pixels,
    )


@dataclass(frozen=True)
class _Frame:
    """The part of the picture that is looked at, and the size it is looked at."""

    image_wh: Size
    crop: tuple[int, int, int, int]  # x, y, width, height in the picture, never empty
    working_wh: Size

    @classmethod
    def of(cls, image_wh: Size, options: DetectOptions, working_pixels: int) -> _Frame:
        width, height = image_wh
        x, y, w, h = options.roi or (0, 0, width, height)
        left, top, right, bottom = max(0, x), max(0, y), min(width, x + w), min(height, y + h)
        if left >= right or top >= bottom:
            raise InvalidRequest.field("roi", f"lies outside the image, which is {width}x{height} pixels")
        crop = (left, top, right - left, bottom - top)
        # Turned by 45 degrees, a long narrow picture needs a canvas of many times its pixels: the canvas counts.
        canvas = max(math.prod(boxes.turned_size(crop[2:], degrees)) for degrees in options.rotations)
        factor = min(1.0, math.sqrt(working_pixels / canvas))
        return cls(image_wh, crop, (max(1, int(crop[2] * factor)), max(1, int(crop[3] * factor))))

    @property
    def scale_xy(self) -> tuple[float, float]:
        """From working pixels to the picture's."""
        return self.crop[2] / self.working_wh[0], self.crop[3] / self.working_wh[1]

    def working_size(self, size_wh: Size, degrees: int) -> Size:
        """A size of the picture in the turned working picture; never below 1."""
        x, y = (max(1, round(min(s, _MOST_PIXELS) / by)) for s, by in zip(size_wh, self.scale_xy, strict=True))
        return (y, x) if degrees % 180 == 90 else (x, y)

    def to_image(self, xywh: NDArray[Any], degrees: int) -> NDArray[np.int64]:
        """Boxes of the turned working picture in the picture: xyxy, clipped; those seen in the margin are empty."""
        upright = boxes.unrotate_boxes(boxes.xywh_to_xyxy(xywh), degrees, self.working_wh)
        centers = (upright[:, :2] + upright[:, 2:]) / 2
        inside = np.all((centers >= 0) & (centers <= self.working_wh), axis=1)
        scaled = np.rint(boxes.scale_boxes(boxes.xyxy_to_xywh(upright), self.scale_xy)).astype(np.int64)
        scaled[:, :2] += self.crop[:2]
        clipped = boxes.clip_boxes(boxes.xywh_to_xyxy(scaled), self.image_wh)
        return np.where(inside[:, None], clipped, 0)


@dataclass(frozen=True)
class _Look:
    """The raw candidates of one rotation."""

    degrees: int
    candidates: Candidates

    @cached_property
    def clusters(self) -> boxes.Clusters:
        return boxes.cluster_rectangles(self.candidates.xywh)


class _Found(NamedTuple):
    """Objects in the picture, the best first."""

    xyxy: NDArray[np.int64]
    neighbors: NDArray[np.int64]
    scores: NDArray[np.float64]
    degrees: NDArray[np.int64]

    def take(self, rows: NDArray[Any] | slice) -> _Found:
        """Some of them, in the given order."""
        return _Found(self.xyxy[rows], self.neighbors[rows], self.scores[rows], self.degrees[rows])


class HaarDetector:
    """Looks for one kind of object with one cascade; see `Detector` for the members."""

    task = "detection"

    def __init__(
        self,
        name: str,
        class_name: str,
        *,
        file: CascadeFile,
        engine: Engine,
        defaults: dict[str, Any],
        working_pixels: int,
    ) -> None:
        self.name = name
        self.class_names: tuple[str, ...] = (class_name,)
        self._window_wh = file.window_wh
        self._engine = engine
        self._defaults = defaults
        self._working_pixels = working_pixels
        self.facts = Facts(
            name, engine.name, engine.version, file.window_wh, dict(defaults), _cascades.schema(defaults)
        )
        identity = (file.sha256, class_name, engine.name, engine.version, defaults, working_pixels)
        self.fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def resolve(self, options: DetectOptions) -> DetectOptions:
        """The options with every None that has a default replaced by it.

        Raises:
            InvalidRequest: an option that cascades do not have.
        """
        refuse(options, _NOT_HERE)
        return replace(options, **{k: v for k, v in self._defaults.items() if getattr(options, k) is None})

    def cost(self, size_wh: Size, options: DetectOptions) -> int:
        """How many windows OpenCV looks at, all rotations together.

        Raises:
            InvalidRequest: the roi lies outside the picture.
        """
        options = self.resolve(options)
        frame = _Frame.of(size_wh, options, self._working_pixels)
        return sum(self._windows(frame, options, degrees) for degrees in options.rotations)

    def _windows(self, frame: _Frame, options: DetectOptions, degrees: int) -> int:
        min_size, max_size = self._sizes(frame, options, degrees)
        size_wh = boxes.turned_size(frame.working_wh, degrees)
        return _cascades.count_windows(self._window_wh, size_wh, options.scale_factor or 0.0, min_size, max_size)

    @staticmethod
    def _sizes(frame: _Frame, options: DetectOptions, degrees: int) -> tuple[Size, Size | None]:
        """The smallest and the largest object looked for in the turned working picture."""
        max_size = frame.working_size(options.max_size, degrees) if options.max_size else None
        return frame.working_size(options.min_size or (1, 1), degrees), max_size

    def detect(self, image: Image, options: DetectOptions) -> DetectionResult:
        """Look at an upright BGR image, shape (height, width, 3).

        Raises:
            InvalidRequest: the roi lies outside the picture.
            DetectorFailed, DetectorTooSlow: the engine broke down, or the cascade accepts nearly everything.
        """
        options = self.resolve(options)
        frame = _Frame.of((image.shape[1], image.shape[0]), options, self._working_pixels)
        grey = _grey(image, frame)
        looks = self._looks(grey, frame, options)
        found = _find(looks, frame, options.min_neighbors or 0)
        near = None if len(found.xyxy) else self._near_misses(grey, frame, options, looks)
        best = found.take(slice(options.max_detections))
        detections = tuple(
            Detection(self.name, self.class_names[0], Box(x, y, right - x, bottom - y), score, neighbors, None, degrees)
            for (x, y, right, bottom), neighbors, score, degrees in zip(*(part.tolist() for part in best), strict=True)
        )
        return DetectionResult(detections, (), len(found.xyxy), frame.working_wh, near)

    def _looks(self, grey: Grey, frame: _Frame, options: DetectOptions) -> list[_Look]:
        """The raw candidates at every rotation."""
        upright = np.asarray(cv2.equalizeHist(grey), np.uint8) if options.equalize else grey
        looks: list[_Look] = []
        for degrees in options.rotations:
            sizes = self._sizes(frame, options, degrees)
            candidates = self._engine.look(_turn(upright, degrees), options.scale_factor or 0.0, *sizes)
            looks.append(_Look(degrees, candidates))
            if sum(len(look.candidates.xywh) for look in looks) > MAX_CANDIDATES:
                raise DetectorFailed(f"The detector saw more than {MAX_CANDIDATES} candidates in this image.")
        return looks

    def _near_misses(self, grey: Grey, frame: _Frame, options: DetectOptions, looks: list[_Look]) -> dict[str, Any]:
        """Why nothing was found, and what less strictness would have found."""
        strongest = max((int(count) for look in looks for count in look.clusters.neighbors), default=0)
        below = min(options.min_neighbors or 0, strongest)
        lower = []
        for value in range(below - 1, max(0, below - MAX_NEAR_MISSES) - 1, -1):
            if count := len(_find(looks, frame, value).xyxy):
                lower.append({"min_neighbors": value, "detections": count})
        brightness = round(float(grey.mean()), 1)
        return {
            "lower_min_neighbors": lower,
            "image_size": _named(frame.image_wh),
            "window": _named(self._window_wh),
            "working_size": _named(frame.working_wh),
            "brightness": brightness,
            "hint": self._hint(frame, options, lower, brightness),
        }

    def _hint(self, frame: _Frame, options: DetectOptions, lower: list[dict[str, int]], brightness: float) -> str:
        window = "{}x{}".format(*self._window_wh)
        upright, across = frame.working_wh, frame.working_wh[::-1]
        sizes = [across if degrees % 180 == 90 else upright for degrees in options.rotations]
        if not any(w >= self._window_wh[0] and h >= self._window_wh[1] for w, h in sizes):
            looked = "part of the image that was looked at" if options.roi else "image"
            return f"The {looked} is smaller than the smallest object this detector can see ({window} pixels)."
        if lower and lower[0]["min_neighbors"]:  # every candidate by itself is nothing to recommend
            tilted = ", or try rotations such as -20,-10,10,20" if len(options.rotations) == 1 else ""
            return "Lower min_neighbors to {min_neighbors} ({detections} found, less certain){}.".format(
                tilted, **lower[0]
            )
        if brightness < DARK:
            return "The image is very dark; take it with more light, or try equalize."
        if brightness > BRIGHT:
            return "The image is very bright; take it with less light, or try equalize."
        if len(options.rotations) == 1:
            return "Try other rotations, for example 0,90,180,270: this detector sees upright objects only."
        return f"Nothing here looks like a {self.class_names[0]} to this detector; try another one."


def _named(size_wh: Size) -> dict[str, int]:
    return {"width": size_wh[0], "height": size_wh[1]}


def _grey(image: Image, frame: _Frame) -> Grey:
    x, y, width, height = frame.crop
    grey = cv2.cvtColor(image[y : y + height, x : x + width], cv2.COLOR_BGR2GRAY)
    if frame.working_wh != (width, height):
        grey = cv2.resize(grey, frame.working_wh, interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.uint8)


def _turn(grey: Grey, degrees: int) -> Grey:
    """Turn clockwise about the centre onto a canvas that holds all of it.

    The margin repeats the picture's edge: any one grey would draw an edge that cascades take for part of an object.
    """
    if degrees % 360 == 0:
        return grey
    if degrees % 90 == 0:
        codes = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
        return np.asarray(cv2.rotate(grey, codes[degrees % 360]), np.uint8)
    size_wh = (grey.shape[1], grey.shape[0])
    matrix = boxes.turn_matrix(size_wh, degrees)
    # OpenCV counts from the centre of the first pixel, the matrix from its edge.
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    canvas = boxes.turned_size(size_wh, degrees)
    return np.asarray(cv2.warpAffine(grey, matrix, canvas, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _find(looks: list[_Look], frame: _Frame, min_neighbors: int) -> _Found:
    """The objects of all rotations in the picture, overlaps between rotations merged, the best first."""
    parts = []
    for look in looks:
        xywh, neighbors, labels = look.clusters.group(min_neighbors)
        scores = np.full(len(xywh), -np.inf)
        np.maximum.at(scores, labels[labels >= 0], look.candidates.weights[labels >= 0])
        xyxy = frame.to_image(xywh, look.degrees)
        found = _Found(xyxy, neighbors, scores, np.full(len(xywh), look.degrees))
        parts.append(found.take(np.all(xyxy[:, 2:] > xyxy[:, :2], axis=1)))
    found = _Found(
        np.concatenate([part.xyxy for part in parts]),
        np.concatenate([part.neighbors for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.degrees for part in parts]),
    )
    found = found.take(np.lexsort((-found.scores, -found.neighbors)))
    if len(looks) == 1:
        return found
    return found.take(boxes.non_max_suppression(found.xyxy, MERGE_IOU, found.degrees))
