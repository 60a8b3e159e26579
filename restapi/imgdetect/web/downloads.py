"""Sending stored pictures: ETags, ranges, and the hand-over to who can send them too: nginx or the object store."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from flask import Response, request

from imgdetect.errors import NotAcceptable, PreconditionFailed
from imgdetect.records import Artifact
from imgdetect.service import DetectionService

FORMATS = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
IMMUTABLE = "private, immutable, max-age=31536000"
REVALIDATE = "private, no-cache"
_CHUNK_BYTES = 1 << 16
_JUDGED_BY_NGINX = {"range", "if-match", "if-unmodified-since"}
_JUDGED_HERE = {"HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_MODIFIED_SINCE"}


def send_artifact(service: DetectionService, artifact: Artifact, cache_control: str) -> Response:
    """The answer to a download of a stored picture."""
    path = service.storage.locate(artifact.key)
    answer = Response(content_type=artifact.media_type)
    _describe(answer, artifact, cache_control)
    accel = service.settings.accel_prefix
    # nginx would judge conditions and ranges by validators of its own, so it is only given what has none.
    judged = _JUDGED_BY_NGINX & {name.lower() for name in request.headers.keys()}
    if accel and path and not judged and not _unchanged(answer):
        answer.headers["X-Accel-Redirect"] = accel + _below(path, artifact.key)
        return answer
    if _may_go_elsewhere(judged) and not _unchanged(answer) and (link := _link(service, artifact, cache_control)):
        elsewhere = Response(status=307)
        elsewhere.headers["Location"] = link  # it is a permission for some minutes, so nobody is to keep it
        elsewhere.headers["Cache-Control"] = "no-store"
        return elsewhere
    chunks = _Chunks(service, artifact)
    answer.headers["Content-Length"] = str(artifact.size)
    answer.response = chunks
    answer.call_on_close(chunks.close)
    return _conditional(answer, artifact.size)


def send_bytes(make: Callable[[], bytes], artifact: Artifact, cache_control: str) -> Response:
    """The answer to a download of a picture that has to be made; it is not when the client has it already."""
    answer = Response(content_type=artifact.media_type)
    _describe(answer, artifact, cache_control)
    if not _unchanged(answer):
        answer.set_data(make())
    return _conditional(answer, int(answer.headers.get("Content-Length", 0)))


def chosen_format(stored: str | None, asked: str | None) -> str:
    """The media type to send: what `?format=` says, else the stored one unless the Accept header excludes it.

    Args:
        stored: the media type that costs nothing; None where every type has to be made.
        asked: a key of FORMATS, or None.
    Raises:
        NotAcceptable: the Accept header admits none that can be made.
    """
    if asked:
        return FORMATS[asked]
    accepted = request.accept_mimetypes
    if not accepted or (stored and accepted[stored] > 0):
        return stored or FORMATS["jpeg"]
    best = max(FORMATS.values(), key=lambda media_type: accepted[media_type])
    if accepted[best] <= 0:
        raise NotAcceptable(accepted=list(FORMATS.values()))
    return best


def _may_go_elsewhere(judged: set[str]) -> bool:
    """Whether a client can be sent to the object store, whose validators are others and which knows ranges itself.

    Pages of our own cannot: they load pictures from their own origin only.
    """
    ours = judged - {"range"} or "If-Range" in request.headers
    return request.method == "GET" and not ours and request.headers.get("Sec-Fetch-Site") != "same-origin"


def _link(service: DetectionService, artifact: Artifact, cache_control: str) -> str | None:
    headers = {
        "Content-Type": artifact.media_type,
        "Content-Disposition": disposition(artifact.filename),
        "Cache-Control": cache_control,
    }
    return service.storage.link(artifact.key, headers)


def _describe(answer: Response, artifact: Artifact, cache_control: str) -> None:
    answer.set_etag(artifact.etag)
    answer.headers["Cache-Control"] = cache_control
    answer.headers["Accept-Ranges"] = "bytes"
    answer.headers["Content-Disposition"] = disposition(artifact.filename)


def _conditional(answer: Response, size: int) -> Response:
    """The answer under the request's conditions, in the order of RFC 9110, 13.2.2; there are no modification dates.

    Raises:
        PreconditionFailed: If-Match names other bytes.
    """
    etag = answer.get_etag()[0] or ""
    if request.if_match and not request.if_match.contains(etag):
        raise PreconditionFailed()
    environ = {name: value for name, value in request.environ.items() if name not in _JUDGED_HERE}
    if _unchanged(answer):
        environ.pop("HTTP_RANGE", None)
    elif request.range and [start for start, _ in request.range.ranges if (start or 0) < -size] and size:
        # The last thousand bytes of a smaller file are all of it (RFC 9110, 14.1.2); werkzeug refuses them.
        environ["HTTP_RANGE"] = "bytes=0-"
    answer.make_conditional(environ, accept_ranges=True, complete_length=size)
    return answer


def _unchanged(answer: Response) -> bool:
    """Whether the client has these bytes already, so that a 304 is all there is to send."""
    return bool(request.if_none_match) and request.if_none_match.contains_weak(answer.get_etag()[0] or "")


def _below(path: Path, key: str) -> str:
    """The path of a stored file below the storage's folder; a key may be kept in folders of the storage's making."""
    depth = len(Path(key).parts) + 1
    return quote("/".join(path.parts[-depth:]))


class _Chunks:
    """A stored file in pieces. werkzeug seeks to where a range begins, and then nothing in front of it is read."""

    def __init__(self, service: DetectionService, artifact: Artifact) -> None:
        self._service = service
        self._artifact = artifact
        self._at = 0
        self._stream = service.records.open(artifact)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = self._stream.read(_CHUNK_BYTES)
        if not chunk:
            raise StopIteration
        self._at += len(chunk)
        return chunk

    def seekable(self) -> bool:
        return True

    def seek(self, start: int) -> None:
        self._stream.close()
        self._stream = self._service.records.open(self._artifact, start)
        self._at = start

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._stream.close()


def disposition(filename: str) -> str:
    """A Content-Disposition that no file name can break out of (RFC 6266)."""
    name = filename[:150] or "image"
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
