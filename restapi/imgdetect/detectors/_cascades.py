"""The cascades that come with OpenCV 4, and what can be read from a cascade file without loading it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

MAX_BYTES = 4 * 1024 * 1024
_SIDES = range(8, 129)  # of a window; every cascade in use lies well inside
_HEADER = {"stageType", "featureType", "width", "height", "size"}


@dataclass(frozen=True)
class Bundled:
    """A cascade of OpenCV's, with the defaults that suit it better than OpenCV's own."""

    file: str
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
}


@dataclass(frozen=True)
class CascadeFile:
    """A cascade file that was read but not loaded."""

    path: Path
    sha256: str  # of its bytes, hexadecimal
    window_wh: tuple[int, int]  # the smallest object it can see, pixels
    feature_type: str  # HAAR or LBP


def read(path: Path) -> CascadeFile:
    """Read a cascade file of the new or the old format.

    Raises:
        ValueError: missing, unreadable, too large, or not a cascade; one line that names the file.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cascade {path}: cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"cascade {path}: is larger than {MAX_BYTES} bytes")
    try:
        window_wh, feature_type = _header(content)
    except ValueError as error:
        raise ValueError(f"cascade {path}: {error}") from None
    return CascadeFile(path, hashlib.sha256(content).hexdigest(), window_wh, feature_type)


def _header(content: bytes) -> tuple[tuple[int, int], str]:
    texts = _Head(content).texts
    if "size" in texts:  # the old format knows only boosted Haar features
        sides, feature_type = texts["size"].split(), "HAAR"
    else:
        sides, feature_type = [texts.get("width", ""), texts.get("height", "")], texts.get("featureType", "")
        if texts.get("stageType") != "BOOST" or feature_type not in ("HAAR", "LBP") or b"<features>" not in content:
            raise ValueError("is not a boosted cascade of HAAR or LBP features")
    if b"<stages>" not in content:
        raise ValueError("has no stages")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) in _SIDES for side in sides):
        raise ValueError(f"has no window between {_SIDES[0]} and {_SIDES[-1]} pixels")
    return (int(sides[0]), int(sides[1])), feature_type


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
