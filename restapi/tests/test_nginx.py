"""nginx's own errors: malformed, smuggled, oversized and slow requests, and a service that does not answer."""

import json
import shutil
import socket
import subprocess
import threading
import time
import unittest
from contextlib import suppress
from pathlib import Path

import requests

from tests.live_server import free_port
from tests.nginx_cases import WAIT_SECONDS, NginxCase, exchange, parse, request
from tests.nginx_server import NginxServer

LARGE_BYTES = {"batch": 300_000, "video": 400_000}
LARGE = {
    "IMGDETECT_MAX_BATCH_BYTES": str(LARGE_BYTES["batch"]),
    "IMGDETECT_MAX_BATCH_IMAGES": "2",
    "IMGDETECT_MAX_VIDEO_BYTES": str(LARGE_BYTES["video"]),
}


def bodies_of(nginx: NginxServer) -> list[str]:
    """The files in its spool folder that its workers have open; they have no names."""
    assert nginx.process is not None
    workers = Path(f"/proc/{nginx.process.pid}/task/{nginx.process.pid}/children").read_text().split()
    found = []
    for descriptor in (path for worker in workers for path in Path(f"/proc/{worker}/fd").iterdir()):
        with suppress(OSError):
            found.append(str(descriptor.readlink()))
    return [name for name in found if name.startswith(str(nginx.root / "spool"))]


