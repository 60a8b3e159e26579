"""Every error a client can meet.

Problem
├── InvalidRequest        400  a parameter or a part is wrong: `errors` says which and what would be right
├── TooMuchWork           400  the parameters ask for more windows than one request may cost
├── Unauthorized          401
├── Forbidden             403
├── NotFound              404
├── MethodNotAllowed      405
├── NotAcceptable         406
├── Conflict              409
├── PreconditionFailed    412
├── UploadTooLarge        413
├── UriTooLong            414
├── UnsupportedImage      415
├── UnsupportedVideo      415
├── RangeNotSatisfiable   416
├── UnreadableImage       422
├── UnreadableVideo       422
├── VideoTooLong          422  more seconds, frames or work than this server takes
├── ImageTooLarge         422
├── DetectorFailed        422  the child that looked at this picture died: content never causes a 5xx
├── DetectorTooSlow       422  the child that looked at this picture was stopped at its deadline
├── RemoteFailed          422  the address of an image gives none
├── UnusableArchive       422  an uploaded ZIP archive is none, is damaged, or is built to do harm
├── UnusableCascade       422  an uploaded cascade is none, or is of no use
├── TooManyRequests       429
├── HeadersTooLarge       431
├── InternalError         500  our own bug; the cause is in the log only
├── EngineUnavailable     501  uploaded cascades need an engine that is not installed here
├── VideoUnavailable      501  videos are switched off, or what reads them is not installed here
├── Busy                  503
├── NoClassifier          503  no network that classifies is installed here
├── BackendUnavailable    503
├── RemoteTooSlow         504  the address of an image did not give it in time
├── WaitTooLong           504
└── StorageFull           507

A Problem is rendered as RFC 9457 `application/problem+json` in one place, `web/problems.py`.
"""

from __future__ import annotations

from typing import Any


class Problem(Exception):
    """An error as the client sees it.

    Args:
        detail: one sentence for this occurrence; it never holds a path, a stack or a library's text.
        members: extension members of the problem document, all JSON-serialisable.
    """

    status = 500
    slug = "internal-error"
    title = "Something went wrong on our side."
    retry_after_seconds: int | None = None
    # What was asked for may have been done all the same: the database's answer to a COMMIT was lost.
    may_be_done = False

    def __init__(self, detail: str = "", **members: Any) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.members = members

    def document(self) -> dict[str, Any]:
        """The problem document without the request's own members (`instance`, `request_id`)."""
        body: dict[str, Any] = {"type": f"urn:imgdetect:problem:{self.slug}", "title": self.title}
        body |= {"status": self.status, "code": self.slug}
        if self.detail:
            body["detail"] = self.detail
        return body | self.members


class InvalidRequest(Problem):
    """400 with `errors`: a list of `{"field", "message"}`."""

    status, slug, title = 400, "invalid-request", "The request is not valid."

    def __init__(self, detail: str = "", errors: list[dict[str, str]] | None = None, **members: Any) -> None:
        super().__init__(detail, errors=errors or [], **members)

    @classmethod
    def field(cls, field: str, message: str) -> InvalidRequest:
        """One wrong field."""
        return cls(f"{field}: {message}", [{"field": field, "message": message}])


class TooMuchWork(InvalidRequest):
    slug, title = "too-much-work", "The parameters ask for more work than one request may cost."


class Unauthorized(Problem):
    status, slug, title = 401, "unauthorized", "A valid API key is needed."


class Forbidden(Problem):
    status, slug, title = 403, "forbidden", "This request is not allowed."


class NotFound(Problem):
    status, slug, title = 404, "not-found", "There is nothing here."


class MethodNotAllowed(Problem):
    status, slug, title = 405, "method-not-allowed", "This address does not take that method."


class NotAcceptable(Problem):
    status, slug, title = 406, "not-acceptable", "No form that the Accept header admits can be made."


class Conflict(Problem):
    status, slug, title = 409, "conflict", "The request conflicts with what is stored."


class PreconditionFailed(Problem):
    status, slug, title = 412, "precondition-failed", "The stored file is not the one that the request asks for."


class UploadTooLarge(Problem):
    status, slug, title = 413, "upload-too-large", "The upload is larger than this server takes."


class UriTooLong(Problem):
    status, slug, title = 414, "uri-too-long", "The address is too long."


class UnsupportedImage(Problem):
    status, slug, title = 415, "unsupported-image", "The upload is not an image of an accepted type."


class UnsupportedVideo(Problem):
    status, slug, title = 415, "unsupported-video", "The upload is not a video of an accepted type."


class RangeNotSatisfiable(Problem):
    status, slug, title = 416, "range-not-satisfiable", "The requested range lies outside the file."


class UnreadableImage(Problem):
    status, slug, title = 422, "unreadable-image", "The image is damaged and cannot be read."


class UnreadableVideo(Problem):
    status, slug, title = 422, "unreadable-video", "The video is damaged and cannot be read."


class VideoTooLong(Problem):
    status, slug, title = 422, "video-too-long", "The video is longer than this server takes."


class ImageTooLarge(Problem):
    status, slug, title = 422, "image-too-large", "The image has more pixels than this server takes."


class DetectorFailed(Problem):
    status, slug, title = 422, "detector-failed", "The detector broke down on this image."


class DetectorTooSlow(Problem):
    status, slug, title = 422, "detector-too-slow", "The detector did not finish in time and was stopped."


class UnusableCascade(Problem):
    status, slug, title = 422, "unusable-cascade", "The file is not a cascade that can be used here."


class RemoteFailed(Problem):
    status, slug, title = 422, "remote-failed", "The address gives no image."


class UnusableArchive(Problem):
    status, slug, title = 422, "unusable-archive", "The file is not a ZIP archive that can be used here."


class TooManyRequests(Problem):
    status, slug, title, retry_after_seconds = 429, "too-many-requests", "Too many requests at once.", 1


class HeadersTooLarge(Problem):
    status, slug, title = 431, "headers-too-large", "The request's headers are too large."


class InternalError(Problem):
    pass


class EngineUnavailable(Problem):
    status, slug, title = 501, "engine-unavailable", "This server cannot look with uploaded cascades."


class VideoUnavailable(Problem):
    status, slug, title = 501, "video-unavailable", "This server does not look at videos."


class Busy(Problem):
    status, slug, title, retry_after_seconds = 503, "busy", "Every detector is busy and the waiting line is full.", 1


class NoClassifier(Problem):
    status, slug, title, retry_after_seconds = 503, "no-classifier", "There is no classifier on this server.", 60


class BackendUnavailable(Problem):
    status, slug, title, retry_after_seconds = 503, "backend-unavailable", "A part this server needs is down.", 5


class RemoteTooSlow(Problem):
    status, slug, title, retry_after_seconds = 504, "remote-too-slow", "The address did not give its image in time.", 5


class WaitTooLong(Problem):
    status, slug, title, retry_after_seconds = 504, "wait-too-long", "The answer did not come in time.", 5


class StorageFull(Problem):
    status, slug, title, retry_after_seconds = 507, "storage-full", "There is no space left to store this.", 60
