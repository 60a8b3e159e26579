"""The face of a stop sign in grey: octagon, border, lettering, and what years in the street do to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from fasthaar.workshop.effects import Floats, blurred, cast_shadow, fractal, leaf_shadow, slope
from fasthaar.workshop.pose import Points
from fasthaar.workshop.recipes.glyphs import Pen

SIDE = 192  # of the texture, pixels
_FINE = 3  # shapes are drawn so many times larger
_CORNER = 1 / (1 + np.sqrt(2))  # where an octagon's corners are, in halves of its side

# Light on the face: how often, grey levels of the red and of the white.
LIGHTS: dict[str, tuple[float, tuple[float, float], tuple[float, float]]] = {
    "day": (0.46, (45, 110), (165, 250)),
    "faded": (0.12, (95, 140), (180, 245)),
    "shade": (0.17, (28, 70), (95, 160)),
    "backlit": (0.10, (14, 45), (60, 115)),
    "night": (0.15, (70, 165), (205, 255)),
}


@dataclass(frozen=True)
class Face:
    """A face as it would be seen straight on: grey levels and opacity, (SIDE, SIDE), and its light's name.

    Attributes:
        pole: where the sign is seen from behind, its pole's thickness, in parts of the face's side, and grey level.
    """

    levels: Floats
    alpha: Floats
    light: str
    pole: tuple[float, float] | None = None


def octagon(scale: float = 1) -> Points:
    """The corners of the face, which reaches from -1 to 1; shape (8, 2)."""
    c = _CORNER
    corners = [(-c, -1), (c, -1), (1, -c), (1, c), (c, 1), (-c, 1), (-1, c), (-1, -c)]
    return np.array(corners, np.float64) * scale


def draw_face(rng: np.random.Generator) -> Face:
    """One of the faces that there may be."""
    names = list(LIGHTS)
    light = names[int(rng.choice(len(names), p=[LIGHTS[name][0] for name in names]))]
    _, reds, whites = LIGHTS[light]
    red, white = rng.uniform(*reds), rng.uniform(*whites)
    white = max(white, red + 45)
    inner, letters = _shapes(rng)
    paint = np.clip(letters + (1 - inner), 0, 1)
    levels = np.asarray(red + (white - red) * paint, np.float32)
    levels = _worn(rng, levels, red, paint)
    levels *= slope(rng, (SIDE, SIDE), (0.0, 0.4))
    if light in ("day", "faded") and rng.random() < 0.13:
        levels *= leaf_shadow(rng, (SIDE, SIDE), SIDE * rng.uniform(0.1, 0.5))
    if light in ("day", "faded") and rng.random() < 0.12:
        levels *= cast_shadow(rng, (SIDE, SIDE))
    if rng.random() < 0.15:
        levels += _glare(rng)
    return Face(levels, _filled(octagon()), light)


def draw_back(rng: np.random.Generator) -> Face:
    """A sign seen from behind: bare metal or paint, and the pole before it."""
    plain, thick = rng.uniform(20, 230), rng.uniform(0.06, 0.17)
    pole = float(np.clip(plain + rng.choice((-1, 1)) * rng.uniform(12, 110), 5, 250))
    levels = plain * (1 + rng.uniform(0, 0.08) * fractal(rng, (SIDE, SIDE), SIDE / 2, 6))
    levels = levels * slope(rng, (SIDE, SIDE), (0.0, 0.4))
    back = Image.fromarray(levels.astype(np.float32))
    draw = ImageDraw.Draw(back)
    if rng.random() < 0.3:  # what holds it
        for y in (rng.uniform(0.15, 0.3) * SIDE, rng.uniform(0.65, 0.85) * SIDE):
            wide = rng.uniform(0.1, 0.5) * SIDE
            draw.rectangle(((SIDE - wide) / 2, y, (SIDE + wide) / 2, y + rng.uniform(0.02, 0.07) * SIDE), pole)
    middle, top = SIDE * (0.5 + rng.normal(0, 0.015)), SIDE * rng.choice((0.0, rng.uniform(0, 0.2)))
    draw.rectangle((middle - thick * SIDE / 2, top, middle + thick * SIDE / 2, SIDE), pole)
    if rng.random() < 0.5:  # round, or an angle, so that its sides are not as bright
        side = float(np.clip(pole + rng.normal(0, 40), 0, 255))
        draw.rectangle((middle, top, middle + thick * SIDE / 2, SIDE), side)
    return Face(np.array(back, np.float32), _filled(octagon()), "day", (float(thick), pole))


def _filled(corners: Points) -> Floats:
    """A mask, 0 to 1, of a polygon in the face's coordinates."""
    mask = Image.new("L", (SIDE * _FINE, SIDE * _FINE))
    ImageDraw.Draw(mask).polygon([((x + 1) * SIDE * _FINE / 2, (y + 1) * SIDE * _FINE / 2) for x, y in corners], 255)
    return np.asarray(mask.reduce(_FINE), np.float32) / np.float32(255)


