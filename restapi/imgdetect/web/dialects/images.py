"""The image detection service, whose addresses have underscores: pictures of the dataset by id, in JSON."""

from __future__ import annotations

import re
import time
from typing import Any, NoReturn

from flask import Blueprint, Response, g, jsonify, request

from imgdetect.detection import Detection, Outcome, Upload
from imgdetect.errors import InvalidRequest, NotFound
from imgdetect.web.dialects import _pictures as pictures
from imgdetect.web.dialects import web_form
from imgdetect.web.dialects._dialect import Dialect, Problem, sentence
from imgdetect.web.parts import parts

blueprint = Blueprint("images", __name__)
MIN_FACTOR, MAX_FACTOR = 0.25, 1
_NOT_FOUND = "Item not found"
# What its clients know: whatever is wrong with the content is a 422.
_STATUSES = {400: 422, 406: 422, 411: 422, 413: 422, 414: 422, 415: 422}


@blueprint.before_request
def require_key() -> None:
    """Nothing of a request is read before its key is known."""
    if request.method != "OPTIONS":
        g.owner = parts().gate.owner(request)


@blueprint.get("/get_image/<image_id>")
def get_image(image_id: str) -> Response:
    """A picture of the dataset."""
    return pictures.sent(pictures.jpeg_of(_picture(_name_of(image_id))))


@blueprint.post("/process_image")
def process_image() -> Response:
    """A picture of the dataset scaled down, which may be looked at from then on."""
    body = pictures.json_body()
    factor = _factor(body.get("scaling_factor"))
    name = _name_of(pictures.text_of(body, "image_id"))
    data = pictures.jpeg_of(*_scaled(_picture(name), factor))
    parts().service.database.processed.put(g.owner, name, factor)
    return pictures.sent(data)


@blueprint.post("/predict")
def predict() -> Response:
    """What is seen in a picture of the dataset, as it was processed; what names none is the web form's."""
    body = _body_with_id()
    if body is None:
        return web_form.predict()
    image_id = pictures.text_of(body, "image_id")
    service = parts().service
    name = service.dataset.named(image_id)
    factor = service.database.processed.scale(g.owner, name) if name else None
    if name is None or factor is None:
        raise NotFound(f"{image_id[:80]} not found in processed images")
    started = time.perf_counter()
    upload, size_wh = _scaled(_picture(name), factor)
    if size_wh:
        upload = service.read_upload(pictures.jpeg_of(upload, size_wh), name)
    outcome = pictures.looked(upload, "images_detector")
    seconds = time.perf_counter() - started
    return jsonify(
        request_id=pictures.request_uuid(),
        compute_time=round(seconds, 6),
        image=pictures.annotated_png(upload, outcome),
        payload=[_entry(found, outcome) for found in outcome.result.detections],
    )


def _body_with_id() -> dict[str, Any] | None:
    if not request.is_json:
        return None
    try:
        body = pictures.json_body()
    except InvalidRequest:
        return None
    return body if "image_id" in body else None


def _name_of(image_id: str) -> str:
    name = parts().service.dataset.named(image_id)
    return name if name is not None else _missing()


def _picture(name: str) -> Upload:
    try:
        return pictures.picture(name)
    except NotFound:  # it went between the list and the file
        _missing()


def _missing() -> NoReturn:
    raise NotFound(_NOT_FOUND)


def _factor(given: Any) -> float:
    """The factor asked for; null means none, which is 1."""
    if given is None:
        return 1.0
    right = isinstance(given, int | float) and not isinstance(given, bool)
    if not right or not MIN_FACTOR <= given <= MAX_FACTOR:  # NaN neither
        raise InvalidRequest.field("scaling_factor", f"should be a number from {MIN_FACTOR} to {MAX_FACTOR}, or null")
    return float(given)


def _scaled(upload: Upload, factor: float) -> tuple[Upload, tuple[int, int] | None]:
    """A picture, and the size it gets by a factor; None for its own."""
    if factor == 1:
        return upload, None
    return upload, (max(1, round(upload.width * factor)), max(1, round(upload.height * factor)))


def _entry(found: Detection, outcome: Outcome) -> dict[str, Any]:
    box = found.box
    entry: dict[str, Any] = {
        "bbox": {"origin": [box.x + box.width / 2, box.y + box.height / 2], "size": pictures.size_of(box)},
        "class": found.class_name,
        "score": pictures.score_of(found, outcome),
    }
    return entry | ({"segmentation": found.mask.polygons} if found.mask else {})


def _told(problem: Problem) -> tuple[int, Any]:
    status = int(problem["status"])
    return _STATUSES.get(status, status), {"message": sentence(problem)}


DIALECT = Dialect(blueprint, re.compile("/(get_image/[^/]+|process_image|predict)$"), _told)
