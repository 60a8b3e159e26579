"""What may be asked for: typed, checked, and every wrong parameter reported at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from imgdetect.addresses import AddressRefused, target_of
from imgdetect.detection import DetectOptions, Style, Verdict, VideoOptions
from imgdetect.errors import InvalidRequest

MAX_SIDE = 16_384
MAX_ROTATIONS = 16
MAX_EVERY = 1000
MAX_CLASSES = 100
MAX_DETECTORS = 8
MAX_CORNERS = 100
MAX_NOTE = 1000
Model = TypeVar("Model", bound=BaseModel)
_NUMBER = re.compile(r"-?\d{1,6}$")


def _numbers(value: str, *, counts: tuple[int, ...], form: str) -> tuple[int, ...]:
    parts = [part.strip() for part in value.split(",")]
    if len(parts) not in counts or not all(_NUMBER.match(part) for part in parts):
        raise ValueError(f"should be {form}")
    return tuple(int(part) for part in parts)


def _size(value: str) -> tuple[int, ...]:
    numbers = _numbers(value, counts=(1, 2), form="N or WIDTH,HEIGHT in pixels, for example 40 or 40,60")
    if not all(1 <= number <= MAX_SIDE for number in numbers):
        raise ValueError(f"should lie between 1 and {MAX_SIDE} pixels")
    return numbers if len(numbers) == 2 else numbers * 2


def _roi(value: str) -> tuple[int, ...]:
    x, y, width, height = _numbers(value, counts=(4,), form="X,Y,WIDTH,HEIGHT in pixels, for example 0,0,320,240")
    if x < 0 or y < 0 or width < 1 or height < 1:
        raise ValueError("should have X and Y of 0 or more, WIDTH and HEIGHT of 1 or more")
    return x, y, width, height


def _rotations(value: str) -> tuple[int, ...]:
    angles = _numbers(
        value, counts=tuple(range(1, MAX_ROTATIONS + 1)), form=f"up to {MAX_ROTATIONS} degrees such as 0,90,180,270"
    )
    if not all(-180 <= angle <= 360 for angle in angles):
        raise ValueError("should hold whole degrees between -180 and 360")
    if len({angle % 360 for angle in angles}) != len(angles):
        raise ValueError("names the same turn twice")
    return angles


def _classes(value: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in value.split(","))
    if not all(names) or len(names) > MAX_CLASSES or any(len(name) > 200 for name in names):
        raise ValueError(f"should be up to {MAX_CLASSES} class names, separated by commas, such as person,dog")
    if len(set(names)) != len(names):
        raise ValueError("names the same class twice")
    return names


def _detectors(value: str) -> str:
    names = [part.strip() for part in value.split(",")]
    if len(names) > 1 and (not all(names) or len(names) > MAX_DETECTORS):
        raise ValueError(f"should be up to {MAX_DETECTORS} names, separated by commas, such as face,cat_face")
    if len(set(names)) != len(names):
        raise ValueError("names the same detector twice")
    return ",".join(names)


def _polygon(value: str) -> tuple[int, ...]:
    corners = value.split(";")
    form = f"3 to {MAX_CORNERS} corners X,Y;X,Y;... in pixels, for example 0,0;640,0;320,480"
    if not 3 <= len(corners) <= MAX_CORNERS:
        raise ValueError(f"should be {form}")
    points = [_numbers(corner, counts=(2,), form=form) for corner in corners]
    (x0, y0), *others = points
    # All corners on one line: then nothing lies inside.
    (x1, y1) = next((point for point in others if point != points[0]), points[0])
    if all((x1 - x0) * (y - y0) == (y1 - y0) * (x - x0) for x, y in others):
        raise ValueError("should enclose something; its corners lie on one line")
    return tuple(number for point in points for number in point)


def _class_confidence(value: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in value.split(","):
        name, colon, share = (text.strip() for text in part.rpartition(":"))
        if not colon or not name or len(name) > 200 or not re.fullmatch(r"0?\.\d{1,6}|[01](\.0*)?", share):
            raise ValueError("should be CLASS:0..1, separated by commas, for example person:0.6,dog:0.4")
        if name in found:
            raise ValueError("names the same class twice")
        found[name] = float(share)
    if len(found) > MAX_CLASSES:
        raise ValueError(f"should name {MAX_CLASSES} classes at most")
    return found


def is_cascade_name(text: str) -> bool:
    """Whether an uploaded cascade may have a name."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", text) is not None


