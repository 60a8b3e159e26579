"""Draws `input/street.jpg`: a street in perspective with a stop sign. The same picture every time.

The scene is described in metres (x to the right, y up from the road, z away from the viewer) and seen by a
pinhole camera. It is drawn three times too large and scaled down, which smooths the edges.

Usage: python test_images/draw_street.py
"""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Color = tuple[int, int, int]  # blue, green, red
Span = tuple[float, float]  # from, to, in metres

WIDTH, HEIGHT = 640, 480
OVERSAMPLING = 3
FOCAL_PIXELS = 540.0
HORIZON = 235.0
EYE_X, EYE_HEIGHT = 1.7, 1.5  # the viewer stands in the right lane
FAR = 1500.0
PAVEMENT = 0.12  # above the road
HAZE: Color = (226, 214, 202)

SIGN_X, SIGN_Y, SIGN_Z = 4.25, 2.5, 6.5
SIGN_RADIUS = 0.56  # from the centre to a corner
RED: Color = (38, 26, 184)
WHITE: Color = (240, 243, 244)


class Canvas:
    """A picture that takes its points in metres."""

    def __init__(self) -> None:
        self.pixels: Picture = np.zeros((HEIGHT * OVERSAMPLING, WIDTH * OVERSAMPLING, 3), np.uint8)

    def project(self, point: tuple[float, float, float]) -> tuple[float, float]:
        """The pixel at which a point of the scene is seen."""
        x, y, z = point
        return (
            OVERSAMPLING * (WIDTH / 2 + FOCAL_PIXELS * (x - EYE_X) / z),
            OVERSAMPLING * (HORIZON - FOCAL_PIXELS * (y - EYE_HEIGHT) / z),
        )

    def polygon(self, points: list[tuple[float, float, float]], color: Color) -> None:
        """Fill a polygon; the further away, the more haze covers it."""
        depth = sum(z for _, _, z in points) / len(points)
        self.fill([self.project(p) for p in points], hazy(color, depth))

    def fill(self, pixels: list[tuple[float, float]], color: Color) -> None:
        """Fill a polygon given in pixels, to a sixteenth of a pixel."""
        corners = np.round(np.array(pixels) * 16).astype(np.int32)
        cv2.fillPoly(self.pixels, [corners], color, cv2.LINE_AA, shift=4)

    def upright(self, xs: Span, ys: Span, z: float, color: Color) -> None:
        """Fill a rectangle that faces the viewer."""
        self.polygon([(xs[0], ys[0], z), (xs[1], ys[0], z), (xs[1], ys[1], z), (xs[0], ys[1], z)], color)

    def wall(self, x: float, ys: Span, zs: Span, color: Color) -> None:
        """Fill an upright rectangle along the street."""
        self.polygon([(x, ys[0], zs[0]), (x, ys[0], zs[1]), (x, ys[1], zs[1]), (x, ys[1], zs[0])], color)

    def ground(self, xs: Span, zs: Span, color: Color, y: float = 0.0) -> None:
        """Fill a level rectangle."""
        self.polygon([(xs[0], y, zs[0]), (xs[1], y, zs[0]), (xs[1], y, zs[1]), (xs[0], y, zs[1])], color)

    def disc(self, center: tuple[float, float, float], radius: float, color: Color) -> None:
        """Fill a circle that faces the viewer."""
        x, y = self.project(center)
        pixels = OVERSAMPLING * FOCAL_PIXELS * radius / center[2]
        place = (round(x * 16), round(y * 16))
        cv2.circle(self.pixels, place, round(pixels * 16), hazy(color, center[2]), -1, cv2.LINE_AA, shift=4)


def hazy(color: Color, depth: float) -> Color:
    """The colour of something that far away."""
    haze = 0.75 * (1 - np.exp(-max(depth - 5, 0) / 70))
    blue, green, red = (round(float(c + (h - c) * haze)) for c, h in zip(color, HAZE, strict=True))
    return blue, green, red


