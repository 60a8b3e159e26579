"""Stored detections in the forms that training programs read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlencode

from flask import Blueprint, Response, g, request

from imgdetect import documents, exports
from imgdetect.clock import now_us
from imgdetect.errors import Busy
from imgdetect.parameters import ExportParameters
from imgdetect.service import DetectionService
from imgdetect.web import parameters
from imgdetect.web.api import require_key
from imgdetect.web.parts import parts

blueprint = Blueprint("export", __name__, url_prefix=f"{documents.BASE}/export")
blueprint.before_request(require_key)
_AT_ONCE = 20  # records that are read together; each may have a thousand masks


@blueprint.get("")
def export_detections() -> Response:
    """The detections of the owner's images, newest first."""
    service = parts().service
    asked = parameters.read(ExportParameters, request)
    before = documents.place_of(asked.cursor) if asked.cursor is not None else None
    places = service.database.record_places(g.owner, asked.limit + 1, before, asked.since_us, asked.until_us)
    items: Iterator[exports.Item] = _items(service, [place[1] for place in places[: asked.limit]], g.owner)
    if asked.corrected:
        items = map(exports.corrected, items)
    classes = exports.Classes(asked.classes)
    now = datetime.fromtimestamp(now_us() / 1e6, UTC)
    date = (now.year, now.month, now.day, now.hour, now.minute, now.second)
    if not parts().downloads.acquire(blocking=False):
        raise Busy("As many archives as this server sends at once are on their way.")
    try:
        if asked.format == "coco":
            answer = Response(exports.coco(items, classes), content_type="application/json")
            name = "detections.json"
        else:
            made = exports.ARCHIVES[asked.format](items, classes, date)
            answer = Response(made, content_type="application/zip")
            name = f"detections-{asked.format}.zip"
    except BaseException:
        parts().downloads.release()
        raise
    answer.call_on_close(parts().downloads.release)
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    if len(places) > asked.limit:
        last = documents.cursor_at(*places[asked.limit - 1])
        query = urlencode({name: text for name, text in request.args.items() if name != "cursor"} | {"cursor": last})
        answer.headers["Link"] = f'<{documents.BASE}/export?{query}>; rel="next"'
    return answer


def _items(service: DetectionService, ids: list[str], owner: str) -> Iterator[exports.Item]:
    """Records in the order of some ids, with what was said of them; what was deleted meanwhile is passed over."""
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        found = service.database.get_records(some, owner)
        said = service.database.verdicts.of(some, owner)
        for record_id in some:
            if record_id in found:
                yield found[record_id], [row for row in said if row.record_id == record_id]
