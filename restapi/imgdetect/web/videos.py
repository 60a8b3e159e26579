"""Videos: taken in as jobs, and what was made of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any, BinaryIO, cast

from flask import Blueprint, Response, g, jsonify, request

from imgdetect import documents
from imgdetect.detection import Job, clean_filename, sha256_of
from imgdetect.errors import InvalidRequest, NotFound
from imgdetect.parameters import VideoParameters
from imgdetect.records import Artifact
from imgdetect.web import parameters
from imgdetect.web.api import must_accept_json, refuse_unknown_parameters, require_key
from imgdetect.web.bodies import Request
from imgdetect.web.downloads import IMMUTABLE, send_artifact
from imgdetect.web.parts import parts

blueprint = Blueprint("videos", __name__, url_prefix=documents.BASE)
made_blueprint = Blueprint("videos_made", __name__, url_prefix="/api/v1/jobs")
for _blueprint in (blueprint, made_blueprint):
    _blueprint.before_request(require_key)
    _blueprint.before_request(refuse_unknown_parameters)
# A browser shows a video that is opened by its address in a page of its own making, which fetches it from its own
# origin. No script runs there.
_PLAYABLE = (
    "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox allow-same-origin"
)


@blueprint.post("/video")
def upload_video() -> Response:
    """Take a video in, and look at it later."""
    service, jobs = parts().service, parts().jobs
    must_accept_json()
    jobs.videos.must_be_on()
    cast(Request, request).allow(service.settings.max_video_bytes)
    stream, filename = _received()
    asked = parameters.read(VideoParameters, request)
    parts().housekeeping.callbacks.admit(asked.callback_url)
    settings = service.settings
    options = asked.video_options(settings.default_detector, settings.min_scale_factor)
    once = None
    if "Idempotency-Key" in request.headers:
        same = (
            _digest(stream),
            json.dumps(asdict(options), sort_keys=True),
            str(asked.keep_original),
            str(asked.callback_url),
        )
        once = parameters.idempotency(request, *same)
        if once and (earlier := service.records.earlier(g.owner, once)):
            return _accepted(cast(Job, earlier))
    keep, to = asked.keep_original, asked.callback_url
    job = jobs.submit_video(
        *(stream, filename, options, g.owner), keep_original=keep, callback_url=to, idempotency=once
    )
    return _accepted(job)


@made_blueprint.get("/<job_id>/detections")
def job_detections(job_id: str) -> Response:
    """A line for each frame that was looked at."""
    return _send(job_id, "detections")


@made_blueprint.get("/<job_id>/video")
def job_video(job_id: str) -> Response:
    """The annotated video."""
    answer = _send(job_id, "video")
    answer.headers["Content-Security-Policy"] = _PLAYABLE
    return answer


@made_blueprint.get("/<job_id>/original")
def job_original(job_id: str) -> Response:
    """The video as it was sent, where it was to be kept."""
    answer = _send(job_id, "original")
    answer.headers["Content-Security-Policy"] = _PLAYABLE
    return answer


def _received() -> tuple[BinaryIO, str]:
    """The video of a request, and its name.

    Raises:
        InvalidRequest: there is none, or more than one.
    """
    if request.mimetype.startswith("video/"):
        return cast(Request, request).spooled_body(), ""
    files = [(name or "", file) for name, given in request.files.lists() for file in given]
    for name, _ in files:
        if name != "video":
            raise InvalidRequest.field(name[:80], "there is no such file field; the video goes into 'video'")
    if len(files) > 1:
        raise InvalidRequest.field("video", "was given more than once; send one video a request")
    if not files:
        raise InvalidRequest.field(
            "video",
            "is missing; send the video as multipart/form-data in this field, or as the body with a video/*"
            " Content-Type",
        )
    file = files[0][1]
    return cast(BinaryIO, file.stream), clean_filename(file.filename or "")


def _accepted(job: Job) -> Response:
    answer = jsonify(documents.job_document(job))
    answer.status_code = 202
    answer.headers["Location"] = documents.job_path(job.id)
    return answer


def _digest(stream: BinaryIO) -> str:
    stream.seek(0)
    return hashlib.file_digest(cast(Any, stream), "sha256").hexdigest()


def _send(job_id: str, name: str) -> Response:
    service = parts().service
    job = parts().jobs.get(job_id, g.owner)
    if job.kind != "video":
        raise NotFound("This job is not about a video.")
    made = (job.artifacts or {}).get(name)
    if made is None:
        raise NotFound(_why_not(job, name))
    etag = sha256_of(made["key"].encode())[:32]
    artifact = Artifact(made["key"], made["media_type"], made["filename"], made["size_bytes"], etag)
    return send_artifact(service, artifact, IMMUTABLE)


def _why_not(job: Job, name: str) -> str:
    if job.state != "done":
        return f"The job is {job.state}; there are results once it is done."
    if name == "video":
        return "There is no annotated video: the request asked for annotate=false."
    return "The original was not kept: that takes keep_original=true."
