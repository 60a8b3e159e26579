"""Runs jobs in threads of this process: `threads:?workers=2&max_waiting=1000&close_seconds=30`."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from imgdetect import errors, logs
from imgdetect.backends import refuse_unknown

_LOOK_UP_SECONDS = 1.0
_log = logs.get_logger(__name__)


def create(target: str, parameters: dict[str, str], run: Callable[[str], None]) -> ThreadQueue:
    """A queue in memory with its own threads, which `work` starts.

    Args:
        parameters: `workers`, jobs at once (2, so that a long one leaves room); `max_waiting`, ids in the line (1000);
            `close_seconds`, how long `close` waits for running jobs (30).
        run: does the job of an id and never raises.
    Raises:
        ValueError: a target or an unknown or wrong parameter.
    """
    refuse_unknown(parameters, "workers", "max_waiting", "close_seconds")
    if target:
        raise ValueError(f"the thread queue takes no target, but was given {target!r}")
    workers = int(parameters.get("workers", 2))
    max_waiting = int(parameters.get("max_waiting", 1000))
    close_seconds = float(parameters.get("close_seconds", 30))
    if not 1 <= workers <= 64 or max_waiting < 1 or not 0 < close_seconds < float("inf"):
        raise ValueError("workers must be 1..64, max_waiting at least 1 and close_seconds positive")
    return ThreadQueue(run, workers, max_waiting, close_seconds)


class ThreadQueue:
    """First in, first out, and never the same id twice at once."""

    def __init__(self, run: Callable[[str], None], workers: int, max_waiting: int, close_seconds: float) -> None:
        self._run = run
        self._workers = workers
        self._max_waiting = max_waiting
        self._close_seconds = close_seconds
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._known: set[str] = set()  # waiting or running
        self._closed = False
        self._threads: list[threading.Thread] = []

    def submit(self, job_id: str) -> None:
        """Put an id into the line unless it waits or runs already; raises `errors.Busy` when the line is full."""
        with self._changed:
            if self._closed:
                raise errors.Busy("The server is shutting down.")
            if job_id in self._known:
                return
            if len(self._waiting) >= self._max_waiting:
                raise errors.Busy("The waiting line of jobs is full.")
            self._waiting.append(job_id)
            self._known.add(job_id)
            self._changed.notify()

    def check(self) -> None:
        """Ids can always be handed over."""

    def work(self) -> None:
        """Start the threads, once."""
        with self._changed:
            if self._threads or self._closed:
                return
            self._threads = [
                threading.Thread(target=self._serve, name=f"job-{number}") for number in range(self._workers)
            ]
            for thread in self._threads:
                thread.start()

    def close(self) -> None:
        """Drop the waiting ids, which the database has, and wait a bounded time for the running jobs."""
        with self._changed:
            self._closed = True
            self._known.difference_update(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        until = time.monotonic() + self._close_seconds
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    # A program that ends without closing its queue is not to hang for ever behind this thread.
                    if not threading.main_thread().is_alive():
                        return
                    self._changed.wait(_LOOK_UP_SECONDS)
                if self._closed:
                    return
                job_id = self._waiting.popleft()
            try:
                self._run(job_id)
            except Exception:
                # `run` never raises; should it, one job must not cost the thread that serves all others.
                _log.exception("a job raised instead of recording its failure", job_id=job_id)
            finally:
                with self._changed:
                    self._known.discard(job_id)
