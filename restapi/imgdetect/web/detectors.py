"""What can be looked for: the server's detectors, and those that the key at hand made of cascades of its own."""

from __future__ import annotations

from flask import Blueprint, Response, g, jsonify, request
from werkzeug.datastructures import FileStorage

from imgdetect import documents
from imgdetect.errors import InvalidRequest
from imgdetect.parameters import CascadeParameters
from imgdetect.web import parameters
from imgdetect.web.api import refuse_unknown_parameters, require_key
from imgdetect.web.parts import parts

blueprint = Blueprint("detectors", __name__, url_prefix=f"{documents.BASE}/detectors")
blueprint.before_request(require_key)
blueprint.before_request(refuse_unknown_parameters)
_FIELD = "cascade"


@blueprint.get("")
def list_detectors() -> Response:
    """The server's detectors, then the key's own."""
    service = parts().service
    found = [documents.detector_document(detector) for _, detector in sorted(service.detectors.items())]
    found += [documents.detector_document(own.detector, own.cascade) for own in service.cascades.all_of(g.owner)]
    return jsonify(detectors=found, default=service.settings.default_detector)


@blueprint.post("")
def upload_cascade() -> Response:
    """Make a detector of a cascade."""
    cascades = parts().service.cascades
    cascades.admit(g.owner)
    own = cascades.add(_received(), parameters.read_form(CascadeParameters, request), g.owner)
    answer = jsonify(documents.detector_document(own.detector, own.cascade))
    answer.status_code = 201
    answer.headers["Location"] = documents.detector_path(own.cascade.name)
    return answer


@blueprint.get("/<name>")
def get_detector(name: str) -> Response:
    """One detector."""
    return jsonify(documents.detector_document(*parts().service.detector(name, g.owner)))


@blueprint.delete("/<name>")
def delete_detector(name: str) -> Response:
    """Remove a detector of the key's own."""
    parts().service.cascades.delete(name, g.owner)
    return jsonify(status="OK")


def _received() -> bytes:
    """The one file of the form.

    Raises:
        InvalidRequest: there is none, more than one, or one in another field.
    """
    files = [(name or "", file) for name, given in request.files.lists() for file in given]
    for name, _ in files:
        if name != _FIELD:
            raise InvalidRequest.field(name[:80], f"there is no such file field; the cascade goes into {_FIELD!r}")
    if len(files) > 1:
        raise InvalidRequest.field(_FIELD, "was given more than once; send one cascade a request")
    if not files:
        raise InvalidRequest.field(_FIELD, "is missing; send the file as multipart/form-data in this field")
    file: FileStorage = files[0][1]
    data: bytes = file.read()
    return data
