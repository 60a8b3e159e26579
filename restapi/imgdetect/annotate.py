"""Draw what was found on a copy of the picture: boxes with labels, or the found regions made unrecognisable."""

from __future__ import annotations

import colorsys
import hashlib
import unicodedata
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from imgdetect import masks
from imgdetect.detection import Box, ClassScore, Detection, Mask, Style

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]  # blue, green, red

# How much of its colour lies over an object.
_TINT = 0.45
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Letters that do not come apart into an ASCII letter and an accent.
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D"}
)
# A region keeps at most this many values along its longer side: too few for a face or a plate.
_BLOCKS = 8


def draw(
    image: Image, detections: Sequence[Detection], style: Style, label: bool, classes: Sequence[ClassScore] = ()
) -> Image:
    """Show the detections.

    Args:
        image: BGR, shape (height, width, 3); stays as it is.
        detections: boxes in pixels of `image`; they may reach over its border.
        style: `boxes` outlines each one, `blur` and `pixelate` make the whole box unrecognisable.
        label: write class name and score at each box, or the first class of `classes`; only with style `boxes`.
        classes: what a classification says of the whole picture, the surest first.
    Returns:
        A new picture of the same shape.
    """
    canvas = image.copy()
    if style == "boxes":
        # Small boxes come last, so that none disappears under a large one.
        ordered = sorted(detections, key=lambda d: d.box.width * d.box.height, reverse=True)
        for detection in ordered:
            if detection.mask:
                _tint(canvas, detection.mask, detection.box, colour_of(detection.class_name))
        for detection in ordered:
            _outline(canvas, detection.box, colour_of(detection.class_name))
        if label:
            _write_labels(canvas, ordered)
            if classes:
                _write_title(canvas, classes[0])
        return canvas
    hide = _blur if style == "blur" else _pixelate
    for detection in detections:
        region = _region(canvas, detection.box)
        if region.size:
            region[:] = hide(region)
    return canvas