def shaded(color: Color, factor: float) -> Color:
    """A darker or lighter colour."""
    blue, green, red = (min(255, round(c * factor)) for c in color)
    return blue, green, red


def clouds(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Soft noise in 0..1: several sizes of random blobs on top of each other, wider than high."""
    total = np.zeros(shape, np.float32)
    for octave in range(5):
        cells = rng.random((3 * 2**octave, 4 * 2**octave)).astype(np.float32)
        total += cv2.resize(cells, shape[::-1], interpolation=cv2.INTER_CUBIC) / 2**octave
    cover: NDArray[np.float32] = np.clip((total - 0.95) / 0.55, 0, 1)
    return cover


def draw_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    """A blue gradient with clouds, down to the horizon."""
    rows = round(HORIZON * OVERSAMPLING) + 1
    height = np.linspace(1, 0, rows, dtype=np.float32)[:, None, None]
    blue = height * np.array([214, 150, 88], np.float32) + (1 - height) * np.array(HAZE, np.float32)
    cover = clouds((rows, WIDTH * OVERSAMPLING), rng)[:, :, None] * (0.35 + 0.4 * height)
    sky = blue * (1 - cover) + np.array([244, 242, 240], np.float32) * cover
    canvas.pixels[:rows] = np.clip(sky, 0, 255).astype(np.uint8)


def draw_ground(canvas: Canvas) -> None:
    """Road with its markings, kerbs and pavements."""
    edges = np.geomspace(2.0, FAR, 60)  # strip by strip, so that the haze grows with the distance
    for strip in reversed(list(itertools.pairwise(edges))):
        canvas.ground((-4, 4), strip, (82, 80, 78))
        for grass in ((-400, -7.5), (8.0, 400)):
            canvas.ground(grass, strip, (96, 128, 118), PAVEMENT)
        for pavement in ((-7.5, -4.0), (4.0, 8.0)):
            canvas.ground(pavement, strip, (150, 158, 164), PAVEMENT)
        for side in (-1, 1):
            canvas.wall(side * 4.0, (0.0, PAVEMENT), strip, (176, 184, 188))
            canvas.ground((side * 4.0, side * 4.2), strip, (186, 192, 196), PAVEMENT)
            canvas.ground((side * 3.63, side * 3.75), strip, (196, 202, 204))
    for near in np.arange(2.5, 90, 1.6):
        canvas.ground((4.2, 8), (near, near + 0.03), (122, 130, 136), PAVEMENT)
    for near in np.arange(2.4, 100, 5.5):
        canvas.ground((-0.08, 0.08), (near, near + 2.6), (96, 206, 226))
    canvas.ground((0.25, 3.6), (5.8, 6.4), (214, 218, 220))


def roughen(canvas: Canvas, rng: np.random.Generator) -> None:
    """Grain on everything below the horizon: asphalt and stone are never smooth."""
    top = round(HORIZON * OVERSAMPLING)
    ground = canvas.pixels[top:]
    coarse = rng.standard_normal((ground.shape[0] // 2, ground.shape[1] // 6)).astype(np.float32)
    grain = cv2.resize(coarse, (ground.shape[1], ground.shape[0]), interpolation=cv2.INTER_LINEAR)
    nearer = np.linspace(0.5, 1, ground.shape[0], dtype=np.float32)[:, None]
    ground[:] = np.clip(ground + 9 * (grain * nearer)[:, :, None], 0, 255).astype(np.uint8)


def draw_house(canvas: Canvas, side: int, zs: Span, height: float, color: Color) -> None:
    """A house beside the street: the front along the pavement, the side wall towards the viewer, windows, a door.

    Args:
        side: -1 for the left of the street, 1 for the right, where the sun shines on the fronts.
    """
    x = 8.0 if side > 0 else -7.5
    near, far = zs
    front = shaded(color, 1.0 if side > 0 else 0.74)
    canvas.upright((x, x + side * 12), (0, height), near, shaded(color, 0.6))
    canvas.wall(x, (0, height), zs, front)
    canvas.wall(x, (0, 0.7), zs, shaded(front, 0.7))
    canvas.wall(x, (height - 0.35, height), zs, shaded(front, 0.8))
    columns = max(2, round((far - near) / 2.6))
    pitch = (far - near) / columns
    for floor, column in itertools.product(range(int((height - 1.0) // 3.0)), reversed(range(columns))):
        door = floor == 0 and column == columns // 2
        left = near + pitch * (column + 0.28)
        right = left + pitch * 0.44
        bottom, top = (0.12, 2.5) if door else (1.2 + 3.0 * floor, 2.75 + 3.0 * floor)
        frame = shaded(front, 1.22)
        canvas.wall(x, (bottom - 0.12, top + 0.12), (left - 0.12, right + 0.12), frame)
        canvas.wall(x, (bottom, top), (left, right), (52, 66, 92) if door else (104, 88, 74))
        if not door:
            canvas.wall(x, ((bottom + top) / 2, top), (left, right), (150, 134, 118))
            canvas.wall(x, (bottom, top), (left + pitch * 0.2, left + pitch * 0.24), frame)


def draw_houses(canvas: Canvas) -> None:
    """Both rows of houses, the furthest first."""
    colors: list[Color] = [(112, 138, 186), (150, 182, 202), (126, 132, 142), (104, 150, 190), (158, 168, 172)]
    heights = [9.6, 7.2, 12.8, 8.4, 10.8, 7.6, 13.4, 9.0]
    for number in reversed(range(8)):
        near = 11.0 + 11.5 * number
        draw_house(canvas, -1, (near, near + 11.2), heights[number], colors[(number * 2) % 5])
        near = 14.0 + 12.0 * number
        draw_house(canvas, 1, (near, near + 11.7), heights[(number + 3) % 8], colors[(number * 2 + 1) % 5])


def draw_tree(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    """A trunk and a crown of many leaves, lighter where the sun stands, to the upper left."""
    canvas.polygon([(x - 0.16, 0.1, z), (x + 0.16, 0.1, z), (x + 0.09, 2.8, z), (x - 0.09, 2.8, z)], (52, 70, 88))
    for step in range(420):
        angle, radius = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
        right, up = float(np.cos(angle) * radius), float(np.sin(angle) * radius)
        light = 0.55 + 0.45 * step / 420 + 0.3 * (up - right) / 2
        green: Color = (int(44 * light), int((116 + rng.integers(-12, 12)) * light), int(88 * light))
        canvas.disc((x + 1.25 * right, 3.6 + 1.45 * up, z), float(rng.uniform(0.1, 0.26)), green)


def draw_car(canvas: Canvas) -> None:
    """A car ahead, seen from behind."""
    x, z = 2.0, 15.0
    canvas.ground((x - 1.0, x + 1.05), (z - 0.15, z + 3.5), (52, 50, 50))
    for wheel in (x - 0.68, x + 0.68):
        canvas.upright((wheel - 0.13, wheel + 0.13), (0.0, 0.5), z, (30, 28, 28))
    body = [(-0.86, 0.28), (0.86, 0.28), (0.9, 0.55), (0.86, 0.95), (-0.86, 0.95), (-0.9, 0.55)]
    roof = [(-0.8, 0.93), (0.8, 0.93), (0.6, 1.42), (0.45, 1.47), (-0.45, 1.47), (-0.6, 1.42)]
    glass = [(-0.66, 0.98), (0.66, 0.98), (0.52, 1.36), (-0.52, 1.36)]
    for outline, color in ((body, (132, 84, 46)), (roof, (120, 74, 40)), (glass, (86, 76, 66))):
        canvas.polygon([(x + right, up, z) for right, up in outline], color)
    canvas.upright((x - 0.86, x + 0.86), (0.28, 0.44), z, (64, 58, 54))
    for light in (x - 0.72, x + 0.72):
        canvas.upright((light - 0.12, light + 0.12), (0.68, 0.84), z, (40, 34, 196))
    canvas.upright((x - 0.24, x + 0.24), (0.56, 0.68), z, (214, 220, 222))


def octagon(radius: float) -> list[tuple[float, float, float]]:
    """The corners of an upright octagon around the sign's centre."""
    angles = np.pi / 8 + np.arange(8) * np.pi / 4
    return [(SIGN_X + radius * float(np.cos(a)), SIGN_Y + radius * float(np.sin(a)), SIGN_Z) for a in angles]


def letters() -> list[list[tuple[float, float]]]:
    """The strokes of the word STOP as lines; a letter is one unit high, the word is centred on 0, 0."""
    turn = np.linspace(0, 1, 13) * np.pi

    def arc(
        center: tuple[float, float], radii: tuple[float, float], start: float, part: float
    ) -> list[tuple[float, float]]:
        angles = start + turn * part
        return [(center[0] + radii[0] * float(np.cos(a)), center[1] + radii[1] * float(np.sin(a))) for a in angles]

    upper = arc((-1.11, 0.25), (0.22, 0.25), 0.15 * np.pi, 1.35)
    lower = arc((-1.11, -0.25), (0.22, 0.25), 0.5 * np.pi, -1.35)
    p_bowl = [(0.92, 0.5), *arc((1.1, 0.23), (0.24, 0.27), np.pi / 2, -1.0), (0.92, -0.04)]
    return [
        upper + lower,
        [(-0.68, 0.5), (-0.14, 0.5)],
        [(-0.41, 0.5), (-0.41, -0.5)],
        arc((0.33, 0.0), (0.27, 0.5), 0.0, 2.0),
        [(0.92, -0.5), (0.92, 0.5)],
        p_bowl,
    ]


def draw_stop_sign(canvas: Canvas) -> None:
    """A red octagon with a white border and the word STOP, on a pole."""
    canvas.ground((SIGN_X - 0.25, SIGN_X + 0.25), (SIGN_Z - 0.1, SIGN_Z + 0.1), (104, 110, 114), PAVEMENT)
    pole = (PAVEMENT, SIGN_Y + 0.3)
    canvas.upright((SIGN_X - 0.045, SIGN_X + 0.045), pole, SIGN_Z, (136, 140, 142))
    canvas.upright((SIGN_X - 0.045, SIGN_X - 0.01), pole, SIGN_Z, (184, 188, 190))
    canvas.polygon([(x + 0.02, y - 0.02, z) for x, y, z in octagon(SIGN_RADIUS)], (96, 98, 100))
    canvas.polygon(octagon(SIGN_RADIUS), WHITE)
    canvas.polygon(octagon(SIGN_RADIUS * 0.92), RED)
    height = 0.29
    thickness = round(OVERSAMPLING * FOCAL_PIXELS * 0.054 / SIGN_Z)
    for line in letters():
        points = [canvas.project((SIGN_X + height * right, SIGN_Y + height * up, SIGN_Z)) for right, up in line]
        corners = np.round(np.array(points) * 16).astype(np.int32)
        cv2.polylines(canvas.pixels, [corners], False, hazy(WHITE, SIGN_Z), thickness, cv2.LINE_AA, shift=4)


def street() -> Picture:
    """The whole scene, shape (480, 640, 3), BGR."""
    rng = np.random.default_rng(7)
    canvas = Canvas()
    draw_sky(canvas, rng)
    draw_ground(canvas)
    roughen(canvas, rng)
    draw_houses(canvas)
    for x, z in ((-5.6, 46.0), (6.4, 40.0), (-5.6, 31.0), (6.4, 25.0), (-5.6, 19.0)):
        draw_tree(canvas, x, z, rng)
    draw_car(canvas)
    draw_stop_sign(canvas)
    small = cv2.resize(canvas.pixels, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32)
    grain = rng.standard_normal((HEIGHT, WIDTH, 1)).astype(np.float32)
    return np.clip(np.round(small + 2.0 * grain), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    target = Path(__file__).parent / "input" / "street.jpg"
    _, encoded = cv2.imencode(".jpg", street(), [cv2.IMWRITE_JPEG_QUALITY, 90])
    target.write_bytes(encoded.tobytes())
