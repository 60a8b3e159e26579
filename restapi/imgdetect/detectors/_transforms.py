"""The way from a picture to a network's input, and for boxes the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imgdetect.detection import DetectOptions
from imgdetect.detectors import Image
from imgdetect.detectors._graph import Tensor
from imgdetect.errors import InvalidRequest

Size = tuple[int, int]
# letterbox: keeps the proportions and centres; corner: keeps them in the upper left; stretch: fills the input;
# shorter: scales the shorter side to 800 and pads to multiples of 32; as_is: as large as the picture;
# centre: scales the shorter side to 256/224 of the input and cuts out its centre.
Fit = Literal["letterbox", "corner", "stretch", "shorter", "as_is", "centre"]
MAX_PIXELS = 1 << 24  # of an input
_SHORTER, _LONGER, _MULTIPLE = 800, 1333, 32


@dataclass(frozen=True)
class Numbers:
    """What becomes of a pixel: (value - mean) / std, for values of 0 to 255."""

    order: Literal["rgb", "bgr"]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)  # in that order
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Transform:
    """How a picture is fitted into an input."""

    fit: Fit
    numbers: Numbers
    pad: int = 0  # the value of a pixel outside the picture


UNIT = Numbers("rgb", std=(255.0, 255.0, 255.0))
BGR = Numbers("bgr")
IMAGENET = Numbers("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
IMAGENET_BGR = Numbers("bgr", (103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
CAFFE = Numbers("bgr", (103.939, 116.779, 123.68))
DETECTRON = Numbers("bgr", (102.9801, 115.9465, 122.7717))
ULTRAFACE = Numbers("rgb", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))


@dataclass(frozen=True)
class InputForm:
    """What a network's input looks like."""

    layout: Literal["NCHW", "NHWC", "CHW", "HWC"]
    dtype: np.dtype[Any]
    size_wh: tuple[int | None, int | None]  # None for a side that may vary

    @classmethod
    def of(cls, tensor: Tensor, channels_last: bool = False) -> InputForm:
        """Read a graph's input.

        Args:
            channels_last: what is true where the shape leaves it open.
        Raises:
            ValueError: it takes no picture; the end of a sentence.
        """
        shape = tensor.shape
        if tensor.dtype not in ("float32", "float16", "float64", "uint8") or len(shape) not in (3, 4):
            raise ValueError(
                f"takes no picture: its input {tensor.name[:80]!r} is {tensor.dtype or 'no tensor'} {shape}"
            )
        if len(shape) == 4 and shape[0] not in (1, None):
            raise ValueError(f"has a fixed batch of {shape[0]}; export it with a batch of 1 or a dynamic one")
        sides = shape[-3:]
        last = sides[0] != 3 and (sides[2] == 3 or channels_last)
        if math.prod(side or 1 for side in sides) > 3 * MAX_PIXELS:
            raise ValueError(f"takes a picture of more than {MAX_PIXELS} pixels: the shape of its input is {shape}")
        if sides[2 if last else 0] not in (3, None):
            raise ValueError(f"takes no picture of three colours: the shape of its input is {shape}")
        batch = "N" if len(shape) == 4 else ""
        if last:
            return cls("NHWC" if batch else "HWC", tensor.numpy_type, (sides[1], sides[0]))
        return cls("NCHW" if batch else "CHW", tensor.numpy_type, (sides[2], sides[1]))

    def tensor(self, canvas: Image, numbers: Numbers) -> NDArray[Any]:
        """A canvas, BGR, as this input takes it. An input of bytes has its own arithmetic in the network."""
        pixels = canvas[..., ::-1] if numbers.order == "rgb" else canvas
        values: NDArray[Any] = pixels
        if self.dtype != np.uint8:
            mean, std = np.array(numbers.mean, np.float32), np.array(numbers.std, np.float32)
            values = (pixels.astype(np.float32) - mean) / std
        if self.layout.endswith("CHW"):
            values = values.transpose(2, 0, 1)
        if self.layout.startswith("N"):
            values = values[None]
        return np.ascontiguousarray(values, self.dtype)


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in an input."""

    image_wh: Size
    crop: tuple[int, int, int, int]  # x, y, width, height of the picture's part that is looked at, never empty
    scaled_wh: Size  # that part in the input
    offset_xy: Size  # its place in the input; negative where the input shows its middle only
    canvas_wh: Size  # the input

    @property
    def scale_xy(self) -> tuple[float, float]:
        """From pixels of the picture to those of the input."""
        return self.scaled_wh[0] / self.crop[2], self.scaled_wh[1] / self.crop[3]

    def to_image(self, xyxy: NDArray[Any]) -> NDArray[np.float64]:
        """Boxes of the input in the picture; those that lie outside the part are cut."""
        scale, offset = np.array(self.scale_xy * 2), np.array(self.offset_xy * 2, np.float64)
        x, y, width, height = self.crop
        part = np.clip((xyxy.astype(np.float64) - offset) / scale, 0, np.array((width, height) * 2, np.float64))
        moved: NDArray[np.float64] = part + np.array((x, y) * 2, np.float64)
        return moved


def place(image_wh: Size, options: DetectOptions, fit: Fit, size_wh: Size | None, working_pixels: int) -> Placement:
    """Where a picture comes to lie.

    Args:
        size_wh: of the input; None where it follows from the picture.
        working_pixels: the most that an input as large as the picture may have.
    Raises:
        InvalidRequest: the roi lies outside the picture.
    """
    crop = part(image_wh, options)
    width, height = crop[2:]
    if size_wh is None:
        factor = min(_SHORTER / min(width, height), _LONGER / max(width, height)) if fit == "shorter" else 1.0
        factor = min(factor, math.sqrt(working_pixels / (width * height)))
        scaled = max(1, round(width * factor)), max(1, round(height * factor))
        multiple = _MULTIPLE if fit == "shorter" else 1
        canvas = -(-scaled[0] // multiple) * multiple, -(-scaled[1] // multiple) * multiple
        return Placement(image_wh, crop, scaled, (0, 0), canvas)
    if fit == "stretch":
        return Placement(image_wh, crop, size_wh, (0, 0), size_wh)
    if fit == "centre":
        factor = max(round(side * 256 / 224) / given for side, given in zip(size_wh, (width, height), strict=True))
    else:
        factor = min(size_wh[0] / width, size_wh[1] / height)
    scaled = max(1, round(width * factor)), max(1, round(height * factor))
    offset = (0, 0)
    if fit in ("letterbox", "centre"):
        offset = (size_wh[0] - scaled[0]) // 2, (size_wh[1] - scaled[1]) // 2
    return Placement(image_wh, crop, scaled, offset, size_wh)


def part(image_wh: Size, options: DetectOptions) -> tuple[int, int, int, int]:
    """The part of a picture that is looked at: x, y, width, height.

    Raises:
        InvalidRequest: the roi lies outside the picture.
    """
    width, height = image_wh
    x, y, w, h = options.roi or (0, 0, width, height)
    left, top, right, bottom = max(0, x), max(0, y), min(width, x + w), min(height, y + h)
    if left >= right or top >= bottom:
        raise InvalidRequest.field("roi", f"lies outside the image, which is {width}x{height} pixels")
    return left, top, right - left, bottom - top


def fitted(image: Image, where: Placement, pad: int) -> Image:
    """The picture on its canvas, BGR, shape (height, width, 3) of the input."""
    x, y, width, height = where.crop
    if where.offset_xy[0] < 0 or where.offset_xy[1] < 0:  # only the middle is shown: no more than that is resized
        return _middle(image, where)
    region = image[y : y + height, x : x + width]
    scaled = _resized(region, where.scaled_wh)
    if where.scaled_wh == where.canvas_wh:
        return scaled
    canvas = np.full((where.canvas_wh[1], where.canvas_wh[0], 3), pad, np.uint8)
    left, top = where.offset_xy
    canvas[top : top + where.scaled_wh[1], left : left + where.scaled_wh[0]] = scaled
    return canvas


def _middle(image: Image, where: Placement) -> Image:
    x, y, width, height = where.crop
    size = []
    for start, side, offset, scale, shown in zip(
        (x, y), (width, height), where.offset_xy, where.scale_xy, where.canvas_wh, strict=True
    ):
        first = start + max(0, round(-offset / scale))
        size.append((first, min(start + side, first + max(1, round(shown / scale)))))
    (left, right), (top, bottom) = size
    return _resized(image[top:bottom, left:right], where.canvas_wh)


def _resized(region: Image, size_wh: Size) -> Image:
    if size_wh == (region.shape[1], region.shape[0]):
        return region
    shrinks = size_wh[0] < region.shape[1] and size_wh[1] < region.shape[0]
    return np.asarray(
        cv2.resize(region, size_wh, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8
    )
