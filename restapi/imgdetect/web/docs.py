"""The contract, `openapi.yaml`, for programs as a file and for people in Swagger UI and ReDoc.

Everything is served from here: no page links another host, and its Content-Security-Policy holds it to that.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

import yaml
from flasgger import Swagger
from flask import Blueprint, Flask, Response, current_app, make_response, render_template, request

from imgdetect.detection import sha256_of

View = Callable[..., Any]

# What both pages may do. Pictures that come back are shown from blob: addresses that the page itself makes.
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
# ReDoc writes its styles into the page and builds its search index in a worker that it makes itself.
_REDOC_POLICY = _POLICY | {"style-src": "'self' 'unsafe-inline'", "worker-src": "blob:"}


def find_contract() -> Path:
    """Where openapi.yaml is: in the installed package, or at the root of the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "openapi.yaml"
    return installed if installed.exists() else package.parents[1] / "openapi.yaml"


def register(app: Flask, openapi_path: Path | None = None) -> None:
    """Serve the contract and its pages: /openapi.yaml, /openapi.json, /apidocs/, /docs and /redoc.

    Args:
        app: an application whose templates and static files are those of this package.
        openapi_path: the contract; `find_contract()` when None.
    Raises:
        OSError: the contract cannot be read.
    """
    _register_swagger_ui(app)
    app.register_blueprint(_contract_blueprint(openapi_path or find_contract()))


def _register_swagger_ui(app: Flask) -> None:
    """flasgger's Swagger UI, with our templates and our contract instead of one scraped from the views."""
    config = Swagger.DEFAULT_CONFIG | {
        "openapi": "3.0.3",
        "specs": [],
        "oauth_redirect": "/apidocs/oauth2-redirect.html",
    }
    Swagger(app, config=config, decorators=[_under(_POLICY)])
    # flasgger wraps it on the instance to read type hints of later views; ours describe themselves in the contract.
    vars(app).pop("add_url_rule", None)


def _contract_blueprint(path: Path) -> Blueprint:
    blueprint = Blueprint("docs", __name__)
    source = path.read_bytes()

    @cache
    def as_json() -> bytes:
        return json.dumps(yaml.safe_load(source), ensure_ascii=False).encode()

    @blueprint.get("/openapi.yaml")
    def openapi_yaml() -> Response:
        return _file(source, "application/yaml")

    @blueprint.get("/openapi.json")
    def openapi_json() -> Response:
        return _file(as_json(), "application/json")

    @blueprint.get("/docs")
    def docs() -> Any:
        """Swagger UI under the address that clients of other servers know."""
        return current_app.view_functions["flasgger.apidocs"]()

    @blueprint.get("/redoc")
    @_under(_REDOC_POLICY)
    def redoc() -> str:
        return render_template("redoc.html")

    return blueprint


def _file(content: bytes, media_type: str) -> Response:
    answer = Response(content, content_type=media_type)
    answer.headers["Cache-Control"] = "no-cache"
    answer.set_etag(sha256_of(content)[:32])
    answer.make_conditional(request)
    return answer


def _under(policy: dict[str, str]) -> Callable[[View], View]:
    """Give the answers of a view a Content-Security-Policy."""
    value = "; ".join(f"{name} {sources}" for name, sources in policy.items())

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Response:
            answer = make_response(view(*args, **kwargs))
            answer.headers["Content-Security-Policy"] = value
            answer.headers["X-Content-Type-Options"] = "nosniff"
            answer.headers["Cache-Control"] = "no-cache"
            return answer

        return guarded

    return decorate
