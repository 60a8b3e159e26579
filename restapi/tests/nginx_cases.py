"""What the tests of nginx share: requests written byte by byte, and the form that every error must have."""

import http.client
import io
import json
import socket
from typing import Any

from imgdetect import errors
from imgdetect.errors import Problem
from tests.nginx_server import NginxTest
from tests.upstream import Upstream

PROBLEMS: dict[int, Problem] = {
    400: errors.InvalidRequest(),
    404: errors.NotFound(),
    405: errors.MethodNotAllowed(),
    413: errors.UploadTooLarge(max_bytes=100_000),
    414: errors.UriTooLong(),
    429: errors.TooManyRequests(),
    431: errors.HeadersTooLarge(),
    503: errors.BackendUnavailable(),
    504: errors.WaitTooLong(),
    507: errors.StorageFull(),
}
OWN_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cache-Control": "no-store",
}
WAIT_SECONDS = 20


def exchange(port: int, sent: bytes, *, finish: bool = False) -> bytes:
    """Everything that comes back on a connection until the other side closes it.

    Args:
        finish: say that nothing more will be sent, for an answer that comes before the announced body. nginx takes
            it for the end of the client's interest in an answer that the service is still making.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as connection:
        connection.sendall(sent)
        if finish:
            connection.shutdown(socket.SHUT_WR)
        try:
            while chunk := connection.recv(65_536):
                received += chunk
        except ConnectionResetError:
            pass
    return received


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    """The bytes of an HTTP/1.1 request with a Host."""
    return "\r\n".join((line, "Host: localhost", *headers, "", "")).encode("latin-1") + body


class _Socket:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


def parse(received: bytes, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    """The first answer in a stream of bytes."""
    answer = http.client.HTTPResponse(_Socket(received), method=method)  # type: ignore[arg-type]
    answer.begin()
    return answer, answer.read()


class NginxCase(NginxTest):
    """nginx in front of the stand-in."""

    upstream: Upstream

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.upstream = cls.enterClassContext(Upstream())
        cls.start_nginx(cls.upstream.address)

    def setUp(self) -> None:
        self.upstream.seen.clear()

    def send(self, sent: bytes, *, finish: bool = False) -> bytes:
        """What comes back on the port for local clients."""
        return exchange(self.nginx.local_port, sent, finish=finish)

    def assert_problem(self, received: bytes, status: int, instance: str = "/") -> dict[str, Any]:
        """One answer, in the service's own form, with the headers of every answer, each of them once."""
        self.assertEqual(received.count(b"HTTP/1.1 "), 1, received)
        answer, body = parse(received)
        self.assertEqual(answer.status, status, body)
        self.assertEqual(answer.getheader("Content-Type"), "application/problem+json")
        document: dict[str, Any] = json.loads(body)
        identity = answer.headers.get_all("X-Request-ID")
        self.assertEqual([document.pop("request_id")], identity)
        self.assertEqual(document.pop("instance"), instance)
        if status in PROBLEMS:
            problem = PROBLEMS[status]
            self.assertEqual(document, problem.document())
            wait = problem.retry_after_seconds
            self.assertEqual(answer.getheader("Retry-After"), str(wait) if wait else None)
        else:
            self.assertEqual(document["status"], status)
            self.assertEqual(document["type"], f"urn:imgdetect:problem:{document['code']}")
        for name, value in OWN_HEADERS.items():
            self.assertEqual(answer.headers.get_all(name), [value], name)
        self.assertIsNone(answer.getheader("Strict-Transport-Security"))
        self.assertEqual(answer.getheader("Server"), "nginx")
        return document
