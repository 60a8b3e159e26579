"""Videos: what is taken, and the work on one in a child of its own."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO, NamedTuple

from imgdetect.config import MAX_SIDE
from imgdetect.detection import UploadedCascade, VideoLimits, VideoOptions, VideoProgress, VideoSummary
from imgdetect.errors import (
    DetectorTooSlow,
    ImageTooLarge,
    InvalidRequest,
    TooMuchWork,
    UploadTooLarge,
    VideoTooLong,
    VideoUnavailable,
)
from imgdetect.service import DetectionService
from imgdetect.video_headers import VideoHeader, read_video_header

MAX_FRAMES_A_SECOND = 120
# What is made of a video may be so many times as large as the largest that is taken.
_MADE_FACTOR = 4
# The work on a video may take so many times the length of the longest that is taken.
_WORK_FACTOR = 10


class AdmittedVideo(NamedTuple):
    """A video that this server is willing to look at."""

    header: VideoHeader
    options: VideoOptions  # resolved
    cascade: UploadedCascade | None  # where the detector is one that a client uploaded


class Videos:
    """Takes videos and has them looked at. A video has a child of its own beside those for pictures.

    Args:
        service: does the work.
    """

    def __init__(self, service: DetectionService) -> None:
        self._service = service
        settings = service.settings
        self.limits = VideoLimits(
            max_pixels=settings.max_pixels,
            max_side=MAX_SIDE,
            max_seconds=settings.max_video_seconds,
            max_frames=max(1, int(settings.max_video_seconds * MAX_FRAMES_A_SECOND)),
            # A look a second that costs as much as a picture may, for as long as the longest video lasts.
            max_windows=int(settings.max_windows * max(1.0, settings.max_video_seconds)),
            max_made_bytes=_MADE_FACTOR * settings.max_video_bytes,
        )
        self.work_seconds = max(60.0, _WORK_FACTOR * settings.max_video_seconds)

    def admit(self, stream: BinaryIO, options: VideoOptions, owner: str = "") -> AdmittedVideo:
        """Check that this server is willing to look at a video, by what the file claims.

        Args:
            stream: the whole file; it is sought, and left anywhere.
        Raises:
            Problem: it is not.
        """
        self.must_be_on()
        size = stream.seek(0, 2)
        if not size:
            raise InvalidRequest.field("video", "the file is empty")
        if size > self._service.settings.max_video_bytes:
            raise UploadTooLarge(max_bytes=self._service.settings.max_video_bytes)
        header = read_video_header(stream)
        self._must_fit(header)
        admitted = self._service.admit_size((header.width, header.height), options.detect, owner)
        looks = -(-(header.frames or 1) // options.every)
        windows = looks * admitted.detector.cost((header.width, header.height), admitted.options)
        if windows > self.limits.max_windows:
            raise TooMuchWork(
                f"{looks} looks at this video cost about {windows:,} windows; this server spends"
                f" {self.limits.max_windows:,} on one. Raise every, scale_factor or min_size, or give a roi."
            )
        return AdmittedVideo(header, replace(options, detect=admitted.options), admitted.cascade)

    def must_be_on(self) -> None:
        """Raise VideoUnavailable where this server looks at no videos."""
        if not self._service.settings.video_slots:
            raise VideoUnavailable("Videos are switched off here (IMGDETECT_VIDEO_SLOTS=0).")
        if importlib.util.find_spec("av") is None:
            raise VideoUnavailable("PyAV, which reads videos, is not installed here: pip install imgdetect[video].")

    def watch(
        self,
        admitted: AdmittedVideo,
        source: BinaryIO,
        lines: BinaryIO,
        film: BinaryIO,
        heard: Callable[[VideoProgress], None] = lambda progress: None,
    ) -> VideoSummary:
        """Look at a video.

        Args:
            source: the video, an open file.
            lines, film: empty files for the JSON lines of detections and for the annotated video.
            heard: told how far it is, a few times a second; what it raises ends the work.
        Raises:
            Busy: as many videos are looked at already as may be at once.
            DetectorTooSlow: a frame, or the whole of it, took too long.
            Problem: it cannot be read, or is more than this server takes.
        """
        until = time.monotonic() + self.work_seconds

        def told(progress: VideoProgress) -> None:
            if time.monotonic() > until:
                raise DetectorTooSlow(
                    f"The work was stopped after {self.work_seconds:g} s, at frame {progress.done} of {progress.total}."
                    " A larger every, scale_factor or min_size makes it quicker."
                )
            heard(progress)

        summary: VideoSummary = self._service.pool.watch(
            "watch",
            admitted.header,
            admitted.options,
            self.limits,
            self._service.uploaded(admitted.cascade),
            files=(source.fileno(), lines.fileno(), film.fileno()),
            heard=told,
        )
        return summary

    def _must_fit(self, header: VideoHeader) -> None:
        limits = self.limits
        if header.width * header.height > limits.max_pixels or max(header.width, header.height) > limits.max_side:
            raise ImageTooLarge(
                f"Its frames have {header.width}x{header.height} pixels; at most {limits.max_pixels} in all and"
                f" {limits.max_side} a side are taken.",
                max_pixels=limits.max_pixels,
                max_side=limits.max_side,
                width=header.width,
                height=header.height,
            )
        if header.seconds is not None and header.seconds > limits.max_seconds:
            raise VideoTooLong(
                f"It is {header.seconds:.0f} s long; at most {limits.max_seconds:g} s are taken.",
                max_seconds=limits.max_seconds,
            )
        if (header.frames or 0) > limits.max_frames:
            raise VideoTooLong(f"It has {header.frames} frames; at most {limits.max_frames} are taken.")
