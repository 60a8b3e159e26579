"""Runs each job at once, in the thread that submits it: `inline:`."""

from __future__ import annotations

import threading
from collections.abc import Callable

from imgdetect import errors
from imgdetect.backends import refuse_unknown


def create(target: str, parameters: dict[str, str], run: Callable[[str], None]) -> InlineQueue:
    """A queue without a line.

    Args:
        run: does the job of an id and never raises.
    Raises:
        ValueError: a target or a parameter is given.
    """
    refuse_unknown(parameters)
    if target:
        raise ValueError(f"the inline queue takes no target, but was given {target!r}")
    return InlineQueue(run)


class InlineQueue:
    """Has done a job when `submit` returns."""

    def __init__(self, run: Callable[[str], None]) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._running: set[str] = set()
        self._closed = False

    def submit(self, job_id: str) -> None:
        """Run a job; one that another thread is running is left to it."""
        with self._lock:
            if self._closed:
                raise errors.Busy("The server is shutting down.")
            if job_id in self._running:
                return
            self._running.add(job_id)
        try:
            self._run(job_id)
        finally:
            with self._lock:
                self._running.discard(job_id)

    def check(self) -> None:
        """Ids can always be handed over."""

    def work(self) -> None:
        """There is nothing to start."""

    def close(self) -> None:
        """Take no more jobs; those that run are finished by the threads that submitted them."""
        with self._lock:
            self._closed = True
