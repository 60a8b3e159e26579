"""Writing that says nothing, in real typefaces: what is taken for the lettering of a sign more than anything else."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fasthaar.workshop.effects import Floats, rounded
from fasthaar.workshop.recipes.glyphs import write_scribbles

# Those that come with Matplotlib.
_TYPEFACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansDisplay",  # has no letters, which leaves boards blank now and then
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "STIXGeneral",
    "STIXGeneralBol",
)
_LETTERS, _OFTEN = "etaoinshrdlcumwfgypbvkxz", (12, 9, 8, 8, 7, 7, 6, 6, 6, 4, 4, 3, 3, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1)
_LARGEST_PX = 64  # of drawn type; larger writing is enlarged

Box = tuple[float, float, float, float]
Writer = Callable[[Image.Image, np.random.Generator, Box], None]  # fills a box of a mask with a line of writing


def write(mask: Image.Image, rng: np.random.Generator, box: Box) -> None:
    """Fill a box (x, y, width, height) of a mask with a line of writing."""
    if rng.random() < 0.25:
        write_scribbles(mask, rng, box)
        return
    x, y, width, height = box
    line = _line(rng, width / max(height, 1))
    size = (max(1, round(width)), max(1, round(height)))
    mask.paste(255, (round(x), round(y)), line.resize(size, Image.Resampling.BOX))


def cover_with_writing(rng: np.random.Generator, picture: Floats) -> Floats:
    """The picture with blocks of writing: on boards, as captions in a photograph, light and dark, large and small."""
    height, width = picture.shape
    for _ in range(int(rng.integers(2, 8))):
        line = float(np.exp(rng.uniform(np.log(9), np.log(height * 0.2))))
        wide = min(width * 0.95, line * rng.uniform(2, 16))
        spacing, lines = line * rng.uniform(1.15, 2), int(rng.integers(1, 7))
        x, y = rng.uniform(-wide / 4, width - wide * 0.6), rng.uniform(-line, height - line)
        picture = _block(rng, picture, (x, y, wide, line), spacing, lines)
    return picture


def _block(rng: np.random.Generator, picture: Floats, first: Box, spacing: float, lines: int) -> Floats:
    """The picture with some lines of writing, of which this is the first one's box, on a board or without one."""
    x, y, wide, line = first
    canvas, ink = Image.fromarray(rounded(picture)), Image.new("L", picture.shape[::-1])
    paint, board = rng.uniform(0, 255, 2)
    if rng.random() < 0.6:
        paint = float(np.clip(board + rng.choice((-1, 1)) * rng.uniform(50, 230), 0, 255))
        edge = line * rng.uniform(0.2, 1.2)
        around = (x - edge, y - edge, x + wide + edge, y + spacing * (lines - 1) + line + edge)
        frame = int(line * rng.uniform(0, 0.25)) if rng.random() < 0.4 else 0
        ImageDraw.Draw(canvas).rectangle(around, int(board), int(paint), frame)
    for number in range(lines):
        write(ink, rng, (x, y + number * spacing, wide * rng.uniform(0.6, 1), line))
    turned = ink.rotate(float(rng.normal(0, 3)), Image.Resampling.BILINEAR) if rng.random() < 0.5 else ink
    strength = rng.uniform(0.4, 1)
    shown = np.asarray(turned, np.float32) / np.float32(255) * np.float32(strength)
    under = np.asarray(canvas, np.float32)
    return np.asarray(under + (np.float32(paint) - under) * shown, np.float32)


def _line(rng: np.random.Generator, aspect: float) -> Image.Image:
    """A line of words or numbers, about so many times as wide as it is high, drawn narrow or wide."""
    font = _font(str(rng.choice(_TYPEFACES)), _LARGEST_PX)
    squeeze = rng.uniform(0.55, 1.1)
    style = int(rng.choice(4, p=(0.45, 0.2, 0.15, 0.2)))
    text = ""
    while not text or font.getlength(text) * squeeze < aspect * _LARGEST_PX * 0.75:
        text = f"{text} {_word(rng, style)}".strip()
    left, top, right, bottom = font.getbbox(text)
    line = Image.new("L", (max(1, int(right - left)), max(1, int(bottom - top))))
    ImageDraw.Draw(line).text((-left, -top), text, 255, font)
    return line.crop((0, 0, max(1, int(min(line.width, aspect * line.height / squeeze))), line.height))


def _word(rng: np.random.Generator, style: int) -> str:
    if style == 3:
        return str(int(10 ** rng.uniform(0, 5))) + ("," if rng.random() < 0.3 else "")
    odds = np.array(_OFTEN) / sum(_OFTEN)
    word = "".join(rng.choice(list(_LETTERS), int(rng.integers(1, 9)), p=odds))
    word = "shop" if word == "stop" else word
    return (word.upper(), word.capitalize(), word)[style]


@lru_cache(64)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    from matplotlib import get_data_path  # noqa: PLC0415 - takes a second

    return ImageFont.truetype(Path(get_data_path(), "fonts", "ttf", f"{name}.ttf"), size)
