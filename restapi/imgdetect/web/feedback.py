"""What people say of detections, and how precise that makes each detector."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, g, jsonify, request

from imgdetect import documents
from imgdetect.clock import now_us
from imgdetect.detection import Box, Detection, Feedback, Record, result_from_dict
from imgdetect.errors import InvalidRequest, NotFound
from imgdetect.parameters import FeedbackParameters
from imgdetect.records import new_id
from imgdetect.web import json_bodies, parameters
from imgdetect.web.api import must_accept_json, refuse_unknown_parameters, require_key
from imgdetect.web.parts import parts

blueprint = Blueprint("feedback", __name__)
blueprint.before_request(require_key)
blueprint.before_request(refuse_unknown_parameters)
_MOST = 2000  # of one image


@blueprint.post(f"{documents.BASE}/image/<record_id>/feedback")
def give_feedback(record_id: str) -> Response:
    """Say that detections are right, that one is wrong, or that one is missing."""
    must_accept_json()
    service = parts().service
    json_bodies.read_parameters(request)
    asked = parameters.read(FeedbackParameters, request)
    record = service.records.get(record_id, g.owner)
    rows = _rows(record, asked)
    if rows:
        service.database.verdicts.add(rows, _MOST)
    answer = jsonify(status="OK", feedback=[documents.feedback_document(row) for row in rows])
    answer.status_code = 201
    answer.headers["Location"] = f"{documents.image_path(record.id)}/feedback"
    return answer


@blueprint.get(f"{documents.BASE}/image/<record_id>/feedback")
def list_feedback(record_id: str) -> Response:
    """All that was said of an image, the oldest first."""
    service = parts().service
    record = service.records.get(record_id, g.owner)
    said = service.database.verdicts.of([record.id], g.owner)
    return jsonify(feedback=[documents.feedback_document(row) for row in said])


@blueprint.get("/api/v1/feedback/summary")
def summarise_feedback() -> Response:
    """How often each detector was right."""
    table: dict[str, dict[str, Any]] = {}
    for count in parts().service.database.verdicts.counts(g.owner):
        zeros = {"detector": count.detector, "correct": 0, "false_positive": 0, "missed": 0}
        table.setdefault(count.detector, zeros)[count.verdict] = count.boxes
    for row in table.values():
        judged = row["correct"] + row["false_positive"]
        row["precision"] = round(row["correct"] / judged, 4) if judged else None
    return jsonify(detectors=list(table.values()))


def _rows(record: Record, asked: FeedbackParameters) -> list[Feedback]:
    """What is said, one row for each box."""
    found = result_from_dict(record.result).detections
    plain = Feedback(new_id(), g.owner, record.id, now_us(), asked.verdict, record.detector, note=asked.note)
    if asked.detection is not None:
        if asked.detection >= len(found):
            raise NotFound(f"This image has {len(found)} detections, counted from 0.")
        return [_about(plain, found[asked.detection])]
    if asked.verdict == "missed":
        assert asked.box is not None
        box = Box(*asked.box)
        if box.x + box.width > record.width or box.y + box.height > record.height:
            raise InvalidRequest.field(
                "box", f"should lie in the image, which is {record.width}x{record.height} pixels"
            )
        return [replace(plain, class_name=asked.class_name, **vars(box))]
    # The rest of the detections is right; those that were judged one by one keep their verdict.
    judged = {row.what for row in parts().service.database.verdicts.of([record.id], g.owner)}
    rows = [_about(replace(plain, id=new_id()), detection) for detection in found]
    rows = list({row.what: row for row in rows if row.what not in judged}.values())
    return rows if rows or found else [plain]


def _about(row: Feedback, detection: Detection) -> Feedback:
    return replace(row, detector=detection.detector, class_name=detection.class_name, **vars(detection.box))
