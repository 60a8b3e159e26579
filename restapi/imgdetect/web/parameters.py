"""The parameters of a request."""

from __future__ import annotations

import re

from flask import Request, g
from werkzeug.datastructures import MultiDict

from imgdetect.config import Settings
from imgdetect.detection import DetectOptions, sha256_of
from imgdetect.errors import InvalidRequest
from imgdetect.parameters import DetectParameters, Model, validated
from imgdetect.records import Idempotency


def read(model: type[Model], request: Request) -> Model:
    """The parameters of a request, from query and form, or from the JSON that was received.

    Raises:
        InvalidRequest: with every wrong, unknown and repeated parameter.
    """
    return validated(model, _merged(request.args, request.form, MultiDict(g.get("json_parameters", {}))))


def read_form(model: type[Model], request: Request) -> Model:
    """The parameters of a request that takes them in its form only.

    Raises:
        InvalidRequest: with every wrong, unknown and repeated parameter.
    """
    if request.args:
        errors = [{"field": name[:80], "message": "belongs into the form"} for name in sorted(request.args)]
        raise InvalidRequest("Parameters belong into the form here, not into the address.", errors)
    return validated(model, _merged(request.form))


def options_of(asked: DetectParameters, settings: Settings) -> DetectOptions:
    """The options of the core, under this server's limits."""
    return asked.options(settings.default_detector, settings.min_scale_factor)


def _merged(*sources: MultiDict[str, str]) -> dict[str, str]:
    """The parameters of query and form in one; each may be given once."""
    values: dict[str, str] = {}
    repeated = set()
    for source in sources:
        for field, given in source.lists():
            name = field or ""  # a part without a name has None for one
            if name in values or len(given) > 1:
                repeated.add(name)
            values[name] = given[0]
    if repeated:
        raise InvalidRequest(
            "A parameter was given more than once.",
            [
                {"field": name[:80], "message": "was given more than once, in the query or the form"}
                for name in sorted(repeated)
            ],
        )
    return values


def idempotency(request: Request, *parts: str) -> Idempotency | None:
    """The Idempotency-Key of a request with the hash of all that makes it that request.

    Raises:
        InvalidRequest: the key is empty, too long or not printable.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise InvalidRequest.field("Idempotency-Key", "should be 1 to 255 printable ASCII characters without blanks")
    return Idempotency(key, sha256_of("|".join(parts).encode()))
