"""The bundled cascades, their parameters, and what a cascade file says without being loaded."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]

MAX_BYTES = 4 * 1024 * 1024
_SIDES = range(8, 129)  # of a window; every cascade in use lies well inside
# Below this scale factor the cost follows from the one at it.
_FINEST_COUNTED = 1.005
# The cascades that were trained for this package; docs/stop_sign.md says how.
OWN = Path(__file__).with_name("cascades")
_HEADER = {"stageType", "featureType", "width", "height", "size"}


@dataclass(frozen=True)
class Bundled:
    """A cascade that is there by name, with the defaults that suit it better than OpenCV's own."""

    file: str  # seen from OpenCV's folder; absolute where the cascade is one of this package
    class_name: str
    defaults: dict[str, Any] = field(default_factory=dict)


BUNDLED: dict[str, Bundled] = {
    "face": Bundled("haarcascade_frontalface_default.xml", "face", {"min_size": (20, 20)}),
    "face_alt": Bundled("haarcascade_frontalface_alt.xml", "face"),
    "face_alt2": Bundled("haarcascade_frontalface_alt2.xml", "face"),
    "face_alt_tree": Bundled("haarcascade_frontalface_alt_tree.xml", "face"),
    "profile_face": Bundled("haarcascade_profileface.xml", "face"),
    "eye": Bundled("haarcascade_eye.xml", "eye"),
    "eye_glasses": Bundled("haarcascade_eye_tree_eyeglasses.xml", "eye"),
    "left_eye": Bundled("haarcascade_lefteye_2splits.xml", "left_eye"),
    "right_eye": Bundled("haarcascade_righteye_2splits.xml", "right_eye"),
    "smile": Bundled("haarcascade_smile.xml", "smile", {"min_neighbors": 20}),
    "cat_face": Bundled("haarcascade_frontalcatface.xml", "cat_face"),
    "cat_face_extended": Bundled("haarcascade_frontalcatface_extended.xml", "cat_face"),
    "full_body": Bundled("haarcascade_fullbody.xml", "full_body"),
    "upper_body": Bundled("haarcascade_upperbody.xml", "upper_body"),
    "lower_body": Bundled("haarcascade_lowerbody.xml", "lower_body"),
    "licence_plate": Bundled("haarcascade_russian_plate_number.xml", "licence_plate"),
    "licence_plate_16": Bundled("haarcascade_license_plate_rus_16stages.xml", "licence_plate"),
    "stop_sign": Bundled(str(OWN / "stop_sign.xml"), "stop_sign", {"min_neighbors": 4}),
}


DEFAULTS: dict[str, Any] = {"scale_factor": 1.1, "min_neighbors": 3, "max_size": None, "equalize": False}


def _factor(text: str) -> float:
    if not 1 < (value := float(text)) <= 4:
        raise ValueError("should be above 1 and at most 4")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > 1000:
        raise ValueError("should be a whole number from 0 to 1000")
    return int(text)


def _size(text: str) -> Size:
    parts = text.split(",")
    if len(parts) > 2 or not all(part.isdecimal() and 1 <= int(part) <= 16_384 for part in parts):
        raise ValueError("should be N or WIDTH,HEIGHT in pixels")
    return int(parts[0]), int(parts[-1])


