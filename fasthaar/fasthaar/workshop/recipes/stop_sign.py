"""Stop signs in streets, rendered: nothing is photographed, and every picture follows from its seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from fasthaar.workshop.effects import Bytes, Floats, Size, blurred, draw_camera
from fasthaar.workshop.pose import bounds, draw_pose, moved, paste
from fasthaar.workshop.recipes.decoys import covered, paste_board
from fasthaar.workshop.recipes.face import Face, draw_back, draw_face, octagon, seen_from_afar
from fasthaar.workshop.recipes.glyphs import write_scribbles
from fasthaar.workshop.recipes.street import close_up, collage, cut_out, street
from fasthaar.workshop.recipes.writing import Writer, cover_with_writing, write
from fasthaar.workshop.render import Box

_MOST_PX = 110.0  # of a face in a sample: what is larger looks the same once it is reduced
_KINDS = {"sample": 0, "scene": 1, "negative": 2}


@dataclass(frozen=True)
class StopSign:
    """Renders samples, streets with signs, and streets without.

    The box of a sign is the smallest upright one around its face, border included, without pole and plates.

    Attributes:
        seed: everything follows from it, from the number of the picture, and from the photographs.
        photographs: pictures without stop signs, uint8 (H, W), that half of all backgrounds are taken from.
        smallest_px: the smallest side of a face in a sample.
        backs: the share of samples that are seen from behind, 0 to 1.
        scene_wh: the size of the scenes and negatives, pixels.
    """

    seed: int = 0
    photographs: Sequence[Bytes] = ()
    smallest_px: float = 18
    backs: float = 0
    scene_wh: tuple[int, int] = (800, 600)

    def sample(self, number: int) -> tuple[Bytes, Box]:
        """One sign with what is around it, for training: a picture twice as large as the face, and the face's box."""
        rng = self._rng("sample", number)
        while True:  # until it can be seen what it is
            back = draw_back(rng) if self.backs > 0 and rng.random() < self.backs else None
            picture, box = self._sample(rng, back)
            if _stands_out(picture, box) if back else _is_legible(picture, box):
                return picture, box

    def _sample(self, rng: np.random.Generator, back: Face | None) -> tuple[Bytes, Box]:
        px = float(np.exp(rng.uniform(np.log(self.smallest_px), np.log(_MOST_PX))))
        side = int(np.ceil(px * 2))
        face = back or draw_face(rng)
        # Beside lettering there are strokes alone; typefaces take long, and teach what is no sign.
        writer = write if back else write_scribbles
        picture = close_up(rng, (side, side), self.photographs, writer)
        picture *= np.float32(_surroundings(rng, face))
        center = (side / 2 + rng.uniform(-0.5, 0.5), side / 2 + rng.uniform(-0.5, 0.5))
        box = _place(rng, picture, face, center, px, writer)
        if rng.random() < 0.2:
            picture = covered(rng, picture, box)
        return draw_camera(rng, px).shoot(picture, rng), box

    def scene(self, number: int) -> tuple[Bytes, list[Box]]:
        """A street with one to three signs, and the boxes of their faces; faces have 20 pixels at least."""
        rng = self._rng("scene", number)
        width, height = self.scene_wh
        picture = self._street(rng, self.scene_wh)
        boxes: list[Box] = []
        night = rng.random() < 0.15
        picture *= np.float32(rng.uniform(0.15, 0.5) if night else 1)
        for _ in range(int(rng.choice((1, 2, 3), p=(0.75, 0.2, 0.05)))):
            px = float(np.exp(rng.uniform(np.log(24), np.log(min(width, height) * 0.5))))
            center = (float(rng.uniform(px * 0.6, width - px * 0.6)), float(rng.uniform(px * 0.6, height - px * 0.8)))
            if any(abs(center[0] - x - w / 2) < w + px for x, _, w, _ in boxes):  # its pole would stand before it
                continue
            face = draw_face(rng)
            while (face.light == "night") != night:
                face = draw_face(rng)
            boxes.append(_place(rng, picture, face, center, px))
        return draw_camera(rng, 30).shoot(picture, rng), boxes

    def negative(self, number: int) -> Bytes:
        """A street, or a cut-out of one, without a stop sign but with what may be taken for one."""
        rng = self._rng("negative", number)
        # Photographs are often enlarged before they are looked at, so some have nothing fine in them.
        coarse = float(rng.uniform(1.3, 2.5)) if rng.random() < 0.35 else 1.0
        size = (round(self.scene_wh[0] / coarse), round(self.scene_wh[1] / coarse))
        kind = rng.random()
        if kind < 0.4:
            picture = self._street(rng, size)
        elif kind < 0.9:
            picture = collage(rng, size, self.photographs)
        else:
            picture = close_up(rng, size, self.photographs)
        if rng.random() < 0.35:
            picture = cover_with_writing(rng, picture)
        picture *= np.float32(rng.uniform(0.1, 0.5) if rng.random() < 0.12 else 1)
        shot = draw_camera(rng, 40 / coarse).shoot(picture, rng)
        return np.array(Image.fromarray(shot).resize(self.scene_wh, Image.Resampling.BILINEAR), np.uint8)

    def _street(self, rng: np.random.Generator, size_wh: Size) -> Floats:
        if self.photographs and rng.random() < 0.4:
            return cut_out(rng, size_wh, self.photographs)
        return street(rng, size_wh)

    def _rng(self, kind: str, number: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, _KINDS[kind], number))


