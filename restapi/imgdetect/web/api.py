"""The API under /api/v1; openapi.yaml is its contract."""

from __future__ import annotations

import re
import time

from flask import Blueprint, Response, g, jsonify, request
from werkzeug.datastructures import FileStorage

from imgdetect import documents
from imgdetect.detection import Job, Record, Upload, clean_filename
from imgdetect.errors import Conflict, InvalidRequest, NotAcceptable, NotFound
from imgdetect.parameters import DetectParameters, FormatParameters, JobParameters, ListParameters, NoParameters
from imgdetect.pipeline import PROCESSED_MEDIA_TYPE
from imgdetect.records import Artifact
from imgdetect.web import json_bodies, parameters
from imgdetect.web.downloads import FORMATS, IMMUTABLE, REVALIDATE, chosen_format, send_artifact, send_bytes
from imgdetect.web.parts import parts

blueprint = Blueprint("api", __name__, url_prefix=documents.BASE)
jobs_blueprint = Blueprint("jobs", __name__, url_prefix="/api/v1/jobs")
_WITH_PARAMETERS = {"list_images", "download_processed", "download_crop", "job_results"}
_ID = re.compile(r"[0-9a-f]{32}")


@blueprint.before_request
@jobs_blueprint.before_request
def require_key() -> None:
    """Nothing of a request is read before its key is known."""
    if request.method != "OPTIONS":
        g.owner = parts().gate.owner(request)


@blueprint.before_request
@jobs_blueprint.before_request
def refuse_unknown_parameters() -> None:
    """What takes no parameters says so instead of ignoring them; the other views read their own."""
    view = (request.endpoint or "").rpartition(".")[2]
    given = request.query_string or request.content_type
    if given and request.method not in ("POST", "OPTIONS") and view not in _WITH_PARAMETERS:
        parameters.read(NoParameters, request)


@blueprint.post("/image")
def upload_image() -> Response:
    """Look at an upload and keep it."""
    service, jobs = parts().service, parts().jobs
    must_accept_json()
    upload = _received()
    asked = parameters.read(JobParameters, request)
    later = "respond-async" in request.headers.get("Prefer", "")
    if asked.callback_url and not later:
        raise InvalidRequest.field("callback_url", "is for what is done later: send Prefer: respond-async with it")
    parts().housekeeping.callbacks.admit(asked.callback_url)
    options = parameters.options_of(asked, service.settings)
    told = [asked.callback_url] if asked.callback_url else []
    once = parameters.idempotency(request, upload.sha256, options.key(), str(asked.keep_original), *told)
    if once and (earlier := service.records.earlier(g.owner, once)):
        return _accepted(earlier) if isinstance(earlier, Job) else _uploaded(earlier, False)
    keep = asked.keep_original
    if later:
        to = asked.callback_url
        return _accepted(jobs.submit(upload, options, g.owner, keep_original=keep, callback_url=to, idempotency=once))
    record, cached = service.detect(upload, options, g.owner, keep_original=keep, idempotency=once)
    return _uploaded(record, cached)


@blueprint.get("/image")
def list_images() -> Response:
    """The owner's images, newest first."""
    asked = parameters.read(ListParameters, request)
    before = documents.place_of(asked.cursor) if asked.cursor is not None else None
    records = parts().service.records.page(g.owner, asked.limit + 1, before)
    page = records[: asked.limit]
    following = None
    if len(records) > asked.limit:
        following = f"{documents.BASE}/image?limit={asked.limit}&cursor={documents.cursor_of(page[-1])}"
    return jsonify(images=[documents.record_document(record) for record in page], next=following)


@blueprint.get("/image/<reference>")
def download_image(reference: str) -> Response:
    """The original."""
    service = parts().service
    record, by_name = _find(reference)
    answer = send_artifact(service, service.records.original(record), REVALIDATE if by_name else IMMUTABLE)
    return _located(answer, documents.image_path(record.id), by_name)


