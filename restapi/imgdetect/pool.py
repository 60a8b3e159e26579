"""Child processes that do the native work and can be killed without harming anyone else.

Native code cannot be interrupted in a thread, and a crash in it takes its whole process along. So each picture is
looked at in a child, forked from a warm single-threaded fork server: a child that does not answer in time is killed
and replaced, one that dies fails only its own picture.

Pictures are admitted in the order they came, each when a child is free and the pixels in work leave room for it, so
that several large pictures at once wait for each other instead of adding up in memory.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import resource
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any, NamedTuple

from imgdetect import logs
from imgdetect.errors import Busy, DetectorFailed, DetectorTooSlow, Problem

log = logs.get_logger(__name__)
_PR_SET_PDEATHSIG = 1


class Build(NamedTuple):
    """How a child makes the object whose methods it is asked for; all of it can be pickled."""

    factory: Callable[..., Any]
    arguments: tuple[Any, ...]
    first_call: tuple[Any, ...] = ()  # a method and its arguments, to be warm before the first request


class _Crash(NamedTuple):
    """What a child answers when the method raised something that nobody foresaw."""

    text: str


class _Child:
    """One process and the pipe to it; the process may change, the child stays."""

    def __init__(self, build: Build, memory_bytes: int) -> None:
        self._build = build
        self._memory_bytes = memory_bytes
        self._process: ForkServerProcess | None = None
        self._pipe: Connection | None = None

    def start(self) -> None:
        """Start the process if there is none."""
        if self._process is not None:
            return
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([self._build.factory.__module__])
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._build, self._memory_bytes), daemon=True)
        process.start()
        theirs.close()
        self._process, self._pipe = process, ours

    def ask(self, method: str, arguments: tuple[Any, ...], timeout_seconds: float) -> Any:
        """The answer of a call.

        Raises:
            TimeoutError: none came in time.
            EOFError, OSError: the process died.
        """
        self.start()
        assert self._pipe is not None
        self._pipe.send((method, arguments))
        if not self._pipe.poll(timeout_seconds):
            raise TimeoutError
        return self._pipe.recv()

    def kill(self) -> None:
        """Kill the process and leave the rest to whoever is asking it."""
        if self._process is not None:
            self._process.kill()

    def end(self) -> int | None:
        """Kill the process and wait until it is gone; returns its exit code."""
        if self._process is None or self._pipe is None:
            return None
        self._process.join(0.02)  # one that died by itself may tell why
        self._process.kill()
        self._process.join()
        exit_code = self._process.exitcode
        self._process.close()
        self._pipe.close()
        self._process = self._pipe = None
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
        self._free = [_Child(build, memory_bytes) for _ in range(size)]
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
        if isinstance(answer, _Crash):
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
                child.kill()
            for child in self._free:
                child.end()
            self._free.clear()
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
            if self._closed:
                child.end()
            else:
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


def _serve(pipe: Connection, build: Build, memory_bytes: int) -> None:
    """The life of a child: build the object, then answer calls until the pipe is closed."""
    # The terminal's Ctrl-C reaches the whole group; only the parent decides when a child ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A child in a native loop would not notice that its pipe is closed: the kernel ends it with the fork server.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    target = build.factory(*build.arguments)
    if build.first_call:
        method, *arguments = build.first_call
        getattr(target, method)(*arguments)
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        pipe.send(_answer(target, method, arguments))


def _answer(target: Any, method: str, arguments: list[Any]) -> Any:
    try:
        return getattr(target, method)(*arguments)
    except Problem as problem:
        return problem
    except Exception:
        return _Crash(traceback.format_exc())
