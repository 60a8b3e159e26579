"""The pictures of the benchmarks: two photographs at 979x551, and as many distinct versions of them as needed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
SIZE_WH = (979, 551)
SOURCES = (ROOT / "test_images" / "input" / "astronaut.jpg", ROOT / "benchmarks" / "pictures" / "rocket.jpg")


def photographs() -> list[np.ndarray]:
    """The sources as BGR images, shape (551, 979, 3)."""
    return [cv2.resize(cv2.imread(str(path)), SIZE_WH, interpolation=cv2.INTER_AREA) for path in SOURCES]


def encoded(image: np.ndarray) -> bytes:
    """A JPEG of quality 90."""
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def distinct(start: int = 0) -> Iterator[bytes]:
    """JPEGs that differ in a comment only: the same work each time, and never the same upload."""
    bodies = [encoded(image) for image in photographs()]
    for number in count(start):
        yield commented(bodies[number % len(bodies)], number)


def commented(jpeg: bytes, number: int) -> bytes:
    """The same picture with a number in a comment segment behind its first marker."""
    text = b"%020d" % number
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + jpeg[2:]


def mixed(number: int) -> bytes:
    """One of many pictures of 0.05 to 2 megapixels, all different."""
    image = photographs()[number % 2]
    scale = (0.3, 0.6, 1.0, 1.4, 1.9)[number % 5]
    image = cv2.resize(image, None, fx=scale, fy=scale)
    return commented(encoded(image), number)
