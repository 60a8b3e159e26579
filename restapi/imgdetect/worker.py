"""`imgdetect worker`: does the jobs that servers hand to a broker.

worker      this process: housekeeping, health and metrics; it starts the consumer, and again when that is lost
consumer    takes ids from the broker; it forks, so it has no threads
children    of the consumer: each does one job at a time, and shares the nursery with the others
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from types import ModuleType

from imgdetect import config, logs, queues
from imgdetect.backends import BackendUrl, module, parse
from imgdetect.batches import Batches
from imgdetect.config import Settings
from imgdetect.equipment import prove
from imgdetect.housekeeping import Housekeeping
from imgdetect.jobs import Jobs
from imgdetect.service import DetectionService
from imgdetect.videos import work_seconds
from imgdetect.web import create_status_app
from imgdetect.web.auth import Gate
from imgdetect.web.parts import Parts
from imgdetect.web.status import StatusServer

log = logs.get_logger(__name__)
# What a job takes besides waiting for a slot and the look itself: the storage, the database.
_BESIDES_SECONDS = 30.0
_LOOK_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


def consumer_module(settings: Settings) -> tuple[ModuleType, BackendUrl]:
    """The module of a queue that other processes work for.

    Raises:
        ValueError: the settings name no such queue.
    """
    url = parse(settings.queue_url)
    backend = module(queues, url)
    if not hasattr(backend, "serve"):
        raise ValueError(
            f"IMGDETECT_QUEUE_URL: the servers do the jobs of {url.scheme}: themselves; workers need a broker, for"
            " example celery+redis://HOST:6379/0"
        )
    return backend, url


def consume(concurrency: int) -> None:
    """The life of the consumer."""
    worker = os.getppid()
    # It outlives a worker that is killed for as long as the jobs at hand need. (Celery's own function for this kills.)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    tempfile.tempdir = config.metrics_dir()  # what it leaves behind when it is killed is removed by the worker
    settings = worker_settings(config.load(), concurrency)
    logs.configure(settings.log_format, settings.log_level)
    backend, url = consumer_module(settings)

    def open_run() -> Callable[[str], None]:
        return Jobs(DetectionService.open(settings, proven=True), settings.queue_url).run

    limit_seconds = max(2 * settings.deadline_seconds, work_seconds(settings.max_video_seconds)) + _BESIDES_SECONDS
    code = backend.serve(url.target, url.parameters, open_run, concurrency=concurrency, limit_seconds=limit_seconds)
    if os.getppid() != worker:  # it was killed, and nobody else is left to tidy up
        config.remove_shared_folder()
    sys.exit(code)


def worker_settings(settings: Settings, concurrency: int) -> Settings:
    """The settings with a line in which every job at once finds a place."""
    return settings.model_copy(update={"waiting_line": max(settings.waiting_line, concurrency)})


class Consumer:
    """The process that takes ids from the broker."""

    def __init__(self, concurrency: int) -> None:
        self._code = (
            f"import sys; sys.path[:] = {sys.path!r}; from imgdetect.worker import consume; consume({concurrency})"
        )
        self._process = self._start()

    def look_after(self) -> None:
        """Start it again when it has ended."""
        if self._process.poll() is not None:
            log.error("consumer lost; started again", exit_code=self._process.returncode)
            self._process = self._start()

    def close(self) -> None:
        """Let it finish, or give back, the jobs at hand; it bounds the time itself."""
        self._process.terminate()
        self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        # Our own interpreter and code, and no shell. In a session of its own, so that the terminal's Ctrl-C is ours.
        return subprocess.Popen([sys.executable, "-c", self._code], start_new_session=True)  # noqa: S603


def run(settings: Settings, concurrency: int, bind: str | None) -> None:
    """Work until SIGTERM or SIGINT.

    Args:
        concurrency: jobs at once.
        bind: HOST:PORT of /healthz, /readyz and /metrics; None for none.
    Raises:
        ValueError, Problem: a setting names something that is not there.
    """
    settings = worker_settings(settings, concurrency)
    consumer_module(settings)
    prove(settings)
    logs.configure(settings.log_format, settings.log_level)  # only now: what migrates the database says too much
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *unused: stop.set())
    service = DetectionService.open(
        settings, proven=True
    )  # a member of the nursery, which so outlives the consumer's children
    jobs = Jobs(service, settings.queue_url)
    parts = Parts(
        *(service, jobs, Gate(settings), Housekeeping(service, jobs)),
        *(Batches(service, jobs), threading.Semaphore()),
    )
    parts.housekeeping.start()
    try:
        status = StatusServer(create_status_app(parts), bind) if bind else None
        consumer = Consumer(concurrency)
        log.info("working", concurrency=concurrency, status=bind)
        while not stop.wait(_LOOK_SECONDS):
            consumer.look_after()
        consumer.close()
        if status:
            status.close()
    finally:
        parts.close()
