"""Whole streets and cut-outs of them, without a stop sign."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from fasthaar.workshop.effects import Bytes, Floats, Size, fractal
from fasthaar.workshop.recipes import surfaces
from fasthaar.workshop.recipes.decoys import (
    draw_branches,
    draw_pole,
    draw_round,
    draw_wires,
    paste_board,
    paste_sign,
)
from fasthaar.workshop.recipes.writing import Writer, write


def close_up(
    rng: np.random.Generator, size_wh: Size, photographs: Sequence[Bytes] = (), write: Writer = write
) -> Floats:
    """What may be seen around a sign: one or two surfaces, and things that cut through them."""
    if photographs and rng.random() < 0.5:
        picture = cut_out(rng, size_wh, photographs)
    else:
        picture = surfaces.draw_surface(rng, size_wh)
        if rng.random() < 0.45:
            second = surfaces.draw_surface(rng, size_wh)
            picture = np.where(_skyline(rng, size_wh, rng.uniform(0.1, 0.9)), second, picture)
    return _with_clutter(rng, picture, write)


def cut_out(rng: np.random.Generator, size_wh: Size, photographs: Sequence[Bytes]) -> Floats:
    """A part of one of the photographs, enlarged or reduced, mirrored, lighter or darker."""
    photograph = photographs[int(rng.integers(len(photographs)))]
    least = max(size_wh[0] / photograph.shape[1], size_wh[1] / photograph.shape[0])
    zoom = max(least, float(np.exp(rng.uniform(np.log(0.25), np.log(1.6)))))
    width = min(photograph.shape[1], int(np.ceil(size_wh[0] / zoom)))
    height = min(photograph.shape[0], int(np.ceil(size_wh[1] / zoom)))
    x, y = rng.integers(photograph.shape[1] - width + 1), rng.integers(photograph.shape[0] - height + 1)
    part = Image.fromarray(photograph[y : y + height, x : x + width])
    resized = np.asarray(part.resize(size_wh, Image.Resampling.BOX if zoom < 1 else Image.Resampling.BILINEAR))
    picture = resized[:, :: int(rng.choice((1, -1)))].astype(np.float32)
    return np.asarray(picture * rng.uniform(0.6, 1.25) + rng.uniform(-20, 20), np.float32)


def collage(rng: np.random.Generator, size_wh: Size, photographs: Sequence[Bytes] = ()) -> Floats:
    """Many close-ups side by side, strewn with what may be taken for a stop sign: much to learn from in one picture."""
    width, height = size_wh
    picture = np.zeros((height, width), np.float32)
    least = rng.uniform(60, 220)
    parts = [(0, 0, width, height)]
    while parts:
        x, y, wide, high = parts.pop()
        if max(wide, high) > 2 * least:
            if wide > high:
                cut = int(wide * rng.uniform(0.3, 0.7))
                parts += [(x, y, cut, high), (x + cut, y, wide - cut, high)]
            else:
                cut = int(high * rng.uniform(0.3, 0.7))
                parts += [(x, y, wide, cut), (x, y + cut, wide, high - cut)]
        else:
            picture[y : y + high, x : x + wide] = close_up(rng, (wide, high), photographs)
    for _ in range(int(rng.integers(2, 14))):
        px = float(np.exp(rng.uniform(np.log(20), np.log(160))))
        paste_sign(picture, rng, (rng.uniform(0, width), rng.uniform(0, height)), px)
    for _ in range(int(rng.integers(0, 4))):
        long = rng.uniform(40, 250)
        paste_board(picture, rng, (rng.uniform(0, width), rng.uniform(0, height), long, long * rng.uniform(0.15, 0.6)))
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(0, 6))):
        draw_round(draw, rng, (rng.uniform(0, width), rng.uniform(0, height)), rng.uniform(20, 120))
    return np.array(canvas, np.float32)


def street(rng: np.random.Generator, size_wh: Size) -> Floats:
    """A street: sky, trees and houses, ground, cars, poles, wires and signs of other kinds."""
    width, height = size_wh
    picture = surfaces.sky(rng, size_wh)
    horizon = rng.uniform(0.4, 0.7)
    for _ in range(int(rng.integers(1, 4))):
        if rng.random() < 0.6:
            wood = surfaces.leaves(rng, size_wh)
            picture = np.where(_skyline(rng, size_wh, horizon * rng.uniform(0.2, 0.95)), wood, picture)
        else:
            _build(rng, picture, horizon)
    below = np.arange(height)[:, None] > horizon * height
    picture = np.where(below, surfaces.ground(rng, size_wh), picture).astype(np.float32)
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(0, 4))):
        _park(
            rng, draw, (rng.uniform(0, width), horizon * height * rng.uniform(1, 1.25)), width * rng.uniform(0.06, 0.3)
        )
    if rng.random() < 0.4:
        draw_wires(draw, rng, (width, int(horizon * height)))
    if rng.random() < 0.35:
        draw_branches(
            draw, rng, (rng.uniform(0, width), rng.uniform(0, horizon * height)), height * rng.uniform(0.05, 0.2)
        )
    for _ in range(int(rng.integers(0, 4))):
        draw_pole(
            draw,
            rng,
            (width, int(height * rng.uniform(0.6, 1))),
            rng.uniform(0, width),
            width * rng.uniform(0.004, 0.03),
        )
    picture = np.array(canvas, np.float32)
    for _ in range(int(rng.integers(0, 6))):
        px = width * float(np.exp(rng.uniform(np.log(0.03), np.log(0.3))))
        paste_sign(picture, rng, (rng.uniform(0, width), rng.uniform(0.1, 0.8) * height), px)
    for _ in range(int(rng.integers(0, 3))):
        wide = width * rng.uniform(0.05, 0.3)
        place = (rng.uniform(0, width), rng.uniform(0, height * 0.9))
        paste_board(picture, rng, (*place, wide, wide * rng.uniform(0.15, 0.6)))
    return picture


def _skyline(rng: np.random.Generator, size_wh: Size, level: float) -> np.ndarray:
    """True below a line that goes up and down about this part of the height, as tops of trees or roofs do."""
    width, height = size_wh
    rough = rng.uniform(0.01, 0.2) * height
    if rng.random() < 0.3:
        line = np.repeat(rng.normal(0, rough, int(rng.integers(1, 6))), width)[:: max(1, int(rng.integers(1, 3)))]
        line = np.resize(line, width)
    else:
        line = rough * fractal(rng, (width, 4), width / 2, 3, 0.6)[0]
    below: np.ndarray = np.arange(height)[:, None] > level * height + line[None]
    return below


def _build(rng: np.random.Generator, picture: Floats, horizon: float) -> None:
    """Puts a house before the sky, in place."""
    height, width = picture.shape
    wide, high = int(width * rng.uniform(0.15, 0.7)), int(height * horizon * rng.uniform(0.3, 1))
    wide, high = max(wide, 16), max(high, 16)
    front = (surfaces.facade, surfaces.facade, surfaces.bricks)[int(rng.integers(3))](rng, (wide, high))
    x, bottom = int(rng.uniform(-wide / 2, width - wide / 2)), int(horizon * height)
    top = max(0, bottom - high)
    left, right = max(0, x), min(width, x + wide)
    picture[top:bottom, left:right] = front[: bottom - top, left - x : right - x]
    if rng.random() < 0.5:
        roofed = Image.fromarray(picture)
        ridge = (x + wide * rng.uniform(0.3, 0.7), top - high * rng.uniform(0.1, 0.4))
        corners = ((x - wide * 0.05, top), ridge, (x + wide * 1.05, top))
        ImageDraw.Draw(roofed).polygon(corners, rng.uniform(30, 160))
        picture[:] = np.asarray(roofed)


def _park(rng: np.random.Generator, draw: ImageDraw.ImageDraw, at: tuple[float, float], length: float) -> None:
    """Draws a car, seen from the side."""
    (x, y), high = at, length * rng.uniform(0.3, 0.45)
    paint, glass = rng.uniform(15, 235), rng.uniform(10, 120)
    draw.rounded_rectangle((x, y - high * 0.65, x + length, y), high * 0.15, paint)
    draw.polygon(
        (
            (x + length * 0.15, y - high * 0.6),
            (x + length * 0.28, y - high),
            (x + length * 0.7, y - high),
            (x + length * 0.85, y - high * 0.6),
        ),
        paint,
    )
    draw.polygon(
        (
            (x + length * 0.22, y - high * 0.62),
            (x + length * 0.31, y - high * 0.93),
            (x + length * 0.67, y - high * 0.93),
            (x + length * 0.77, y - high * 0.62),
        ),
        glass,
    )
    for wheel in (0.2, 0.8):
        draw_round(draw, rng, (x + length * wheel, y), high * 0.5)


def _with_clutter(rng: np.random.Generator, picture: Floats, write: Writer) -> Floats:
    """Poles, branches, boards and other signs, each now and then."""
    height, width = picture.shape
    size = (width, height)
    canvas = Image.fromarray(np.asarray(picture, np.float32))
    draw = ImageDraw.Draw(canvas)
    if rng.random() < 0.25:
        draw_pole(draw, rng, size, rng.uniform(0, width), width * rng.uniform(0.02, 0.2))
    if rng.random() < 0.15:
        draw_branches(draw, rng, (rng.uniform(0, width), rng.uniform(0, height)), width * rng.uniform(0.1, 0.4))
    if rng.random() < 0.1:
        draw_wires(draw, rng, size)
    if rng.random() < 0.1:
        draw_round(draw, rng, (rng.uniform(0, width), rng.uniform(0, height)), width * rng.uniform(0.1, 0.6))
    cluttered = np.array(canvas, np.float32)
    if rng.random() < 0.12:
        paste_sign(
            cluttered, rng, (rng.uniform(0, width), rng.uniform(0, height)), width * rng.uniform(0.2, 0.7), write
        )
    if rng.random() < 0.1:
        wide = width * rng.uniform(0.2, 0.8)
        paste_board(
            cluttered, rng, (rng.uniform(0, width), rng.uniform(0, height), wide, wide * rng.uniform(0.2, 0.6)), write
        )
    return cluttered
