"""Where children come from: a small single-threaded process that is warm and forks a copy of itself when asked.

A server of many threads must not fork, and a fresh interpreter takes half a second to load what a child needs. So each
server process keeps one nursery: it builds the object that does the native work, once, and every child is forked from
it in milliseconds with all of that in place. It also reaps: a child is killed through its nursery, its true parent, so
that a process id can never mean somebody else by then.

(The standard library's fork server does not serve here: it runs the main module of its user again in every child.)
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from imgdetect.errors import Problem

_PR_SET_PDEATHSIG = 1
_MESSAGE_BYTES = 1 << 16


class Build(NamedTuple):
    """How the nursery makes the object whose methods children are asked for; all of it can be pickled."""

    factory: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    first_call: tuple[Any, ...] = ()  # a method and its arguments, so that children are warm


class Crash(NamedTuple):
    """What a child answers when the method raised something that nobody foresaw."""

    text: str


class Nursery:
    """The server's end: starts the process when it is needed, again if it was lost.

    Args:
        build: what every child serves.
        memory_bytes: address space of a child.
    """

    def __init__(self, build: Build, memory_bytes: int) -> None:
        self._build = build
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def fork(self) -> tuple[int, Connection]:
        """A new child: its process id and the pipe to it.

        Raises:
            ValueError: the object could not be built, for a reason that it gave.
            OSError: there is no process to be had.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                answer = self._ask(b"fork", theirs.fileno())
            except (EOFError, OSError):
                self._lose()  # the nursery itself died: a second one is the last try
                answer = self._ask(b"fork", theirs.fileno())
        return int(answer), Connection(ours.detach())

    def kill(self, pid: int) -> int | None:
        """Kill a child and wait until it is gone; returns its exit code, None where it is not known."""
        try:
            return int(self._ask(b"kill %d" % pid)) if self._control else None
        except (EOFError, OSError):
            return None

    def close(self) -> None:
        """End the process for good; its children end with it."""
        self._closed = True
        self._lose()

    def _ask(self, command: bytes, fd: int | None = None) -> bytes:
        with self._lock:
            control = self._control or self._start()
            socket.send_fds(control, [command], [] if fd is None else [fd])
            answer = control.recv(_MESSAGE_BYTES)
        if not answer:
            raise EOFError
        return answer

    def _start(self) -> socket.socket:
        if self._closed:
            raise OSError("closed")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            tend = f"from imgdetect.nursery import tend; tend({theirs.fileno()})"
            code = f"import sys; sys.path[:] = {sys.path!r}; {tend}"
            # Our own interpreter and code, and no shell.
            self._process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno()])  # noqa: S603
        ours.send(pickle.dumps((self._build, self._memory_bytes)))
        built = ours.recv(_MESSAGE_BYTES)
        if built != b"built":
            ours.close()
            self._process.kill()
            self._process.wait()
            raise ValueError(built.decode() or "the process that loads the detectors died")
        self._control = ours
        return ours

    def _lose(self) -> None:
        with self._lock:
            if self._control is not None:
                self._control.close()
                self._control = None
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                self._process = None


def tend(control_fd: int) -> None:
    """The life of the nursery: build the object, then fork and kill children until the server is gone."""
    # The terminal's Ctrl-C reaches the whole group; only the server decides when this ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=control_fd) as control:
        try:
            build, memory_bytes = pickle.loads(control.recv(_MESSAGE_BYTES))  # noqa: S301 - our own parent sent it
            target = build.factory(*build.arguments)
            if build.first_call:
                method, *arguments = build.first_call
                getattr(target, method)(*arguments)
        except (ValueError, Problem) as error:
            control.send(str(error).encode()[:_MESSAGE_BYTES])
            return
        threads = len([*Path("/proc/self/task").iterdir()])
        if threads != 1:
            raise RuntimeError(f"a nursery with {threads} threads cannot fork")
        gc.collect()
        gc.freeze()  # the children share these pages as long as nobody writes to them
        control.send(b"built")
        _fork_and_kill(control, target, memory_bytes)


def _fork_and_kill(control: socket.socket, target: Any, memory_bytes: int) -> None:
    while True:
        command, fds, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, 1)
        if not command:
            return
        word, _, pid = command.partition(b" ")
        if word == b"kill":
            control.send(b"%d" % _reap(int(pid)))
            continue
        nursery = os.getpid()
        child = os.fork()
        if child == 0:
            control.close()
            _serve(Connection(fds[0]), target, memory_bytes, nursery)
            os._exit(0)
        os.close(fds[0])
        control.send(b"%d" % child)


def _reap(pid: int) -> int:
    """Kill a child and wait for it; returns its exit code, which tells when it had died by itself."""
    try:
        os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except (ProcessLookupError, ChildProcessError):  # asked twice
        return 0


def _serve(pipe: Connection, target: Any, memory_bytes: int, nursery: int) -> None:
    """The life of a child: answer calls until the pipe is closed."""
    # A child in a native loop would not notice that its pipe is closed: the kernel ends it with the nursery.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != nursery:
        return
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        pipe.send(_answer(target, method, arguments))


def _answer(target: Any, method: str, arguments: tuple[Any, ...]) -> Any:
    try:
        return getattr(target, method)(*arguments)
    except Problem as problem:
        return problem
    except Exception:
        return Crash(traceback.format_exc())
