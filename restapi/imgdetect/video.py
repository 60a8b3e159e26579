"""What happens to one video: decode, detect, link, draw, encode, frame by frame. It runs in a child that may be killed.

Two readers go through the same file. The first looks at every Nth frame and writes down what it finds; the second
follows behind it and draws, so that a frame between two looks is drawn with what both have seen. So nothing but one
frame and some boxes is ever in memory, however long the video is.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from imgdetect import annotate
from imgdetect.detection import Detection, VideoLimits, VideoOptions, VideoProgress, VideoSummary
from imgdetect.detectors import Detector
from imgdetect.documents import detection_document
from imgdetect.errors import StorageFull, VideoTooLong
from imgdetect.tracks import Timeline, Tracker
from imgdetect.video_files import Frame, Reader, Writer
from imgdetect.video_headers import VideoHeader

# How often progress is told at most; it is also what keeps the deadline of a frame from running out.
_TELL_SECONDS = 0.2


def watch(
    detector: Detector,
    header: VideoHeader,
    options: VideoOptions,
    limits: VideoLimits,
    source: int,
    lines: int,
    film: int,
) -> Generator[VideoProgress, None, VideoSummary]:
    """Look at a video.

    Args:
        header: what our own walk has found in the file.
        source, lines, film: descriptors of open files: the video, and two empty ones for the JSON lines and the
            annotated video. The last one stays empty unless `options.annotate`.
    Yields:
        how far it is.
    Returns:
        what was seen in all.
    Raises:
        Problem: the video cannot be read or is too much.
    """
    # This process ends with the video, and writes nothing but these two files.
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.max_made_bytes, limits.max_made_bytes))
    try:
        with ExitStack() as stack:
            reader = stack.enter_context(_open(source, header, limits))
            out = stack.enter_context(open(lines, "wb", closefd=False))
            looked = _Looks(detector, reader, options, limits, out)
            drawn = _drawn(source, header, options, limits, film, looked) if options.annotate else looked.frames()
            told = 0.0
            for done in drawn:
                if time.monotonic() >= told + _TELL_SECONDS:
                    told = time.monotonic()
                    yield VideoProgress(done, max(done, reader.expected_frames or 0))
    except OSError as error:  # our own files only; what FFmpeg says of the video is a problem already
        if error.errno == errno.EFBIG:
            raise VideoTooLong(
                f"What was made of it is larger than {limits.max_made_bytes} bytes. annotate=false makes less."
            ) from None
        raise StorageFull from error
    return looked.summary(reader.damaged, os.fstat(film).st_size)


def _open(source: int, header: VideoHeader, limits: VideoLimits) -> Reader:
    return Reader(source, header, max_pixels=limits.max_pixels, max_side=limits.max_side)


class _Looks:
    """Goes through the frames, looks at every Nth and writes down what it finds."""

    def __init__(
        self, detector: Detector, reader: Reader, options: VideoOptions, limits: VideoLimits, out: Any
    ) -> None:
        self._detector = detector
        self._reader = reader
        self._options = options
        self._limits = limits
        self._out = out
        self._tracker = Tracker()
        self._windows = 0
        self._looks = self._detections = self._frames = 0
        self._tracks = 0
        self._time_ms = 0.0
        self._size_wh = (0, 0)
        self.timeline: Timeline | None = None

    def frames(self) -> Iterator[int]:
        """The number of frames done so far, after each."""
        for frame in self._reader.frames():
            self._must_fit(frame)
            if frame.number % self._options.every == 0:
                self._look(frame)
            self._frames, self._time_ms, self._size_wh = frame.number + 1, frame.time_ms, frame.size_wh
            yield self._frames

    def _look(self, frame: Frame) -> None:
        options = self._options.detect
        self._windows += self._detector.cost(frame.size_wh, options)
        if self._windows > self._limits.max_windows:
            raise VideoTooLong(
                f"Looking at {frame.number + 1} frames costs about {self._windows:,} windows; this server spends"
                f" {self._limits.max_windows:,} on a video. Raise every, scale_factor or min_size, or give a roi."
            )
        result = self._detector.detect(frame.image, options)
        found = [*zip(self._tracker.link(result.detections), result.detections, strict=True)]
        if self.timeline:
            self.timeline.see(frame.number, found)
        detections = [{"track": track} | detection_document(asdict(detection)) for track, detection in found]
        line = {"frame": frame.number, "time_ms": round(frame.time_ms, 3), "detections": detections}
        self._out.write(json.dumps(line).encode() + b"\n")
        self._looks += 1
        self._detections += len(found)
        self._tracks = max([self._tracks, *(track for track, _ in found)])

    def _must_fit(self, frame: Frame) -> None:
        limits = self._limits
        if frame.time_ms > limits.max_seconds * 1000:
            raise VideoTooLong(
                f"It is longer than {limits.max_seconds:g} s, the most this server takes.",
                max_seconds=limits.max_seconds,
            )
        if frame.number >= limits.max_frames:
            raise VideoTooLong(f"It has more than {limits.max_frames} frames, the most this server takes.")

    @property
    def count(self) -> int:
        """Frames gone through."""
        return self._frames

    def summary(self, damaged: int, film_bytes: int) -> VideoSummary:
        """What was seen in all."""
        return VideoSummary(
            width=self._size_wh[0],
            height=self._size_wh[1],
            frames=self._frames,
            looked_at=self._looks,
            seconds=round(self._time_ms / 1000 + float(1 / self._reader.rate), 3),
            detections=self._detections,
            tracks=self._tracks,
            damaged=damaged,
            engine=self._detector.facts.engine,
            annotated=film_bytes > 0,
        )


def _drawn(
    source: int, header: VideoHeader, options: VideoOptions, limits: VideoLimits, film: int, looks: _Looks
) -> Iterator[int]:
    """Look and draw; the number of frames done so far, one that was only looked at counting half."""
    detect = options.detect
    timeline = looks.timeline = Timeline(options.every, hide=detect.style != "boxes")
    seen = looks.frames()
    ahead: int | None = 0  # frames looked at; None once there are no more
    with ExitStack() as stack:
        reader = stack.enter_context(_open(source, header, limits))
        writer: Writer | None = None
        for frame in reader.frames():
            while ahead is not None and ahead <= frame.number + timeline.ahead:
                ahead = next(seen, None)
                yield (frame.number + (ahead or frame.number)) // 2
            if writer is None:
                aspect = reader.pixel_aspect
                aspect = 1 / aspect if aspect and frame.orientation >= 5 else aspect
                writer = stack.enter_context(Writer(film, frame.size_wh, reader.rate, aspect))
            shown: list[Detection] = timeline.shown(frame.number)
            image = annotate.draw(frame.image, shown, detect.style, detect.label)
            writer.write(image, frame.time_ms)
            yield (frame.number + 1 + (ahead or looks.count)) // 2
