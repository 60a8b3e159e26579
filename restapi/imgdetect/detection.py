"""The words of the service as values: what came in, what was asked, what was found, what is kept.

All are frozen: values go in, values come out. Pixels count from the top left of the upright image
(EXIF orientation applied); the glossary is in docs/architecture.md.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass, field, fields
from typing import Any, Literal

# Raised whenever the same bytes, detector and parameters would give another answer than before.
RESULT_VERSION = 2

Style = Literal["boxes", "blur", "pixelate"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]
JobKind = Literal["image", "batch", "video"]
Verdict = Literal["correct", "false_positive", "missed"]
CallbackState = Literal["pending", "delivered", "failed"]


@dataclass(frozen=True)
class Upload:
    """The bytes received, sniffed and measured but not decoded."""

    data: bytes
    filename: str  # as the client named it, never used as a path; "" when it gave none
    media_type: str  # by content: image/jpeg, image/png, ...
    width: int  # of the upright image
    height: int
    sha256: str  # hexadecimal

    @property
    def pixels(self) -> int:
        return self.width * self.height


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the upright image, origin top left."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Mask:
    """The pixels of an object in the upright image, in COCO's two forms; masks.py makes and reads it."""

    height: int  # of the whole image
    width: int
    counts: str  # run lengths down the columns, compressed as pycocotools does it
    polygons: tuple[tuple[float, ...], ...] = ()  # x, y, x, y, ... of each outline; holes are filled


@dataclass(frozen=True)
class Detection:
    """One found object."""

    detector: str
    class_name: str
    box: Box
    score: float  # the detector's raw number: a cascade's level weight, unbounded
    neighbors: int  # how many raw candidates were grouped into this box; 1 where there is no grouping
    confidence: float | None = None  # 0..1; None when the detector has none
    rotation: int = 0  # degrees, clockwise, by which the image was turned when the object was seen
    mask: Mask | None = None  # None unless the detector's task is segmentation


@dataclass(frozen=True)
class ClassScore:
    """One class of a classified image."""

    class_name: str
    class_id: int
    confidence: float  # 0..1


@dataclass(frozen=True)
class DetectOptions:
    """What to look for and how to draw it. None means the detector's own default (see `Detector.facts`).

    Sizes are (width, height) in pixels of the upright original, whatever size the detector works at.
    """

    detector: str  # a name, or several separated by commas
    scale_factor: float | None = None  # > 1
    min_neighbors: int | None = None  # >= 0
    min_size: tuple[int, int] | None = None
    max_size: tuple[int, int] | None = None
    equalize: bool | None = None
    confidence: float | None = None  # 0..1; less certain detections are left out
    iou_threshold: float | None = None  # 0..1; boxes of a class that overlap this much mean the same object
    classes: tuple[str, ...] | None = None  # class names; others are left out
    top_k: int | None = None  # of a classification
    rotations: tuple[int, ...] = (0,)  # degrees, clockwise, -180..360
    roi: tuple[int, int, int, int] | None = None  # x, y, width, height; cut out before turning
    max_detections: int = 1000
    style: Style = "boxes"
    label: bool = True
    min_area: int | None = None  # of a box, pixels; this and the next three leave out what was found
    max_area: int | None = None
    mask: tuple[int, ...] | None = None  # x, y, x, y, ... of a polygon; centres of boxes lie inside
    class_confidence: dict[str, float] | None = None  # in the place of `confidence`, by class name

    @property
    def detectors(self) -> tuple[str, ...]:
        """The names of what looks."""
        return tuple(self.detector.split(","))

    @property
    def has_filters(self) -> bool:
        """Whether anything that is found may be left out."""
        return any(f is not None for f in (self.min_area, self.max_area, self.mask, self.class_confidence))

    def key(self) -> str:
        """A canonical text of every option, for cache keys."""
        return json.dumps(vars(self), sort_keys=True)


@dataclass(frozen=True)
class DetectionResult:
    """What a detector saw in one image."""

    detections: tuple[Detection, ...] = ()
    classes: tuple[ClassScore, ...] = ()
    found: int = 0  # before `max_detections` cut the list
    working_size_wh: tuple[int, int] = (0, 0)  # the size detection ran at
    near_misses: dict[str, Any] | None = None  # only when nothing was found


@dataclass(frozen=True)
class Facts:
    """What a client may know of a detector; JSON-serialisable by `asdict`."""

    name: str
    engine: str  # "fasthaar", "opencv" or "onnxruntime"
    engine_version: str
    window_wh: tuple[int, int] | None  # smallest object it can see, pixels
    defaults: dict[str, Any]  # the values used where DetectOptions has None
    parameters: dict[str, Any] = field(default_factory=dict)  # JSON schema of what it takes


@dataclass(frozen=True)
class Outcome:
    """All that one look at one upload gave: what is cached, stored and answered."""

    result: DetectionResult
    parameters: dict[str, Any]  # every option as used, for the answer
    processed: bytes  # the annotated picture, encoded
    processed_media_type: str
    timings_ms: dict[str, float]  # decode, detect, annotate, encode
    engine: str  # what did the work: "fasthaar", "opencv" or "onnxruntime"


@dataclass(frozen=True)
class Record:
    """A finished run as stored. A key is None once its artifact was deleted or never kept."""

    id: str  # 32 hexadecimal digits, random
    owner: str  # the API key's name; "" on an open server
    created_at: int  # microseconds since the epoch
    filename: str
    width: int
    height: int
    media_type: str
    size_bytes: int
    sha256: str
    detector: str
    parameters: dict[str, Any]
    result: dict[str, Any]  # `asdict` of the DetectionResult
    original_key: str | None
    processed_key: str | None
    processed_media_type: str | None
    stored_bytes: int  # of both artifacts
    idempotency_key: str | None = None
    request_hash: str | None = None