def _shapes(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """What lies inside the border, and the lettering; 0 to 1."""
    border = rng.uniform(0.035, 0.075)
    side = SIDE * _FINE
    mask = Image.new("L", (side, side))
    height = rng.uniform(0.29, 0.40)
    stroke = height * rng.uniform(0.14, 0.2)
    width = min(height * rng.uniform(0.47, 0.62), 0.2)
    gap = min(width * rng.uniform(0.16, 0.36), (0.88 - 4 * width) / 3)
    left, top = 0.5 - (4 * width + 3 * gap) / 2, 0.5 - height / 2 + rng.normal(0, 0.008)
    pen = Pen(mask, height * side, width * side, stroke * side)
    for place, letter in enumerate("STOP"):
        pen.letter(letter, (left + place * (width + gap)) * side, top * side)
    return _filled(octagon(1 - border)), np.asarray(mask.reduce(_FINE), np.float32) / np.float32(255)


def _worn(rng: np.random.Generator, levels: Floats, red: float, paint: Floats) -> Floats:
    size = (SIDE, SIDE)
    levels = levels * (1 + rng.uniform(0, 0.08) * fractal(rng, size, SIDE / 2, 6))
    if rng.random() < 0.17:  # dirt, or paint that has come off
        spots = fractal(rng, size, SIDE * rng.uniform(0.1, 0.6), 4, 0.7) > rng.uniform(1.5, 2.6)
        levels = np.where(spots, rng.uniform(20, 220), levels)
    if rng.random() < 0.15:  # lettering that has faded
        levels = levels - (levels - red) * paint * rng.uniform(0.1, 0.45)
    marks = Image.fromarray(levels.astype(np.float32))
    draw = ImageDraw.Draw(marks)
    if rng.random() < 0.6:
        _bolts(rng, draw)
    if rng.random() < 0.1:
        _sticker(rng, draw)
    if rng.random() < 0.08:
        _graffiti(rng, draw)
    return np.array(marks, np.float32)


def _bolts(rng: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    radius, grey, inset = SIDE * rng.uniform(0.008, 0.02), rng.uniform(20, 240), rng.uniform(0.08, 0.2)
    for y in (SIDE * inset, SIDE * (1 - inset)):
        x = SIDE / 2 + rng.normal(0, 2)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), grey)


def _sticker(rng: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    x, y = rng.uniform(0.15, 0.75, 2) * SIDE
    width, height = rng.uniform(0.05, 0.18, 2) * SIDE
    draw.rectangle((x, y, x + width, y + height), rng.uniform(10, 250))


def _graffiti(rng: np.random.Generator, draw: ImageDraw.ImageDraw) -> None:
    points = np.cumsum(rng.normal(0, 0.12, (8, 2)), 0) + 0.5
    line = [(float(x) * SIDE, float(y) * SIDE) for x, y in points]
    draw.line(line, rng.uniform(5, 250), int(rng.integers(2, 7)), "curve")


def _glare(rng: np.random.Generator) -> Floats:
    """Light that is mirrored in a part of the face."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    cx, cy, radius = rng.uniform(0, SIDE), rng.uniform(0, SIDE), SIDE * rng.uniform(0.15, 0.5)
    spot = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * radius**2))
    return np.asarray(spot * rng.uniform(20, 110), np.float32)


def seen_from_afar(levels: Floats, side_px: float) -> Floats:
    """A texture with nothing finer in it than a face of this many pixels can show."""
    return blurred(levels, 0.25 * SIDE / side_px)
