"""The image analysis API, whose addresses have dashes: pictures by name or as a form, resized or looked at."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from flask import Blueprint, Response, g, request

from imgdetect.detection import Upload
from imgdetect.errors import InvalidRequest
from imgdetect.web.api import received
from imgdetect.web.dialects import _pictures as pictures
from imgdetect.web.dialects._dialect import Dialect, Problem, sentence
from imgdetect.web.parts import parts

blueprint = Blueprint("analysis", __name__)
# Each entry of an answer carries the picture. So many bytes they may have in all, by four for each pixel: what PNG and
# base64 make of three in the worst case.
MAX_ANSWER_BYTES = 100_000_000
_PIXEL_BYTES = 4
_WHOLE = re.compile(r"[1-9][0-9]{0,4}")
# What its clients know: whatever is wrong with a request is a 400.
_STATUSES = {404: 400, 406: 400, 411: 400, 413: 400, 414: 400, 415: 400, 422: 400}


@blueprint.before_request
def require_key() -> None:
    """Nothing of a request is read before its key is known."""
    if request.method != "OPTIONS":
        g.owner = parts().gate.owner(request)


@blueprint.get("/get-image")
def get_image() -> Response:
    """A picture of the dataset: the one that is named, or any."""
    name = request.args.get("filename")
    return pictures.sent(
        pictures.jpeg_of(pictures.picture(parts().service.dataset.any_name() if name is None else name))
    )


@blueprint.post("/process-image")
def process_image() -> Response:
    """A picture at another size."""
    upload, given = _asked_for()
    return pictures.sent(pictures.jpeg_of(upload, _size_wh(given)))


@blueprint.post("/run-image-object-detection")
def run_image_object_detection() -> Response:
    """What is seen in a picture."""
    upload, _ = _asked_for()
    started = time.perf_counter()
    outcome = pictures.looked(upload, "analysis_detector")
    seconds = time.perf_counter() - started
    seen = outcome.result.detections
    room = MAX_ANSWER_BYTES // (_PIXEL_BYTES * max(1, len(seen)))
    shown = pictures.annotated_png(upload, outcome, room) if seen else ""
    payload = [
        {
            "bbox": {"origin": [found.box.x, found.box.y], "size": pictures.size_of(found.box)},
            "class": found.class_name,
            "score": pictures.score_of(found, outcome),
            "image": shown,
        }
        for found in seen
    ]
    document = {"request_id": pictures.request_uuid(), "compute_time": round(seconds, 6), "payload": payload}
    # In pieces: the picture is in memory once, however often it is in the answer.
    return Response(json.JSONEncoder().iterencode(document), content_type="application/json")


def _asked_for() -> tuple[Upload, dict[str, Any]]:
    """The picture that was sent or named, and what else was given."""
    if request.is_json:
        body = pictures.json_body()
        return pictures.picture(pictures.text_of(body, "filename")), body
    return received("file"), request.form.to_dict()


def _size_wh(given: dict[str, Any]) -> tuple[int, int] | None:
    """The size asked for; None for that of the picture.

    Raises:
        InvalidRequest: it is none, or half of one.
    """
    sides = {name: given[name] for name in ("width", "height") if given.get(name) not in (None, "")}
    for name, value in sides.items():
        if isinstance(value, bool) or not _WHOLE.fullmatch(str(value)):
            raise InvalidRequest.field(name, "should be a whole number of pixels above 0")
    if len(sides) == 1:
        raise InvalidRequest("width and height belong together: give both or none")
    return (int(sides["width"]), int(sides["height"])) if sides else None


def _told(problem: Problem) -> tuple[int, Any]:
    status = int(problem["status"])
    return _STATUSES.get(status, status), {"error": sentence(problem)}


DIALECT = Dialect(blueprint, re.compile("/(get-image|process-image|run-image-object-detection)$"), _told)