def _yes(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("should be true or false")
    return text == "true"


READERS: dict[str, Callable[[str], Any]] = {
    "scale_factor": _factor,
    "min_neighbors": _count,
    "min_size": _size,
    "max_size": _size,
    "equalize": _yes,
}


def defaults(bundled: Bundled, window_wh: Size, given: dict[str, str]) -> dict[str, Any]:
    """The values used where a request names none: those given in a URL, else the cascade's, else OpenCV's.

    Raises:
        ValueError: a given value is wrong; one line that names it.
    """
    values = DEFAULTS | {"min_size": window_wh} | bundled.defaults
    for name, read_value in READERS.items():
        if name in given:
            try:
                values[name] = read_value(given[name])
            except ValueError as error:
                raise ValueError(f"{name}={given[name]}: {error}") from None
    return values


def schema(defaults: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of the parameters, as they are echoed in answers."""
    size = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 2}
    properties: dict[str, dict[str, Any]] = {
        "scale_factor": {
            "type": "number",
            "exclusiveMinimum": 1,
            "description": "How much larger each step of the search is than the one before.",
        },
        "min_neighbors": {
            "type": "integer",
            "minimum": 0,
            "description": "A detection needs more raw candidates than this; 0 gives every candidate by itself.",
        },
        "min_size": size | {"description": "The smallest object looked for: width and height in pixels."},
        "max_size": size
        | {"type": ["array", "null"], "description": "The largest object looked for: width and height in pixels."},
        "equalize": {"type": "boolean", "description": "Spread the brightness over the whole range before looking."},
    }
    for name, described in properties.items():
        described["default"] = list(value) if isinstance(value := defaults[name], tuple) else value
    return {"type": "object", "properties": properties}


@lru_cache(1024)  # most pictures of a client have one size
def count_windows(window_wh: Size, size_wh: Size, scale_factor: float, min_size: Size, max_size: Size | None) -> int:
    """How many windows OpenCV looks at in a picture: every second one in both directions below scale 2.

    A factor too close to 1 to count its scales (or below) costs what follows from their number, 1/log(factor).
    """
    given = min(max(1 + 1e-9, scale_factor), 1e6)
    factor = max(given, _FINEST_COUNTED)
    size = np.array(size_wh, np.float32)
    scales = _scales(window_wh, size, factor, min_size, max_size)
    if not len(scales):
        return 0
    step = np.where(scales >= 2, 1, 2)
    columns, rows = (np.rint(size / scales[:, None]) + 1 - np.array(window_wh)).clip(0).T
    # Work is cut into stripes for threads; rows that do not fill the last one are left out.
    stripes = max(1.0, float(np.ceil(columns[0] / 32)))
    stripe = np.maximum((rows // step + stripes - 1) // stripes, 1) * step
    counted = np.ceil(columns / step) * np.ceil(np.minimum(rows, stripes * stripe) / step)
    return math.ceil(float(counted.sum()) * max(1.0, math.log(factor) / math.log(given)))


def _scales(
    window_wh: Size, size: NDArray[np.float32], factor: float, min_size: Size, max_size: Size | None
) -> NDArray[np.float32]:
    """The scales at which OpenCV looks: the list and the rounding are its own.

    Where no scale lies between min_size and max_size it takes the one whose window is closest to min_size.
    """
    window = np.array(window_wh, np.float64)
    most = int(math.log(max(1.0, float((size / window).min()) + 1)) / math.log(factor)) + 2
    factors = np.multiply.accumulate(np.r_[1.0, np.full(most, factor)])
    scales = factors[np.all(np.rint(factors[:, None] * window) <= size, axis=1)].astype(np.float32)
    windows = np.rint(scales[:, None] * window.astype(np.float32))
    fits = np.all((windows >= min_size) & (windows <= (max_size or size)), axis=1)
    if not fits.any() and len(scales):
        fits[((windows - min_size) ** 2).sum(1).argmin()] = True
    chosen: NDArray[np.float32] = scales[fits]
    return chosen


@dataclass(frozen=True)
class CascadeFile:
    """What is known of a cascade before it is loaded."""

    sha256: str  # of its bytes, hexadecimal
    window_wh: Size  # the smallest object it can see, pixels
    stages: int
    path: Path | None = None  # where it lies; None for an uploaded one
    xml: bytes = field(default=b"", repr=False)  # an uploaded one, where it is looked with

    def content(self) -> bytes:
        """Its bytes.

        Raises:
            ValueError: the file can no longer be read, or is another one; the end of a sentence.
        """
        if self.path is None:
            return self.xml
        try:
            content = _content(self.path)
        except ValueError:
            raise ValueError("can no longer be read") from None
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ValueError("has changed since the server started")
        return content


def read(path: Path) -> CascadeFile:
    """Read a cascade file of the new or the old format.

    Raises:
        ValueError: missing, unreadable, too large, or not a cascade; one line that names the file.
    """
    try:
        content = _content(path)
        return replace(parse(content), path=path, xml=b"")
    except ValueError as error:
        raise ValueError(f"cascade {path}: {error}") from None


def parse(content: bytes) -> CascadeFile:
    """What the head of a cascade says of it.

    Raises:
        ValueError: it is not a cascade; the end of a sentence.
    """
    window_wh = _header(content)
    stages = content.count(b"<stageThreshold>") + content.count(b"<stage_threshold>")
    return CascadeFile(hashlib.sha256(content).hexdigest(), window_wh, stages, xml=content)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES} bytes")
    return content


def _header(content: bytes) -> Size:
    texts = _Head(content).texts
    if "size" in texts:  # the old format knows only boosted Haar features
        sides = texts["size"].split()
    else:
        sides = [texts.get("width", ""), texts.get("height", "")]
        known = texts.get("stageType") == "BOOST" and texts.get("featureType") in ("HAAR", "LBP")
        if not known or b"<features>" not in content:
            raise ValueError("is not a boosted cascade of HAAR or LBP features")
    if b"<stages>" not in content:
        raise ValueError("has no stages")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) in _SIDES for side in sides):
        raise ValueError(f"has no window between {_SIDES[0]} and {_SIDES[-1]} pixels")
    return int(sides[0]), int(sides[1])


class _Head:
    """The texts of a cascade's first elements. The rest of the file is only checked for being XML, which is quick."""

    def __init__(self, content: bytes) -> None:
        self.texts: dict[str, str] = {}
        self._path: list[str] = []
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._doctype
        try:
            self._parser.Parse(content, True)
        except expat.ExpatError as error:
            raise ValueError(f"is not XML: {expat.ErrorString(error.code)}, line {error.lineno}") from None

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._path and name != "opencv_storage":
            raise ValueError("is not a cascade file of OpenCV")
        if len(self._path) == 2 and name == "stages":
            self._parser.StartElementHandler = None
            self._parser.EndElementHandler = None
            self._parser.CharacterDataHandler = None
        self._path.append(name)

    def _end(self, name: str) -> None:
        self._path.pop()

    def _text(self, text: str) -> None:
        if len(self._path) == 3 and self._path[2] in _HEADER:
            self.texts.setdefault(self._path[2], text.strip()[:64])

    def _doctype(self, *_: Any) -> None:
        raise ValueError("has a document type declaration, which no cascade needs")
