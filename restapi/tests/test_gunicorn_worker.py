"""gunicorn's worker as it is changed here; test_http_bodies and test_faults hold a live one to it."""

import socket
import unittest
from concurrent.futures import Future
from types import SimpleNamespace
from unittest import mock

from gunicorn.http import errors as http
from gunicorn.http.body import Body, ChunkedReader, LengthReader
from gunicorn.http.unreader import IterUnreader
from gunicorn.workers.base import Worker as AnyWorker
from structlog.testing import capture_logs

from imgdetect.web.gunicorn_worker import WholeBody, Worker, problem_of
from tests.wire import parsed


def body_of(reader):
    """A request's body that is read through ours, and the request."""
    request = SimpleNamespace(body=Body(reader), force_close=mock.Mock())
    request.body.reader = WholeBody(request)
    return request.body, request


class WholeBodyTest(unittest.TestCase):
    def test_a_whole_body_is_what_it_was(self):
        body, request = body_of(LengthReader(IterUnreader([b"abc", b"de", b"GET /"]), 5))
        self.assertEqual((body.read(2), body.read(), body.read(1)), (b"ab", b"cde", b""))
        body, request = body_of(ChunkedReader(request, IterUnreader([b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET /"])))
        self.assertEqual((body.read(), body.read()), (b"abcde", b""))
        request.force_close.assert_not_called()

    def test_a_body_that_is_cut_short_or_malformed_is_an_error_and_the_connection_ends(self):
        for reader in (
            LengthReader(IterUnreader([b"abcd"]), 5),
            LengthReader(IterUnreader([]), 1),
            ChunkedReader(None, IterUnreader([b"5\r\nabcd"])),
            ChunkedReader(None, IterUnreader([b"zz\r\nabcd\r\n0\r\n\r\n"])),
            ChunkedReader(None, IterUnreader([b"2\r\nabcd\r\n0\r\n\r\n"])),
        ):
            body, request = body_of(reader)
            with self.assertRaises(OSError):
                body.read()
            self.assertTrue(body.failed)
            request.force_close.assert_called_with()


class WorkerTest(unittest.TestCase):
    def setUp(self):
        self.worker = Worker.__new__(Worker)
        self.worker.nr_conns = 3

    def answer_to(self, error):
        ours, theirs = socket.socketpair()
        with ours, theirs, capture_logs() as self.lines:
            self.worker.handle_error(None, theirs, ("192.0.2.1", 4711), error)
            theirs.close()
            (answer,) = parsed(ours.recv(1 << 16))
        return answer

    def test_what_gunicorn_refuses_is_a_problem(self):
        for error, status, code in (
            (http.LimitRequestLine(5_000, 4_094), 414, "uri-too-long"),
            (http.LimitRequestHeaders("too many"), 431, "headers-too-large"),
            (http.InvalidRequestLine("GET"), 400, "invalid-request"),
            (http.UnsupportedTransferCoding("xchunked"), 400, "invalid-request"),
            (http.ExpectationFailed("miracles"), 400, "invalid-request"),
            (ZeroDivisionError("our own"), 500, "internal-error"),
        ):
            with self.subTest(code):
                answer = self.answer_to(error)
                body = answer.json()
                self.assertEqual((answer.status, body["status"], body["code"]), (status, status, code))
                self.assertEqual(answer.headers["content-type"], "application/problem+json")
                self.assertEqual(answer.headers["connection"], "close")
                self.assertEqual(answer.headers["x-request-id"], body["request_id"])
                (line,) = self.lines
                self.assertEqual((line["request_id"], line["remote"]), (body["request_id"], "192.0.2.1"))
                self.assertEqual(line["log_level"], "error" if status == 500 else "warning")
                self.assertNotIn("our own", str(body))

    def test_a_client_that_is_gone_needs_no_answer(self):
        ours, theirs = socket.socketpair()
        ours.close()
        with theirs, capture_logs() as lines:
            self.worker.handle_error(None, theirs, None, http.InvalidRequestLine("x"))
        self.assertEqual([line["event"] for line in lines], ["request refused", "answer not sent"])

    def test_a_long_cause_is_cut_in_the_log(self):
        self.answer_to(http.InvalidHeader("x" * 9_000))
        self.assertLessEqual(len(self.lines[0]["cause"]), 200)

    def test_a_connection_that_was_closed_in_its_own_thread_is_only_counted(self):
        ended = Future()
        ended.set_result(False)
        connection = mock.Mock()
        self.worker.finish_request(connection, ended)
        self.assertEqual((self.worker.nr_conns, connection.mock_calls), (2, []))
        broken = Future()
        broken.set_exception(OSError())
        self.worker.finish_request(connection, broken)
        self.assertEqual(self.worker.nr_conns, 1)
        connection.close.assert_called_with()

    def test_a_connection_is_closed_by_the_thread_that_served_it(self):
        ours, theirs = socket.socketpair()
        with ours:
            ours.sendall(b"unread")
            ours.shutdown(socket.SHUT_WR)
            with mock.patch("gunicorn.workers.gthread.ThreadWorker.handle", return_value=False):
                self.assertFalse(self.worker.handle(SimpleNamespace(sock=theirs)))
            self.assertEqual((ours.recv(1), theirs.fileno()), (b"", -1))

    def test_a_worker_that_stops_takes_in_who_is_waiting_and_closes_once(self):
        listener = mock.Mock()
        self.worker.__dict__ |= {"alive": False, "_accepting": True, "poller": mock.Mock(), "sockets": [listener]}
        waiting = [1, 1, 0]
        self.worker.accept = lambda _: setattr(self.worker, "nr_conns", self.worker.nr_conns + waiting.pop(0))
        for enabled in (True, False, True, False):
            self.worker.set_accept_enabled(enabled)
        self.assertEqual((self.worker.nr_conns, self.worker.sockets), (5, []))
        listener.close.assert_called_once_with()
        self.worker.poller.register.assert_not_called()
        self.worker.poller.unregister.assert_called_once_with(listener)

    def test_stopping_at_once_waits_for_nobody(self):
        self.worker.tpool = mock.Mock()
        with mock.patch.object(AnyWorker, "handle_quit") as quit_any:
            self.worker.handle_quit(2, None)
        quit_any.assert_called_once_with(2, None)
        self.worker.tpool.shutdown.assert_not_called()

    def test_an_unknown_error_of_the_parser_is_the_clients(self):
        self.assertEqual(problem_of(http.InvalidChunkSize(b"zz")).status, 400)
        self.assertEqual(problem_of(http.ForbiddenProxyRequest("192.0.2.1")).status, 400)


if __name__ == "__main__":
    unittest.main()
