"""Rendering an object from one or a few pictures of it that are cut out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasthaar.workshop import WorkshopError
from fasthaar.workshop.effects import (
    Bytes,
    Floats,
    Size,
    blurred,
    cast_shadow,
    draw_camera,
    leaf_shadow,
    slope,
)
from fasthaar.workshop.pictures import read_cut_out, resized
from fasthaar.workshop.pose import bounds, draw_pose, moved, paste
from fasthaar.workshop.recipes.decoys import covered
from fasthaar.workshop.recipes.street import close_up, collage, cut_out, street
from fasthaar.workshop.render import Box

Colour = tuple[int, int, int]
_MOST_SIDE = 256  # of a template, pixels
_MOST_PX = 110.0  # of an object in a sample
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)
_KINDS = {"sample": 0, "scene": 1, "negative": 2}


@dataclass(frozen=True)
class Template:
    """One picture of the object: grey levels and opacity (0 to 1), both float32 (h, w), and its outline.

    Attributes:
        levels, alpha: as above.
        outline: float64 (N, 2), points on the object's edge, in the coordinates of `pose.Pose`.
    """

    levels: Floats
    alpha: Floats
    outline: NDArray[np.float64]


def read_template(path: Path, background: Colour | None = None, tolerance: int = 40) -> Template:
    """A template from a picture with transparency, or with one colour around the object.

    Args:
        path: of the picture.
        background: red, green, blue of what is not the object; None where transparency says it.
        tolerance: how far a colour may be from `background`, in levels of the channel that differs most.

    Raises:
        WorkshopError: it cannot be read, or nothing of an object is in it.
    """
    colours, alpha = read_cut_out(path)
    if background is not None:
        distance = np.abs(colours.astype(np.int16) - np.array(background, np.int16)).max(-1)
        alpha = np.where(distance <= tolerance, 0, alpha).astype(np.uint8)
    rows, columns = np.flatnonzero((alpha > 127).any(1)), np.flatnonzero((alpha > 127).any(0))
    if len(rows) < 8 or len(columns) < 8:
        raise WorkshopError(f"{path}: the object should have 8x8 pixels at least that are not transparent")
    inside = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    grey = np.clip(np.rint(colours[inside].astype(np.float32) @ _LUMA), 0, 255).astype(np.uint8)
    alpha = alpha[inside]
    height, width = alpha.shape
    scale = min(1.0, _MOST_SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    grey, alpha = resized(grey, size), resized(alpha, size)
    return Template(grey.astype(np.float32), alpha.astype(np.float32) / np.float32(255), _outline(alpha > 127))


def _outline(opaque: NDArray[np.bool_]) -> NDArray[np.float64]:
    height, width = opaque.shape
    rows = np.flatnonzero(opaque.any(1))
    left = opaque[rows].argmax(1)
    right = width - opaque[rows, ::-1].argmax(1)
    points = np.vstack(
        [np.column_stack([x, rows + edge]) for x in (left, right) for edge in (0, 1)],
    )
    return np.asarray((points - (width / 2, height / 2)) / (max(width, height) / 2), np.float64)


@dataclass(frozen=True)
class TemplateRenderer:
    """Renders an object from templates, before photographs or, without any, before drawn streets.

    Attributes:
        templates: at least one; each is as frequent as the others.
        seed: everything follows from it, from the number of the picture, and from the pictures given here.
        photographs: pictures without the object, uint8 (H, W), for backgrounds.
        scene_wh: the size of scenes and negatives, pixels.
        turns: most of yaw, pitch and roll, degrees.
        smallest_px: the smallest larger side of the object in a sample.
    """

    templates: Sequence[Template]
    seed: int = 0
    photographs: Sequence[Bytes] = ()
    scene_wh: Size = (800, 600)
    turns: tuple[float, float, float] = (35, 15, 8)
    smallest_px: float = 18

    def sample(self, number: int) -> tuple[Bytes, Box]:
        """The object with what is around it: a picture twice as large as the object, and its box."""
        rng = self._rng("sample", number)
        px = float(np.exp(rng.uniform(np.log(self.smallest_px), np.log(_MOST_PX))))
        side = int(np.ceil(px * 2))
        picture = self._background(rng, (side, side)) * np.float32(rng.uniform(0.4, 1.2))
        box = self._place(rng, picture, (side / 2, side / 2), px)
        if rng.random() < 0.2:
            picture = covered(rng, picture, box)
        return draw_camera(rng, px).shoot(picture, rng), box

    def scene(self, number: int) -> tuple[Bytes, list[Box]]:
        """A picture with one to three objects, and their boxes."""
        rng = self._rng("scene", number)
        width, height = self.scene_wh
        picture = cut_out(rng, self.scene_wh, self.photographs) if self.photographs else street(rng, self.scene_wh)
        boxes: list[Box] = []
        for _ in range(int(rng.choice((1, 2, 3), p=(0.7, 0.2, 0.1)))):
            px = float(np.exp(rng.uniform(np.log(24), np.log(min(width, height) * 0.5))))
            center = (float(rng.uniform(px / 2, width - px / 2)), float(rng.uniform(px / 2, height - px / 2)))
            if all(
                max(abs(center[0] - x - w / 2), abs(center[1] - y - h / 2)) > px + max(w, h) for x, y, w, h in boxes
            ):
                boxes.append(self._place(rng, picture, center, px))
        inside = [_clipped(box, self.scene_wh) for box in boxes]
        return draw_camera(rng, 30).shoot(picture, rng), inside

    def negative(self, number: int) -> Bytes:
        """A picture without the object, of many parts for the most."""
        rng = self._rng("negative", number)
        if self.photographs:
            picture = cut_out(rng, self.scene_wh, self.photographs)
        else:
            picture = (street if rng.random() < 0.5 else collage)(rng, self.scene_wh)
        return draw_camera(rng, 40).shoot(picture, rng)

    def _background(self, rng: np.random.Generator, size_wh: Size) -> Floats:
        return cut_out(rng, size_wh, self.photographs) if self.photographs else close_up(rng, size_wh)

    def _place(self, rng: np.random.Generator, picture: Floats, center: tuple[float, float], px: float) -> Box:
        template = self.templates[int(rng.integers(len(self.templates)))]
        size = template.levels.shape[::-1]
        matrix = draw_pose(rng, *self.turns).matrix(px, center)
        levels = blurred(template.levels, 0.25 * max(size) / px)
        levels = (levels * rng.uniform(0.5, 1.15) + rng.uniform(-15, 25)) * slope(rng, size, (0, 0.4))
        if rng.random() < 0.15:
            levels = levels * leaf_shadow(rng, size, max(size) * rng.uniform(0.2, 0.6))
        if rng.random() < 0.12:
            levels = levels * cast_shadow(rng, size)
        paste(picture, levels.astype(np.float32), template.alpha, matrix, 3 if px < 50 else 2)
        return bounds(moved(matrix, template.outline))

    def _rng(self, kind: str, number: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, _KINDS[kind], number))


def _clipped(box: Box, size_wh: Size) -> Box:
    x, y, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    x, right = float(np.clip(x, 0, size_wh[0])), float(np.clip(right, 0, size_wh[0]))
    y, bottom = float(np.clip(y, 0, size_wh[1])), float(np.clip(bottom, 0, size_wh[1]))
    return x, y, right - x, bottom - y
