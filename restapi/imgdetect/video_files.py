"""Frames out of a video and into one, by FFmpeg (PyAV), in a child that may be killed: a video is hostile input.

FFmpeg is given open files, never a name or an address, the container that our own walk has found, and the few decoders
of `video_headers.CODECS`. So there is no protocol, no playlist and no reference to another file that it could follow.
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from imgdetect.errors import ImageTooLarge, UnreadableVideo, UnsupportedVideo
from imgdetect.images import Image, upright
from imgdetect.video_headers import CODECS, FORMATS, VideoHeader

# libdav1d is the decoder of av1.
_DECODERS = (*CODECS, "libdav1d")
_TICKS = 90_000  # a second of the made video
_DEFAULT_RATE = Fraction(25)
# Which EXIF orientation a display matrix stands for, by the signs of its entries a, b, c and d.
_ORIENTATIONS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}


class Frame(NamedTuple):
    """A decoded frame, not yet turned into an array."""

    number: int  # from 0
    time_ms: float  # since the first frame
    decoded: VideoFrame
    orientation: int  # EXIF
    size_wh: tuple[int, int]  # of the upright frame

    @property
    def image(self) -> Image:
        """The frame as the eye sees it: BGR, uint8, shape (height, width, 3)."""
        width, height = self.size_wh if self.orientation < 5 else self.size_wh[::-1]
        # Wherever a stream changes its size, its frames are brought back to the first one's.
        stored = np.asarray(self.decoded.to_ndarray(format="bgr24", width=width, height=height), np.uint8)
        return np.ascontiguousarray(upright(stored, self.orientation))


class Reader:
    """The frames of a video in the order they are shown; use it as a context manager.

    Args:
        descriptor: of an open file; where it stands does not matter and does not change.
        header: what our own walk has found in the file.
        max_pixels, max_side: limits of a frame.
    Raises:
        UnreadableVideo, UnsupportedVideo, ImageTooLarge: as they say.
    """

    def __init__(self, descriptor: int, header: VideoHeader, *, max_pixels: int, max_side: int) -> None:
        self.damaged = 0  # packets that could not be decoded; the frames around them are there
        self._max_pixels, self._max_side = max_pixels, max_side
        try:
            self._container = av.open(
                io.BufferedReader(_Source(descriptor), 1 << 16),
                "r",
                FORMATS[header.media_type],
                container_options={"codec_whitelist": ",".join(_DECODERS), "protocol_whitelist": "none"},
                metadata_errors="replace",
                io_open=_refuse,
            )
        except (av.FFmpegError, OSError, ValueError):
            raise UnreadableVideo("Its container cannot be read.") from None
        try:
            self._stream = self._picture_stream()
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *unused: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._container.close()

    @property
    def rate(self) -> Fraction:
        """Frames a second on average, as far as the file says."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        return rate if rate and 1 <= rate <= 1000 else _DEFAULT_RATE

    @property
    def expected_frames(self) -> int | None:
        """How many frames there will be, as far as the file says."""
        if self._stream.frames:
            return self._stream.frames
        if self._container.duration:
            return max(1, round(self._container.duration / av.time_base * self.rate))
        return None

    @property
    def pixel_aspect(self) -> Fraction | None:
        """Width to height of a pixel of the upright frame."""
        return self._aspect

    def frames(self) -> Iterator[Frame]:
        """Every frame that can be decoded.

        Raises:
            UnreadableVideo: there is none, or fewer than packets that cannot be decoded.
        """
        first_ms, last_ms, number = None, -math.inf, 0
        step_ms = float(1000 / self.rate)
        size_wh: tuple[int, int] | None = None
        orientation = 1
        for decoded in self._decoded():
            self._must_fit(decoded.width, decoded.height)
            if size_wh is None:
                # Of the first one only: it is the container's, and a frame that was asked for it lives on in a cycle
                # until the collector comes by; with large frames that would be too late.
                orientation = _orientation(decoded)
                stored = decoded.width, decoded.height
                size_wh = stored if orientation < 5 else stored[::-1]
            time_ms = last_ms + step_ms if decoded.pts is None or decoded.time is None else decoded.time * 1000
            if not math.isfinite(time_ms):
                time_ms = 0.0
            first_ms = time_ms if first_ms is None else first_ms
            # Times that stand still or run backwards are no times to show anything at.
            time_ms = max(time_ms, last_ms + 1) if number else time_ms
            last_ms = time_ms
            yield Frame(number, time_ms - first_ms, decoded, orientation, size_wh)
            number += 1
        if not number or self.damaged > number:
            raise UnreadableVideo("None of its frames can be read." if not number else "Most of it cannot be read.")

    def _decoded(self) -> Iterator[VideoFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.FFmpegError, OSError):
                self.damaged += 1
                return
            try:
                yield from packet.decode()
            except (av.FFmpegError, ValueError):
                self.damaged += 1
                if self.damaged > 10_000:
                    return

    def _picture_stream(self) -> VideoStream:
        streams = self._container.streams.video
        if not streams:
            raise UnreadableVideo("There is no picture in it.")
        stream = streams[0]
        context = stream.codec_context
        if context is None or context.name not in _DECODERS:
            raise UnsupportedVideo(f"Its codec is not one of {', '.join(CODECS)}.", codecs=[*CODECS])
        self._must_fit(context.width, context.height)
        context.thread_count = 1
        context.options = {"max_pixels": str(self._max_pixels)}
        self._aspect = stream.sample_aspect_ratio
        return stream

    def _must_fit(self, width: int, height: int) -> None:
        if width * height > self._max_pixels or max(width, height) > self._max_side:
            limits = f"at most {self._max_pixels} in all and {self._max_side} a side are taken."
            raise ImageTooLarge(
                f"Its frames have {width}x{height} pixels; {limits}",
                max_pixels=self._max_pixels,
                max_side=self._max_side,
                width=width,
                height=height,
            )


