"""Holds real answers against openapi.yaml."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from flask.testing import FlaskClient
from openapi_schema_validator import OAS30Validator
from werkzeug.test import TestResponse

OPENAPI = Path(__file__).parents[2] / "openapi.yaml"
METHODS = ("get", "post", "delete")
# What the `default` answer stands for: no other status may hide behind it.
GENERAL = {405, 408, 411, 412, 414, 421, 431, 500, 501, 502, 504, 505}
PROBLEM = "application/problem+json"
_SIGNATURES = {
    "image/jpeg": rb"\xff\xd8\xff",
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/webp": rb"RIFF....WEBP",
    "image/gif": rb"GIF8[79]a",
    "image/bmp": rb"BM",
    "image/tiff": rb"II\*\x00|MM\x00\*",
    "video/mp4": rb"....ftyp",
}


@cache
def contract() -> dict[str, Any]:
    """openapi.yaml as it is written."""
    loaded: dict[str, Any] = yaml.safe_load(OPENAPI.read_text(encoding="utf-8"))
    return loaded


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """What a node stands for, when it is a reference."""
    while "$ref" in node:
        place: Any = contract()
        for name in node["$ref"].removeprefix("#/").split("/"):
            place = place[name]
        node = place
    return node


def faults(value: Any, schema: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a value by a schema of the contract; nothing when it is right."""
    whole = dict(schema) | {"components": contract()["components"]}
    validator = OAS30Validator(whole, format_checker=OAS30Validator.FORMAT_CHECKER)
    for error in validator.iter_errors(value):
        yield f"{error.json_path}: {error.message[:300]}"


# Assets of the pages, and the two addresses that flasgger adds; no part of the contract.
_ASSETS = re.compile(r"/static/|/flasgger_static/|/apidocs/.")


class CheckingClient(FlaskClient):
    """Flask's test client that checks every answer; an application's `test_client_class`."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        """Send a request and check the answer."""
        answer = super().open(*args, **kwargs)
        if answer.request.method != "OPTIONS" and not _ASSETS.match(answer.request.path):
            check(answer)
        return answer


def template_of(path: str) -> str | None:
    """The path of the contract that a request's path belongs to; None when there is none."""
    for template in sorted(contract()["paths"], key=lambda t: t.count("{")):
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", re.escape(template).replace(r"\{", "{").replace(r"\}", "}")), path):
            return str(template)
    return None


def check(response: Any) -> Any:
    """Check an answer that knows its request; see `check_response`."""
    path = urlsplit(response.request.url).path
    return check_response(response, template_of(path), response.request.method)


def check_response(response: Any, path_template: str | None, method: str) -> Any:
    """Check status, content type, headers and body of an answer against the contract.

    Args:
        response: of Flask's test client, or of `requests`.
        path_template: a path of openapi.yaml; None for an address that is not in it.
        method: the request's; HEAD is checked as GET without a body.
    Returns:
        The same response, so that a call can be wrapped.
    Raises:
        AssertionError: with every difference.
    """
    found = list(_differences(response, path_template, method.lower()))
    if found:
        raise AssertionError(f"{method} {path_template} -> {response.status_code}:\n" + "\n".join(found))
    return response


def _differences(response: Any, template: str | None, method: str) -> Iterator[str]:
    operations = contract()["paths"].get(template, {}) if template else {}
    operation = operations.get("get" if method == "head" else method)
    if operation is None:
        yield from _undocumented(response, template)
        return
    responses = operation["responses"]
    status = response.status_code
    if str(status) not in responses and status not in GENERAL:
        yield f"status {status} is not documented; those are: {', '.join(responses)}\n{_body(response)[:500]!r}"
        return
    answer = resolved(responses.get(str(status), responses["default"]))
    yield from _header_faults(response, answer)
    yield from _content_faults(response, answer, method)


def _undocumented(response: Any, template: str | None) -> Iterator[str]:
    """An address or a method that the contract does not have is a problem, never anything else."""
    expected = {405} if template else GENERAL | {400, 403, 404, 429, 503}
    if response.status_code not in expected:
        yield f"status {response.status_code} of something that the contract does not have; expected {expected}"
    if response.status_code == 405 and "Allow" not in response.headers:
        yield "405 has no Allow header"
    known = next(iter(contract()["paths"][template].values()))["responses"]["default"] if template else None
    yield from _content_faults(response, resolved(known or {"$ref": "#/components/responses/OtherProblem"}), "get")


def _header_faults(response: Any, answer: dict[str, Any]) -> Iterator[str]:
    for name, node in answer.get("headers", {}).items():
        header = resolved(node)
        given = response.headers.get(name)
        if given is None:
            if header.get("required"):
                yield f"header {name} is missing"
            continue
        value: Any = int(given) if header["schema"]["type"] == "integer" and given.isdigit() else given
        yield from (f"header {name}: {fault}" for fault in faults(value, header["schema"]))


def _content_faults(response: Any, answer: dict[str, Any], method: str) -> Iterator[str]:
    content = answer.get("content", {})
    body = _body(response)
    if not content or method == "head":
        if body:
            yield f"there is a body of {len(body)} bytes where none belongs"
        if not content:
            return
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
    if media_type not in content:
        yield f"Content-Type {media_type!r} is not one of {', '.join(content)}"
    elif method == "head":
        return
    elif media_type.endswith("json"):
        yield from _json_faults(response, body, media_type, content[media_type]["schema"])
    elif response.status_code != 206 and media_type in _SIGNATURES:
        if not re.match(_SIGNATURES[media_type], body, re.DOTALL):
            yield f"the body is not {media_type}: {body[:16]!r}"
    elif not body:
        yield "the body is empty"


def _json_faults(response: Any, body: bytes, media_type: str, schema: dict[str, Any]) -> Iterator[str]:
    try:
        document = json.loads(body, parse_constant=_refuse_constant)
    except ValueError as error:
        yield f"the body is not JSON ({error}): {body[:200]!r}"
        return
    yield from faults(document, schema)
    if media_type == PROBLEM and isinstance(document, dict):
        told = {
            "status": response.status_code,
            "type": f"urn:imgdetect:problem:{document.get('code')}",
            "request_id": response.headers.get("x-request-id"),
        }
        yield from (f"$.{k}: {document.get(k)!r} should be {v!r}" for k, v in told.items() if document.get(k) != v)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _body(response: Any) -> bytes:
    return bytes(response.content if hasattr(response, "content") else response.data)
