"""What the classifier's dialects have in common: which detector it is, what is known of it, what is counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from imgdetect import metrics
from imgdetect.detection import ClassScore, DetectOptions
from imgdetect.detectors import Detector, onnx
from imgdetect.errors import NoClassifier, Problem
from imgdetect.web.parts import parts

_MISSING = "No classifier is installed here: run 'imgdetect models fetch mobilenet_v2' and start the server again."


def classifiers() -> list[onnx.OnnxDetector]:
    """Every classification that this server has, the one of the dialects first."""
    service = parts().service
    chosen = service.settings.classifier_detector
    found = [one for _, one in sorted(service.detectors.items()) if isinstance(one, onnx.OnnxDetector)]
    return sorted((one for one in found if one.task == "classification"), key=lambda one: one.name != chosen)


def classifier() -> onnx.OnnxDetector:
    """The classification of the dialects.

    Raises:
        NoClassifier: there is none; it says what to do.
    """
    for detector in classifiers():
        return detector
    raise NoClassifier(_MISSING)


def classes_of(data: bytes, filename: str, top_k: int, owner: str) -> list[ClassScore]:
    """What a picture shows, the surest first.

    Raises:
        Problem: it is none, or of the look.
    """
    service, detector = parts().service, classifier()
    with counted(detector) as seen:
        upload = service.read_upload(data, filename)
        outcome = service.look(upload, DetectOptions(detector.name, top_k=top_k), owner).outcome
        seen.extend(outcome.result.classes)
    return seen


@contextmanager
def counted(detector: Detector) -> Iterator[list[ClassScore]]:
    """Count a classification; what was seen goes into the list."""
    started = time.perf_counter()
    seen: list[ClassScore] = []
    try:
        yield seen
    except Problem:
        metrics.classifications_total.labels(detector.name, "error").inc()
        raise
    metrics.classifications_total.labels(detector.name, "success").inc()
    metrics.classification_seconds.observe(time.perf_counter() - started)
    if seen:
        metrics.classification_confidence.observe(seen[0].confidence)


def model_info(detector: onnx.OnnxDetector) -> dict[str, str]:
    """What is known of a network, every value a text."""
    file = detector.session.file
    return {
        "model_name": detector.name,
        "device": detector.session.device,
        "num_classes": str(len(detector.class_names)),
        "framework": f"{detector.facts.engine} {detector.facts.engine_version}",
        "quantized": str(file.quantised).lower(),
        "parameters": str(file.numbers),
        "model_size_mb": f"{file.size_bytes / 1e6:.3g}",
    }
