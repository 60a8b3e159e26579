"""What the two dialects about pictures of a dataset share: bodies of JSON, pictures by name, looks at them."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

from flask import Response, g, request

from imgdetect.config import MAX_SIDE
from imgdetect.detection import Box, Detection, DetectOptions, Outcome, Upload
from imgdetect.errors import BackendUnavailable, InvalidRequest
from imgdetect.processing import ProcessOptions
from imgdetect.web.dialects.deepstack import confidence_of
from imgdetect.web.parts import parts

JPEG, PNG = "image/jpeg", "image/png"
_MAX_JSON_BYTES = 65_536


def json_body() -> dict[str, Any]:
    """The JSON object that was sent.

    Raises:
        InvalidRequest: there is none.
    """
    request.max_content_length = _MAX_JSON_BYTES
    try:
        body = json.loads(request.get_data())
    except (ValueError, RecursionError):  # a list in a list in a list ...
        raise InvalidRequest("The body is no JSON.") from None
    if not isinstance(body, dict):
        raise InvalidRequest("The body is no JSON object.")
    return body


def text_of(body: dict[str, Any], name: str) -> str:
    """A text of the body.

    Raises:
        InvalidRequest: it is missing or no text.
    """
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidRequest.field(name, "is missing" if value is None else "should be a text that is not empty")
    return value


def picture(name: str) -> Upload:
    """A picture of the dataset."""
    service = parts().service
    return service.read_upload(service.dataset.read(name, service.settings.max_upload_bytes), name)


def jpeg_of(upload: Upload, size_wh: tuple[int, int] | None = None) -> bytes:
    """A picture as JPEG, at another size where one is given; a JPEG that need not change stays as it is."""
    if size_wh is None:
        return upload.data if upload.media_type == JPEG else parts().service.encoded(upload.data, upload.pixels, JPEG)
    return resized(upload.data, upload.pixels, size_wh, JPEG)


def resized(data: bytes, pixels: int, size_wh: tuple[int, int], media_type: str) -> bytes:
    """An encoded picture at another size.

    Args:
        pixels: of the picture as it is.
    Raises:
        InvalidRequest: that is larger than any picture here may be.
    """
    service = parts().service
    width, height = size_wh
    most = service.settings.max_pixels
    if width * height > most or max(size_wh) > MAX_SIDE:
        raise InvalidRequest(f"{width}x{height} is too large: at most {most} pixels in all and {MAX_SIDE} a side")
    options = ProcessOptions(width=width, height=height)
    made: bytes = service.pool.run(max(pixels, width * height), "process", data, options, media_type, None)
    return made


def sent(data: bytes) -> Response:
    """A JPEG as an answer."""
    return Response(data, content_type=JPEG)


def looked(upload: Upload, setting: str) -> Outcome:
    """What the detector that a setting names sees, or the default one where the setting is empty.

    Raises:
        BackendUnavailable: the default detector finds no objects.
    """
    service = parts().service
    name = getattr(service.settings, setting) or service.settings.default_detector
    options = DetectOptions(name)
    if any(service.detector(one)[0].task == "classification" for one in options.detectors):
        raise BackendUnavailable(
            f"{name} names classes and finds no objects; IMGDETECT_{setting.upper()} can be another"
        )
    return service.look(upload, options, g.owner).outcome


def score_of(found: Detection, outcome: Outcome) -> float:
    """0..1; see `deepstack.confidence_of`."""
    return round(confidence_of(found, outcome.parameters.get("min_neighbors") or 0), 6)


def annotated_png(upload: Upload, outcome: Outcome, max_pixels: int | None = None) -> str:
    """The picture with its boxes as PNG in base64, made smaller where it has more pixels than it may have."""
    scale = min(1.0, (max_pixels / upload.pixels) ** 0.5) if max_pixels else 1.0
    if scale == 1:
        made = parts().service.encoded(outcome.processed, upload.pixels, PNG)
    else:
        size_wh = max(1, int(upload.width * scale)), max(1, int(upload.height * scale))
        made = resized(outcome.processed, upload.pixels, size_wh, PNG)
    return base64.b64encode(made).decode("ascii")


def size_of(box: Box) -> list[int]:
    """Width and height."""
    return [box.width, box.height]


def request_uuid() -> str:
    """The request's id, in the form of a UUID; another one where a client chose an id that is none."""
    try:
        return str(uuid.UUID(g.request_id))
    except ValueError:
        return str(uuid.uuid4())