@blueprint.delete("/image/<reference>")
def delete_image(reference: str) -> Response:
    """Remove an image and all that was made of it."""
    parts().service.records.delete(_one(reference), g.owner)
    return jsonify(status="OK")


@blueprint.get("/image/<reference>/detections")
def get_detections(reference: str) -> Response:
    """The record."""
    record, by_name = _find(reference)
    answer = jsonify(documents.record_document(record))
    answer.headers["Cache-Control"] = REVALIDATE
    answer.add_etag()
    _located(answer, f"{documents.image_path(record.id)}/detections", by_name)
    answer.make_conditional(request.environ)
    return answer


@blueprint.get("/image/<reference>/processed")
def download_processed(reference: str) -> Response:
    """The annotated picture."""
    asked = parameters.read(FormatParameters, request).format
    record, by_name = _find(reference)
    try:
        answer = _processed(record, asked)
    except NotFound:  # the picture may have been replaced, and the old one deleted, since the row was read
        record, by_name = _find(reference)
        answer = _processed(record, asked)
    return _located(answer, f"{documents.image_path(record.id)}/processed", by_name)


@blueprint.post("/image/<reference>/processed")
def process_again(reference: str) -> Response:
    """Look at a stored original again, with other parameters."""
    service = parts().service
    must_accept_json()
    options = parameters.options_of(parameters.read(DetectParameters, request), service.settings)
    record, cached = service.again(service.records.get(_one(reference), g.owner), options)
    return _uploaded(record, cached)


@blueprint.delete("/image/<reference>/processed")
def delete_processed(reference: str) -> Response:
    """Remove the annotated picture and nothing else."""
    service = parts().service
    service.records.delete_processed(service.records.get(_one(reference), g.owner))
    return jsonify(status="OK")


@blueprint.get("/image/<reference>/crops/<int:n>")
def download_crop(reference: str, n: int) -> Response:
    """The picture of one detection."""
    service = parts().service
    asked = parameters.read(FormatParameters, request).format
    record, by_name = _find(reference)
    media_type = chosen_format(None, asked)
    extension = media_type.rpartition("/")[2]
    etag = f"{service.crop_etag(record, n)}-{extension}"
    made = Artifact("", media_type, f"crop-{n}.{extension}", 0, etag)
    answer = send_bytes(lambda: service.crop(record, n, media_type), made, REVALIDATE)
    answer.vary.add("Accept")
    return _located(answer, f"{documents.image_path(record.id)}/crops/{n}", by_name)


@blueprint.post("/detect")
def detect() -> Response:
    """Look at an upload and keep nothing."""
    service = parts().service
    accepted = request.accept_mimetypes
    wanted = accepted.best_match(["application/json", *FORMATS.values()]) if accepted else "application/json"
    if wanted is None:
        raise NotAcceptable(accepted=["application/json", *FORMATS.values()])
    upload = _received()
    options = parameters.options_of(parameters.read(DetectParameters, request), service.settings)
    look = service.look(upload, options, g.owner)
    answer: Response
    if wanted == "application/json":
        answer = jsonify(documents.look_document(upload, look.outcome, cached=look.cached, total_ms=_elapsed_ms()))
    else:
        picture = look.outcome.processed
        if wanted != PROCESSED_MEDIA_TYPE:
            picture = service.encoded(picture, upload.pixels, wanted)
        answer = Response(picture, content_type=wanted)
    answer.vary.add("Accept")
    return answer


@jobs_blueprint.get("/<job_id>")
def get_job(job_id: str) -> Response:
    """How far a job is."""
    job = parts().jobs.get(job_id, g.owner)
    answer = jsonify(documents.job_document(job))
    if job.state in ("queued", "running"):
        answer.headers["Retry-After"] = "1"
    return answer


@jobs_blueprint.delete("/<job_id>")
def cancel_job(job_id: str) -> Response:
    """Cancel a job."""
    parts().jobs.cancel(job_id, g.owner)
    return jsonify(status="OK")


