"""Uploads as JSON: the image as Base64 or as a URL, and the parameters beside it."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from flask import Request, g

from imgdetect import addresses, remote
from imgdetect.detection import Upload
from imgdetect.errors import InvalidRequest, UploadTooLarge
from imgdetect.web.parts import parts

MEDIA_TYPE = "application/json"
_IMAGE, _URL, _NAME = "image_base64", "url", "filename"
_BOX = ("x", "y", "width", "height")
_DATA_URL = re.compile(r"data:image/[a-z0-9.+-]{1,40};base64,", re.IGNORECASE)
_FORM = f"one JSON object with {_IMAGE} (or {_URL}) and the parameters"


def received(request: Request) -> Upload:
    """The upload of a JSON request; its parameters are left for `web.parameters.read`.

    Raises:
        InvalidRequest: the body is not what it should be.
        Problem: what the image or its address is refused for.
    """
    given = _object(request.get_data(cache=False))
    image, url, name = (given.pop(field, None) for field in (_IMAGE, _URL, _NAME))
    for field, value in ((_IMAGE, image), (_URL, url), (_NAME, name)):
        if value is not None and not isinstance(value, str):
            raise InvalidRequest.field(field, "should be a text")
    _leave(given)
    if (image is None) == (url is None):
        raise InvalidRequest.field(
            _IMAGE, f"is missing; send {_FORM}" if url is None else f"and {_URL} are both given; one of them is enough"
        )
    service = parts().service
    if image is not None:
        return service.read_upload(_decoded(image, service.settings.max_upload_bytes), name or "")
    data, found = _fetched(str(url))
    return service.read_upload(data, name or found)


def read_parameters(request: Request) -> None:
    """Leave the parameters of a JSON request, if it is one, for `web.parameters.read`.

    Raises:
        InvalidRequest: the body is not what it should be.
    """
    if request.mimetype == MEDIA_TYPE:
        given = _object(request.get_data(cache=False), "one JSON object with the parameters")
        box = given.get("box")
        if isinstance(box, dict) and set(box) == set(_BOX):
            given["box"] = [box[side] for side in _BOX]
        _leave(given)


def _leave(given: dict[str, Any]) -> None:
    g.json_parameters = {field: text for field, value in given.items() if (text := _text(field, value)) is not None}


def _object(body: bytes, form: str = _FORM) -> dict[str, Any]:
    """The JSON object of a body; no name may occur twice in it."""
    repeated: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            repeated.extend(name for name in values if sum(name == other for other, _ in pairs) > 1)
        return values

    try:
        found = json.loads(body, object_pairs_hook=unique, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise InvalidRequest(f"The body is no JSON; it should be {form}.") from None
    if repeated:
        raise InvalidRequest.field(repeated[0][:80], "was given more than once")
    if not isinstance(found, dict):
        raise InvalidRequest(f"The body should be {form}.")
    return found


def _no_number(text: str) -> None:
    raise ValueError(text)


def _text(field: str, value: Any) -> str | None:
    """A parameter as it stands in a form; lists and objects are taken as answers show them."""
    if value is None:
        return None
    if isinstance(value, dict) and all(_is_plain(one) for one in value.values()):
        return ",".join(f"{name}:{_plain(one)}" for name, one in value.items())
    if isinstance(value, list) and all(_is_plain(one) for one in value):
        texts = [_plain(one) for one in value]
        if field == "mask":
            return ";".join(",".join(texts[place : place + 2]) for place in range(0, len(texts), 2))
        return ",".join(texts)
    if not _is_plain(value):
        raise InvalidRequest.field(field[:80], "should be a text, a number, true or false, or a list of such")
    return _plain(value)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _decoded(text: str, max_bytes: int) -> bytes:
    """The bytes of an image as Base64, with or without `data:image/...;base64,` before it."""
    start = match.end() if (match := _DATA_URL.match(text)) else 0
    if (len(text) - start) * 3 // 4 > max_bytes + 2:
        raise UploadTooLarge(max_bytes=max_bytes)
    try:
        return base64.b64decode(text[start:], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest.field(
            _IMAGE,
            "should be the image's bytes in Base64 (RFC 4648, with padding, no line breaks), or a data: URL of it",
        ) from None


def _fetched(url: str) -> tuple[bytes, str]:
    settings = parts().service.settings
    if not settings.allow_remote_images:
        raise InvalidRequest.field(_URL, f"is off: the operator does not allow it; send {_IMAGE}")
    allowed = addresses.networks(settings.allowed_callback_nets)
    return remote.fetch(url, allowed=allowed, max_bytes=settings.max_upload_bytes)
