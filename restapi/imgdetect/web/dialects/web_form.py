"""A classifier's web form: one picture, one class; and what people report about it.

Its `/predict` is that of the image detection service too, which hands over what is not meant for it.
"""

from __future__ import annotations

import time

from flask import Blueprint, Response, g, jsonify, make_response, redirect, render_template, request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Response as BaseResponse

from imgdetect import documents
from imgdetect.detection import ClassScore, DetectOptions, Job, Upload, clean_filename, result_from_dict
from imgdetect.errors import InternalError, InvalidRequest, Problem, UnsupportedImage, WaitTooLong
from imgdetect.records import new_id
from imgdetect.web.api import received
from imgdetect.web.dialects._classes import classifier, counted
from imgdetect.web.dialects._dialect import Dialect
from imgdetect.web.parts import parts

blueprint = Blueprint("web_form", __name__)
ACCEPTED = ("image/png", "image/jpeg", "image/gif")
MAX_REPORT_CHARACTERS = 20_000
_SHOWN_REPORTS = 20
_WAIT_SECONDS = 30.0
_LOOK_EVERY_SECONDS = 0.02
_POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'"
# What is wrong with the request or its picture; the original has one answer for all of it.
_CONTENT = (400, 413, 415, 422)


@blueprint.before_request
def require_key() -> None:
    """Find the owner by a header, or in a form by its field."""
    gate = parts().gate
    in_header = bool({"X-Api-Key", "Authorization"} & set(request.headers.keys()))
    in_form = request.method == "POST" and not gate.open and not in_header
    g.owner = gate.owner(request, request.form.get("api_key", "") if in_form else "")


def predict() -> Response:
    """What a picture shows, classified on the job queue.

    Raises:
        NoClassifier, WaitTooLong, Busy ...: what the picture is not to blame for.
    """
    try:
        best = _best(_upload())
    except RequestEntityTooLarge:
        return _failed()
    except Problem as problem:
        if problem.status not in _CONTENT:
            raise
        return _failed()
    return jsonify(success=True, prediction=best.class_name, score=round(best.confidence, 4))


@blueprint.get("/display/<filename>")
def display(filename: str) -> BaseResponse:
    """Where a stored picture is."""
    record = parts().service.records.named(clean_filename(filename), g.owner)
    return redirect(documents.image_path(record.id), 301)


@blueprint.route("/feedback", methods=["GET", "POST"])
def feedback() -> Response:
    """Keep a report as it is, and show the newest ones."""
    rows = parts().service.database.feedback
    report = request.form.get("report", "") if request.method == "POST" else ""
    if len(report) > MAX_REPORT_CHARACTERS or "\0" in report:
        raise InvalidRequest.field("report", f"should be a text of at most {MAX_REPORT_CHARACTERS} characters")
    if report:
        rows.add(new_id(), g.owner, report)
    reports, count = rows.newest(g.owner, _SHOWN_REPORTS), rows.count(g.owner)
    page = render_template("feedback.html", thanks=bool(report), reports=reports, count=count)
    answer = make_response(page)
    answer.headers["Content-Security-Policy"] = _POLICY
    return answer


def _upload() -> Upload:
    upload = received("file", "image")
    if upload.media_type not in ACCEPTED:
        raise UnsupportedImage(accepted=list(ACCEPTED))
    return upload


def _best(upload: Upload) -> ClassScore:
    service, jobs, detector = parts().service, parts().jobs, classifier()
    with counted(detector) as seen:
        job = _ended(jobs.submit(upload, DetectOptions(detector.name, top_k=1), g.owner))
        if job.problem or not job.record_id:
            raise _of_job(job)
        seen.extend(result_from_dict(service.records.get(job.record_id, g.owner).result).classes)
    return seen[0]


def _ended(job: Job) -> Job:
    """Wait for a job, but not for ever; what nobody waits for any more need not be done."""
    jobs, until = parts().jobs, time.monotonic() + _WAIT_SECONDS
    while job.state in ("queued", "running"):
        if time.monotonic() > until:
            jobs.cancel(job.id, job.owner)
            raise WaitTooLong()
        time.sleep(_LOOK_EVERY_SECONDS)
        job = jobs.get(job.id, job.owner)
    return job


def _of_job(job: Job) -> Problem:
    """The problem that ended a job: the picture's, or ours."""
    ours = job.problem is None or int(job.problem["status"]) >= 500
    return InternalError() if ours else InvalidRequest("The picture could not be classified.")


def _failed() -> Response:
    answer = jsonify(success=False, prediction=None, score=None)
    answer.status_code = 400
    return answer


# Problems keep their own form: pages and redirects have no words for them, and those of /predict are its other owner's.
DIALECT = Dialect(blueprint)