@dataclass(frozen=True)
class Job:
    """A queued request, or one picture of a batch, whose parent is the request."""

    id: str
    owner: str
    created_at: int
    state: JobState
    attempts: int
    lease_until: int  # microseconds since the epoch; 0 when nobody works on it
    filename: str
    media_type: str
    original_key: str | None  # None once the job has ended
    options: dict[str, Any]  # fields of DetectOptions
    keep_original: bool
    record_id: str | None = None
    problem: dict[str, Any] | None = None  # why it failed, as the client sees it
    finished_at: int | None = None
    idempotency_key: str | None = None
    request_hash: str | None = None
    kind: JobKind = "image"
    parent_id: str | None = None  # of the batch, where this is one of its pictures
    position: int | None = None  # in the batch, from 0
    total: int | None = None  # of what there is to do; with the next two None where nothing is counted
    done: int | None = None
    failed: int | None = None
    # Files that the job made, by name: {"key", "media_type", "size_bytes", "filename"}; keys begin with the job's id.
    artifacts: dict[str, Any] | None = None
    callback_url: str | None = None  # who is told when the job has ended
    callback_state: CallbackState | None = None
    callback_attempts: int | None = None
    callback_at: int | None = None  # when the next attempt is due; None when none is


@dataclass(frozen=True)
class Feedback:
    """What somebody says of one box of a record, which is kept with it: the record may be looked at again."""

    id: str
    owner: str
    record_id: str
    created_at: int  # microseconds since the epoch
    verdict: Verdict
    detector: str
    class_name: str | None = None  # None, like the box, where rightly nothing was found
    x: int | None = None
    y: int | None = None
    width: int | None = None
    height: int | None = None
    note: str | None = None

    @property
    def what(self) -> tuple[str, str | None, int | None, int | None, int | None, int | None]:
        """What it is about; of the same box the last word counts."""
        return self.detector, self.class_name, self.x, self.y, self.width, self.height


@dataclass(frozen=True)
class VideoOptions:
    """How to look at a video."""

    detect: DetectOptions
    every: int = 1  # look at each frame whose number it divides
    annotate: bool = True  # make an annotated video too


@dataclass(frozen=True)
class VideoLimits:
    """How much of a video is taken; what the file claims does not matter."""

    max_pixels: int  # of a frame
    max_side: int
    max_seconds: float
    max_frames: int
    max_windows: int  # what all looks together may cost
    max_made_bytes: int  # of the annotated video, and of the lines of detections


@dataclass(frozen=True)
class VideoProgress:
    """How far the work on a video is."""

    done: int  # frames
    total: int  # frames; an estimate where the file does not tell, never less than done


@dataclass(frozen=True)
class VideoSummary:
    """What was seen in a video."""

    width: int  # of the upright frame
    height: int
    frames: int
    looked_at: int  # frames
    seconds: float
    detections: int
    tracks: int
    damaged: int  # packets that could not be decoded and were passed over
    engine: str
    annotated: bool  # whether there is an annotated video


@dataclass(frozen=True)
class UploadedCascade:
    """A detector that a client made of a cascade file; the file itself, in canonical form, stays in the database."""

    owner: str
    name: str  # unique for its owner
    created_at: int  # microseconds since the epoch
    class_name: str
    parameters: dict[str, Any]  # fields of DetectOptions whose defaults were given
    sha256: str  # of the canonical form, hexadecimal
    size_bytes: int  # of the canonical form
    window_width: int  # the smallest object it can see, pixels
    window_height: int
    stages: int

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters with sizes as pairs, which JSON has no form for."""
        return {name: tuple(v) if isinstance(v, list) else v for name, v in self.parameters.items()}


def result_from_dict(data: dict[str, Any]) -> DetectionResult:
    """The inverse of `asdict` for a DetectionResult that went through JSON."""
    detections = tuple(_detection_from_dict(d) for d in data.get("detections", ()))
    classes = tuple(ClassScore(**c) for c in data.get("classes", ()))
    rest = {f.name: data[f.name] for f in fields(DetectionResult) if f.name in data}
    rest |= {"detections": detections, "classes": classes}
    rest["working_size_wh"] = tuple(data.get("working_size_wh", (0, 0)))
    return DetectionResult(**rest)


def _detection_from_dict(data: dict[str, Any]) -> Detection:
    mask = data.get("mask")
    if mask:
        mask = Mask(**{**mask, "polygons": tuple(tuple(polygon) for polygon in mask["polygons"])})
    return Detection(**{**data, "box": Box(**data["box"]), "mask": mask})


def detect_options_from_dict(data: dict[str, Any]) -> DetectOptions:
    """The inverse of `asdict` for DetectOptions that went through JSON, where tuples become lists."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
    return DetectOptions(**values)


def clean_filename(name: str) -> str:
    """A client's file name as it is kept and looked up: without folders and unprintable characters, at most 255 long.

    It never becomes part of a path all the same.
    """
    last = re.split(r"[\\/]", name)[-1]
    return "".join(c for c in last if unicodedata.category(c)[0] != "C")[:255]


def sha256_of(data: bytes) -> str:
    """The SHA-256 of some bytes, hexadecimal."""
    return hashlib.sha256(data).hexdigest()
