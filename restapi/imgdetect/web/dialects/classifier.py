"""A versioned classifier API, in the manner of those that are made with FastAPI."""

from __future__ import annotations

import re
import time
from typing import Any, cast

from flask import Blueprint, Response, g, jsonify, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.datastructures import FileStorage

from imgdetect import __version__
from imgdetect.errors import DetectorTooSlow, Problem, UploadTooLarge
from imgdetect.web.api import require_key
from imgdetect.web.bodies import Request
from imgdetect.web.dialects import _dialect
from imgdetect.web.dialects._classes import classes_of, classifier, classifiers, model_info
from imgdetect.web.dialects._dialect import Dialect, sentence
from imgdetect.web.parts import parts

blueprint = Blueprint("classifier", __name__, url_prefix="/api/v1")
blueprint.before_request(require_key)
MAX_BYTES = 10_000_000
MAX_BATCH = 10
# So that somewhat too many files get the sentence that says so.
_READ_FILES = 2 * MAX_BATCH
_FIELDS = ("file", "image")
_NO_IMAGE = {"unsupported-image", "unreadable-image"}


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    top_k: int = Field(5, ge=1, le=10)


class _Invalid(Exception):
    """A request that is answered with 422, and what is wrong with it."""

    def __init__(self, *errors: dict[str, Any]) -> None:
        super().__init__(errors)
        self.errors = errors


@blueprint.errorhandler(_Invalid)
def refuse(invalid: _Invalid) -> tuple[Response, int]:
    """Say what is missing or wrong in a form."""
    return jsonify(detail=invalid.errors), 422


def overview() -> Response:
    """What `/` answers to those who want JSON."""
    return jsonify(
        message="imgdetect is running",
        version=__version__,
        endpoints={
            "health": "/api/v1/health",
            "classify": "/api/v1/classify",
            "model_info": "/api/v1/model/info",
            "docs": "/docs",
            "metrics": "/metrics",
        },
    )


@blueprint.get("/health")
def health() -> tuple[Response, int]:
    """Whether there is a classifier."""
    found = classifiers()
    if not found:
        return jsonify(status="unhealthy", model_loaded=False, model_info=None), 503
    return jsonify(status="healthy", model_loaded=True, model_info=model_info(found[0])), 200


@blueprint.get("/model/info")
def info() -> Response:
    """The classifier."""
    return jsonify(model_info(classifier()))


@blueprint.get("/models")
def models() -> Response:
    """Every classification of this server, the one that classifies here first."""
    return jsonify(models=[model_info(detector) for detector in classifiers()])


@blueprint.post("/classify")
def classify() -> Response:
    """What a picture shows."""
    detector = classifier()
    top_k = _top_k()
    predictions = _predictions(_whole(_the_file()), top_k)
    return jsonify(predictions=predictions, model_info=model_info(detector), processing_time_ms=_elapsed_ms())


@blueprint.post("/classify-batch")
def classify_batch() -> Response:
    """What some pictures show; a bad one fails alone."""
    detector = classifier()
    cast(Request, request).allow(MAX_BATCH * MAX_BYTES, _READ_FILES)
    files = request.files.getlist("files")
    if not files:
        raise _missing("files")
    if len(files) > MAX_BATCH:
        answer = jsonify(detail=f"Maximum {MAX_BATCH} images per batch")
        answer.status_code = 400
        return answer
    top_k = _top_k()
    # A client that waits for ten slow looks would hold a thread for ten deadlines.
    until = time.perf_counter() + parts().service.settings.deadline_seconds
    results = []
    for index, file in enumerate(files):
        result: dict[str, Any] = {"file_index": index, "filename": file.filename or ""}
        try:
            if time.perf_counter() > until:
                raise DetectorTooSlow("There was no time left for this image")
            result |= {"predictions": _predictions(_whole(file), top_k), "model_info": model_info(detector)}
        except Problem as problem:
            result["error"] = _told(problem.document())[1]["detail"]
        results.append(result)
    return jsonify(
        results=results,
        total_files=len(files),
        successful_files=sum("error" not in result for result in results),
        processing_time_ms=_elapsed_ms(),
    )


def _the_file() -> FileStorage:
    """The one file of the form."""
    files = [file for field in _FIELDS for file in request.files.getlist(field)]
    if not files:
        raise _missing(_FIELDS[0])
    if len(files) > 1:
        raise _Invalid({"type": "too_many", "loc": ["body", _FIELDS[0]], "msg": "One file at a time", "input": None})
    return files[0]


def _missing(field: str) -> _Invalid:
    return _Invalid({"type": "missing", "loc": ["body", field], "msg": "Field required", "input": None})


def _top_k() -> int:
    try:
        return _Parameters.model_validate(request.values.to_dict()).top_k
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        raise _Invalid(
            *({**one, "loc": ["body", *one["loc"]], "input": str(one["input"])[:80]} for one in found)
        ) from None


def _whole(file: FileStorage) -> FileStorage:
    """A file that is not too large."""
    limit = min(MAX_BYTES, parts().service.settings.max_upload_bytes)
    if file.stream.seek(0, 2) > limit:
        raise UploadTooLarge(max_bytes=limit)
    file.stream.seek(0)
    return file


def _predictions(file: FileStorage, top_k: int) -> list[dict[str, Any]]:
    return [
        {"class_name": one.class_name, "probability": round(one.confidence, 6), "class_id": one.class_id}
        for one in classes_of(file.read(), file.filename or "", top_k, g.owner)
    ]


def _elapsed_ms() -> float:
    return round((time.perf_counter() - float(g.started)) * 1000, 2)


def _told(problem: _dialect.Problem) -> tuple[int, Any]:
    """The original knows two things that may be wrong with a picture, and calls both of them a bad request."""
    code, status = problem["code"], int(problem["status"])
    if code in _NO_IMAGE:
        return 400, {"detail": "File must be an image"}
    if code == "upload-too-large":
        limit = min(MAX_BYTES, parts().service.settings.max_upload_bytes)
        return 400, {"detail": f"Image too large (max {limit / 1e6:g}MB)"}
    return 400 if status == 422 else status, {"detail": sentence(problem)}


DIALECT = Dialect(blueprint, re.compile(r"/api/v1/(health|classify|classify-batch|model/info|models)$"), _told)
