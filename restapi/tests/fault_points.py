"""Every moment at which a request changes what is stored, as a place where the disk, the process or the power may fail.

`fault_points_gunicorn.conf.py` puts this into a live server. A request says in its header `X-Fault: ACTION NUMBER` what
is to happen before its step of that number:

    kill    the process is killed; the kernel still writes what it was given
    power   the same, and everything is lost that was not synced to the disk
    ENOSPC  this one call fails with that error of the operating system (or EIO, EROFS, ...)
    EIO+    this call fails, and each one that writes or removes after it

The answer tells in `X-Fault-Steps` which steps there were.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

WRITING_SQL = ("BEGIN IMMEDIATE", "INSERT", "UPDATE", "DELETE")
_originals = {name: getattr(os, name) for name in ("open", "write", "fsync", "replace", "unlink", "mkdir")}
_thread = threading.local()


class _Plan:
    """What is to happen to the request of this thread, and what the disk has not been made to keep yet."""

    def __init__(self, action: str, number: int) -> None:
        self.action = action
        self.number = number
        self.steps: list[str] = []
        self.unsynced_files: set[str] = set()
        self.unsynced_names: list[tuple[str, str | None]] = []  # a name, and the one before where it was renamed

    def step(self, kind: str, *, of_file: bool = True) -> None:
        """One more moment; returns unless it is the one, or behind it."""
        self.steps.append(kind)
        here = len(self.steps)
        if self.action in ("kill", "power"):
            if here == self.number:
                if self.action == "power":
                    self.lose()
                os.kill(os.getpid(), signal.SIGKILL)
            return
        lasting = self.action.endswith("+")
        if of_file and (here == self.number or (lasting and here > self.number)):
            code = getattr(errno, self.action.rstrip("+"))
            raise OSError(code, os.strerror(code))

    def lose(self) -> None:
        """Leave on the disk no more than was synced."""
        for path in self.unsynced_files:
            os.truncate(path, 0)
        for name, before in reversed(self.unsynced_names):
            if before:
                _originals["replace"](name, before)
            elif Path(name).is_dir():
                Path(name).rmdir()
            else:
                _originals["unlink"](name)

    def synced(self, path: str) -> None:
        """A file has its content now, or a folder its names."""
        self.unsynced_files.discard(path)
        self.unsynced_names = [kept for kept in self.unsynced_names if os.path.dirname(kept[0]) != path]  # noqa: PTH120


def _path_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _plan() -> _Plan | None:
    return getattr(_thread, "plan", None)


def _open(path: Any, flags: int, *rest: Any, **named: Any) -> int:
    plan = _plan()
    makes = bool(flags & os.O_CREAT)
    if plan and makes:
        plan.step("open")
    descriptor: int = _originals["open"](path, flags, *rest, **named)
    if plan and makes:
        plan.unsynced_names.append((str(path), None))
        plan.unsynced_files.add(str(path))
    return descriptor


def _write(descriptor: int, data: Any) -> int:
    if plan := _plan():
        plan.step("write")
        if plan.action in ("kill", "power") and len(plan.steps) + 1 == plan.number and len(data) > 1:
            data = memoryview(data)[: len(data) // 2]  # the next moment is in the middle of the file
    written: int = _originals["write"](descriptor, data)
    return written


def _fsync(descriptor: int) -> None:
    if plan := _plan():
        plan.step("fsync")
    _originals["fsync"](descriptor)
    if plan:
        plan.synced(_path_of(descriptor))


def _replace(source: Any, target: Any, **named: Any) -> None:
    plan = _plan()
    if plan:
        plan.step("rename")
    _originals["replace"](source, target, **named)
    if plan:
        plan.unsynced_names = [kept for kept in plan.unsynced_names if kept[0] != str(source)]
        plan.unsynced_names.append((str(target), str(source)))
        if str(source) in plan.unsynced_files:
            plan.unsynced_files.remove(str(source))
            plan.unsynced_files.add(str(target))


def _unlink(path: Any, **named: Any) -> None:
    plan = _plan()
    if plan:
        plan.step("unlink")
    _originals["unlink"](path, **named)
    if plan:
        plan.unsynced_files.discard(str(path))
        plan.unsynced_names = [kept for kept in plan.unsynced_names if kept[0] != str(path)]


def _mkdir(path: Any, *rest: Any, **named: Any) -> None:
    plan = _plan()
    if plan:
        plan.step("mkdir")
    _originals["mkdir"](path, *rest, **named)
    if plan:
        plan.unsynced_names.append((str(path), None))


class FaultPoints:
    """The application, with a plan for each request that has one.

    Args:
        application: a WSGI application.
    """

    def __init__(self, application: Callable[..., Any]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        action, _, number = environ.get("HTTP_X_FAULT", "").partition(" ")
        if not action:
            return self._application(environ, start_response)
        plan = _thread.plan = _Plan(action, int(number))

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            steps = ("X-Fault-Steps", " ".join(plan.steps).replace("BEGIN IMMEDIATE", "BEGIN"))
            return start_response(status, [*headers, steps], *rest)

        try:
            answer = self._application(environ, start)
            plan.step("answer", of_file=False)
            return answer
        finally:
            del _thread.plan


def install() -> None:
    """Watch the calls of this process."""
    for replacement in (_open, _write, _fsync, _replace, _unlink, _mkdir):
        setattr(os, replacement.__name__[1:], replacement)

    @event.listens_for(Engine, "before_cursor_execute")
    def _statement(_connection: Any, _cursor: Any, statement: str, *_unused: Any) -> None:
        if (plan := _plan()) and statement.startswith(WRITING_SQL):
            plan.step(next(kind for kind in WRITING_SQL if statement.startswith(kind)), of_file=False)

    @event.listens_for(Engine, "commit")
    def _commit(_connection: Any) -> None:
        if plan := _plan():
            plan.step("COMMIT", of_file=False)