def _name(value: str) -> str:
    if not is_cascade_name(value):
        raise ValueError("should be 1 to 64 letters, digits, dots, dashes and underscores, the first a letter or digit")
    return value


def _class_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]([A-Za-z0-9 _.-]{0,62}[A-Za-z0-9_.-])?", value):
        raise ValueError("should be 1 to 64 letters, digits, blanks, dots, dashes and underscores, no blank at an end")
    return value


def _said(value: str) -> str:
    if not 1 <= len(value) <= MAX_NOTE or not all(c.isprintable() or c in "\n\r\t" for c in value):
        raise ValueError(f"should be 1 to {MAX_NOTE} printable characters")
    return value


def _callback_url(value: str) -> str:
    try:
        target_of(value)
    except AddressRefused as error:
        raise ValueError(str(error)) from None
    return value


def _microseconds(time: datetime | None) -> int | None:
    return None if time is None else (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _must_fit(min_size: tuple[int, int] | None, max_size: tuple[int, int] | None) -> None:
    if min_size and max_size and any(a > b for a, b in zip(min_size, max_size, strict=True)):
        raise ValueError("min_size is larger than max_size")


ScaleFactor = Annotated[float | None, Field(gt=1, le=4, allow_inf_nan=False)]
MinNeighbors = Annotated[int | None, Field(ge=0, le=1000)]
Share = Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)]
Area = Annotated[int | None, Field(ge=1, le=MAX_SIDE * MAX_SIDE)]
CallbackUrl = Annotated[str | None, BeforeValidator(_callback_url)]
SizeInPixels = Annotated[tuple[int, int] | None, BeforeValidator(_size)]


class DetectParameters(BaseModel):
    """The parameters of a look, as text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    detector: Annotated[str | None, BeforeValidator(_detectors)] = None
    scale_factor: ScaleFactor = None
    min_neighbors: MinNeighbors = None
    min_size: SizeInPixels = None
    max_size: SizeInPixels = None
    equalize: bool | None = None
    confidence: Share = None
    iou_threshold: Share = None
    classes: Annotated[tuple[str, ...] | None, BeforeValidator(_classes)] = None
    top_k: Annotated[int | None, Field(ge=1, le=1000)] = None
    rotations: Annotated[tuple[int, ...], BeforeValidator(_rotations)] = (0,)
    roi: Annotated[tuple[int, int, int, int] | None, BeforeValidator(_roi)] = None
    max_detections: Annotated[int, Field(ge=1, le=1000)] = 1000
    min_area: Area = None
    max_area: Area = None
    mask: Annotated[tuple[int, ...] | None, BeforeValidator(_polygon)] = None
    class_confidence: Annotated[dict[str, float] | None, BeforeValidator(_class_confidence)] = None
    style: Style = "boxes"
    label: bool = True

    @model_validator(mode="after")
    def _sizes_fit(self) -> DetectParameters:
        _must_fit(self.min_size, self.max_size)
        if self.min_area and self.max_area and self.min_area > self.max_area:
            raise ValueError("min_area is larger than max_area")
        return self

    def options(self, default_detector: str, min_scale_factor: float) -> DetectOptions:
        """The options of the core.

        Raises:
            InvalidRequest: the server's own limits refuse a value.
        """
        if self.scale_factor is not None and self.scale_factor < min_scale_factor:
            raise InvalidRequest.field("scale_factor", f"should be at least {min_scale_factor:g} on this server")
        chosen = self.model_dump(include={field.name for field in fields(DetectOptions)})
        return DetectOptions(**(chosen | {"detector": self.detector or default_detector}))


class UploadParameters(DetectParameters):
    """The parameters of an upload that is kept, and of each picture of a batch."""

    keep_original: bool = True


class JobParameters(UploadParameters):
    """The parameters of what may be done later."""

    callback_url: CallbackUrl = None


class VideoParameters(JobParameters):
    """The parameters of a video, which is always done later."""

    every: Annotated[int, Field(ge=1, le=MAX_EVERY)] = 1
    annotate: bool = True
    keep_original: bool = False

    def video_options(self, default_detector: str, min_scale_factor: float) -> VideoOptions:
        """The options of the core; raises as `options`."""
        return VideoOptions(self.options(default_detector, min_scale_factor), self.every, self.annotate)


class CascadeParameters(BaseModel):
    """The parameters of a cascade that is uploaded: its name, and defaults for looks with it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, BeforeValidator(_name)]
    class_name: Annotated[str | None, BeforeValidator(_class_name)] = None
    scale_factor: ScaleFactor = None
    min_neighbors: MinNeighbors = None
    min_size: SizeInPixels = None
    max_size: SizeInPixels = None
    equalize: bool | None = None

    @model_validator(mode="after")
    def _sizes_fit(self) -> CascadeParameters:
        _must_fit(self.min_size, self.max_size)
        return self