class Writer:
    """Makes an MP4 that browsers play: H.264, 4:2:0, its index at the front; use it as a context manager.

    Frames of an odd width or height get one more column or row, since 4:2:0 has no odd sizes.

    Args:
        descriptor: of an empty file, open for reading and writing.
        size_wh: of the frames.
        rate: frames a second on average.
        pixel_aspect: width to height of a pixel.
    """

    def __init__(
        self, descriptor: int, size_wh: tuple[int, int], rate: Fraction, pixel_aspect: Fraction | None = None
    ) -> None:
        # By this name FFmpeg opens our own descriptor, which it has to do twice to move the index to the front.
        self._container = av.open(f"/proc/self/fd/{descriptor}", "w", "mp4", options={"movflags": "faststart"})
        width, height = size_wh
        self._size_wh = width + width % 2, height + height % 2
        # Without a look ahead and B-frames the encoder holds one frame, not dozens.
        options = {"preset": "veryfast", "tune": "zerolatency", "crf": "23", "threads": "1"}
        self._stream: Any = self._container.add_stream("libx264", rate=rate.limit_denominator(1001), options=options)
        self._stream.width, self._stream.height = self._size_wh
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        self._stream.codec_context.thread_count = 1
        if pixel_aspect:
            self._stream.codec_context.sample_aspect_ratio = pixel_aspect
        self._last = -1

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *unused: BaseException | TracebackType | None) -> None:
        if kind is None:
            self._mux(None)
            with _written():
                self._container.close()
        else:
            with suppress(av.FFmpegError, OSError):
                self._container.close()

    def write(self, image: Image, time_ms: float) -> None:
        """Add a frame.

        Args:
            image: BGR, of the size of all.
            time_ms: later than that of the frame before.
        """
        width, height = self._size_wh
        missing = (0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)
        if any(after for _, after in missing):
            image = np.pad(image, missing, "edge")
        frame = VideoFrame.from_ndarray(image, format="bgr24")
        self._last = frame.pts = max(self._last + 1, round(time_ms * _TICKS / 1000))
        frame.time_base = Fraction(1, _TICKS)
        self._mux(frame)

    def _mux(self, frame: VideoFrame | None) -> None:
        with _written():
            for packet in self._stream.encode(frame):
                self._container.mux(packet)


@contextmanager
def _written() -> Iterator[None]:
    """Turn what FFmpeg says of our own file into the operating system's error."""
    try:
        yield
    except av.FFmpegError as error:
        raise OSError(error.errno, "the annotated video cannot be written") from error


class _Source(io.RawIOBase):
    """Reads a descriptor at a place of its own, since readers of the same file share the descriptor's."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._at = 0
        self._size = os.fstat(descriptor).st_size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._descriptor, [buffer], self._at)
        self._at += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at


def _refuse(*unused: Any) -> NoReturn:
    """What FFmpeg is answered when a container makes it open something else."""
    raise PermissionError("a video may not refer to other files")


def _orientation(frame: VideoFrame) -> int:
    """The EXIF orientation that the display matrix of a frame stands for."""
    data = frame.side_data.get(SideDataType.DISPLAYMATRIX)  # type: ignore[call-overload]
    if data is None:
        return 1
    matrix = bytes(data)
    if len(matrix) != 36:
        return 1
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    # Anything but quarter turns does not occur; the nearest quarter turn is taken.
    if abs(a) + abs(d) >= abs(b) + abs(c):
        b = c = 0
    else:
        a = d = 0
    signs = (_sign(a), _sign(b), _sign(c), _sign(d))
    return _ORIENTATIONS.get(signs, 1)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
