"""Draw what was found on a copy of the picture: boxes with labels, or the found regions made unrecognisable."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from imgdetect.detection import Box, Detection, Style

Image = NDArray[np.uint8]

# BGR. Strong, well apart, and none too close to skin or sky; a class keeps its colour in every picture.
_COLOURS = (
    (60, 180, 75),
    (48, 48, 230),
    (200, 130, 0),
    (49, 130, 245),
    (180, 30, 145),
    (0, 200, 255),
    (128, 128, 0),
    (190, 50, 240),
    (40, 110, 170),
    (20, 160, 20),
    (160, 60, 20),
    (90, 40, 160),
)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Letters that have no decomposition into an ASCII letter and an accent.
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "OE", "ł": "l", "Ł": "L", "đ": "d", "þ": "th"}
)


def draw(image: Image, detections: Sequence[Detection], style: Style, label: bool) -> Image:
    """Show the detections.

    Args:
        image: BGR, shape (height, width, 3); stays as it is.
        detections: boxes in pixels of `image`; they may reach over its border.
        style: `boxes` outlines each one, `blur` and `pixelate` make the whole box unrecognisable.
        label: write class name and score at each box; only with style `boxes`.
    Returns:
        A new picture of the same shape.
    """
    canvas = image.copy()
    if style == "boxes":
        # Small boxes come last, so that none disappears under a large one.
        ordered = sorted(detections, key=lambda d: d.box.width * d.box.height, reverse=True)
        for detection in ordered:
            _outline(canvas, detection.box, colour_of(detection.class_name))
        if label:
            for detection in ordered:
                _write(canvas, detection)
        return canvas
    hide = _blur if style == "blur" else _pixelate
    for detection in detections:
        region = _region(canvas, detection.box)
        if region.size:
            region[:] = hide(region)
    return canvas


def colour_of(class_name: str) -> tuple[int, int, int]:
    """The BGR colour of a class, the same in every process and picture."""
    return _COLOURS[hashlib.sha256(class_name.encode()).digest()[0] % len(_COLOURS)]


def label_of(detection: Detection) -> str:
    """Class name and rounded score, in the characters that the font has."""
    name = unicodedata.normalize("NFKD", detection.class_name.translate(_LETTERS))
    name = "".join(c for c in name if " " <= c <= "~").strip()
    return f"{name} {detection.score:.1f}".strip()


def _line_width(image: Image) -> int:
    return max(1, round(int(min(image.shape[:2])) / 250))


def _outline(canvas: Image, box: Box, colour: tuple[int, int, int]) -> None:
    line = _line_width(canvas)
    # A thin box must not be filled by its own lines.
    line = max(1, min(line, min(box.width, box.height) // 4))
    corner = (box.x, box.y), (box.x + box.width - 1, box.y + box.height - 1)
    cv2.rectangle(canvas, *corner, colour, line, cv2.LINE_8)


def _write(canvas: Image, detection: Detection) -> None:
    """Write the label on a filled strip above the box, or wherever the picture has room for it."""
    height, width = canvas.shape[:2]
    text, box = label_of(detection), detection.box
    scale = max(0.4, min(width, height) / 1100)
    thickness = max(1, round(scale * 1.6))
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    pad = max(2, round(text_height * 0.35))
    strip_width, strip_height = text_width + 2 * pad, text_height + baseline + pad
    if strip_width > width or strip_height > height:
        return
    left = min(max(0, box.x - _line_width(canvas) // 2), width - strip_width)
    top = box.y - strip_height
    if top < 0:
        top = min(max(0, box.y), height - strip_height)
    colour = colour_of(detection.class_name)
    canvas[top : top + strip_height, left : left + strip_width] = colour
    blue, green, red = colour
    ink = (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else (255, 255, 255)
    origin = (left + pad, top + strip_height - baseline)
    cv2.putText(canvas, text, origin, _FONT, scale, ink, thickness, cv2.LINE_AA)


def _region(canvas: Image, box: Box) -> Image:
    """The part of the box that lies inside the picture, as a view."""
    return canvas[max(0, box.y) : max(0, box.y + box.height), max(0, box.x) : max(0, box.x + box.width)]


def _pixelate(region: Image, blocks: int = 8) -> Image:
    """At most `blocks` flat squares along the longer side."""
    height, width = region.shape[:2]
    block = max(1, -(-max(width, height) // blocks))
    small_wh = (max(1, round(width / block)), max(1, round(height / block)))
    small = cv2.resize(region, small_wh, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def _blur(region: Image) -> Image:
    """Throw the detail away first, then smooth what is left: no filter brings it back."""
    height, width = region.shape[:2]
    rough = _pixelate(region, 12)
    # A kernel wider than the picture would only repeat its border.
    sigma = max(1.0, max(width, height) / 12)
    return np.asarray(cv2.GaussianBlur(rough, (0, 0), sigma), np.uint8)