def colour_of(class_name: str) -> Colour:
    """The colour of a class, the same in every process and picture."""
    digest = hashlib.sha256(class_name.encode()).digest()
    hue = int.from_bytes(digest[:2]) / 65536
    lightness = (0.38, 0.46, 0.54)[digest[2] % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return round(blue * 255), round(green * 255), round(red * 255)


def label_of(detection: Detection) -> str:
    """Class name and confidence, or rounded score where there is none, in the characters that the font has."""
    certainty = f"{detection.score:.1f}" if detection.confidence is None else f"{detection.confidence:.0%}"
    return f"{_plain(detection.class_name)} {certainty}".strip()


def _plain(text: str) -> str:
    """A text in the characters that the font has."""
    text = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    return "".join(c for c in text if " " <= c <= "~").strip()


def _line_width(canvas: Image) -> int:
    return max(1, round(int(min(canvas.shape[:2])) / 250))


def _outline(canvas: Image, box: Box, colour: Colour) -> None:
    # The lines of a small box must leave something of it to see.
    line = max(1, min(_line_width(canvas), min(box.width, box.height) // 8))
    corners = (box.x, box.y), (box.x + box.width - 1, box.y + box.height - 1)
    if line > 1:
        # A dark edge keeps the line apart from a background of its own colour.
        cv2.rectangle(canvas, *corners, (32, 32, 32), line + 2 * max(1, line // 3))
    cv2.rectangle(canvas, *corners, colour, line)


def _tint(canvas: Image, mask: Mask, box: Box, colour: Colour) -> None:
    """Lay a colour over the pixels of an object, so that both can be seen."""
    height, width = canvas.shape[:2]
    left, right = max(0, box.x), min(width, box.x + box.width)
    top, bottom = max(0, box.y), min(height, box.y + box.height)
    if (mask.height, mask.width) != (height, width) or left >= right or top >= bottom:
        return
    pixels = masks.decode(mask, left, right)[top:bottom]
    region = canvas[top:bottom, left:right]
    region[pixels] = np.rint(region[pixels] * (1 - _TINT) + np.array(colour) * _TINT).astype(np.uint8)


def _write_title(canvas: Image, found: ClassScore) -> None:
    """Write what the picture shows on a strip in its upper left corner, in letters small enough to fit."""
    height, width = canvas.shape[:2]
    text = f"{_plain(found.class_name)} {found.confidence:.0%}".strip()
    scale = max(0.4, min(height, width) / 700)
    (text_width, _), _ = cv2.getTextSize(text, _FONT, scale, max(1, round(scale * 1.7)))
    scale *= min(1.0, 0.95 * width / text_width)
    if scale < 0.2:
        return  # nobody could read it
    thickness = max(1, round(scale * 1.7))
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    pad = max(1, round(text_height * 0.4))
    colour = colour_of(found.class_name)
    canvas[: text_height + baseline + 2 * pad, : text_width + 2 * pad] = colour
    cv2.putText(canvas, text, (pad, pad + text_height), _FONT, scale, _ink_on(colour), thickness, cv2.LINE_AA)


def _write_labels(canvas: Image, detections: Sequence[Detection]) -> None:
    """Write each label on a filled strip at its box, where it covers no other label if there is such a place."""
    height, width = canvas.shape[:2]
    scale = max(0.4, min(height, width) / 1000)
    thickness = max(1, round(scale * 1.7))
    taken = np.zeros((len(detections), 4), np.int64)  # xyxy
    for index, detection in enumerate(detections):
        text = label_of(detection)
        (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
        pad = max(2, round(text_height * 0.4))
        strip_wh = text_width + 2 * pad, text_height + 2 * pad + baseline // 2
        if strip_wh[0] > width or strip_wh[1] > height // 4:
            continue  # it would hide more than it tells
        left, top = _place(detection.box, strip_wh, (width, height), taken[:index])
        right, bottom = left + strip_wh[0], top + strip_wh[1]
        taken[index] = left, top, right, bottom
        colour = colour_of(detection.class_name)
        canvas[top:bottom, left:right] = colour
        origin = left + pad, bottom - pad - baseline // 2
        cv2.putText(canvas, text, origin, _FONT, scale, _ink_on(colour), thickness, cv2.LINE_AA)


def _place(
    box: Box, strip_wh: tuple[int, int], size_wh: tuple[int, int], taken_xyxy: NDArray[np.int64]
) -> tuple[int, int]:
    """Left and top of a strip inside the picture: above its box, below it, inside it, or above whatever is there."""
    left = min(max(0, box.x), size_wh[0] - strip_wh[0])
    tops = box.y - strip_wh[1], box.y + box.height, box.y, box.y + box.height - strip_wh[1]
    inside = [top for top in tops if 0 <= top <= size_wh[1] - strip_wh[1]]
    for top in inside:
        right, bottom = left + strip_wh[0], top + strip_wh[1]
        beside = (taken_xyxy[:, 0] >= right) | (taken_xyxy[:, 2] <= left)
        if np.all(beside | (taken_xyxy[:, 1] >= bottom) | (taken_xyxy[:, 3] <= top)):
            return left, top
    return left, inside[0] if inside else min(max(0, box.y), size_wh[1] - strip_wh[1])


def _ink_on(colour: Colour) -> Colour:
    """Black or white, whichever reads better."""
    blue, green, red = colour
    return (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else (255, 255, 255)


def _region(canvas: Image, box: Box) -> Image:
    """The part of the box that lies inside the picture, as a view."""
    return canvas[max(0, box.y) : max(0, box.y + box.height), max(0, box.x) : max(0, box.x + box.width)]


def _pixelate(region: Image) -> Image:
    """Flat squares, the mean of what they cover."""
    height, width = region.shape[:2]
    return np.asarray(cv2.resize(_few_values(region), (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def _blur(region: Image) -> Image:
    """Throw the detail away, then smooth what is left: no sharpening filter brings it back."""
    height, width = region.shape[:2]
    smooth = cv2.GaussianBlur(_few_values(region), (3, 3), 0)
    return np.asarray(cv2.resize(smooth, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _few_values(region: Image) -> Image:
    """The region as a small picture of at most `_BLOCKS` pixels along its longer side."""
    height, width = region.shape[:2]
    block = max(2, -(-max(height, width) // _BLOCKS))
    small_wh = max(1, round(width / block)), max(1, round(height / block))
    return np.asarray(cv2.resize(region, small_wh, interpolation=cv2.INTER_AREA), np.uint8)
