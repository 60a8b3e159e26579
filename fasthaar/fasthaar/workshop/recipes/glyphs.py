"""Letters as shapes of our own: the four of STOP, and strokes that only look like writing."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

# The seven bars of a digit of a pocket calculator and two diagonals, in parts of width and height.
_BARS = (
    ((0, 0), (1, 0)),
    ((0, 0.5), (1, 0.5)),
    ((0, 1), (1, 1)),
    ((0, 0), (0, 0.5)),
    ((0, 0.5), (0, 1)),
    ((1, 0), (1, 0.5)),
    ((1, 0.5), (1, 1)),
    ((0, 0), (1, 1)),
    ((1, 0), (0, 1)),
)
_LETTERS = "EFHILTUACDGJPNVZ0123456789"


class Pen:
    """Draws letters of one size into a mask."""

    def __init__(self, mask: Image.Image, height: float, width: float, stroke: float) -> None:
        """Choose the size of letters, and of their strokes, in pixels."""
        self._draw = ImageDraw.Draw(mask)
        self._height, self._width, self._stroke = height, width, stroke

    def letter(self, name: str, x: float, y: float) -> None:
        """Draw S, T, O or P with its upper left corner here."""
        {"S": self._s, "T": self._t, "O": self._o, "P": self._p}[name](x, y)

    def scribble(self, rng: np.random.Generator, x: float, y: float) -> None:
        """Draw something that could be a letter or a digit, but is none of S, T, O, P."""
        letter = _LETTERS[int(rng.integers(len(_LETTERS)))]
        drawn = np.random.default_rng(ord(letter)).permutation(len(_BARS))[: 3 + ord(letter) % 3]
        half = self._stroke / 2
        for bar in drawn:
            points = [
                (x + half + px * (self._width - self._stroke), y + half + py * (self._height - self._stroke))
                for px, py in _BARS[bar]
            ]
            self._draw.line(points, 255, max(1, round(self._stroke)))

    def _s(self, x: float, y: float) -> None:
        half = self._stroke / 2
        rx, ry = self._width / 2 - half, (self._height - self._stroke) / 4
        upper, lower = np.radians(np.linspace(-30, -270, 25)), np.radians(np.linspace(-90, 150, 25))
        points = [(x + half + rx + rx * np.cos(a), y + half + ry + ry * np.sin(a)) for a in upper]
        points += [(x + half + rx + rx * np.cos(a), y + half + 3 * ry + ry * np.sin(a)) for a in lower[1:]]
        self._draw.line([(float(px), float(py)) for px, py in points], 255, max(1, round(self._stroke)), "curve")

    def _t(self, x: float, y: float) -> None:
        middle = x + self._width / 2
        self._draw.rectangle((x, y, x + self._width, y + self._stroke), 255)
        self._draw.rectangle((middle - self._stroke / 2, y, middle + self._stroke / 2, y + self._height), 255)

    def _o(self, x: float, y: float) -> None:
        self._ring((x, y, x + self._width, y + self._height), self._width * 0.5)

    def _p(self, x: float, y: float) -> None:
        self._ring((x, y, x + self._width, y + self._height * 0.58), self._height * 0.27)
        bottom = y + self._height * 0.58
        self._draw.rectangle((x, y, x + self._stroke, y + self._height), 255)
        self._draw.rectangle((x, y, x + self._width * 0.5, y + self._stroke), 255)
        self._draw.rectangle((x, bottom - self._stroke, x + self._width * 0.5, bottom), 255)

    def _ring(self, xyxy: tuple[float, float, float, float], radius: float) -> None:
        x, y, right, bottom = xyxy
        stroke = self._stroke
        self._draw.rounded_rectangle(xyxy, min(radius, (right - x) / 2, (bottom - y) / 2), 255)
        inner = (x + stroke, y + stroke, right - stroke, bottom - stroke)
        if inner[0] < inner[2] and inner[1] < inner[3]:
            inside = min(max(radius - stroke, 0), (inner[2] - inner[0]) / 2, (inner[3] - inner[1]) / 2)
            self._draw.rounded_rectangle(inner, inside, 0)


def write_scribbles(mask: Image.Image, rng: np.random.Generator, box: tuple[float, float, float, float]) -> None:
    """Fill a box (x, y, width, height) of a mask with a line of letters that say nothing."""
    x, y, width, height = box
    count = int(rng.integers(2, 9))
    advance = width / count
    pen = Pen(mask, height, advance * 0.75, max(1.0, height * float(rng.uniform(0.1, 0.22))))
    for i in range(count):
        if rng.random() < 0.9:
            pen.scribble(rng, x + i * advance, y)
