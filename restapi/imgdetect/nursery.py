"""Where children come from: a small single-threaded process that is warm, forks copies of itself, and lends them out.

A server of many threads must not fork, and a fresh interpreter takes half a second to load what a child needs. So the
processes of one server share a nursery. It builds the object that does the native work once; every child is forked
from it in milliseconds with all of that in place. One loop without locks keeps the line, lends a free child to the
caller whose turn it is by handing over the pipe to it, kills a child at its caller's deadline, and replaces those that
died. It ends when no server process is left.

(The standard library's fork server does not serve here: it runs the main module of its user again in every child.)

What is said on a caller's connection, one message each:

    look PIXELS   a child is wanted    -> child (with the pipe), or busy
    watch         one is wanted for a video, beside those for pictures -> child (with the pipe), or busy
    alive         the child got on with its video: its deadline counts anew
    done          its answer was read; the child is free
    spoilt        the same, but another child is to take its place
    lost          its pipe was closed  -> deadline, or died EXIT_CODE
    state         how busy is it?      -> BUSY WAITING
    member        the nursery lives as long as this connection
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import resource
import selectors
import signal
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from imgdetect.errors import Problem

MESSAGE_BYTES = 1 << 16
_PR_SET_PDEATHSIG = 1
# Whoever answers requests and hands out pictures goes first; it needs little, and children wait for it.
_NICENESS = 5
# A picture has somebody who waits for it, a video has time: on a core that both want it gets a tenth.
_WATCHER_NICENESS = 15


class Build(NamedTuple):
    """How to make the object whose methods the children are asked for; all of it can be pickled."""

    factory: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    first_call: tuple[Any, ...] = ()  # a method and its arguments, so that children are warm


class Limits(NamedTuple):
    """How much may go on at once."""

    children: int
    waiting_line: int  # callers that may wait for a child; one more is told busy
    max_pixels: int  # in work at once; a single picture is always admitted
    deadline_seconds: float  # longest time to wait for a child, and longest time a child may work on one call
    memory_bytes: int  # address space of a child; 0: no limit
    watchers: int = 0  # children beside the others that may watch a video each


class Said(NamedTuple):
    """What a child tells on its way to the answer."""

    value: Any


class Crash(NamedTuple):
    """What a child answers when the method raised something that nobody foresaw."""

    text: str


class _Child:
    """A process and our end of the pipe to it, which callers get a copy of."""

    def __init__(self, target: Any, memory_bytes: int, niceness: int = _NICENESS) -> None:
        self.pipe, theirs = socket.socketpair()
        nursery = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            fd = theirs.detach()
            os.closerange(3, fd)
            os.closerange(fd + 1, os.sysconf("SC_OPEN_MAX"))
            os.nice(niceness)
            _serve(Connection(fd), target, memory_bytes, nursery)
            os._exit(0)
        theirs.close()

    def end(self) -> int:
        """Kill it and wait until it is gone; returns the exit code, which tells when it had died by itself."""
        self.pipe.close()
        os.kill(self.pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class _Caller:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.pixels = 0
        self.until = float("inf")  # monotonic seconds
        self.child: _Child | None = None
        self.lost = b""  # why its child was taken away

    def tell(self, message: bytes, *fds: int) -> None:
        """Send a message; one who is gone is noticed when its connection is read."""
        try:
            socket.send_fds(self.connection, [message], fds)
        except OSError:
            return


class _Nursery:
    """The loop."""

    def __init__(self, listener: socket.socket, target: Any, limits: Limits) -> None:
        self._listener = listener
        self._target = target
        self._limits = limits
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, None)
        self._members: set[_Caller] = set()
        self._line: deque[_Caller] = deque()
        self._busy: set[_Caller] = set()
        self._watching: set[_Caller] = set()  # callers with a child that is none of the others
        self._pixels = 0
        self._free: list[_Child] = []
        for _ in range(limits.children):
            self._new_child()

    def run(self) -> None:
        """Lend out children until the last member has left."""
        had_members = False
        while self._members or not had_members:
            had_members = had_members or bool(self._members)
            for key, _ in self._selector.select(self._next_deadline()):
                if key.data is None:
                    self._accept()
                elif isinstance(key.data, _Caller):
                    self._hear(key.data)
                else:
                    self._bury(key.data)
            self._end_overdue()
            self._lend()
        for child in (*self._free, *(caller.child for caller in self._busy | self._watching)):
            if child:
                child.end()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        self._selector.register(connection, selectors.EVENT_READ, _Caller(connection))

    def _hear(self, caller: _Caller) -> None:
        try:
            word, _, argument = caller.connection.recv(MESSAGE_BYTES).partition(b" ")
        except OSError:
            word = b""
        if word == b"look":
            self._queue(caller, int(argument))
        elif word == b"watch":
            self._watch(caller)
        elif word == b"alive":
            self._renew(caller)
        elif word in (b"done", b"spoilt"):
            self._take_back(caller, spoilt=word == b"spoilt")
        elif word == b"lost":
            if caller.child:
                caller.lost = b"died %d" % self._replace(caller)
            caller.tell(caller.lost)
        elif word == b"state":
            caller.tell(b"%d %d" % (len(self._busy), len(self._line)))
        elif word == b"member":
            self._members.add(caller)
        else:
            self._drop(caller)

    def _queue(self, caller: _Caller, pixels: int) -> None:
        caller.pixels = pixels
        at_once = not self._line and self._may_go(caller)
        if not at_once and len(self._line) >= self._limits.waiting_line:
            caller.tell(b"busy")
        else:
            caller.until = time.monotonic() + self._limits.deadline_seconds
            self._line.append(caller)

    def _watch(self, caller: _Caller) -> None:
        """Fork a child for one video; it ends with it."""
        if len(self._watching) >= self._limits.watchers:
            caller.tell(b"busy")
            return
        caller.child = _Child(self._target, self._limits.memory_bytes, _WATCHER_NICENESS)
        caller.pixels = 0
        self._watching.add(caller)
        self._renew(caller)
        caller.tell(b"child", caller.child.pipe.fileno())

    def _renew(self, caller: _Caller) -> None:
        if caller in self._watching:
            caller.until = time.monotonic() + self._limits.deadline_seconds

    def _may_go(self, caller: _Caller) -> bool:
        fits = not self._busy or self._pixels + caller.pixels <= self._limits.max_pixels
        return bool(self._free) and fits

    def _lend(self) -> None:
        """Give free children to those whose turn it is."""
        while self._line and self._may_go(self._line[0]):
            caller = self._line.popleft()
            child = self._free.pop()
            self._selector.unregister(child.pipe)
            caller.child = child
            caller.until = time.monotonic() + self._limits.deadline_seconds
            self._busy.add(caller)
            self._pixels += caller.pixels
            caller.tell(b"child", child.pipe.fileno())

    def _take_back(self, caller: _Caller, *, spoilt: bool) -> None:
        if spoilt or caller in self._watching:
            self._replace(caller)
        elif child := self._release(caller):
            self._add(child)

    def _release(self, caller: _Caller) -> _Child | None:
        """End the loan of a caller that has one; returns the child."""
        child, caller.child = caller.child, None
        if child:
            self._busy.discard(caller)
            self._watching.discard(caller)
            self._pixels -= caller.pixels
            caller.until = float("inf")
        return child

    def _replace(self, caller: _Caller) -> int:
        """Kill the child of a caller and put another in its place unless it was a watcher; returns its exit code."""
        watched = caller in self._watching
        child = self._release(caller)
        exit_code = child.end() if child else 0
        if not watched:
            self._new_child()
        return exit_code

    def _bury(self, child: _Child) -> None:
        """Replace a child that died while it was free; nobody has lost anything."""
        self._selector.unregister(child.pipe)
        self._free.remove(child)
        child.end()
        self._new_child()

    def _drop(self, caller: _Caller) -> None:
        """Forget a caller whose connection is closed; a child that still works for it is of no use."""
        self._members.discard(caller)
        if caller in self._line:
            self._line.remove(caller)
        if caller.child:
            self._replace(caller)
        self._selector.unregister(caller.connection)
        caller.connection.close()

    def _new_child(self) -> None:
        self._add(_Child(self._target, self._limits.memory_bytes))

    def _add(self, child: _Child) -> None:
        self._selector.register(child.pipe, selectors.EVENT_READ, child)
        self._free.append(child)

    def _next_deadline(self) -> float | None:
        """Seconds until the next one; None where nobody waits for anything."""
        until = min((caller.until for caller in (*self._line, *self._busy, *self._watching)), default=None)
        return None if until is None else max(0.0, until - time.monotonic())

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for caller in [c for c in self._busy | self._watching if c.until <= now]:
            caller.lost = b"deadline"
            self._replace(caller)
        for caller in [c for c in self._line if c.until <= now]:
            self._line.remove(caller)
            caller.until = float("inf")
            caller.tell(b"busy")


def tend(starter_fd: int, address: str) -> None:
    """The life of the nursery.

    Args:
        starter_fd: a socket on which the starter sends the pickled (Build, Limits), and is answered "built" or why not.
        address: path of the socket to listen on.
    """
    with socket.socket(fileno=starter_fd) as starter:
        if os.fork():  # the starter waits for this process only; the nursery may outlive it
            return
        # The terminal's Ctrl-C and a supervisor's SIGTERM reach every process of the server, which still needs this
        # one to finish what it has begun.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            build, limits = pickle.loads(starter.recv(MESSAGE_BYTES))  # noqa: S301 - the server itself sent it
            target = build.factory(*build.arguments)
            if build.first_call:
                method, *arguments = build.first_call
                getattr(target, method)(*arguments)
        except (ValueError, Problem) as error:
            starter.send(str(error).encode()[:MESSAGE_BYTES])
            return
        threads = len([*Path("/proc/self/task").iterdir()])
        if threads != 1:
            raise RuntimeError(f"a nursery with {threads} threads cannot fork")
        gc.collect()
        gc.freeze()  # the children share these pages as long as nobody writes to them
        Path(address).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(address)
            listener.listen(1024)
            nursery = _Nursery(listener, target, limits)
            starter.send(b"built")
            starter.close()
            nursery.run()
            Path(address).unlink(missing_ok=True)


def _serve(pipe: Connection, target: Any, memory_bytes: int, nursery: int) -> None:
    """The life of a child: answer calls until it is killed."""
    # A child in a native loop would not notice that its pipe is closed: the kernel ends it with the nursery.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != nursery:
        return
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            method, arguments, files = pipe.recv()
            arguments += _received(pipe, files)
        except EOFError:
            return
        for answer in _answers(target, method, arguments):
            pipe.send(answer)


def _received(pipe: Connection, count: int) -> tuple[int, ...]:
    """The descriptors of open files that came along with a call."""
    if not count:
        return ()
    with socket.socket(fileno=os.dup(pipe.fileno())) as channel:
        return tuple(socket.recv_fds(channel, 1, count)[1])


def _answers(target: Any, method: str, arguments: tuple[Any, ...]) -> Iterator[Any]:
    """What a method says on its way, where it is a generator, and what it returns."""
    try:
        answer = getattr(target, method)(*arguments)
        if isinstance(answer, Iterator):
            while True:
                try:
                    yield Said(next(answer))
                except StopIteration as end:
                    answer = end.value
                    break
        yield answer
    except Problem as problem:
        yield problem
    except Exception:
        yield Crash(traceback.format_exc())
