"""gunicorn's threaded worker, with four things done our way.

What it refuses by itself has the form of every other problem. A body that is malformed, or ends before its
Content-Length, is an error wherever it is read, so that half an upload never passes for a whole one. And a client that
does not close its end is waited for in its own thread instead of in the loop that accepts everybody else. And a worker
that is being stopped takes in those who have connected already and refuses the rest at once, so that a proxy in front
can send them elsewhere; gunicorn's own keeps them waiting for an answer that never comes.
"""

from __future__ import annotations

import json
import time
import uuid
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any

from gunicorn import util
from gunicorn.http import errors as http
from gunicorn.workers.gthread import ThreadWorker

from imgdetect import logs
from imgdetect.errors import HeadersTooLarge, InternalError, InvalidRequest, Problem, UriTooLong

log = logs.get_logger(__name__)
# How much of a body that nobody wanted is read on, so that its sender gets to see the answer, and for how long.
_UNWANTED_BYTES = 64 << 20
_UNWANTED_SECONDS = 2.0


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """Named in gunicorn.conf.py."""

    sockets: list[Any]

    def set_accept_enabled(self, enabled: bool) -> None:
        """Start or stop accepting connections; a worker that is being stopped gets here more than once."""
        stopping = not self.alive  # once: the signal may come at any line
        super().set_accept_enabled(enabled and not stopping)
        if not stopping:
            return
        listeners, self.sockets = self.sockets, []
        for listener in listeners:
            before = -1
            while before != self.nr_conns:  # until the queue is empty
                before = self.nr_conns
                self.accept(listener)
            listener.close()

    def handle(self, conn: Any) -> Any:
        """Serve a connection until it is idle; in a thread of its own."""
        result = super().handle(conn)
        if result is False:
            conn.sock.setblocking(True)
            util.close_graceful(conn.sock, _UNWANTED_SECONDS, _UNWANTED_BYTES)
        return result

    def finish_request(self, conn: Any, fs: Future[Any]) -> None:
        """Take note of the end of `handle`; in the main thread, which must not wait for anybody."""
        if not fs.cancelled() and fs.exception() is None and fs.result() is False:
            self.nr_conns -= 1
        else:
            super().finish_request(conn, fs)

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Answer one request; returns whether another one may follow on the connection."""
        if req.version >= (1, 1) and not any(name == "HOST" for name, _ in req.headers):
            raise http.InvalidHeader("HOST", req=req)
        req.body.reader = WholeBody(req)
        if not super().handle_request(req, conn):
            return False
        try:
            return bool(conn.parser.finish_body(time.monotonic() + _UNWANTED_SECONDS))
        except OSError:  # the rest is malformed or never comes, but the answer is given already
            return False

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Stop at once, on SIGINT and SIGQUIT."""
        # Not as the parent does it: the executor's lock may be held by the very code that the signal interrupted.
        super(ThreadWorker, self).handle_quit(sig, frame)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answer a request that never reached the application."""
        request_id = uuid.uuid4().hex
        problem = problem_of(exc)
        told = {"status": problem.status, "remote": addr[0] if addr else "", "request_id": request_id}
        if problem.status < 500:
            log.warning("request refused", cause=str(exc)[:200], **told)
        else:
            log.error("request failed", exc_info=exc, **told)
        try:
            util.write_nonblock(client, answer_of(problem, request_id))
        except OSError:  # it did not wait for its answer
            log.debug("answer not sent", **told)


class WholeBody:
    """The reader of a request's body, except that it raises OSError where the body is cut short or malformed.

    Args:
        request: gunicorn's.
    """

    def __init__(self, request: Any) -> None:
        self._request = request
        self._reader = request.body.reader

    def read(self, size: int) -> bytes:
        """At most so many bytes, fewer only at the end."""
        missing = getattr(self._reader, "length", 0)
        try:
            data: bytes = self._reader.read(size)
            if len(data) < min(size, missing):
                raise http.NoMoreData
        except (http.ParseException, OSError) as error:
            self._request.force_close()
            raise OSError("the body is cut short or malformed") from error
        return data


def problem_of(error: Exception) -> Problem:
    """What a client sees of an error of gunicorn's."""
    if isinstance(error, http.LimitRequestLine):
        return UriTooLong()
    if isinstance(error, http.LimitRequestHeaders):
        return HeadersTooLarge()
    if isinstance(error, http.ParseException):
        return InvalidRequest("This is not HTTP as this server speaks it.")
    return InternalError()


def answer_of(problem: Problem, request_id: str) -> bytes:
    """A whole answer, after which the connection is closed."""
    body = json.dumps(problem.document() | {"request_id": request_id}).encode()
    head = (
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
        "Connection: close",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        f"X-Request-ID: {request_id}",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
        "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'; sandbox",
        "\r\n",
    )
    return "\r\n".join(head).encode() + body
