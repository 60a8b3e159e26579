"""What happens to one picture: decode, detect, annotate, encode. It runs in a child that may be killed."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np

from imgdetect import annotate, detectors, images, processing
from imgdetect.clock import timed
from imgdetect.detection import (
    Box,
    DetectOptions,
    Outcome,
    UploadedCascade,
    VideoLimits,
    VideoOptions,
    VideoProgress,
    VideoSummary,
)
from imgdetect.detectors import Detector, haar, onnx
from imgdetect.errors import NotFound
from imgdetect.processing import ProcessOptions
from imgdetect.several import Several
from imgdetect.video_headers import VideoHeader

PROCESSED_MEDIA_TYPE = "image/jpeg"


class UploadedDetector(NamedTuple):
    """A detector that a client uploaded, with all that a child needs to look with it."""

    cascade: UploadedCascade
    xml: bytes


class Looker:
    """Does the native work. Built once in each child; its methods are what a child can be asked for.

    Args:
        urls: the backend URL of each detector by name.
        working_pixels: larger images are scaled down to this many pixels for detection.
        threads: how many threads a look may use, so that the children together do not use more than there are cores.
    """

    def __init__(self, urls: Mapping[str, str], working_pixels: int, threads: int = 1) -> None:
        images.use_one_thread()
        self._urls = urls
        self._working_pixels = working_pixels
        self._threads = threads
        self._detectors: dict[str, Detector] = {}

    def look(self, data: bytes, options: DetectOptions, uploaded: Sequence[UploadedDetector] = ()) -> Outcome:
        """Look at one encoded image.

        Args:
            data: the upload, already checked by `images.read_upload`.
            options: resolved options.
            uploaded: the detectors that are none of the server's own.
        Raises:
            Problem: the image cannot be read, or the options do not fit it.
        """
        timings_ms: dict[str, float] = {}
        detector = self._chosen(options, uploaded)
        with timed("decode", timings_ms):
            image = images.decode(data)
        self._load(options.detectors, timings_ms)
        with timed("detect", timings_ms):
            result = detector.detect(image, options)
        with timed("annotate", timings_ms):
            picture = annotate.draw(image, result.detections, options.style, options.label, result.classes)
        with timed("encode", timings_ms):
            processed = images.encode(picture, PROCESSED_MEDIA_TYPE)
        return Outcome(result, asdict(options), processed, PROCESSED_MEDIA_TYPE, timings_ms, detector.facts.engine)

    def watch(
        self,
        header: VideoHeader,
        options: VideoOptions,
        limits: VideoLimits,
        uploaded: Sequence[UploadedDetector],
        *files: int,
    ) -> Generator[VideoProgress, None, VideoSummary]:
        """Look at a video; see `video.watch`."""
        # FFmpeg is a heavy guest and not installed everywhere; only a child that watches a video needs it.
        from imgdetect import video  # noqa: PLC0415

        return video.watch(self._chosen(options.detect, uploaded), header, options, limits, *files)

    def try_cascade(self, data: bytes) -> haar.CascadeFile:
        """Validate a cascade and try it out; returns its canonical form.

        Raises:
            Problem: it cannot be used.
        """
        return haar.try_out(data)

    def warm_up(self, detector: str) -> None:
        """Load a detector, so that the first request does not wait for it."""
        options = self._detector(detector).resolve(DetectOptions(detector))
        self._detector(detector).detect(np.zeros((256, 256, 3), np.uint8), options)

    def prepare(self, detector: str) -> None:
        """Load what children can inherit: a network has threads of its own, which a fork would not copy."""
        if self._detector(detector).facts.engine == onnx.ENGINE:
            images.decode(images.encode(np.zeros((256, 256, 3), np.uint8), PROCESSED_MEDIA_TYPE))
        else:
            self.warm_up(detector)

    def _load(self, names: Sequence[str], timings_ms: dict[str, float]) -> None:
        """Load the networks that this child has not used yet, so that it is told apart from the look."""
        for detector in (self._detectors.get(name) for name in names):
            if isinstance(detector, onnx.OnnxDetector) and not detector.session.loaded:
                with timed("load", timings_ms):
                    detector.session.load()

    def infer(self, name: str, body: bytes) -> bytes:
        """Run a network on tensors; see `onnx.infer`."""
        detector = self._detector(name)
        if not isinstance(detector, onnx.OnnxDetector):
            raise NotFound()
        return onnx.infer(name, detector.session, body)

    def crop(self, data: bytes, box: Box, media_type: str) -> bytes:
        """Cut a box out of an encoded image."""
        image = images.decode(data)
        return images.encode(image[box.y : box.y + box.height, box.x : box.x + box.width], media_type)

    def transcode(self, data: bytes, media_type: str) -> bytes:
        """Encode an image again in another format."""
        return images.encode(images.decode(data), media_type)

    def process(self, data: bytes, options: ProcessOptions, media_type: str, quality: int | None) -> bytes:
        """Change an encoded image as a client asks."""
        return images.encode(processing.process(images.decode(data), options), media_type, quality)

    def _chosen(self, options: DetectOptions, uploaded: Sequence[UploadedDetector]) -> Detector:
        own = {u.cascade.name: haar.uploaded(u.cascade, self._working_pixels, u.xml) for u in uploaded}
        return Several([own[name] if name in own else self._detector(name) for name in options.detectors])

    def _detector(self, name: str) -> Detector:
        if name not in self._detectors:
            self._detectors[name] = detectors.create(
                name, self._urls[name], working_pixels=self._working_pixels, threads=self._threads
            )
        return self._detectors[name]
