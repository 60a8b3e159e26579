"""The HTTP way in."""

from __future__ import annotations

import importlib
import re
import time
import uuid
from threading import Semaphore

from flask import Flask, Response, current_app, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from imgdetect import config, logs, metrics
from imgdetect.batches import Batches
from imgdetect.config import Settings
from imgdetect.errors import NotFound
from imgdetect.housekeeping import Housekeeping
from imgdetect.jobs import Jobs
from imgdetect.service import DetectionService
from imgdetect.web import (
    api,
    batches,
    bodies,
    detectors,
    dialects,
    docs,
    export,
    feedback,
    operations,
    pages,
    problems,
    process,
    videos,
)
from imgdetect.web.auth import Gate
from imgdetect.web.parts import Parts

log = logs.get_logger("imgdetect.access")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_ARCHIVES_AT_ONCE = 4
_EXPOSED = "Location, Link, Content-Location, ETag, Retry-After, Preference-Applied, X-Request-ID"
_CORS_HEADERS = "Content-Type, X-API-Key, Authorization, Prefer, Idempotency-Key, If-None-Match, Range"


def create_app(settings: Settings | None = None) -> Flask:
    """Build the application and the service behind it. `Parts.close` ends both.

    Raises:
        config.SettingsError, ValueError: a setting is wrong.
    """
    settings = settings or config.load()
    app = Flask("imgdetect.web", static_folder="static", static_url_path="/static")
    app.request_class = bodies.Request
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes + bodies.FORM_OVERHEAD_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = bodies.FORM_TEXT_BYTES
    app.config["MAX_FORM_PARTS"] = bodies.MAX_FORM_PARTS
    bodies.sweep(settings.effective_spool_dir)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # Gunicorn's master, which makes that folder, has migrated the database before it started its processes. One that
    # is started later, in the place of another, must not depend on the database being there at that moment.
    service = DetectionService.open(settings, proven=settings.pool_dir is not None)
    jobs = Jobs(service, settings.queue_url)
    gate = Gate(settings)
    app.extensions["imgdetect"] = Parts(
        *(service, jobs, gate, Housekeeping(service, jobs)),
        *(Batches(service, jobs), Semaphore(_ARCHIVES_AT_ONCE)),
    )
    app.extensions["imgdetect.readiness"] = operations.Readiness()
    if settings.trusted_proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, settings.trusted_proxies, settings.trusted_proxies)  # type: ignore[method-assign]
    app.before_request(_begin)
    if settings.rate_limit:  # who does not want it does not pay for it
        importlib.import_module("imgdetect.web.limits").register(app, settings, gate)
    app.before_request(_admit)
    app.after_request(_finish)
    problems.register(app)
    app.register_blueprint(api.blueprint)
    app.register_blueprint(api.jobs_blueprint)
    app.register_blueprint(videos.blueprint)
    app.register_blueprint(videos.made_blueprint)
    app.register_blueprint(batches.blueprint)
    app.register_blueprint(batches.results_blueprint)
    app.register_blueprint(detectors.blueprint)
    app.register_blueprint(export.blueprint)
    app.register_blueprint(process.blueprint)
    app.register_blueprint(feedback.blueprint)
    app.register_blueprint(operations.blueprint)
    app.register_blueprint(pages.blueprint)
    dialects.register(app)
    docs.register(app)
    jobs.queue.work()
    app.extensions["imgdetect"].housekeeping.start()
    return app


def create_status_app(parts: Parts) -> Flask:
    """An application that only tells how a process is, for one that serves no clients."""
    app = Flask("imgdetect.web", static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.extensions["imgdetect"] = parts
    app.extensions["imgdetect.readiness"] = operations.Readiness()
    app.before_request(_begin)
    app.after_request(_finish)
    problems.register(app)
    app.register_blueprint(operations.blueprint)
    return app


def _begin() -> None:
    """Give the request its id."""
    g.started = time.perf_counter()
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    logs.bind_request(g.request_id)


def _admit() -> Response | None:
    """Turn away what may not come in at all."""
    gate: Gate = current_app.extensions["imgdetect"].gate
    if request.endpoint not in operations.OPEN_TO_PROBES:
        gate.refuse_strangers(request)
    if "\0" in request.path:  # no name has one, and PostgreSQL will not even be asked for it
        raise NotFound()
    preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    if preflight and gate.allows_origin(request.headers.get("Origin")):
        answer = Response(status=204)
        answer.headers["Access-Control-Allow-Methods"] = "GET, HEAD, POST, DELETE, OPTIONS"
        answer.headers["Access-Control-Allow-Headers"] = _CORS_HEADERS
        answer.headers["Access-Control-Max-Age"] = "600"
        return answer
    return None


def _finish(answer: Response) -> Response:
    """What every answer carries, and the line it leaves in the log."""
    headers = answer.headers
    headers["X-Request-ID"] = g.get("request_id", "")
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
    headers.setdefault("Cache-Control", "no-store")
    gate: Gate = current_app.extensions["imgdetect"].gate
    if gate.has_origins:
        answer.vary.add("Origin")
        origin = request.headers.get("Origin")
        if gate.allows_origin(origin):
            headers["Access-Control-Allow-Origin"] = str(origin)
            headers["Access-Control-Expose-Headers"] = _EXPOSED
    seconds = time.perf_counter() - g.get("started", time.perf_counter())
    endpoint = request.url_rule.rule if request.url_rule else "none"
    metrics.requests_total.labels(request.method, endpoint, answer.status_code).inc()
    metrics.request_seconds.labels(request.method, endpoint).observe(seconds)
    if request.endpoint not in operations.OPEN_TO_PROBES:
        log.info(
            "request",
            method=request.method,
            path=request.path,
            status=answer.status_code,
            ms=round(seconds * 1000, 1),
            remote=request.remote_addr,
        )
    return answer
