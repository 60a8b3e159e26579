"""Test images from test images: the same scene turned, mirrored, blurred, noisy, moved or enlarged.

Every function is pure and deterministic. It returns the changed picture and the transform that takes boxes of
the source to boxes of the changed picture, so that the right answers need to be marked only once. What comes
into view from outside the source is black: mirrored or repeated edges would show objects that nobody marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgdetect import boxes

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Transform:
    """Takes boxes of the source picture to the changed picture.

    A box stands for the ellipse it frames, so a turned face keeps the size of its box; quarter turns, mirroring,
    moves and scaling are exact. Boxes are clipped to the picture: one that left it has no area.

    Args:
        matrix: affine, shape (2, 3), from source to changed coordinates; 0 is the picture's edge, not the
            centre of the first pixel.
        size_wh: of the changed picture, pixels.
    """

    matrix: NDArray[np.float64]
    size_wh: tuple[int, int]

    def __call__(self, boxes_xywh: ArrayLike) -> NDArray[np.float64]:
        """Map boxes of shape (N, 4), x, y, width, height in pixels; the result has the same shape and order."""
        xywh = np.asarray(boxes_xywh, np.float64).reshape(-1, 4)
        linear, offset = self.matrix[:, :2], self.matrix[:, 2]
        half = xywh[:, 2:] / 2
        centers = (xywh[:, :2] + half) @ linear.T + offset
        reach = np.sqrt(half**2 @ (linear**2).T)  # half the width and height of the mapped ellipse
        xyxy = np.hstack([centers - reach, centers + reach])
        return boxes.xyxy_to_xywh(boxes.clip_boxes(xyxy, self.size_wh))


Augmented = tuple[Image, Transform]


def rotate(image: Image, degrees: int = -10) -> Augmented:
    """Turn the picture clockwise about its centre; the canvas grows so that no part of it is cut off."""
    size_wh = _size_wh(image)
    return _warped(image, boxes.turn_matrix(size_wh, degrees), boxes.turned_size(size_wh, degrees))


def flip(image: Image) -> Augmented:
    """Mirror the picture left to right."""
    size_wh = _size_wh(image)
    matrix = np.array([[-1.0, 0.0, size_wh[0]], [0.0, 1.0, 0.0]])
    return np.ascontiguousarray(image[:, ::-1]), Transform(matrix, size_wh)


def blur(image: Image, sigma: float = 1.5) -> Augmented:
    """Soften the picture with a Gaussian of that standard deviation, in pixels."""
    if sigma <= 0:
        raise ValueError(f"sigma must be above 0, not {sigma}")
    return _uint8(cv2.GaussianBlur(image, (0, 0), sigma)), _unmoved(image)


def noise(image: Image, sigma: float = 12.0, seed: int = 0) -> Augmented:
    """Add Gaussian noise of that standard deviation, in grey levels of 0..255; a seed always gives the same noise."""
    if sigma < 0:
        raise ValueError(f"sigma must not be negative, not {sigma}")
    grain = np.random.default_rng(seed).standard_normal(image.shape, np.float32)
    return _uint8(np.clip(np.rint(image + sigma * grain), 0, 255)), _unmoved(image)


def translate(image: Image, right: float = -0.08, down: float = 0.05) -> Augmented:
    """Move the picture by parts of its width and height, rounded to whole pixels; negative: left and up."""
    width, height = _size_wh(image)
    matrix = np.array([[1.0, 0.0, round(right * width)], [0.0, 1.0, round(down * height)]])
    return _warped(image, matrix, (width, height))


def zoom(image: Image, factor: float = 1.2) -> Augmented:
    """Enlarge the picture about its centre, or shrink it below 1; its size stays."""
    if factor <= 0:
        raise ValueError(f"factor must be above 0, not {factor}")
    width, height = _size_wh(image)
    kept = (1 - factor) / 2
    matrix = np.array([[factor, 0.0, kept * width], [0.0, factor, kept * height]])
    return _warped(image, matrix, (width, height))


AUGMENTATIONS: dict[str, Callable[[Image], Augmented]] = {
    "rotate": rotate,
    "flip": flip,
    "blur": blur,
    "noise": noise,
    "translate": translate,
    "zoom": zoom,
}


def augmented(image: Image) -> Iterator[tuple[str, Image, Transform]]:
    """Every augmentation of one picture with its standard parameters.

    Args:
        image: BGR, shape (height, width, 3); it is not changed.

    Yields:
        The augmentation's name, the changed picture, and the transform for the source's boxes.
    """
    for name, augment in AUGMENTATIONS.items():
        changed, transform = augment(image)
        yield name, changed, transform


def _size_wh(image: Image) -> tuple[int, int]:
    height, width = image.shape[:2]
    return width, height


def _unmoved(image: Image) -> Transform:
    return Transform(np.eye(2, 3), _size_wh(image))


def _uint8(image: NDArray[np.generic] | cv2.typing.MatLike) -> Image:
    return np.asarray(image).astype(np.uint8, copy=False)


def _warped(image: Image, matrix: NDArray[np.float64], size_wh: tuple[int, int]) -> Augmented:
    """The picture under an affine transform; `matrix` counts from the edge, OpenCV from the first pixel's centre."""
    pixels = matrix.copy()
    pixels[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
    warped = cv2.warpAffine(image, pixels, size_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return _uint8(warped), Transform(matrix, size_wh)
