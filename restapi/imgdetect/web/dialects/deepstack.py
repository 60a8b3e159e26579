"""DeepStack's and CodeProject.AI's vision API, which Frigate, Home Assistant and Blue Iris speak."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, g, jsonify, request

from imgdetect.detection import Detection, DetectOptions
from imgdetect.detectors import Detector
from imgdetect.errors import InvalidRequest, NotFound
from imgdetect.parameters import DetectParameters, validated
from imgdetect.web.api import received
from imgdetect.web.dialects._dialect import Dialect, Problem, sentence
from imgdetect.web.parts import parts

blueprint = Blueprint("deepstack", __name__, url_prefix="/v1")
# Frigate fills a table of 20 rows without looking whether there are more.
MAX_PREDICTIONS = 20
MIN_CONFIDENCE = 0.4
_FACE = "face"
Prediction = dict[str, Any]
# What clients know: whatever is wrong with the content is a 400 there.
_STATUSES = {406: 400, 413: 400, 414: 400, 415: 400, 422: 400}


def confidence_of(found: Detection, min_neighbors: int) -> float:
    """0..1: a network's own; of a cascade 0.5 for what it only just takes, and half the doubt for twice the neighbors.

    Args:
        min_neighbors: how strict the cascade was; what it takes has more.
    """
    if found.confidence is not None:
        return found.confidence
    return 1 - 0.5 * (min_neighbors + 1) / max(found.neighbors, min_neighbors + 1)


@blueprint.before_request
def require_key() -> None:
    """Find the owner by a header or, as these clients do it, by the form."""
    gate = parts().gate
    in_header = bool({"X-Api-Key", "Authorization"} & set(request.headers.keys()))
    in_form = request.method == "POST" and not gate.open and not in_header
    g.owner = gate.owner(request, request.form.get("api_key", "") if in_form else "")


@blueprint.post("/vision/detection")
def detection() -> Response:
    """Look with the detector that the settings name."""
    settings = parts().service.settings
    return _predictions(settings.deepstack_detector or settings.default_detector)


@blueprint.post("/vision/face")
def face() -> Response:
    """Look for faces."""
    return _predictions(_FACE)


@blueprint.post("/vision/custom/<name>")
def custom(name: str) -> Response:
    """Look with any detector, or with several: `face,eye`."""
    return _predictions(name)


@blueprint.post("/vision/listmodels")
@blueprint.post("/vision/custom/list")
def list_models() -> Response:
    """The names that /vision/custom/ takes."""
    service = parts().service
    names = [name for name, detector in sorted(service.detectors.items()) if detector.task != "classification"]
    return jsonify(success=True, models=names + [own.cascade.name for own in service.cascades.all_of(g.owner)])


@blueprint.get("/server/status/ping")
def ping() -> Response:
    """The server answers."""
    return jsonify(success=True)


def _predictions(names: str) -> Response:
    asked = validated(DetectParameters, {"detector": names}).detector or ""
    detectors = [_detector(name) for name in asked.split(",")]
    least = _min_confidence()
    upload = received()
    found: list[Prediction] = []
    inference_ms = 0.0  # stays 0 where an earlier look was reused
    for detector in detectors:
        options = DetectOptions(detector.name)
        if "confidence" in detector.facts.defaults:
            options = replace(options, confidence=least)
        outcome = parts().service.look(upload, options, g.owner).outcome
        inference_ms += outcome.timings_ms.get("detect", 0.0)
        found += [_prediction(one, detector) for one in outcome.result.detections]
    sure = sorted((one for one in found if one["confidence"] >= least), key=lambda one: -one["confidence"])
    predictions = sure[:MAX_PREDICTIONS]
    seconds = time.perf_counter() - float(g.started)
    return jsonify(
        success=True,
        predictions=predictions,
        count=len(predictions),
        duration=round(seconds, 6),
        inferenceMs=round(inference_ms),
        processMs=round(seconds * 1000),
        code=200,
    )


def _detector(name: str) -> Detector:
    detector = parts().service.detector(name, g.owner)[0]
    if detector.task == "classification":
        raise NotFound(f"{detector.name} names classes and finds no objects; /v1/vision/listmodels lists those that do")
    return detector


def _min_confidence() -> float:
    text = request.form.get("min_confidence", "").strip()
    try:
        least = float(text) if text else MIN_CONFIDENCE
    except ValueError:
        least = -1.0
    if not 0 <= least <= 1:
        raise InvalidRequest.field("min_confidence", f"should be a number from 0 to 1 (given: {text[:80]!r})")
    return least


def _prediction(found: Detection, detector: Detector) -> Prediction:
    box = found.box
    return {
        "label": found.class_name,
        "confidence": round(confidence_of(found, detector.facts.defaults.get("min_neighbors", 0)), 6),
        "x_min": box.x,
        "y_min": box.y,
        "x_max": box.x + box.width,
        "y_max": box.y + box.height,
    }


def _told(problem: Problem) -> tuple[int, Any]:
    status = int(problem["status"])
    return _STATUSES.get(status, status), {"success": False, "error": sentence(problem)}


DIALECT = Dialect(blueprint, re.compile("/v1/(vision|server)/"), _told)
