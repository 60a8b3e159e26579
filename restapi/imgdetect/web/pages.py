"""The page at `/`, for people: a form that works without script, and that page.js makes quicker."""

from __future__ import annotations

import base64
import json
import time
from contextlib import suppress
from typing import Any, NamedTuple

from flask import Blueprint, Response, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from imgdetect import documents
from imgdetect.detectors import Detector
from imgdetect.errors import InvalidRequest, Problem
from imgdetect.images import ACCEPTED
from imgdetect.parameters import UploadParameters, validated
from imgdetect.web.api import received
from imgdetect.web.dialects import classifier
from imgdetect.web.dialects._classes import classifiers
from imgdetect.web.parts import parts

blueprint = Blueprint("pages", __name__)
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
_KEY_FIELD = "api_key"
_FILE_FIELDS = ("image", "file")
_NO_FILE = "no-file"


class _Answer(NamedTuple):
    """What the page shows of an upload that succeeded."""

    document: dict[str, Any]  # as the API gives it
    picture: str  # the annotated one as a data: address, because an <img> can send no key


@blueprint.get("/")
def page() -> str | Response:
    """The empty form, or for a program a few words about this server."""
    if request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json":
        return classifier.overview()
    if request.args.get("message") == _NO_FILE:
        return _rendered(problem=_no_file().document())
    return _rendered()


@blueprint.post("/")
def upload() -> str | BaseResponse:
    """Look at an upload, keep it and show the page with what was found."""
    service, gate = parts().service, parts().gate
    # A field that a person left empty was not given.
    g.chosen = {n: v.strip() for n, v in request.form.items() if v.strip() and n != _KEY_FIELD}
    owner = g.owner = gate.owner(request, _form_key())
    _refuse_repeated_fields()
    if not _names_a_file():
        if "image" in request.files or g.chosen:  # the page's own form is shown again as it was filled in
            raise _no_file()
        return redirect(url_for("pages.page", message=_NO_FILE))
    image = received(*_FILE_FIELDS)
    asked = validated(UploadParameters, g.chosen)
    options = asked.options(_default_detector(), service.settings.min_scale_factor)
    record, cached = service.detect(image, options, owner, keep_original=asked.keep_original)
    processed = service.records.processed(record)
    picture = base64.b64encode(service.records.read(processed)).decode("ascii")
    total_ms = (time.perf_counter() - float(g.started)) * 1000
    document = documents.upload_document(record, cached=cached, total_ms=total_ms)
    return _rendered(_Answer(document, f"data:{processed.media_type};base64,{picture}"))


@blueprint.after_request
def finish(answer: Response) -> Response:
    """Show a problem as the page, with its own status and headers; whoever it comes from, Flask and bugs included."""
    if answer.mimetype == "application/problem+json" and _is_for_the_page(answer):
        problem = json.loads(answer.get_data())
        if answer.status_code == 401:
            message = "is not known here" if _form_key() else "is needed"
            problem["errors"] = [{"field": _KEY_FIELD, "message": message}]
        answer.set_data(_rendered(problem=problem))
        answer.content_type = "text/html; charset=utf-8"
    if answer.mimetype == "text/html":
        answer.headers["Content-Security-Policy"] = POLICY
    answer.vary.add("Accept")
    return answer


def _is_for_the_page(answer: Response) -> bool:
    """Whether a problem belongs on the page. A request turned away at the door did not reach it; a browser's did."""
    return answer.status_code != 403 or request.accept_mimetypes.accept_html


def _form_key() -> str:
    return request.form.get(_KEY_FIELD, "").strip()


def _refuse_repeated_fields() -> None:
    """Keep the form to one value a field.

    Raises:
        InvalidRequest: a field was given more than once.
    """
    repeated = sorted(name for name, values in request.form.lists() if len(values) > 1)
    if repeated:
        errors = [{"field": name[:80], "message": "was given more than once"} for name in repeated]
        raise InvalidRequest("A field was given more than once.", errors)


def _names_a_file() -> bool:
    """Whether a person chose a file; a browser else sends one without name and content."""
    sent = [file for field in _FILE_FIELDS for file in request.files.getlist(field)]
    others = bool(request.files) and not sent  # are refused by name
    return others or request.mimetype.startswith("image/") or any(file.filename for file in sent)


def _no_file() -> InvalidRequest:
    return InvalidRequest.field("image", "choose a picture first")


def _default_detector() -> str:
    """The detector of a form that names none. A classifier's form calls its file `file`, and wants a class."""
    found = classifiers() if "file" in request.files else []
    return found[0].name if found else parts().service.settings.default_detector


def _detectors() -> list[Detector]:
    """The server's, and those of the key that the form came with; the page has to come also where none can be read."""
    service = parts().service
    found = [detector for _, detector in sorted(service.detectors.items())]
    with suppress(Problem):
        found += [own.detector for own in service.cascades.all_of(g.get("owner", ""))]
    return found


def _rendered(answer: _Answer | None = None, problem: dict[str, Any] | None = None) -> str:
    service, gate = parts().service, parts().gate
    return render_template(
        "page.html",
        detectors=_detectors(),
        chosen={"detector": service.settings.default_detector} | g.get("chosen", {}),
        accepted=list(ACCEPTED),
        max_bytes=service.settings.max_upload_bytes,
        upload_path=f"{documents.BASE}/image",
        detectors_path=f"{documents.BASE}/detectors",
        needs_key=not gate.open,
        # Who is turned away at the door gets no more than the refusal.
        refused=problem is not None and problem["status"] == 403,
        document=answer.document if answer else None,
        json=json.dumps(answer.document, indent=2, ensure_ascii=False) if answer else "",
        picture=answer.picture if answer else "",
        problem=problem,
        errors={error["field"]: error["message"] for error in (problem or {}).get("errors", ())},
    )
