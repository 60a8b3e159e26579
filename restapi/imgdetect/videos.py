"""Videos: what is taken, and the work on one in a child of its own."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, NamedTuple, cast

from imgdetect import metrics
from imgdetect.attempts import Attempt, AttemptLost, Made
from imgdetect.config import MAX_SIDE
from imgdetect.detection import (
    Job,
    UploadedCascade,
    VideoLimits,
    VideoOptions,
    VideoProgress,
    VideoSummary,
    detect_options_from_dict,
)
from imgdetect.errors import (
    DetectorTooSlow,
    ImageTooLarge,
    InvalidRequest,
    StorageFull,
    TooMuchWork,
    UploadTooLarge,
    VideoTooLong,
    VideoUnavailable,
)
from imgdetect.service import DetectionService
from imgdetect.video_headers import ACCEPTED, VideoHeader, read_video_header

MAX_FRAMES_A_SECOND = 120
# What is made of a video may be so many times as large as the largest that is taken.
_MADE_FACTOR = 4
LINES_MEDIA_TYPE = "application/jsonl"
FILM_MEDIA_TYPE = "video/mp4"
_PIECE_BYTES = 1 << 20
_REPORT_SECONDS = 1.0
# The work on a video may take so many times the length of the longest that is taken.
_WORK_FACTOR = 10


class AdmittedVideo(NamedTuple):
    """A video that this server is willing to look at."""

    header: VideoHeader
    options: VideoOptions  # resolved
    cascades: tuple[UploadedCascade, ...]  # of those among the detectors that a client uploaded


def work_seconds(max_video_seconds: float) -> float:
    """Longest time of the work on a video."""
    return max(60.0, _WORK_FACTOR * max_video_seconds)


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
        self.work_seconds = work_seconds(settings.max_video_seconds)

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
        if admitted.detector.task == "classification":
            raise InvalidRequest.field(
                "detector", "tells what a whole picture shows; a video needs one that finds boxes"
            )
        looks = -(-(header.frames or 1) // options.every)
        windows = looks * admitted.detector.cost((header.width, header.height), admitted.options)
        if windows > self.limits.max_windows:
            raise TooMuchWork(
                f"{looks} looks at this video cost about {windows:,} windows; this server spends"
                f" {self.limits.max_windows:,} on one. Raise every, scale_factor or min_size, or give a roi."
            )
        return AdmittedVideo(header, replace(options, detect=admitted.options), admitted.cascades)

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
            self._service.uploaded(admitted.cascades),
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


class VideoWork:
    """Does the jobs of kind `video`: the file comes from the storage, and what is made of it goes there.

    Args:
        service: does the work.
    """

    def __init__(self, service: DetectionService) -> None:
        self._service = service
        self.videos = Videos(service)

    def run(self, attempt: Attempt) -> Made:
        """Make one attempt at a job; a handler of `Jobs`."""
        job = attempt.job
        # An attempt that was killed between storing and ending has left what it made.
        self._service.records.forget(*(key for n in range(1, job.attempts) for key in _keys(job.id, n)))
        with ExitStack() as stack:
            source = stack.enter_context(self._source(job))
            lines, film = stack.enter_context(self._temporary()), stack.enter_context(self._temporary())
            admitted = self.videos.admit(source, video_options_from_dict(job.options), job.owner)
            summary = self.videos.watch(admitted, source, lines, film, _Told(attempt))
            metrics.video_frames_total.labels("looked_at").inc(summary.looked_at)
            metrics.video_frames_total.labels("passed_over").inc(summary.frames - summary.looked_at)
            attempt.report(done=summary.frames, failed=summary.damaged, total=summary.frames)
            return Made(artifacts=self._stored(job, summary, lines, film))

    def _source(self, job: Job) -> BinaryIO:
        """The video as a local file."""
        key = str(job.original_key)
        if path := self._service.storage.locate(key):
            with suppress(FileNotFoundError):  # cancelled meanwhile; the storage says so below
                return path.open("rb")
        with self._service.storage.open(key) as stored:
            local = self._temporary()
            try:
                while piece := stored.read(_PIECE_BYTES):
                    local.write(piece)
                local.flush()
            except OSError as error:
                local.close()
                raise StorageFull from error
            return local

    def _temporary(self) -> BinaryIO:
        """A file without a name, which is gone with this process."""
        folder: Path = self._service.settings.effective_spool_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return cast(BinaryIO, TemporaryFile(dir=folder, prefix="spool-"))
        except OSError as error:
            raise StorageFull from error

    def _stored(self, job: Job, summary: VideoSummary, lines: BinaryIO, film: BinaryIO) -> dict[str, Any]:
        """Store what was made; nothing stays when that fails."""
        stem = job.filename.rpartition(".")[0] or job.filename or "video"
        keys = _keys(job.id, job.attempts)
        made = [("detections", keys[0], LINES_MEDIA_TYPE, f"{stem}.jsonl", lines)]
        if summary.annotated:
            made.append(("video", keys[1], FILM_MEDIA_TYPE, f"{stem}.mp4", film))
        artifacts: dict[str, Any] = {}
        try:
            for name, key, media_type, filename, file in made:
                size = file.seek(0, 2)
                file.seek(0)
                self._service.storage.put(key, file, media_type)
                artifacts[name] = {"key": key, "media_type": media_type, "size_bytes": size, "filename": filename}
        except BaseException:
            self._service.records.forget(*keys)
            raise
        artifacts["detections"]["summary"] = asdict(summary)
        if job.keep_original:
            with self._source(job) as source:
                size = source.seek(0, 2)
            name = job.filename or f"{stem}{ACCEPTED[job.media_type]}"
            artifacts["original"] = {
                "key": job.original_key,
                "media_type": job.media_type,
                "size_bytes": size,
                "filename": name,
            }
        return artifacts


class _Told:
    """Reports progress as often as rows should be written, and ends the work once nobody wants it."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._next = 0.0

    def __call__(self, progress: VideoProgress) -> None:
        if self._attempt.lost:
            raise AttemptLost(self._attempt.job.id)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _REPORT_SECONDS
            self._attempt.report(done=progress.done, total=progress.total)


def original_key(job_id: str, media_type: str) -> str:
    """Where the video of a job is stored."""
    return f"{job_id}.original{ACCEPTED[media_type]}"


def video_options_from_dict(data: dict[str, Any]) -> VideoOptions:
    """The inverse of `asdict` for VideoOptions that went through JSON."""
    return VideoOptions(detect_options_from_dict(data["detect"]), data["every"], data["annotate"])


def _keys(job_id: str, attempt: int) -> tuple[str, str]:
    """Where what an attempt makes is stored: the lines and the annotated video."""
    return f"{job_id}.detections-{attempt}.jsonl", f"{job_id}.processed-{attempt}.mp4"
