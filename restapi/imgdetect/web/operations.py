"""For those who run the server: is it alive, is it ready, what has it done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from flask import Blueprint, Response, current_app, jsonify

from imgdetect import logs, metrics
from imgdetect.errors import BackendUnavailable
from imgdetect.jobs import Jobs
from imgdetect.service import DetectionService
from imgdetect.web.parts import parts

log = logs.get_logger(__name__)
blueprint = Blueprint("operations", __name__)
# Asked for by address rather than by name, and too often for the log.
OPEN_TO_PROBES = {"operations.healthz", "operations.readyz", "operations.metrics_page"}
_KEPT_SECONDS = 2.0
# Without them the server is slower, or does later what it is asked for.
DISPENSABLE = {"cache", "queue"}


class Readiness:
    """The last result of asking every backend; asked again after two seconds, by one request at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self._checks: dict[str, str] = {}

    def get(self, service: DetectionService, jobs: Jobs) -> dict[str, str]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._checks = {
                    "database": _ask("database", service.database.check),
                    "storage": _ask("storage", service.storage.check),
                    "cache": _ask("cache", service.results.check),
                    "queue": _ask("queue", jobs.queue.check),
                }
                self._until = time.monotonic() + _KEPT_SECONDS
            return self._checks


def _ask(name: str, check: Callable[[], None]) -> str:
    try:
        check()
    except Exception:
        log.warning("backend does not answer", backend=name, exc_info=True)
        return "failed"
    return "OK"


@blueprint.get("/healthz")
def healthz() -> Response:
    """This process answers."""
    return jsonify(status="OK")


@blueprint.get("/readyz")
def readyz() -> Response:
    """Every backend that is needed really answers."""
    checks = current_app.extensions["imgdetect.readiness"].get(parts().service, parts().jobs)
    failed = [name for name, state in checks.items() if state == "failed"]
    if needed := [name for name in failed if name not in DISPENSABLE]:
        raise BackendUnavailable(f"No answer from the {' and '.join(needed)}.", checks=checks)
    return jsonify(status="degraded" if failed else "OK", checks=checks)


@blueprint.get("/metrics")
def metrics_page() -> Response:
    """Prometheus' text format, of all processes of this server together."""
    pool = parts().service.pool
    metrics.slots_busy.set(pool.busy)
    metrics.line_waiting.set(pool.waiting)
    return Response(metrics.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")
