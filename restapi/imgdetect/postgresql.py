"""Connections to a PostgreSQL server that may be down, slow or silent: nobody waits longer than three seconds for it.

The server's own timeouts end what it still works at. Against a server that says nothing at all (stopped, behind a cable
that was pulled) stands a deadline on this side. It covers all of a transaction: the wait for a free connection,
connecting, and every statement.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import URL, Engine, create_engine, event, exc

from imgdetect import errors

_DEADLINE_SECONDS = 2.5
_STATEMENT_SECONDS = 2
# Our own transactions are over in milliseconds: what is locked for longer, somebody else has locked.
_LOCK_SECONDS = 1
# A process of ours that stops in the middle of a transaction must not keep its locks.
_IDLE_SECONDS = 10
_POOL_SECONDS = 0.9
# No shorter time is possible; with less than half of it left, connecting is not begun.
_CONNECT_SECONDS = 2
# So long a server that was silent is left alone, before one transaction tries it again.
_REST_SECONDS = 1.0


class _Deadline(threading.local):
    """When the transaction of this thread has to be over, by the monotonic clock."""

    at: float | None = None

    def left(self) -> float:
        return _DEADLINE_SECONDS if self.at is None else max(0.0, self.at - time.monotonic())


_deadline = _Deadline()


class NoAnswerError(psycopg.OperationalError):
    """The server said nothing before the deadline."""


class _Connection(psycopg.Connection[Any]):
    """A connection that is given up at the deadline."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        left = _deadline.left()
        try:
            return super().wait(gen, interval, left if timeout is None else min(left, timeout))
        except psycopg.OperationalError as error:
            if self.closed or error.sqlstate is not None or _deadline.left() > 0:
                raise
            self.close()  # what the server says later, nobody may take for the answer to another question
            raise NoAnswerError("no answer in time") from None


class Server:
    """What is known of a server, and the way to it.

    Args:
        url: of the driver `postgresql+psycopg`.
        connections: how many this process may have at once.
    """

    def __init__(self, url: URL, connections: int) -> None:
        self.engine = _engine(url, connections)
        self.reading = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._silent = False
        self._next_try = 0.0
        self._trying = threading.Lock()

    @contextmanager
    def watched(self, seconds: float | None) -> Iterator[None]:
        """Give a transaction its deadline, and spare it the wait for a server that is known to be silent.

        Args:
            seconds: another deadline than the usual one.
        Raises:
            BackendUnavailable: the server was silent a moment ago.
        """
        trying = self._silent
        if trying and not (time.monotonic() >= self._next_try and self._trying.acquire(blocking=False)):
            raise errors.BackendUnavailable("The database does not answer.")
        outer, _deadline.at = _deadline.at, time.monotonic() + (seconds or _DEADLINE_SECONDS)
        try:
            yield
            self._silent = False
        except errors.BackendUnavailable as problem:
            if _is_silence(problem.__cause__):
                self._silent, self._next_try = True, time.monotonic() + _REST_SECONDS
            raise
        finally:
            _deadline.at = outer
            if trying:
                self._trying.release()


def _is_silence(error: BaseException | None) -> bool:
    """Whether it took the server too long to answer; one that refuses at once may be asked again at once."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else None
    return isinstance(cause, NoAnswerError | psycopg.errors.ConnectionTimeout | psycopg.errors.QueryCanceled)


def _engine(url: URL, connections: int) -> Engine:
    timeouts = {
        "statement_timeout": _STATEMENT_SECONDS,
        "lock_timeout": _LOCK_SECONDS,
        "idle_in_transaction_session_timeout": _IDLE_SECONDS,
    }
    options = " ".join(f"-c {name}={seconds}s" for name, seconds in timeouts.items())
    arguments = {
        "connect_timeout": _CONNECT_SECONDS,
        "tcp_user_timeout": _STATEMENT_SECONDS * 1000,
        "keepalives_idle": 15,
        "application_name": "imgdetect",
        # What the URL says comes later and wins.
        "options": f"{options} {url.query.get('options', '')}",
    }
    engine = create_engine(
        url,
        connect_args=arguments,
        hide_parameters=True,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=_POOL_SECONDS,
        pool_pre_ping=True,
        pool_use_lifo=True,
    )

    def connect(_dialect: Any, _record: Any, args: Any, parameters: Any) -> _Connection:
        if _deadline.left() < _CONNECT_SECONDS / 2:
            raise NoAnswerError("no answer in time")
        return _Connection.connect(*args, **parameters)

    event.listen(engine, "do_connect", connect)
    return engine
