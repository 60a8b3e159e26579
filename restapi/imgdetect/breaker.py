"""Stops asking a server that is down, so that its absence costs one request its timeout and not every request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Breaker:
    """Open from a failure on; while it is open, one caller in every `rest_seconds` may try. Safe for many threads.

    Args:
        rest_seconds: how long the server is left alone after a failure.
        timer: a clock in seconds that never goes back.
    """

    def __init__(self, rest_seconds: float, timer: Callable[[], float] = time.monotonic) -> None:
        self._rest_seconds = rest_seconds
        self._timer = timer
        self._lock = threading.Lock()
        self._next_try = 0.0  # 0: closed

    def permits(self) -> bool:
        """Whether to ask the server now. Who is permitted has to say how it went."""
        if not self._next_try:
            return True
        with self._lock:
            if self._timer() < self._next_try:
                return False
            if self._next_try:  # nobody closed it meanwhile
                self._next_try = self._timer() + self._rest_seconds
            return True

    def failed(self) -> None:
        """The server did not answer."""
        with self._lock:
            self._next_try = self._timer() + self._rest_seconds

    def worked(self) -> None:
        """The server answered."""
        if self._next_try:
            with self._lock:
                self._next_try = 0.0
