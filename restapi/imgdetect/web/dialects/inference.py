"""The Open Inference Protocol v2, which clients of KServe and Triton speak: a network's own tensors, as JSON."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request

from imgdetect import __version__
from imgdetect.detectors import onnx
from imgdetect.errors import NotFound
from imgdetect.web import operations
from imgdetect.web.api import require_key
from imgdetect.web.dialects._dialect import Dialect, Problem, sentence
from imgdetect.web.parts import parts

blueprint = Blueprint("inference", __name__, url_prefix="/v2")
blueprint.before_request(require_key)
_VERSIONS = ["1"]
_PLATFORM = "onnxruntime_onnx"
# What is wrong with a tensor is a bad request in this protocol.
_STATUSES = {406: 400, 415: 400, 422: 400}
# A number takes about so many characters; tensors wait for room as pictures of as many pixels do.
_CHARACTERS = 8


@blueprint.get("")
def server() -> Response:
    """What this server is."""
    return jsonify(name="imgdetect", version=__version__, extensions=[])


@blueprint.get("/health/live")
def live() -> Response:
    """This process answers."""
    return jsonify(live=True)


@blueprint.get("/health/ready")
def ready() -> tuple[Response, int]:
    """Every backend that is needed answers."""
    checks = current_app.extensions["imgdetect.readiness"].get(parts().service, parts().jobs)
    failed = {name for name, state in checks.items() if state == "failed"} - operations.DISPENSABLE
    return jsonify(ready=not failed), 503 if failed else 200


@blueprint.get("/models/<name>")
def model(name: str) -> Response:
    """The inputs and outputs of a network."""
    file = _network(name).session.file
    return jsonify(
        name=name,
        versions=_VERSIONS,
        platform=_PLATFORM,
        inputs=[onnx.described(tensor) for tensor in file.inputs],
        outputs=[onnx.described(tensor) for tensor in file.outputs],
    )


@blueprint.get("/models/<name>/ready")
def model_ready(name: str) -> Response:
    """The network is there; one that does not work keeps the server from starting."""
    return jsonify(name=_network(name).name, ready=True)


@blueprint.post("/models/<name>/infer")
def infer(name: str) -> Response:
    """What a network makes of a tensor. A child reads and writes the JSON, which may be large and hostile."""
    network = _network(name)
    body = request.get_data(cache=False)
    answer = parts().service.pool.run(1 + len(body) // _CHARACTERS, "infer", network.name, body)
    return Response(answer, content_type="application/json")


def _network(name: str) -> onnx.OnnxDetector:
    detectors = parts().service.detectors
    if isinstance(found := detectors.get(name), onnx.OnnxDetector):
        return found
    known = [own for own, detector in sorted(detectors.items()) if isinstance(detector, onnx.OnnxDetector)]
    raise NotFound(f"there is no network {name[:64]!r}; there are: {', '.join(known) or 'none'}")


def _told(problem: Problem) -> tuple[int, Any]:
    status = int(problem["status"])
    return _STATUSES.get(status, status), {"error": sentence(problem)}


DIALECT = Dialect(blueprint, re.compile("/v2(/|$)"), _told)