class OwnErrorsTest(NginxCase):
    settings = {"IMGDETECT_MAX_UPLOAD_BYTES": "100000", "CLIENT_SECONDS": "5", "UPSTREAM_SECONDS": "1"}

    def test_it_refuses_malformed_requests(self) -> None:
        for name, sent, instance in (
            ("no request", b"GARBAGE\r\n\r\n", "/"),
            ("control character in the path", b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", "/"),
            ("no host", b"GET /a HTTP/1.1\r\n\r\n", "/a"),
            ("no host in an old version", b"GET /a HTTP/1.0\r\n\r\n", "/a"),
            ("two hosts", request("GET /a HTTP/1.1", "Host: other"), "/a"),
            ("NUL in a header", request("GET /a HTTP/1.1", "X-A: b\0c"), "/a"),
            ("a path that leaves the root", request("GET /../a HTTP/1.1"), "/"),
            ("a broken chunk", request("POST /a HTTP/1.1", "Transfer-Encoding: chunked", body=b"zz\r\n\r\n"), "/a"),
        ):
            with self.subTest(name):
                self.assert_problem(self.send(sent), 400, instance)
        self.assertEqual(self.upstream.seen, [])

    def test_it_answers_a_smuggled_request_once_and_passes_nothing_on(self) -> None:
        second = b"0\r\n\r\nGET /second HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for name, headers, status in (
            ("length and chunks", ("Content-Length: 6", "Transfer-Encoding: chunked"), 400),
            ("two lengths", ("Content-Length: 6", "Content-Length: 50"), 400),
            ("the same length twice", ("Content-Length: 6", "Content-Length: 6"), 400),
            ("a list of lengths", ("Content-Length: 6, 6",), 400),
            ("a signed length", ("Content-Length: +6",), 400),
            ("a folded header", ("X-A: b", " c", "Content-Length: 6"), 400),
            ("a folded coding", ("Transfer-Encoding:", " chunked"), 400),
            ("a blank before the colon", ("Transfer-Encoding : chunked",), 400),
            ("two codings", ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), 400),
            ("a list of codings", ("Transfer-Encoding: identity, chunked",), 501),
            ("an unknown coding", ("Transfer-Encoding: xchunked",), 501),
            ("a coding with a vertical tab", ("Transfer-Encoding: \x0bchunked",), 501),
        ):
            with self.subTest(name):
                self.assert_problem(self.send(request("POST /first HTTP/1.1", *headers, body=second)), status, "/first")
        self.assertEqual(self.upstream.seen, [])

    def test_it_refuses_a_body_that_says_it_is_too_large(self) -> None:
        sent = request("POST /a HTTP/1.1", "Content-Length: 165537")
        self.assert_problem(self.send(sent, finish=True), 413, "/a")
        self.assertEqual(self.upstream.seen, [])

    def test_it_refuses_a_body_in_chunks_that_grows_too_large(self) -> None:
        chunks = (b"8000\r\n" + b"a" * 0x8000 + b"\r\n") * 6 + b"0\r\n\r\n"
        sent = request("POST /a HTTP/1.1", "Transfer-Encoding: chunked", body=chunks)
        self.assert_problem(self.send(sent, finish=True), 413, "/a")
        self.assertEqual(self.upstream.seen, [])

    def test_it_takes_the_largest_upload_and_the_form_around_it(self) -> None:
        body = b"a" * 165_536
        for headers, sent in (
            (("Content-Length: 165536",), body),
            (("Transfer-Encoding: chunked",), b"286A0\r\n" + body + b"\r\n0\r\n\r\n"),
        ):
            self.upstream.seen.clear()
            received = self.send(request("POST /a HTTP/1.1", *headers, "Connection: close", body=sent))
            self.assertEqual(parse(received)[0].status, 200)
            self.assertEqual(self.upstream.seen[0].body, body)
            self.assertEqual(self.upstream.seen[0].all("Content-Length"), ["165536"])
            self.assertEqual(self.upstream.seen[0].all("Transfer-Encoding"), [])

    def test_batches_and_videos_have_limits_of_their_own_and_wait_on_a_disk(self) -> None:
        for name, most in (("batch", 300_000 + 65_536 + 2 * 1024), ("video", 400_000 + 65_536 + 1024)):
            path = f"/api/v1/objectdetection/{name}"
            with self.subTest(name), NginxServer(self.upstream.address, **LARGE) as nginx:
                within = b"a" * most
                sent = request(f"POST {path}?a=b HTTP/1.1", f"Content-Length: {most}", "Connection: close", body=within)
                with socket.create_connection(("127.0.0.1", nginx.local_port), WAIT_SECONDS) as connection:
                    connection.sendall(sent[:-1])
                    until = time.monotonic() + WAIT_SECONDS
                    while len(waiting := bodies_of(nginx)) != 1 and time.monotonic() < until:
                        time.sleep(0.01)
                    self.assertEqual(len(waiting), 1)
                    self.assertNotIn(path, [seen.target.partition("?")[0] for seen in self.upstream.seen])
                    connection.sendall(sent[-1:])
                    self.assertIn(b" 200 ", connection.recv(65_536))
                self.assertEqual(self.upstream.seen[-1].body, within)
                sent = request(f"POST {path} HTTP/1.1", f"Content-Length: {most + 1}")
                received = parse(exchange(nginx.local_port, sent, finish=True))
                self.assertEqual((received[0].status, json.loads(received[1])["max_bytes"]), (413, LARGE_BYTES[name]))

    def test_it_refuses_a_long_address(self) -> None:
        self.assert_problem(self.send(request(f"GET /{'a' * 9000} HTTP/1.1")), 414)

    def test_it_refuses_long_and_many_headers(self) -> None:
        self.assert_problem(self.send(request("GET /a HTTP/1.1", f"X-A: {'b' * 9000}")), 431, "/a")
        many = (f"X-{number}: {'b' * 100}" for number in range(400))
        self.assert_problem(self.send(request("GET /a HTTP/1.1", *many)), 431, "/a")

    def test_it_refuses_methods_that_are_about_the_connection(self) -> None:
        received = self.send(request("TRACE /a HTTP/1.1"))
        self.assert_problem(received, 405, "/a")
        self.assertIn(b"Allow: GET, HEAD, POST, DELETE, OPTIONS\r\n", received)
        self.assertIn(parse(self.send(request("CONNECT localhost:1 HTTP/1.1")))[0].status, (400, 405))
        self.assertEqual(self.upstream.seen, [])

    def test_it_refuses_versions_that_do_not_exist(self) -> None:
        self.assert_problem(self.send(request("GET /a HTTP/7.0")), 505)

    def test_it_refuses_plain_http_on_the_tls_port(self) -> None:
        received = exchange(self.nginx.tls_port, request("GET /a HTTP/1.1"))
        self.assertEqual(parse(received)[0].status, 400)
        self.assertEqual(json.loads(parse(received)[1])["code"], "invalid-request")

    def test_it_says_when_the_service_takes_too_long(self) -> None:
        self.assert_problem(self.send(request("GET /slow HTTP/1.1", "Connection: close")), 504, "/slow")

    def test_it_puts_no_path_into_a_problem_that_could_break_out_of_it(self) -> None:
        sent = request('GET /metrics/"},{"a":"\xff HTTP/1.1', "Connection: close")
        self.assert_problem(self.send(sent), 404)
        plain = "/metrics/a%22-._~!$&'()*+,;=:@"
        self.assert_problem(self.send(request(f'GET {plain}?"x" HTTP/1.1', "Connection: close")), 404, plain)

    def test_it_says_507_when_it_cannot_keep_a_body(self) -> None:
        with NginxServer(self.upstream.address) as nginx:
            shutil.rmtree(nginx.root / "run" / "body")
            sent = request("POST /a HTTP/1.1", "Content-Length: 1000000", "Connection: close", body=b"a" * 1_000_000)
            self.assert_problem(exchange(nginx.local_port, sent), 507, "/a")


