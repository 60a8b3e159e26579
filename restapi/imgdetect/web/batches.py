"""Batches: many pictures in one request, and what became of them."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from functools import partial
from typing import BinaryIO, NamedTuple, cast

from flask import Blueprint, Response, g, jsonify, request

from imgdetect import documents
from imgdetect.archives import Archive, Limits
from imgdetect.batches import Asked, Source
from imgdetect.detection import Job
from imgdetect.errors import Busy, InvalidRequest, UploadTooLarge
from imgdetect.parameters import JobParameters, ListParameters
from imgdetect.web import parameters
from imgdetect.web.api import must_accept_json, refuse_unknown_parameters, require_key
from imgdetect.web.bodies import Request, SpooledPart
from imgdetect.web.parts import parts

blueprint = Blueprint("batches", __name__, url_prefix=documents.BASE)
results_blueprint = Blueprint("results", __name__, url_prefix="/api/v1/jobs")
for _blueprint in (blueprint, results_blueprint):
    _blueprint.before_request(require_key)
    _blueprint.before_request(refuse_unknown_parameters)

_ZIP = {"application/zip", "application/x-zip-compressed"}
_FIELDS = ("images", "archive")
# Who waits holds a thread: only a few pictures are waited for, and not for ever.
_WAITED_FOR = 10
_LONGEST_WAIT_SECONDS = 30
_WAIT = re.compile(r"(?:^|[,;\s])wait(?:\s*=\s*\"?(\d{1,6})\"?)?\s*(?:$|[,;])", re.IGNORECASE)
_LOOK_EVERY_SECONDS = 0.1


class _Sent(NamedTuple):
    """What came in a request."""

    sources: Sequence[Source]
    files: Sequence[SpooledPart]  # the same, as they came


@blueprint.post("/batch")
def upload_batch() -> Response:
    """Take in many pictures, and look at them later."""
    service, settings = parts().service, parts().service.settings
    must_accept_json()
    cast(Request, request).allow(settings.max_batch_bytes, settings.max_batch_images)
    sent = _received()
    given = parameters.read(JobParameters, request)
    parts().housekeeping.callbacks.admit(given.callback_url)
    asked = Asked(parameters.options_of(given, settings), given.keep_original, given.callback_url)
    once = None
    if "Idempotency-Key" in request.headers:
        same = (_digest(sent.files), asked.options.key(), str(asked.keep_original), str(asked.callback_url))
        once = parameters.idempotency(request, *same)
    earlier = service.records.earlier(g.owner, once) if once else None
    job = earlier if isinstance(earlier, Job) else parts().batches.submit(sent.sources, asked, g.owner, once)
    cast(Request, request).let_go()
    seconds = _wait_seconds(request.headers.get("Prefer", ""))
    if seconds is not None and int(job.total or 0) <= _WAITED_FOR:
        job = _waited_for(job, seconds)
        if job.state not in ("queued", "running"):
            return _answered(job)
    return _accepted(job)


@results_blueprint.get("/<job_id>/results")
def job_results(job_id: str) -> Response:
    """What became of the pictures of a batch."""
    asked = parameters.read(ListParameters, request)
    return jsonify(_page(job_id, asked.limit, _place_of(asked.cursor)))


@results_blueprint.get("/<job_id>/archive")
def job_archive(job_id: str) -> Response:
    """The processed pictures of a batch in a ZIP archive."""
    if not parts().downloads.acquire(blocking=False):
        raise Busy("As many archives as this server sends at once are being sent.")
    try:
        answer = Response(parts().batches.archive(job_id, g.owner), content_type="application/zip")
    except BaseException:
        parts().downloads.release()
        raise
    answer.call_on_close(parts().downloads.release)
    answer.headers["Content-Disposition"] = f'attachment; filename="batch-{job_id}.zip"'
    return answer


def _received() -> _Sent:
    """The pictures of a request.

    Raises:
        InvalidRequest: there are none, or they come in more than one way.
        UnusableArchive, UploadTooLarge: of an archive.
    """
    if request.mimetype in _ZIP:
        return _unpacked(cast(SpooledPart, cast(Request, request).spooled_body()))
    files = [(name or "", file) for name, given in request.files.lists() for file in given]
    for name, _ in files:
        if name not in _FIELDS:
            raise InvalidRequest.field(
                name[:80], "there is no such file field; images go into 'images', a ZIP archive into 'archive'"
            )
    archives = [file for name, file in files if name == "archive"]
    if len(archives) > 1 or (archives and len(files) > 1):
        raise InvalidRequest.field("archive", "comes alone; send one archive, or images, in a request")
    if archives:
        return _unpacked(cast(SpooledPart, archives[0].stream))
    if not files:
        raise InvalidRequest.field(
            "images",
            "is missing; send images as multipart/form-data, each in a field of this name, a ZIP archive in the field"
            " 'archive', or one as the body with the Content-Type application/zip",
        )
    streams = [cast(SpooledPart, file.stream) for _, file in files]
    names = [file.filename or "" for _, file in files]
    sources = [Source(name, partial(_whole, stream)) for name, stream in zip(names, streams, strict=True)]
    return _Sent(sources, streams)


def _unpacked(file: SpooledPart) -> _Sent:
    settings = parts().service.settings
    limits = Limits(settings.max_batch_images, settings.max_upload_bytes, settings.max_batch_bytes)
    archive = Archive(cast(BinaryIO, file), limits)
    return _Sent([Source(entry.name, partial(archive.read, entry)) for entry in archive.entries], [file])


def _whole(part: SpooledPart) -> bytes:
    """A picture that fits into memory."""
    max_bytes = parts().service.settings.max_upload_bytes
    if part.size > max_bytes:
        raise UploadTooLarge(max_bytes=max_bytes)
    part.seek(0)
    return part.read(part.size) or b""


def _digest(files: Sequence[SpooledPart]) -> str:
    """What makes some files these files; each is read once."""
    together = hashlib.sha256()
    for file in files:
        file.seek(0)
        together.update(hashlib.file_digest(file, "sha256").digest())
    return together.hexdigest()


def _wait_seconds(prefer: str) -> int | None:
    """How long the client wants to wait for the result; None when it does not."""
    found = _WAIT.search(prefer)
    return min(int(found[1] or _LONGEST_WAIT_SECONDS), _LONGEST_WAIT_SECONDS) if found else None


def _waited_for(job: Job, seconds: int) -> Job:
    until = time.monotonic() + seconds
    while job.state in ("queued", "running") and time.monotonic() < until:
        time.sleep(_LOOK_EVERY_SECONDS)
        job = parts().jobs.get(job.id, job.owner)
    return job


def _answered(job: Job) -> Response:
    """The results of a batch that was waited for."""
    answer = jsonify(job=documents.job_document(job), **_page(job.id, _WAITED_FOR, -1))
    answer.headers["Location"] = documents.job_path(job.id)
    answer.headers["Preference-Applied"] = "wait"
    return answer


def _accepted(job: Job) -> Response:
    answer = jsonify(documents.job_document(job))
    answer.status_code = 202
    answer.headers["Location"] = documents.job_path(job.id)
    return answer


def _page(job_id: str, limit: int, after: int) -> dict[str, object]:
    """Results from behind a position, and the address of those behind them."""
    found = parts().batches.results(job_id, g.owner, limit + 1, after)
    page = found[:limit]
    following = None
    if len(found) > limit:
        following = f"{documents.job_path(job_id)}/results?limit={limit}&cursor={page[-1].job.position}"
    return {"results": [documents.result_document(*result) for result in page], "next": following}


def _place_of(cursor: str | None) -> int:
    if cursor is None:
        return -1
    if not re.fullmatch(r"\d{1,6}", cursor, re.ASCII):
        raise InvalidRequest.field("cursor", "should be the one that the answer before this gave under 'next'")
    return int(cursor)
