"""Uploads and pictures: measure without decoding, decode upright, encode, scale down."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgdetect.detection import Upload, sha256_of
from imgdetect.errors import ImageTooLarge, InvalidRequest, UnreadableImage, UploadTooLarge
from imgdetect.headers import ACCEPTED, Header, read_header, without_extras

__all__ = ["ACCEPTED", "Image", "decode", "downscale", "encode", "read_upload"]

Image = NDArray[np.uint8]

_JPEG_QUALITY = 90
_ENCODERS: dict[str, tuple[str, list[int]]] = {
    "image/jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]),
    "image/png": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 3]),
    "image/webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, _JPEG_QUALITY]),
}
# One at a time: two threads that exchange the same descriptor would lose it.
_silencing = threading.Lock()
# Pixels taken at once when alpha is flattened, so that the wide intermediate stays small.
_STRIP_PIXELS = 1_000_000


def use_one_thread() -> None:
    """Keep OpenCV to the calling thread: a child for each core looks at pictures, and a process of many cannot fork."""
    cv2.setNumThreads(1)


def read_upload(data: bytes, filename: str, *, max_bytes: int, max_pixels: int, max_side: int) -> Upload:
    """Tell what was received, by content and without decoding a pixel.

    Args:
        data: the bytes received.
        filename: what the client called it; kept, never believed.
        max_bytes, max_pixels, max_side: limits of the file, of width times height, and of either.
    Raises:
        InvalidRequest: nothing was received.
        UploadTooLarge, UnsupportedImage, UnreadableImage, ImageTooLarge: as they say.
    """
    if not data:
        raise InvalidRequest.field("image", "the file is empty")
    if len(data) > max_bytes:
        raise UploadTooLarge(max_bytes=max_bytes)
    header = read_header(data)
    width, height = header.size_wh
    if width * height > max_pixels or max(width, height) > max_side:
        detail = f"It has {width}x{height} pixels; at most {max_pixels} in all and {max_side} a side are taken."
        raise ImageTooLarge(detail, max_pixels=max_pixels, max_side=max_side, width=width, height=height)
    return Upload(data, filename, header.media_type, width, height, sha256_of(data))


def decode(data: bytes) -> Image:
    """The picture as the eye sees it: upright, first frame, see-through parts on white.

    Returns:
        BGR, uint8, shape (height, width, 3), contiguous.
    Raises:
        UnsupportedImage, UnreadableImage: it is no picture that can be read.
    """
    header = read_header(data)
    # OpenCV drops alpha unless nothing is to change, and has its own mind about which types carry an orientation.
    flags = cv2.IMREAD_UNCHANGED if header.alpha else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        with _silence():
            stored = cv2.imdecode(np.frombuffer(without_extras(data), np.uint8), flags)
        if stored is None or stored.shape[:2] != (header.height, header.width):
            raise UnreadableImage
        return np.ascontiguousarray(upright(_as_bgr(stored, header), header.orientation))
    except (cv2.error, MemoryError):
        raise UnreadableImage from None


@contextmanager
def _silence() -> Iterator[None]:
    """Keep libjpeg and libpng, which write straight to descriptor 2, from filling the log with a client's errors."""
    with _silencing:
        kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(null)


def _as_bgr(stored: NDArray[Any], header: Header) -> Image:
    """Eight bits, three channels, no alpha."""
    if stored.dtype == np.uint16:
        stored = cv2.convertScaleAbs(stored, alpha=1 / 257)
    if stored.dtype != np.uint8:
        raise UnreadableImage("Pixels of this depth are not read here.")
    if stored.ndim == 3 and stored.shape[2] == 4:
        return _on_white(stored, header.premultiplied)
    if stored.ndim == 2:
        stored = np.asarray(cv2.cvtColor(stored, cv2.COLOR_GRAY2BGR))
    if header.transparent_grey is not None:
        stored[np.all(stored == header.transparent_grey, axis=2)] = 255
    return stored


def _on_white(bgra: Image, premultiplied: bool) -> Image:
    """Lay a picture with an alpha channel on white."""
    height, width = bgra.shape[:2]
    flat = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = bgra[top : top + rows]
        colour, alpha = strip[..., :3].astype(np.uint16), strip[..., 3:].astype(np.uint16)
        if not premultiplied:
            colour = (colour * alpha + 127) // 255
        flat[top : top + rows] = np.minimum(colour + (255 - alpha), 255)
    return flat


def upright(image: Image, orientation: int) -> Image:
    """Apply an EXIF orientation, 1..8."""
    # OpenCV turns block by block: on a photograph about three times as fast as copying a transposed view.
    if orientation >= 5:
        image = np.asarray(cv2.transpose(image), np.uint8)
    mirrored, upside_down = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    if not mirrored and not upside_down:
        return image
    axes = -1 if mirrored and upside_down else int(mirrored)
    return np.asarray(cv2.flip(image, axes, dst=image), np.uint8)


def encode(image: Image, media_type: str, quality: int | None = None) -> bytes:
    """The picture as a file without any metadata.

    Args:
        image: BGR, shape (height, width, 3).
        media_type: image/jpeg, image/png or image/webp.
        quality: 1..100 in the place of our own, for those that have one.
    Raises:
        ValueError: another media type.
    """
    if media_type not in _ENCODERS:
        raise ValueError(f"{media_type!r} is not one of {', '.join(_ENCODERS)}")
    extension, parameters = _ENCODERS[media_type]
    if quality is not None and parameters:
        parameters = [parameters[0], quality]
    done, buffer = cv2.imencode(extension, image, parameters)
    if not done:
        raise ValueError(f"the picture cannot be stored as {media_type}")
    return bytes(buffer.data)


def downscale(image: Image, max_pixels: int) -> tuple[Image, float]:
    """Make a picture fit a number of pixels.

    Returns:
        The same object and 1.0 when it fits, else a smaller copy and the factor, below 1, of its sides.
    """
    height, width = image.shape[:2]
    if width * height <= max_pixels:
        return image, 1.0
    factor = math.sqrt(max_pixels / (width * height))
    size_wh = (max(1, int(width * factor)), max(1, int(height * factor)))
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8), factor
