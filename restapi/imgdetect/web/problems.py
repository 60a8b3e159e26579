"""The one place where an error becomes an answer: RFC 9457 problem documents."""

from __future__ import annotations

import json

from flask import Flask, Response, g, request
from werkzeug import exceptions
from werkzeug.datastructures import Headers

from imgdetect import errors, logs
from imgdetect.web.parts import parts

log = logs.get_logger(__name__)

_OF_STATUS: dict[int, type[errors.Problem]] = {
    kind.status: kind
    for kind in (
        errors.InvalidRequest,
        errors.Unauthorized,
        errors.Forbidden,
        errors.NotFound,
        errors.MethodNotAllowed,
        errors.NotAcceptable,
        errors.Conflict,
        errors.PreconditionFailed,
        errors.UploadTooLarge,
        errors.UriTooLong,
        errors.RangeNotSatisfiable,
        errors.TooManyRequests,
        errors.HeadersTooLarge,
    )
}


def response_of(problem: errors.Problem) -> Response:
    """The answer to a request that met a problem; what a part of the server said of it is for the log alone."""
    if problem.status >= 500 and problem.__cause__ is not None:
        log.warning("part failed", problem=problem.slug, cause=str(problem.__cause__).partition("\n")[0])
    body = problem.document() | {"instance": request.path, "request_id": g.get("request_id", "")}
    answer = Response(json.dumps(body), status=problem.status, content_type="application/problem+json")
    answer.headers["Cache-Control"] = "no-store"
    if problem.retry_after_seconds:
        answer.headers["Retry-After"] = str(problem.retry_after_seconds)
    if problem.status == 401:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="imgdetect"'
    return answer


def _http_error(error: exceptions.HTTPException) -> Response:
    """What Flask and werkzeug refuse by themselves."""
    if error.code and error.code < 400:  # a redirect
        return error.get_response()  # type: ignore[return-value]
    kind = _OF_STATUS.get(error.code or 500, errors.InternalError)
    problem = kind()
    if isinstance(error, exceptions.RequestEntityTooLarge):
        problem = _too_large()
    answer = response_of(problem)
    ours = Headers(error.get_headers())
    for name in ("Allow", "Content-Range"):
        if name in ours:
            answer.headers[name] = ours[name]
    return answer


def _too_large() -> errors.Problem:
    files = getattr(request, "max_files", 1)
    if files == 1:
        return errors.UploadTooLarge(max_bytes=getattr(request, "max_bytes", parts().service.settings.max_upload_bytes))
    detail = f"{files} files are taken at once, and {request.max_bytes} bytes."  # type: ignore[attr-defined]
    return errors.UploadTooLarge(detail, max_bytes=request.max_bytes, max_images=files)  # type: ignore[attr-defined]


def _unforeseen(error: Exception) -> Response:
    log.exception("request failed", path=request.path, exc_info=error)
    return response_of(errors.InternalError())


def register(app: Flask) -> None:
    """Answer every error of the app in this form."""
    app.register_error_handler(errors.Problem, response_of)
    app.register_error_handler(exceptions.HTTPException, _http_error)
    app.register_error_handler(Exception, _unforeseen)