class OwnErrorsOverHttp2Test(NginxCase):
    settings = {"IMGDETECT_MAX_UPLOAD_BYTES": "100000"}

    def test_they_have_the_same_form(self) -> None:
        large = self.nginx.root / "large"
        large.write_bytes(b"a" * 1_000_000)
        for status, options in (
            (413, ("--upload-file", str(large))),
            (413, ("--upload-file", str(large), "--header", "Content-Length:")),
            (405, ("--request", "TRACE")),
        ):
            with self.subTest(status=status, options=options[-1][:30]):
                command = ["curl", "--silent", "--include", "--http2", "--cacert", str(self.nginx.certificate)]
                done = subprocess.run(
                    [*command, *options, f"{self.nginx.https_url}/a"],
                    capture_output=True,
                    check=True,
                    timeout=WAIT_SECONDS,
                )
                head, _, body = done.stdout.partition(b"\r\n\r\n")
                self.assertTrue(head.startswith(b"HTTP/2 %d" % status), done.stdout)
                self.assertIn(b"content-type: application/problem+json", head)
                self.assertEqual((json.loads(body)["status"], json.loads(body)["instance"]), (status, "/a"))
        self.assertEqual(self.upstream.seen, [])


class SlowClientTest(NginxCase):
    settings = {"CLIENT_SECONDS": "1"}

    def test_it_closes_on_those_who_do_not_finish(self) -> None:
        for name, sent in (
            ("headers", b"GET / HTTP/1.1\r\nHost: local"),
            ("body", request("POST / HTTP/1.1", "Content-Length: 5", body=b"a")),
            ("nothing", b""),
        ):
            with self.subTest(name):
                self.assertEqual(self.send(sent), b"")
        self.assertEqual(self.upstream.seen, [])

    def test_it_serves_others_while_many_are_slow(self) -> None:
        address = ("127.0.0.1", self.nginx.local_port)
        slow = [socket.create_connection(address, WAIT_SECONDS) for _ in range(300)]
        try:
            for connection in slow:
                connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Le")
            self.assertEqual(requests.get(self.nginx.url, timeout=WAIT_SECONDS).status_code, 200)
            for connection in slow:
                with self.subTest():
                    self.assertEqual(_rest(connection), b"")
        finally:
            for connection in slow:
                connection.close()
        self.assertEqual(len(self.upstream.seen), 1)


def _rest(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1)
    except ConnectionResetError:
        return b""


class DeadUpstreamTest(unittest.TestCase):
    """These start no stand-in: nobody listens, nobody accepts, or the one who accepts hangs up."""

    def test_it_says_502_when_nobody_listens(self) -> None:
        with NginxServer(f"127.0.0.1:{free_port()}") as nginx:
            received = exchange(nginx.local_port, request("GET /a HTTP/1.1", "Connection: close"))
        self._assert_502(received)

    def test_it_says_502_when_the_name_is_unknown(self) -> None:
        with NginxServer("nobody.invalid:80") as nginx:
            received = exchange(nginx.local_port, request("GET /a HTTP/1.1", "Connection: close"))
        self._assert_502(received)

    def test_it_says_503_when_nobody_accepts(self) -> None:
        with socket.socket() as deaf, NginxServer(_address(deaf)) as nginx:
            deaf.listen(0)
            waiting = [socket.socket() for _ in range(4)]
            try:
                for (
                    connection
                ) in waiting:  # they fill the queue of connections, so that the next one is not even refused
                    connection.setblocking(False)
                    connection.connect_ex(deaf.getsockname())
                received = exchange(
                    nginx.local_port, request("POST /a HTTP/1.1", "Content-Length: 0", "Connection: close")
                )
            finally:
                for connection in waiting:
                    connection.close()
        answer, body = parse(received)
        self.assertEqual((answer.status, json.loads(body)["code"]), (503, "backend-unavailable"))
        self.assertEqual(answer.headers.get_all("Retry-After"), ["5"])

    def test_it_says_502_and_tries_only_once_when_the_service_dies_in_mid_request(self) -> None:
        for method in ("GET", "POST"):
            with self.subTest(method), socket.socket() as dying, NginxServer(_address(dying)) as nginx:
                dying.listen(5)
                accepted: list[bytes] = []
                thread = threading.Thread(target=_accept_and_hang_up, args=(dying, accepted))
                thread.start()
                sent = request(f"{method} /a HTTP/1.1", "Content-Length: 0", "Connection: close")
                self._assert_502(exchange(nginx.local_port, sent))
                dying.shutdown(socket.SHUT_RDWR)
                thread.join()
                self.assertEqual(len(accepted), 1)

    def _assert_502(self, received: bytes) -> None:
        answer, body = parse(received)
        self.assertEqual(answer.status, 502, received)
        self.assertEqual(answer.headers.get_all("Retry-After"), ["5"])
        document = json.loads(body)
        self.assertEqual((document["code"], document["instance"]), ("bad-gateway", "/a"))


def _address(listening: socket.socket) -> str:
    listening.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{listening.getsockname()[1]}"


def _accept_and_hang_up(listening: socket.socket, accepted: list[bytes]) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            accepted.append(connection.recv(65_536))
