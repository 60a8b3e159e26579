"""Pictures changed as a client asks: cut, scaled, turned, mirrored, blurred, made grey; in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imgdetect import boxes

Image = NDArray[np.uint8]
Size = tuple[int, int]
Flip = Literal["horizontal", "vertical", "both"]
_FLIPS = {"horizontal": 1, "vertical": 0, "both": -1}
_QUARTERS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class ProcessOptions:
    """What is done to a picture; None leaves it as it is."""

    crop: tuple[int, int, int, int] | None = None  # x, y, width, height in the upright picture, wholly inside
    width: int | None = None  # one of the two alone keeps the proportions
    height: int | None = None
    scale: float | None = None  # factor of both sides, in their place
    rotate: int = 0  # degrees, clockwise; off quarter turns the canvas grows, and its corners are black
    flip: Flip | None = None
    blur: int | None = None  # radius, pixels
    grey: bool = False

    def sizes(self, size_wh: Size) -> tuple[Size, Size]:
        """The size of a picture after scaling, and after turning; nothing is made for it."""
        width, height = self.crop[2:] if self.crop else size_wh
        if self.scale is not None:
            scaled = max(1, round(width * self.scale)), max(1, round(height * self.scale))
        elif self.width or self.height:
            scaled = (
                self.width or max(1, round(width * (self.height or 1) / height)),
                self.height or max(1, round(height * (self.width or 1) / width)),
            )
        else:
            scaled = width, height
        return scaled, boxes.turned_size(scaled, self.rotate)


def process(image: Image, options: ProcessOptions) -> Image:
    """The changed picture.

    Args:
        image: upright, BGR, shape (height, width, 3); stays as it is.
        options: whose sizes were found to be within limits.
    """
    scaled_wh, turned_wh = options.sizes((image.shape[1], image.shape[0]))
    if options.crop:
        x, y, width, height = options.crop
        image = image[y : y + height, x : x + width]
    if scaled_wh != (image.shape[1], image.shape[0]):
        smaller = scaled_wh[0] * scaled_wh[1] < image.shape[0] * image.shape[1]
        image = np.asarray(cv2.resize(image, scaled_wh, interpolation=_how(smaller)), np.uint8)
    if quarter := _QUARTERS.get(options.rotate % 360):
        image = np.asarray(cv2.rotate(image, quarter), np.uint8)
    elif options.rotate % 360:
        matrix = boxes.turn_matrix(scaled_wh, options.rotate)
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5  # from the edges of pixels to their centres
        image = np.asarray(cv2.warpAffine(image, matrix, turned_wh, flags=cv2.INTER_LINEAR), np.uint8)
    if options.flip:
        image = np.asarray(cv2.flip(image, _FLIPS[options.flip]), np.uint8)
    if options.blur:
        side = 2 * options.blur + 1
        image = np.asarray(cv2.stackBlur(image, (side, side)), np.uint8)  # costs the same for every radius
    if options.grey:
        image = np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR), np.uint8)
    return image


def _how(smaller: bool) -> int:
    return cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