def from_behind(seed: int, photographs: Sequence[Bytes], scene_wh: Size) -> StopSign:
    """The renderer whose samples are all seen from behind; scenes and negatives are those of `StopSign`."""
    return StopSign(seed, photographs, backs=1, scene_wh=scene_wh)


def _is_legible(picture: Bytes, box: Box) -> bool:
    """Whether there is contrast where the lettering is."""
    x, y, wide, high = box
    middle = (x + wide * 0.15, y + high * 0.3, x + wide * 0.85, y + high * 0.7)
    small = Image.fromarray(picture).resize((16, 9), Image.Resampling.BOX, middle)
    return float(np.asarray(small, np.float32).std()) >= 11


def _stands_out(picture: Bytes, box: Box) -> bool:
    """Whether a sign without lettering differs from what is around it."""
    x, y, wide, high = box
    around = (x - wide * 0.1, y - high * 0.1, x + wide * 1.1, y + high * 1.1)
    small = np.asarray(Image.fromarray(picture).resize((6, 6), Image.Resampling.BOX, around), np.float32)
    corners = small[[0, 0, -1, -1], [0, -1, 0, -1]]
    return float(np.sort(np.abs(corners - small[2:4, [1, 4]].mean()))[1]) >= 22


def _surroundings(rng: np.random.Generator, face: Face) -> float:
    """How bright everything but the sign is, for the light on the sign."""
    low, high = {"night": (0.04, 0.35), "backlit": (0.9, 1.6), "shade": (0.4, 1.1)}.get(face.light, (0.55, 1.2))
    return float(rng.uniform(low, high))


def _place(
    rng: np.random.Generator,
    picture: Floats,
    face: Face,
    center: tuple[float, float],
    px: float,
    writer: Writer = write,
) -> Box:
    """Puts a sign with its pole into a picture, in place, and returns the face's box."""
    matrix = draw_pose(rng).matrix(px, center)
    if rng.random() < 0.9:
        _erect(rng, picture, face, center, px)
    levels = seen_from_afar(face.levels, px)
    paste(picture, levels, face.alpha, matrix, 3 if px < 50 else 2)
    if rng.random() < 0.15:  # a plate below: ALL WAY, a street's name
        wide = px * rng.uniform(0.5, 1)
        paste_board(
            picture, rng, (center[0] - wide / 2, center[1] + px * 0.56, wide, wide * rng.uniform(0.2, 0.5)), writer
        )
    if face.light == "night" and rng.random() < 0.5:
        _bloom(picture, bounds(moved(matrix, octagon())), float(rng.uniform(0.15, 0.5)))
    return bounds(moved(matrix, octagon()))


def _erect(rng: np.random.Generator, picture: Floats, face: Face, center: tuple[float, float], px: float) -> None:
    """Draws the pole behind a face, in place."""
    height = picture.shape[0]
    thick, grey = px * rng.uniform(0.04, 0.13), float(rng.uniform(20, 200)) * (0.4 if face.light == "night" else 1)
    if face.pole:
        thick, grey = px * face.pole[0], face.pole[1]
    top = center[1] - px * (rng.uniform(0.52, 0.75) if rng.random() < 0.35 else 0.2)
    poled = Image.fromarray(picture)
    ImageDraw.Draw(poled).line(
        (center[0], top, center[0] + rng.normal(0, 0.04) * px, height), grey, max(1, round(thick))
    )
    picture[:] = np.asarray(poled)


def _bloom(picture: Floats, box: Box, strength: float) -> None:
    """Lets a bright sign shine into what is around it, in place."""
    glow = blurred(np.clip(picture - 120, 0, None), max(box[2], 4) * 0.12)
    picture += np.float32(strength) * glow
