"""Small videos for tests: the astronaut's face on its way from left to right."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction

import av
import cv2
import numpy as np

from imgdetect.detection import Box
from tests.app import astronaut

SIZE_WH = 320, 240
_SIDE = 120  # of the pasted square
_STEP = 5  # pixels from frame to frame
_CROP = 100, 0, 256  # left, top, side in the photograph
_FACE = 181, 80, 90, 99  # the face in the photograph, marked by hand


@functools.cache
def _head() -> np.ndarray:
    photo = cv2.imdecode(np.frombuffer(astronaut(), np.uint8), cv2.IMREAD_COLOR)
    left, top, side = _CROP
    return cv2.resize(photo[top : top + side, left : left + side], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def place(number: int, size_wh: tuple[int, int] = SIZE_WH) -> tuple[int, int]:
    """Left and top of the pasted square on a frame: to the right edge and back."""
    width, height = size_wh
    way = width - _SIDE
    return way - abs(way - _STEP * number % (2 * way)), (height - _SIDE) // 2


def face(number: int, size_wh: tuple[int, int] = SIZE_WH) -> Box:
    """Where the face is on a frame."""
    left, top = place(number, size_wh)
    scale = _SIDE / _CROP[2]
    x, y, width, height = _FACE
    return Box(
        round(left + (x - _CROP[0]) * scale),
        round(top + (y - _CROP[1]) * scale),
        round(width * scale),
        round(height * scale),
    )


def picture(number: int, size_wh: tuple[int, int] = SIZE_WH) -> np.ndarray:
    """A frame with the face on it."""
    width, height = size_wh
    image = np.full((height, width, 3), 90, np.uint8)
    left, top = place(number, size_wh)
    image[top : top + _SIDE, left : left + _SIDE] = _head()
    return image


def blank(number: int, size_wh: tuple[int, int] = SIZE_WH) -> np.ndarray:
    """A frame with nothing on it."""
    return np.full((size_wh[1], size_wh[0], 3), 90, np.uint8)


def film(
    count: int = 30,
    *,
    container: str = "mp4",
    codec: str = "libx264",
    size_wh: tuple[int, int] = SIZE_WH,
    rate: int = 30,
    paint: Callable[..., np.ndarray] = picture,
    rotation: int = 0,
    times_ms: Sequence[int] = (),
    sound: bool = False,
    options: dict[str, str] | None = None,
) -> bytes:
    """A video.

    Args:
        paint: makes the frame of a number.
        rotation: degrees, counter-clockwise, by which a player has to turn the frames.
        times_ms: of the frames, where they do not come evenly.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options or {}) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.width, stream.height = size_wh
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec == "libx264":
            stream.options = {"preset": "ultrafast"}
        if rotation:
            stream.set_display_rotation(rotation)
        if times_ms:
            stream.codec_context.time_base = Fraction(1, 1000)
        tone = out.add_stream("aac", rate=44100, layout="mono") if sound else None
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(paint(number, size_wh), format="bgr24")
            if times_ms:
                frame.pts, frame.time_base = times_ms[number], Fraction(1, 1000)
            out.mux(stream.encode(frame))
        if tone:
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 44100, 0
            out.mux(tone.encode(samples))
            out.mux(tone.encode(None))
        out.mux(stream.encode(None))
    return file.getvalue()


def frames_of(data: bytes) -> list[np.ndarray]:
    """The decoded frames of a video, BGR."""
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def times_of(data: bytes) -> list[float]:
    """The times of its frames, milliseconds."""
    with av.open(io.BytesIO(data)) as container:
        return [float(frame.pts * frame.time_base * 1000) for frame in container.decode(video=0)]


def with_duration(data: bytes, seconds: int) -> bytes:
    """The MP4 with another duration in all its headers."""
    changed = bytearray(data)
    for kind, scale_at in ((b"mvhd", 16), (b"mdhd", 16)):
        at = changed.index(kind)
        (scale,) = struct.unpack_from(">I", changed, at + scale_at)
        struct.pack_into(">I", changed, at + scale_at + 4, min(seconds * scale, (1 << 32) - 2))
    return bytes(changed)


def with_size(data: bytes, width: int, height: int) -> bytes:
    """The MP4 whose index claims frames of another size."""
    changed = bytearray(data)
    struct.pack_into(">HH", changed, changed.index(b"avc1", changed.index(b"stsd")) + 28, width, height)
    return bytes(changed)
