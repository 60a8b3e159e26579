"""Child processes that do the native work and can be killed without harming anyone else.

Native code cannot be interrupted in a thread, and a crash in it takes its whole process along. So each picture is
looked at in a child of the nursery: a child that does not answer in time is killed and replaced, one that dies fails
only its own picture. All processes of a server share one nursery, so that no child is idle while a picture waits.

Pictures are admitted in the order they came, each when a child is free and the pixels in work leave room for it, so
that several large pictures at once wait for each other instead of adding up in memory.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from imgdetect import logs
from imgdetect.errors import BackendUnavailable, Busy, DetectorFailed, DetectorTooSlow, Problem
from imgdetect.nursery import MESSAGE_BYTES, Build, Crash, Limits, Said

log = logs.get_logger(__name__)


class ProcessPool:
    """A fixed number of children and a bounded line in front of them.

    Args:
        build: what every child serves.
        limits: how much may go on at once.
        folder: where the processes that share the children meet; None for children of our own.
        on_replaced: told the reason whenever a call cost a child: "deadline", "died" or "failed".
    Raises:
        ValueError: the object that the children serve could not be built.
    """

    def __init__(
        self,
        build: Build,
        limits: Limits,
        folder: Path | None = None,
        on_replaced: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._build = build
        self._limits = limits
        self._own_folder = None if folder else tempfile.mkdtemp(prefix="imgdetect-pool-")
        self._folder = folder or Path(str(self._own_folder))
        self._address = str(self._folder / "nursery.sock")
        self._on_replaced = on_replaced
        self._lock = threading.Lock()
        self._member: socket.socket | None = None
        self._closed = False
        try:
            self._join()
        except BaseException:
            self._remove_own_folder()
            raise

    @property
    def busy(self) -> int:
        """Children at work, for all processes that share them."""
        return self._state()[0]

    @property
    def waiting(self) -> int:
        """Callers in the line."""
        return self._state()[1]

    def run(self, pixels: int, method: str, *arguments: Any, meanwhile: Callable[[], None] | None = None) -> Any:
        """Call a method of the children's object in a free child.

        Args:
            pixels: size of the picture, for admission.
            meanwhile: called here while the child works; what it raises ends the work.
        Raises:
            Busy: the line is full, or no child came free in time.
            DetectorTooSlow: the child was killed at the deadline.
            DetectorFailed: the child died, or the method raised something other than a Problem.
            Problem: what the method raised.
        """
        control, pipe = self._borrow(b"look %d" % pixels)
        with control, pipe:
            with self._telling_why(control, method):
                pipe.send((method, arguments, 0))
            if meanwhile:
                meanwhile()
            answer = self._next(control, pipe, method)
            # A library that has failed once may fail ever after: it ran out of memory half-way, for example.
            spoilt = isinstance(answer, Crash | DetectorFailed)
            control.send(b"spoilt" if spoilt else b"done")
        if spoilt:
            self._on_replaced("failed")
        return _judged(answer, method)

    def watch(
        self, method: str, *arguments: Any, files: Sequence[int] = (), heard: Callable[[Any], None] = lambda said: None
    ) -> Any:
        """Call a generator of the children's object in a child that is made for it and ends with it.

        The deadline counts from each thing that it says.

        Args:
            files: descriptors of open files, which the method gets as its last arguments.
            heard: told what the generator yields; what it raises ends the work.
        Returns:
            What the generator returns.
        Raises:
            Busy: as many videos are watched already as may be at once.
            Problem: as `run`.
        """
        control, pipe = self._borrow(b"watch")
        with control, pipe:
            with self._telling_why(control, method):
                pipe.send((method, arguments, len(files)))
                if files:
                    _send_files(pipe, files)
            while isinstance(answer := self._next(control, pipe, method), Said):
                control.send(b"alive")
                heard(answer.value)
            control.send(b"done")
        return _judged(answer, method)

    def close(self) -> None:
        """Leave the children; the last one to leave ends them, and calls under way end with Busy."""
        with self._lock:
            self._closed = True
            if self._member is None:
                return
            self._member.close()
            self._member = None
            if self._own_folder:
                self._wait_until_gone()
            self._remove_own_folder()

    def _remove_own_folder(self) -> None:
        if self._own_folder:
            shutil.rmtree(self._own_folder, ignore_errors=True)

    def _next(self, control: socket.socket, pipe: Connection, method: str) -> Any:
        with self._telling_why(control, method):
            return pipe.recv()

    def _borrow(self, wish: bytes) -> tuple[socket.socket, Connection]:
        """Wait for a child; returns our connection to the nursery and the pipe to the child."""
        for _ in range(2):  # a nursery that was lost is started again
            control = self._connect()
            try:
                control.send(wish)
                message, fds, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 1)
            except OSError:
                message, fds = b"", []
            if message == b"child":
                return control, Connection(fds[0])
            control.close()
            if message == b"busy" or self._closed:
                raise Busy()
        raise BackendUnavailable("The processes that look at pictures cannot be reached.")

    @contextmanager
    def _telling_why(self, control: socket.socket, method: str) -> Iterator[None]:
        """Turn the loss of the child into what the client is told."""
        try:
            yield
        except (EOFError, OSError):
            self._lost(control, method)

    def _lost(self, control: socket.socket, method: str) -> NoReturn:
        """Learn why the child was lost and say so."""
        try:
            control.send(b"lost")
            reason, _, exit_code = control.recv(MESSAGE_BYTES).decode().partition(" ")
        except OSError:
            reason, exit_code = "", ""
        if self._closed:
            raise Busy()
        reason = reason or "died"
        log.error("child replaced", reason=reason, method=method, exit_code=exit_code)
        self._on_replaced(reason)
        if reason == "deadline":
            raise DetectorTooSlow(
                f"The work was stopped after {self._limits.deadline_seconds:g} s. A larger scale_factor or min_size, a"
                " roi or fewer rotations make it quicker."
            )
        raise DetectorFailed()

    def _state(self) -> tuple[int, int]:
        with self._connect() as control:
            control.send(b"state")
            busy, waiting = control.recv(MESSAGE_BYTES).split()
            return int(busy), int(waiting)

    def _connect(self) -> socket.socket:
        try:
            return _connected(self._address)
        except OSError:
            if self._closed:
                raise Busy() from None
            self._join()
            return _connected(self._address)

    def _join(self) -> None:
        """Become a member of the nursery; start it where there is none."""
        with self._lock, (self._folder / "nursery.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            try:
                member = _connected(self._address)
            except OSError:
                self._start()
                member = _connected(self._address)
            member.send(b"member")
            if self._member is not None:
                self._member.close()
            self._member = member

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                tend = f"from imgdetect.nursery import tend; tend({theirs.fileno()}, {self._address!r})"
                code = f"import sys; sys.path[:] = {sys.path!r}; {tend}"
                # Our own interpreter and code, and no shell. Its process goes at once and leaves the nursery behind.
                subprocess.run([sys.executable, "-c", code], pass_fds=[theirs.fileno()], check=False)  # noqa: S603
            ours.send(pickle.dumps((self._build, self._limits)))
            built = ours.recv(MESSAGE_BYTES)
        if built != b"built":
            raise ValueError(built.decode() or "the process that loads the detectors died; the log may tell why")

    def _wait_until_gone(self) -> None:
        """Wait until the nursery has ended its children and itself."""
        try:
            with _connected(self._address) as connection:
                connection.settimeout(10)
                connection.recv(1)
        except OSError:
            return


def _connected(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def _send_files(pipe: Connection, files: Sequence[int]) -> None:
    with socket.socket(fileno=os.dup(pipe.fileno())) as channel:
        socket.send_fds(channel, [b"."], files)


def _judged(answer: Any, method: str) -> Any:
    """What a child answered; a problem is raised."""
    if isinstance(answer, Crash):
        # Content must not be able to cause a 500, so whatever a library makes of it is the picture's fault.
        log.error("detector failed", method=method, cause=answer.text)
        raise DetectorFailed()
    if isinstance(answer, Problem):
        raise answer
    return answer
