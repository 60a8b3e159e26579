"""What might be taken for a stop sign: other signs, boards with writing, wheels, lamps; and poles, wires, branches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from fasthaar.workshop.effects import Floats, Size, fractal, slope
from fasthaar.workshop.pose import draw_pose, paste
from fasthaar.workshop.recipes.writing import Writer, write

SIDE = 128  # of a sign's texture, pixels
_FINE = 2
Box = tuple[float, float, float, float]


def _polygon(corners: int, turn: float, scale: float) -> list[tuple[float, float]]:
    angles = turn + np.arange(corners) * 2 * np.pi / corners
    return [(float(0.5 + scale / 2 * np.cos(a)), float(0.5 + scale / 2 * np.sin(a))) for a in angles]


def _outline(rng: np.random.Generator) -> Callable[[float], list[tuple[float, float]]]:
    """The shape of another sign, for any scale; never an octagon with corners as those of a stop sign."""
    kind = rng.choice(("circle", "triangle", "yield", "diamond", "rectangle", "pentagon", "hexagon"), p=_SHAPES)
    if kind == "rectangle":
        wide, high = rng.uniform(0.4, 1), rng.uniform(0.4, 1)
        return lambda s: [(0.5 + x * s * wide / 2, 0.5 + y * s * high / 2) for x, y in _SQUARE]
    corners = {"circle": 40, "triangle": 3, "yield": 3, "diamond": 4, "pentagon": 5, "hexagon": 6}[str(kind)]
    turn = {"yield": np.pi / 2, "hexagon": rng.choice((0, np.pi / 2))}.get(str(kind), -np.pi / 2)
    return lambda s: _polygon(corners, float(turn), s)


_SHAPES = (0.34, 0.08, 0.12, 0.16, 0.22, 0.04, 0.04)
_SQUARE = ((-1, -1), (1, -1), (1, 1), (-1, 1))


def _mask(draw_it: Callable[[Image.Image, float], None]) -> Floats:
    mask = Image.new("L", (SIDE * _FINE, SIDE * _FINE))
    draw_it(mask, SIDE * _FINE)
    return np.asarray(mask.reduce(_FINE), np.float32) / np.float32(255)


def _fill(corners: list[tuple[float, float]]) -> Floats:
    def draw_it(mask: Image.Image, side: float) -> None:
        ImageDraw.Draw(mask).polygon([(x * side, y * side) for x, y in corners], 255)

    return _mask(draw_it)


def _content(rng: np.random.Generator, write: Writer) -> Floats:
    """What stands on a sign: a bar, lines of writing, an arrow, a few strokes, or nothing."""
    kind = rng.choice(
        ("bar", "writing", "lines", "arrow", "strokes", "nothing"), p=(0.12, 0.28, 0.18, 0.14, 0.14, 0.14)
    )

    def draw_it(mask: Image.Image, side: float) -> None:
        draw = ImageDraw.Draw(mask)
        if kind == "bar":
            high = rng.uniform(0.06, 0.14)
            draw.rectangle((side * 0.2, side * (0.5 - high), side * 0.8, side * (0.5 + high)), 255)
        elif kind == "writing":
            high = rng.uniform(0.15, 0.45) * side
            wide = rng.uniform(0.4, 0.75) * side
            write(mask, rng, ((side - wide) / 2, (side - high) / 2, wide, high))
        elif kind == "lines":
            count = int(rng.integers(2, 5))
            for line in range(count):
                y, high = side * (0.25 + 0.5 * line / count), side * 0.35 / count
                write(mask, rng, (side * 0.25, y, side * rng.uniform(0.3, 0.5), high))
        elif kind == "arrow":
            turn = rng.uniform(0, 2 * np.pi)
            along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
            tip, tail, thick = 0.5 + 0.28 * along, 0.5 - 0.28 * along, rng.uniform(0.04, 0.1)
            corners = [tail - across * thick, tail + across * thick, tip + across * thick, tip - across * thick]
            head = [tip + across * thick * 2.5, tip - across * thick * 2.5, tip + along * 0.15]
            for shape in (corners, head):
                draw.polygon([(float(x) * side, float(y) * side) for x, y in shape], 255)
        elif kind == "strokes":
            for x0, y0, x1, y1 in rng.uniform(0.25, 0.75, (int(rng.integers(1, 5)), 4)).tolist():
                draw.line((x0 * side, y0 * side, x1 * side, y1 * side), 255, int(side * rng.uniform(0.03, 0.1)))

    return _mask(draw_it)


def paste_sign(
    picture: Floats,
    rng: np.random.Generator,
    center_xy: tuple[float, float],
    side_px: float,
    write: Writer = write,
) -> None:
    """Put a sign that is no stop sign into a picture, in place."""
    outline = _outline(rng)
    field, other = rng.uniform(20, 250, 2)
    border = rng.uniform(0.03, 0.22) if rng.random() < 0.7 else 0
    edge = rng.uniform(20, 250)
    levels = np.full((SIDE, SIDE), edge, np.float32)
    levels += (np.float32(field) - levels) * _fill(outline(1 - border))
    levels += (np.float32(other) - levels) * _content(rng, write)
    levels = levels * slope(rng, (SIDE, SIDE), (0, 0.35)) + rng.uniform(0, 5) * fractal(rng, (SIDE, SIDE), SIDE / 3, 4)
    pose = draw_pose(rng, yaw=50)
    paste(picture, levels.astype(np.float32), _fill(outline(1)), pose.matrix(side_px, center_xy), 2)


def paste_board(picture: Floats, rng: np.random.Generator, box: Box, write: Writer = write) -> None:
    """Put a board with writing into a picture, in place: a shop's sign, a street's name, a number plate."""
    x, y, width, height = box
    mask = Image.new("L", (max(8, int(width)) * _FINE, max(8, int(height)) * _FINE))
    wide, high = mask.size
    lines = int(rng.integers(1, 4))
    for line in range(lines):
        top = high * (0.12 + 0.8 * line / lines)
        write(mask, rng, (wide * 0.08, top, wide * rng.uniform(0.5, 0.84), high * 0.6 / lines))
    ink = np.asarray(mask.reduce(_FINE), np.float32) / 255
    levels = rng.uniform(15, 250) + np.float32(rng.uniform(-200, 200)) * ink
    left, top = int(x), int(y)
    place = picture[max(0, top) : top + ink.shape[0], max(0, left) : left + ink.shape[1]]
    place[:] = levels[max(0, -top) :, max(0, -left) :][: place.shape[0], : place.shape[1]]


def draw_round(draw: ImageDraw.ImageDraw, rng: np.random.Generator, center_xy: tuple[float, float], px: float) -> None:
    """Rings about a centre: a wheel, a lamp, a clock, a lid."""
    x, y = center_xy
    squeeze = rng.uniform(0.6, 1)
    for scale in np.sort(rng.uniform(0.2, 1, int(rng.integers(2, 5))))[::-1].tolist():
        radius = px / 2 * scale
        draw.ellipse((x - radius * squeeze, y - radius, x + radius * squeeze, y + radius), rng.uniform(5, 240))
    for turn in np.arange(0, np.pi, np.pi / max(1, int(rng.integers(0, 6)))).tolist():
        dx, dy = px * 0.35 * np.cos(turn), px * 0.35 * np.sin(turn)
        draw.line((x - dx * squeeze, y - dy, x + dx * squeeze, y + dy), rng.uniform(5, 240), max(1, int(px * 0.06)))


def draw_branches(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, start_xy: tuple[float, float], px: float
) -> None:
    """A bare branch with its twigs, dark or bright."""
    grey = rng.uniform(10, 150)
    ends = [(*start_xy, rng.uniform(0, 2 * np.pi), px, max(1.0, px * 0.08))]
    for _ in range(40):
        if not ends:
            break
        x, y, angle, length, thick = ends.pop(0)
        tip_x, tip_y = x + length * np.cos(angle), y + length * np.sin(angle)
        draw.line((x, y, tip_x, tip_y), grey, max(1, int(thick)))
        if length > px * 0.15:
            for turn in rng.normal(0, 0.6, 2):
                ends.append((tip_x, tip_y, angle + turn, length * rng.uniform(0.5, 0.85), thick * 0.65))


def draw_pole(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size_wh: Size, x: float, thick: float) -> None:
    """A pole from edge to edge: a lamp post, a trunk, a pillar."""
    lean, grey = rng.normal(0, 0.03) * size_wh[1], rng.uniform(15, 220)
    side = grey + rng.normal(0, 35)
    draw.line((x, -1, x + lean, size_wh[1]), grey, max(1, int(thick)))
    if thick >= 3:
        draw.line((x + thick / 3, -1, x + lean + thick / 3, size_wh[1]), side, max(1, int(thick / 3)))


def draw_wires(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size_wh: Size) -> None:
    """Lines across the sky."""
    grey, thick = rng.uniform(10, 120), int(rng.integers(1, 3))
    for _ in range(int(rng.integers(1, 5))):
        left, right = rng.uniform(0, size_wh[1], 2)
        draw.line((0, left, size_wh[0], right), grey, thick)


def covered(rng: np.random.Generator, picture: Floats, box: Box) -> Floats:
    """The picture with leaves, a branch or a pole before the edge of the object in this box."""
    height, width = picture.shape
    x, y, wide, high = box
    kind = rng.random()
    if kind < 0.5:
        reach = rng.uniform(0.05, 0.22)
        noise = fractal(rng, (width, height), wide * 0.3, 2, 0.8)
        side = rng.integers(4)
        across = np.linspace(0, 1, width)[None] * width if side % 2 == 0 else np.arange(height)[:, None] * 1.0
        start, size = (x, wide) if side % 2 == 0 else (y, high)
        depth = (start + reach * size - across) if side < 2 else (across - start - (1 - reach) * size)
        leaf = noise * 0.5 + depth / (0.12 * size) > 0
        return np.asarray(np.where(leaf, 70 + 25 * noise, picture), np.float32)
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    if kind < 0.85:
        start_xy = (x + wide * float(rng.choice((-0.1, 1.1))), y + high * rng.uniform(0, 1))
        draw_branches(draw, rng, start_xy, wide * rng.uniform(0.08, 0.2))
    else:
        draw_pole(draw, rng, (width, height), x + wide * float(rng.choice((0.03, 0.97))), wide * rng.uniform(0.03, 0.1))
    return np.array(canvas, np.float32)