def _received() -> Upload:
    return json_bodies.received(request) if request.mimetype == json_bodies.MEDIA_TYPE else received()


def received(*fields: str) -> Upload:
    """The upload of a request: the multipart field, or the whole body of an image/* request.

    Args:
        fields: names that the multipart field may have; `image` when none is given.
    Raises:
        InvalidRequest: there is none, or more than one.
    """
    service = parts().service
    names = fields or ("image",)
    if request.mimetype.startswith("image/"):
        return service.read_upload(request.get_data(cache=False), "")
    # A part without a name has None for one.
    files = [(name or "", file) for name, given in request.files.lists() for file in given]
    unknown = sorted({name for name, _ in files if name not in names})
    if unknown:
        raise InvalidRequest.field(unknown[0][:80], f"there is no such file field; the image goes into {names[0]!r}")
    if len(files) > 1:
        raise InvalidRequest.field(names[0], "was given more than once; send one image a request")
    if not files:
        raise InvalidRequest.field(
            names[0],
            "is missing; send the image as multipart/form-data in this field, or as the body with an"
            " image/* Content-Type",
        )
    file: FileStorage = files[0][1]
    return service.read_upload(file.read(), file.filename or "")


def _find(reference: str) -> tuple[Record, bool]:
    """The record that an id, or a file name in its place, stands for; and whether it was a name."""
    service = parts().service
    if _ID.fullmatch(reference):
        return service.records.get(reference, g.owner), False
    if "." in reference:
        return service.records.named(clean_filename(reference), g.owner), True
    raise NotFound("There is no image with this id.")


def _one(reference: str) -> str:
    """The id of the one image that may be changed under this reference.

    Raises:
        Conflict: a file name that stands for several images.
    """
    if _ID.fullmatch(reference):
        return reference
    ids = parts().service.database.ids_named(clean_filename(reference), g.owner, 100) if "." in reference else []
    if not ids:
        raise NotFound("There is no image with this id.")
    if len(ids) > 1:
        raise Conflict("Several images have this name; name one by its id.", ids=ids)
    return ids[0]


def _processed(record: Record, asked: str | None) -> Response:
    """The annotated picture of a record, in the format asked for."""
    service = parts().service
    artifact = service.records.processed(record)
    media_type = chosen_format(artifact.media_type, asked)
    if media_type == artifact.media_type:
        answer = send_artifact(service, artifact, REVALIDATE)
    else:
        extension = media_type.rpartition("/")[2]
        name = f"{artifact.filename.rpartition('.')[0]}.{extension}"
        made = Artifact("", media_type, name, 0, f"{artifact.etag}-{extension}")
        answer = send_bytes(lambda: service.transcoded(record, media_type), made, REVALIDATE)
    answer.vary.add("Accept")
    return answer


def must_accept_json() -> None:
    """Raise NotAcceptable where the client does not take the only form there is."""
    if request.accept_mimetypes and not request.accept_mimetypes.accept_json:
        raise NotAcceptable(accepted=["application/json"])


def _uploaded(record: Record, cached: bool) -> Response:
    answer = jsonify(documents.upload_document(record, cached=cached, total_ms=_elapsed_ms()))
    answer.headers["Location"] = documents.image_path(record.id)
    return answer


def _accepted(job: Job) -> Response:
    answer = jsonify(documents.job_document(job))
    answer.status_code = 202
    answer.headers["Location"] = documents.job_path(job.id)
    answer.headers["Preference-Applied"] = "respond-async"
    return answer


def _elapsed_ms() -> float:
    return (time.perf_counter() - float(g.started)) * 1000


def _located(answer: Response, path: str, by_name: bool) -> Response:
    """Say under which address of its own a picture is, where it was asked for by name."""
    if by_name:
        answer.headers["Content-Location"] = path
    return answer
