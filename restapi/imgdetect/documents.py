"""The JSON documents of the API."""

from __future__ import annotations

import base64
import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from imgdetect.detection import DetectOptions, Feedback, Job, Outcome, Record, Upload, UploadedCascade
from imgdetect.detectors import Detector
from imgdetect.errors import InvalidRequest

BASE = "/api/v1/objectdetection"


def _time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def image_path(record_id: str) -> str:
    """The address of a record."""
    return f"{BASE}/image/{record_id}"


def job_path(job_id: str) -> str:
    """The address of a job."""
    return f"/api/v1/jobs/{job_id}"


def record_document(record: Record) -> dict[str, Any]:
    """What is kept of an upload."""
    path = image_path(record.id)
    links = {"self": path, "detections": f"{path}/detections", "processed": f"{path}/processed"}
    image = {
        "id": record.id,
        "filename": record.filename,
        "width": record.width,
        "height": record.height,
        "media_type": record.media_type,
        "sha256": record.sha256,
        "created_at": _time(record.created_at),
        "links": links,
    }
    return {"status": "OK", "image": image} | _found(record.parameters, record.result)


def upload_document(record: Record, *, cached: bool, total_ms: float) -> dict[str, Any]:
    """What an upload is answered."""
    return record_document(record) | _effort(record.result, cached=cached, total_ms=total_ms)


def look_document(upload: Upload, outcome: Outcome, *, cached: bool, total_ms: float) -> dict[str, Any]:
    """What was seen in an upload that is not stored."""
    image = {
        "filename": upload.filename,
        "width": upload.width,
        "height": upload.height,
        "media_type": upload.media_type,
        "sha256": upload.sha256,
    }
    result = asdict(outcome.result) | {"engine": outcome.engine, "timings_ms": outcome.timings_ms}
    body = {"status": "OK", "image": image} | _found(outcome.parameters, result)
    return body | _effort(result, cached=cached, total_ms=total_ms)


def _found(parameters: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    width, height = result["working_size_wh"]
    # What was kept by an earlier release lacks the options that have come since.
    parameters = asdict(DetectOptions("")) | parameters
    return {
        "detector": parameters["detector"],
        "engine": result["engine"],
        "parameters": parameters,
        "detections": [detection_document(detection) for detection in result["detections"]],
        "found": result["found"],
        "classes": result["classes"],
        "working_size": {"width": width, "height": height},
        "near_misses": result["near_misses"],
    }


def detection_document(detection: dict[str, Any]) -> dict[str, Any]:
    """A detection; what a segmentation found of it is shown as COCO's datasets show it."""
    mask = detection.get("mask")
    shown = {name: value for name, value in detection.items() if name != "mask"}
    if mask:
        rle = {"size": [mask["height"], mask["width"]], "counts": mask["counts"]}
        shown["segmentation"] = {"polygons": mask["polygons"], "rle": rle}
    return shown


def _effort(result: dict[str, Any], *, cached: bool, total_ms: float) -> dict[str, Any]:
    return {"cached": cached, "timings_ms": result["timings_ms"] | {"total": round(total_ms, 3)}}


def job_document(job: Job) -> dict[str, Any]:
    """What is known of a job."""
    path, made = job_path(job.id), job.artifacts or {}
    batch = job.kind == "batch"
    links = {
        "self": path,
        "image": image_path(job.record_id) if job.record_id else None,
        "results": f"{path}/results" if batch else None,
        "archive": f"{path}/archive" if batch and job.finished_at else None,
    }
    links |= {name: f"{path}/{name}" if name in made else None for name in ("detections", "video", "original")}
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "created_at": _time(job.created_at),
        "attempts": job.attempts,
        "progress": _progress(job),
        "video": made["detections"]["summary"] if job.kind == "video" and made else None,
        "links": links,
        "problem": job.problem,
        "callback": {"state": job.callback_state or "waiting", "attempts": job.callback_attempts or 0}
        if job.callback_url
        else None,
    }


def result_document(job: Job, record: Record | None) -> dict[str, Any]:
    """What became of a picture of a batch.

    Args:
        record: what is kept of it; None before it is done, and once it was deleted.
    """
    body = {
        "position": job.position,
        "filename": job.filename,
        "state": job.state,
        "image_id": job.record_id,
        "problem": job.problem,
    }
    return body | ({"result": record_document(record)} if record else {})


def _progress(job: Job) -> dict[str, int] | None:
    if job.total is None:
        return None
    return {"total": job.total, "done": job.done or 0, "failed": job.failed or 0}


def feedback_document(said: Feedback) -> dict[str, Any]:
    """What was said of a box."""
    box = {side: getattr(said, side) for side in ("x", "y", "width", "height")}
    return {
        "id": said.id,
        "created_at": _time(said.created_at),
        "verdict": said.verdict,
        "detector": said.detector,
        "class_name": said.class_name,
        "box": None if said.x is None else box,
        "note": said.note,
    }


def detector_path(name: str) -> str:
    """The address of a detector."""
    return f"{BASE}/detectors/{name}"


def detector_document(detector: Detector, cascade: UploadedCascade | None = None) -> dict[str, Any]:
    """What is known of a detector.

    Args:
        cascade: its row, where the client uploaded it.
    """
    facts = detector.facts
    window = facts.window_wh
    return {
        "name": facts.name,
        "task": detector.task,
        "class_names": list(detector.class_names),
        "engine": facts.engine,
        "engine_version": facts.engine_version,
        "window": {"width": window[0], "height": window[1]} if window else None,
        "defaults": facts.defaults,
        "parameters": facts.parameters,
        "fingerprint": detector.fingerprint,
        "uploaded_at": _time(cascade.created_at) if cascade else None,
    }


def cursor_of(record: Record) -> str:
    """A cursor that names the place behind a record in a list."""
    return cursor_at(record.created_at, record.id)


def cursor_at(created_at: int, record_id: str) -> str:
    """A cursor that names the place behind a record, by its time and id."""
    return base64.urlsafe_b64encode(f"{created_at}:{record_id}".encode()).decode().rstrip("=")


def place_of(cursor: str) -> tuple[int, str]:
    """The inverse of `cursor_of`.

    Raises:
        InvalidRequest: we did not make this cursor.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        created_at, _, record_id = base64.urlsafe_b64decode(padded.encode("ascii")).decode("ascii").partition(":")
        place = int(created_at), record_id
    except ValueError:
        place = -1, ""
    if not (0 <= place[0] < 1 << 62 and re.fullmatch("[0-9a-f]{32}", place[1])):
        raise InvalidRequest.field("cursor", "should be the one that the answer before this gave under 'next'")
    return place
