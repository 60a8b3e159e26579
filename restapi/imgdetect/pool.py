"""Child processes that do the native work and can be killed without harming anyone else.

Native code cannot be interrupted in a thread, and a crash in it takes its whole process along. So each picture is
looked at in a child of the nursery: a child that does not answer in time is killed
and replaced, one that dies fails only its own picture.

Pictures are admitted in the order they came, each when a child is free and the pixels in work leave room for it, so
that several large pictures at once wait for each other instead of adding up in memory.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from imgdetect import logs
from imgdetect.errors import Busy, DetectorFailed, DetectorTooSlow, Problem
from imgdetect.nursery import Build, Crash, Nursery

log = logs.get_logger(__name__)


class _Child:
    """One process of the nursery and the pipe to it; the process may change, the child stays."""

    def __init__(self, nursery: Nursery) -> None:
        self._nursery = nursery
        self._pid = 0
        self._pipe: Connection | None = None

    def start(self) -> Connection:
        """Start the process if there is none; returns the pipe to it."""
        if self._pipe is None:
            self._pid, self._pipe = self._nursery.fork()
        return self._pipe

    def ask(self, method: str, arguments: tuple[Any, ...], timeout_seconds: float) -> Any:
        """The answer of a call.

        Raises:
            TimeoutError: none came in time.
            EOFError, OSError: the process died.
        """
        pipe = self.start()
        pipe.send((method, arguments))
        if not pipe.poll(timeout_seconds):
            raise TimeoutError
        return pipe.recv()

    def kill(self) -> int | None:
        """Kill the process and wait until it is gone; returns its exit code."""
        return self._nursery.kill(self._pid) if self._pipe else None

    def end(self) -> int | None:
        """Kill the process and close the pipe; returns the exit code."""
        exit_code = self.kill()
        if self._pipe:
            self._pipe.close()
            self._pipe = None
        return exit_code


class ProcessPool:
    """A fixed number of children and a bounded line in front of them.

    Args:
        build: what each child makes at its start.
        size: how many children.
        waiting_line: how many callers may wait for a child; one more is told Busy at once.
        max_pixels: pixels in work at once; a single picture is always admitted.
        deadline_seconds: longest time to wait for a child, and longest time a child may work on one call.
        memory_bytes: address space of a child.
        on_replaced: told the reason whenever a child had to be replaced: "deadline" or "died".
    """

    def __init__(
        self,
        build: Build,
        *,
        size: int,
        waiting_line: int,
        max_pixels: int,
        deadline_seconds: float,
        memory_bytes: int = 4 << 30,
        on_replaced: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.size = size
        self._waiting_line = waiting_line
        self._max_pixels = max_pixels
        self._deadline_seconds = deadline_seconds
        self._on_replaced = on_replaced
        self._changed = threading.Condition()
        self._line: deque[object] = deque()
        self._pixels = 0
        self._busy: set[_Child] = set()
        self._closed = False
        self._nursery = Nursery(build, memory_bytes)
        self._free = [_Child(self._nursery) for _ in range(size)]
        for child in self._free:
            child.start()

    @property
    def busy(self) -> int:
        """Children at work."""
        return len(self._busy)

    @property
    def waiting(self) -> int:
        """Callers in the line."""
        return len(self._line)

    def run(self, pixels: int, method: str, *arguments: Any) -> Any:
        """Call a method of the children's object in a free child.

        Args:
            pixels: size of the picture, for admission.
        Raises:
            Busy: the line is full, or no child came free in time.
            DetectorTooSlow: the child was killed at the deadline.
            DetectorFailed: the child died, or the method raised something other than a Problem.
            Problem: what the method raised.
        """
        child = self._take(pixels)
        try:
            answer = self._ask(child, method, arguments)
        finally:
            self._give_back(child, pixels)
        if isinstance(answer, Crash):
            # Content must not be able to cause a 500, so whatever a library makes of it is the picture's fault.
            log.error("detector failed", method=method, cause=answer.text)
            raise DetectorFailed()
        if isinstance(answer, Problem):
            raise answer
        return answer

    def close(self) -> None:
        """End every child, at once; calls under way end with DetectorFailed, waiting ones with Busy."""
        with self._changed:
            self._closed = True
            for child in self._busy:
                child.kill()  # its caller finds the pipe closed
            while self._free:
                self._free.pop().end()
            self._nursery.close()
            self._changed.notify_all()

    def _take(self, pixels: int) -> _Child:
        """Wait in line for a free child."""
        until = time.monotonic() + self._deadline_seconds
        ticket = object()
        with self._changed:
            at_once = not self._line and self._may_go(pixels)
            if not at_once and len(self._line) >= self._waiting_line:
                raise Busy()
            self._line.append(ticket)
            try:
                while not (self._line[0] is ticket and self._may_go(pixels)):
                    if self._closed or not self._changed.wait(until - time.monotonic()):
                        raise Busy()
                child = self._free.pop()
            finally:
                self._line.remove(ticket)
                self._changed.notify_all()
            self._busy.add(child)
            self._pixels += pixels
            return child

    def _may_go(self, pixels: int) -> bool:
        return bool(self._free) and (not self._busy or self._pixels + pixels <= self._max_pixels)

    def _give_back(self, child: _Child, pixels: int) -> None:
        with self._changed:
            self._busy.discard(child)
            self._pixels -= pixels
            if not self._closed:
                self._free.append(child)
            self._changed.notify_all()

    def _ask(self, child: _Child, method: str, arguments: tuple[Any, ...]) -> Any:
        """Have a child do a call; the process of one that does not answer is replaced."""
        problem: Problem
        try:
            return child.ask(method, arguments, self._deadline_seconds)
        except TimeoutError:
            reason = "deadline"
            problem = DetectorTooSlow(
                f"The work was stopped after {self._deadline_seconds:g} s. A larger scale_factor or min_size, a roi or"
                " fewer rotations make it quicker.",
                deadline_seconds=self._deadline_seconds,
            )
        except (EOFError, OSError):
            reason, problem = "died", DetectorFailed()
            if self._closed:
                raise Busy() from None
        except BaseException:
            child.end()  # half an answer may be in its pipe
            raise
        log.error("child replaced", reason=reason, method=method, exit_code=child.end())
        self._on_replaced(reason)
        if not self._closed:
            with suppress(OSError):  # tried again at the next call
                child.start()
        return problem