class NoParameters(BaseModel):
    """Nothing may be asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ListParameters(BaseModel):
    """The parameters of a list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: str | None = None


class ExportParameters(BaseModel):
    """The parameters of an export."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["coco", "yolo", "voc"] = "coco"
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000
    cursor: str | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    classes: Annotated[tuple[str, ...] | None, BeforeValidator(_classes)] = None
    corrected: bool = False

    @model_validator(mode="after")
    def _times_fit(self) -> ExportParameters:
        if self.since and self.until and self.since >= self.until:
            raise ValueError("since is not before until")
        return self

    @property
    def since_us(self) -> int | None:
        """The first time, microseconds since the epoch."""
        return _microseconds(self.since)

    @property
    def until_us(self) -> int | None:
        """The first time that does not count any more."""
        return _microseconds(self.until)


class FeedbackParameters(BaseModel):
    """What is said of the detections of an image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    verdict: Verdict
    detection: Annotated[int | None, Field(ge=0)] = None
    box: Annotated[tuple[int, int, int, int] | None, BeforeValidator(_roi)] = None
    class_name: Annotated[str | None, BeforeValidator(_said)] = None
    note: Annotated[str | None, BeforeValidator(_said)] = None

    @model_validator(mode="after")
    def _goes_together(self) -> FeedbackParameters:
        missed = self.verdict == "missed"
        if missed != (self.box is not None) or missed != (self.class_name is not None):
            raise ValueError("box and class_name belong to verdict=missed, which needs both")
        if missed and self.detection is not None:
            raise ValueError("detection is the number of one that was found; verdict=missed takes none")
        if self.verdict == "false_positive" and self.detection is None:
            raise ValueError("verdict=false_positive needs detection, its place in the list, counted from 0")
        return self


class ProcessParameters(BaseModel):
    """What is done to a picture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    crop: Annotated[tuple[int, int, int, int] | None, BeforeValidator(_roi)] = None
    width: Annotated[int | None, Field(ge=1, le=MAX_SIDE)] = None
    height: Annotated[int | None, Field(ge=1, le=MAX_SIDE)] = None
    scale: Annotated[float | None, Field(ge=0.01, le=100, allow_inf_nan=False)] = None
    rotate: Annotated[int, Field(ge=-360, le=360)] = 0
    flip: Literal["horizontal", "vertical", "both"] | None = None
    blur: Annotated[int | None, Field(ge=1, le=100)] = None
    grey: bool = False
    format: Literal["jpeg", "png", "webp"] | None = None
    quality: Annotated[int | None, Field(ge=1, le=100)] = None

    @model_validator(mode="after")
    def _goes_together(self) -> ProcessParameters:
        if self.scale is not None and (self.width or self.height):
            raise ValueError("scale and width or height say the same; give one of them")
        return self


class FormatParameters(BaseModel):
    """The parameters of a picture's download."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["jpeg", "png", "webp"] | None = None


def validated(model: type[Model], values: Mapping[str, str]) -> Model:
    """The parameters that some texts stand for.

    Raises:
        InvalidRequest: with every wrong or unknown parameter.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = _messages(error, model)
        raise InvalidRequest("; ".join(f"{e['field']}: {e['message']}" for e in found[:3]), found) from None


def _messages(error: ValidationError, model: type[BaseModel]) -> list[dict[str, str]]:
    found = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"]) or "parameters"
        if item["type"] == "extra_forbidden":
            message = f"there is no such parameter; known here: {', '.join(model.model_fields) or 'none'}"
        elif item["type"] == "missing":
            message = "is missing"
        else:
            message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
            if item["loc"]:
                message += f" (given: {str(item['input'])[:80]!r})"
        found.append({"field": field[:80], "message": message})
    return found
