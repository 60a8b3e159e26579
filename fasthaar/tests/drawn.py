"""An object that is easy to learn, drawn in any number of ways, and pictures with and without it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pictures import Image

SIDE = 12


def samples(count: int, seed: int, side: int = SIDE) -> Image:
    """The object alone, uint8 (count, side, side): a bright cross with a dark middle on a darker ground."""
    rng = np.random.default_rng(seed)
    return np.stack([_draw(rng, side) for _ in range(count)])


def _draw(rng: np.random.Generator, side: int, *, whole: bool = True) -> Image:
    """The object; or, not whole, something like it: an arm is missing, or the middle is bright."""
    low, bright = rng.uniform(40, 110), rng.uniform(150, 230)
    large = np.full((96, 96), low, np.float32)
    (x, y), reach, half = rng.uniform(42, 54, 2), rng.uniform(34, 46), rng.uniform(7, 12)
    missing = -1 if whole else int(rng.integers(6))
    for number, (dx, dy) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
        if number != missing:
            ends = np.array([(x - half * abs(dy), y - half * abs(dx)), (x + half * abs(dy), y + half * abs(dx))])
            ends[1] += (reach * dx, reach * dy) if dx + dy > 0 else 0
            ends[0] += (reach * dx, reach * dy) if dx + dy < 0 else 0
            cv2.rectangle(large, *np.rint(ends).astype(int).tolist(), bright, -1)
    if missing < 4:
        cv2.rectangle(large, (round(x - half), round(y - half)), (round(x + half), round(y + half)), low, -1)
    small = cv2.resize(large, (side, side), interpolation=cv2.INTER_AREA)
    return np.clip(small + rng.normal(0, 8, small.shape), 0, 255).astype(np.uint8)


def ground(width: int, height: int, seed: int) -> Image:
    """A picture without the object: blobs, edges, noise, and things that resemble it."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width), np.float32)
    for cells in (3, 8, 20, 50):
        blobs = rng.normal(0, 30, (cells, cells)).astype(np.float32)
        image += cv2.resize(blobs, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(30):
        x, y, w, h = rng.integers(0, (width, height, width // 3, height // 3))
        image[y : y + h, x : x + w] += rng.normal(0, 40)
    image = np.clip(image + 120 + rng.normal(0, 6, image.shape), 0, 255)
    for _ in range(width * height // 1500):
        side = int(rng.integers(12, 40))
        if side < min(width, height):
            x, y = int(rng.integers(width - side)), int(rng.integers(height - side))
            image[y : y + side, x : x + side] = _draw(rng, side, whole=False)
    return image.astype(np.uint8)


def scene(seed: int) -> tuple[Image, list[tuple[int, int, int]]]:
    """A picture with three objects, and where each is: x, y and side."""
    rng = np.random.default_rng(seed)
    image, places = ground(240, 180, seed), []
    for number in range(3):
        side = int(rng.integers(16, 50))
        x, y = number * 80 + int(rng.integers(0, 80 - side)), int(rng.integers(0, 180 - side))
        image[y : y + side, x : x + side] = _draw(rng, side)
        places.append((x, y, side))
    return image, places


def prepare(folder: Path, *, count: int = 200, pictures: int = 8, side: int = SIDE) -> tuple[Path, Path]:
    """Files for a training: samples.npz and a folder of pictures."""
    np.savez(folder / "samples.npz", samples=samples(count, 1, side))
    negatives = folder / "negatives"
    negatives.mkdir()
    for number in range(pictures):
        cv2.imwrite(str(negatives / f"{number}.png"), ground(160, 120, 100 + number))
    return folder / "samples.npz", negatives
