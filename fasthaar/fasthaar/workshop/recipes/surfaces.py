"""What stands around a sign in the street, as grey surfaces: sky, leaves, walls, ground. Each fills a whole picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from fasthaar.workshop.effects import Floats, Size, blurred, fractal, leaf_shadow, slope

Surface = Callable[[np.random.Generator, Size], Floats]


def sky(rng: np.random.Generator, size_wh: Size) -> Floats:
    """Clear, cloudy or dull."""
    picture = np.full(size_wh[::-1], rng.uniform(120, 250), np.float32) * slope(rng, size_wh, (0, 0.3))
    if rng.random() < 0.6:
        picture += rng.uniform(3, 30) * fractal(rng, size_wh, max(size_wh) * rng.uniform(0.2, 0.8), 8, 0.5)
    return picture


def leaves(rng: np.random.Generator, size_wh: Size) -> Floats:
    """Trees and hedges, near or far."""
    mean, contrast = rng.uniform(35, 130), rng.uniform(15, 45)
    spot = max(size_wh) * rng.uniform(0.02, 0.3)
    picture = mean + contrast * fractal(rng, size_wh, spot, rng.uniform(2, 4), rng.uniform(0.6, 1.1))
    if rng.random() < 0.4:  # single leaves can be seen
        drawn = Image.fromarray(picture.astype(np.float32))
        draw = ImageDraw.Draw(drawn)
        long = max(3.0, max(size_wh) * rng.uniform(0.01, 0.05))
        for x, y, angle, grey in rng.uniform(0, 1, (int(rng.integers(60, 250)), 4)):
            along = np.array([np.cos(angle * 6.3), np.sin(angle * 6.3)]) * long
            across = np.array([-along[1], along[0]]) * 0.3
            middle = np.array([x * size_wh[0], y * size_wh[1]])
            corners = [middle - along, middle + across, middle + along, middle - across]
            draw.polygon([(float(px), float(py)) for px, py in corners], mean + (grey - 0.4) * 3 * contrast)
        picture = np.asarray(drawn, np.float32)
    if rng.random() < 0.4:  # the sky shines through
        light = fractal(rng, size_wh, spot / 2, 2, 0.8) > rng.uniform(1.0, 2.2)
        picture = np.where(light, rng.uniform(150, 255), picture)
    return np.asarray(picture, np.float32)


def bricks(rng: np.random.Generator, size_wh: Size) -> Floats:
    """A wall of bricks, blocks or slabs."""
    width, height = size_wh
    brick, joint = rng.uniform(60, 170), rng.uniform(60, 210)
    high = max(4.0, max(size_wh) * rng.uniform(0.02, 0.15))
    wide = high * rng.uniform(1.5, 4)
    thick = max(1.0, high * rng.uniform(0.06, 0.2))
    wall = Image.new("F", size_wh, joint)
    draw = ImageDraw.Draw(wall)
    for row in range(int(height / high) + 2):
        shift = (row % 2) * wide / 2 + rng.uniform(0, 0.1) * wide
        for column in range(-1, int(width / wide) + 2):
            x, y = column * wide + shift, row * high
            draw.rectangle((x, y, x + wide - thick, y + high - thick), brick + rng.normal(0, 10))
    noise = rng.uniform(2, 8) * fractal(rng, size_wh, max(size_wh) / 4, 2, 0.8)
    return (np.asarray(wall, np.float32) + noise) * slope(rng, size_wh, (0, 0.4))


def facade(rng: np.random.Generator, size_wh: Size) -> Floats:
    """A house front: plaster or boards, with windows."""
    width, height = size_wh
    wall = Image.fromarray(rng.uniform(70, 225) + rng.uniform(1, 5) * fractal(rng, size_wh, max(size_wh) / 3, 3, 0.8))
    draw = ImageDraw.Draw(wall)
    if rng.random() < 0.4:
        board, line = max(3.0, height * rng.uniform(0.02, 0.06)), rng.uniform(40, 200)
        for y in np.arange(0, height, board):
            draw.line((0, float(y), width, float(y)), line, max(1, int(board / 6)))
    wide, high = max(4.0, width * rng.uniform(0.1, 0.35)), max(4.0, height * rng.uniform(0.12, 0.4))
    step_x, step_y = wide * rng.uniform(1.2, 2.2), high * rng.uniform(1.3, 2)
    glass, frame = rng.uniform(10, 130), rng.uniform(60, 255)
    bars = int(rng.integers(0, 3))
    offset_x, offset_y = rng.uniform(-wide, wide), rng.uniform(-high, high)
    for x in np.arange(offset_x, width, step_x).tolist():
        for y in np.arange(offset_y, height, step_y).tolist():
            edge = max(1.0, min(wide, high) * 0.1)
            draw.rectangle((x, y, x + wide, y + high), frame)
            pane = (x + edge, y + edge, x + wide - edge, y + high - edge)
            draw.rectangle(pane, float(np.clip(glass + rng.normal(0, 25), 0, 255)))
            for bar in range(bars):
                at = y + high * (bar + 1) / (bars + 1)
                draw.line((x, at, x + wide, at), frame, max(1, int(edge / 2)))
            if bars:
                draw.line((x + wide / 2, y, x + wide / 2, y + high), frame, max(1, int(edge / 2)))
    picture = np.asarray(wall, np.float32) * slope(rng, size_wh, (0, 0.4))
    return np.asarray(picture, np.float32)


def ground(rng: np.random.Generator, size_wh: Size) -> Floats:
    """Asphalt, gravel, grass or snow, perhaps with markings."""
    picture = rng.uniform(60, 220) + rng.uniform(2, 18) * fractal(
        rng, size_wh, max(size_wh) / 12, 2, rng.uniform(0.8, 1.2)
    )
    if rng.random() < 0.5:
        marked = Image.fromarray(picture.astype(np.float32))
        draw = ImageDraw.Draw(marked)
        width, height = size_wh
        for _ in range(int(rng.integers(1, 5))):
            x0, x1, thick = rng.uniform(0, width), rng.uniform(-width, 2 * width), rng.uniform(0.01, 0.1) * width
            draw.polygon(((x0, 0), (x0 + thick / 4, 0), (x1 + thick, height), (x1, height)), rng.uniform(150, 250))
        picture = np.asarray(marked, np.float32)
    return picture * slope(rng, size_wh, (0, 0.5))


def plain(rng: np.random.Generator, size_wh: Size) -> Floats:
    """Something that is so far out of focus, or so smooth, that only light and shade remain."""
    picture = rng.uniform(20, 235) + rng.uniform(5, 45) * fractal(rng, size_wh, max(size_wh) * rng.uniform(0.2, 1), 12)
    return np.asarray(picture, np.float32)


def fence(rng: np.random.Generator, size_wh: Size) -> Floats:
    """Pickets, bars or mesh before something else."""
    picture = Image.fromarray((leaves, ground, plain)[int(rng.integers(3))](rng, size_wh))
    draw = ImageDraw.Draw(picture)
    width, height = size_wh
    step, lean, grey = max(4.0, width * rng.uniform(0.02, 0.12)), rng.choice((0.0, 0.0, 1.0)), rng.uniform(20, 240)
    thick = max(1, int(step * rng.uniform(0.1, 0.6 - 0.4 * lean)))
    for x in np.arange(-height * lean, width + height * lean, step).tolist():
        draw.line((x, 0, x + lean * height, height), grey, thick)
        if lean:
            draw.line((x, 0, x - lean * height, height), grey, thick)
    for _ in range(int(rng.integers(0, 3))):
        y = rng.uniform(0, height)
        draw.line((0, y, width, y), grey, thick)
    return np.asarray(picture, np.float32)


SURFACES: dict[Surface, float] = {
    sky: 0.2,
    leaves: 0.3,
    bricks: 0.08,
    facade: 0.16,
    ground: 0.1,
    plain: 0.1,
    fence: 0.06,
}


def draw_surface(rng: np.random.Generator, size_wh: Size) -> Floats:
    """One of the surfaces, at times out of focus or under a tree."""
    kinds = list(SURFACES)
    picture = kinds[int(rng.choice(len(kinds), p=list(SURFACES.values())))](rng, size_wh)
    if rng.random() < 0.3:
        picture = blurred(picture, max(size_wh) * rng.uniform(0.002, 0.02))
    if rng.random() < 0.15:
        picture = picture * leaf_shadow(rng, size_wh, max(size_wh) * rng.uniform(0.1, 0.5))
    return picture
