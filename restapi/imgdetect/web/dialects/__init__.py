"""Other servers' HTTP contracts, so that their clients can be pointed at this one; docs/dialects.md is their table.

Each is one file: a thin translation onto the service, with the original's addresses, answers and error bodies.
"""

from __future__ import annotations

import json

from flask import Flask, Response, request

from imgdetect.web.dialects import analysis, classifier, deepstack, images, inference, web_form
from imgdetect.web.dialects._dialect import Dialect

DIALECTS: tuple[Dialect, ...] = (
    deepstack.DIALECT,
    analysis.DIALECT,
    images.DIALECT,
    classifier.DIALECT,
    web_form.DIALECT,
    inference.DIALECT,
)


def register(app: Flask) -> None:
    """Serve every dialect."""
    for dialect in DIALECTS:
        app.register_blueprint(dialect.blueprint)
    app.after_request(_translate)


def _translate(answer: Response) -> Response:
    """Tell a problem in the words of the dialect that was spoken to; whoever it comes from, Flask and bugs included."""
    if answer.mimetype == "application/problem+json":
        for dialect in DIALECTS:
            if dialect.speaks.match(request.path):
                answer.status_code, body = dialect.told(json.loads(answer.get_data()))
                answer.set_data(json.dumps(body))
                answer.content_type = "application/json"
                break
    return answer
