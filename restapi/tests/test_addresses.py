"""Where a client's URL may lead, and requests that go nowhere else."""

import http.server
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest
from ipaddress import ip_address
from pathlib import Path
from unittest import mock

from imgdetect import addresses
from imgdetect.addresses import (
    AddressRefused,
    NameUnknown,
    is_admitted,
    networks,
    refuse_at_once,
    resolve,
    target_of,
)
from imgdetect.outgoing import NoAnswer, exchange

LOOPBACK = networks("127.0.0.0/8")
# fmt: off
REFUSED = [
    "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "0.1.2.3", "::", "10.0.0.1", "172.16.0.1", "172.31.255.255",
    "192.168.1.1", "169.254.169.254", "fe80::1", "fec0::1", "fc00::1", "fd12:3456::1", "100.64.0.1",
    "100.127.255.255", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.255", "ff02::1", "ff0e::1", "240.0.0.1", "255.255.255.255", "192.88.99.1", "::ffff:127.0.0.1",
    "::ffff:8.8.8.8", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1",
    "2002:7f00:1::", "2002:808:808::1", "2001::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1", "4000::1"
]
ADMITTED = [
    "8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.32.0.1", "2606:4700:4700::1111", "2a00:1450:4001::1"
]
# fmt: on


def answers(*found):
    """What a look-up gives, as the system's resolver would."""
    entries = [(socket.AF_INET6 if ":" in a else socket.AF_INET, 1, 6, "", (a, 80)) for a in found]
    return mock.patch.object(addresses.socket, "getaddrinfo", return_value=entries)


class RuleTest(unittest.TestCase):
    def test_only_public_addresses_are_admitted(self):
        for text in REFUSED:
            with self.subTest(text):
                self.assertFalse(is_admitted(ip_address(text)))
        for text in ADMITTED:
            with self.subTest(text):
                self.assertTrue(is_admitted(ip_address(text)))

    def test_an_allowed_network_is_admitted_and_nothing_near_it(self):
        allowed = networks("10.1.0.0/16 fd00::/8")
        self.assertTrue(is_admitted(ip_address("10.1.2.3"), allowed))
        self.assertTrue(is_admitted(ip_address("fd00::1"), allowed))
        for text in ("10.2.0.0", "::ffff:10.1.2.3", "fc00::1", "127.0.0.1"):
            self.assertFalse(is_admitted(ip_address(text), allowed), text)
        with self.assertRaises(ValueError):
            networks("10.1.2.3/16")

    def test_every_address_of_a_name_has_to_be_admitted(self):
        target = target_of("http://a.example/")
        with answers("8.8.8.8", "2606:4700::1", "8.8.8.8"):
            self.assertEqual(resolve(target, (), 5), ["8.8.8.8", "2606:4700::1"])
        for bad in (*REFUSED, "fe80::1%eth0"):
            for found in ([bad], ["8.8.8.8", bad]):
                with self.subTest(found), answers(*found), self.assertRaises(AddressRefused):
                    resolve(target, (), 5)
        with answers("127.0.0.1"):
            self.assertEqual(resolve(target, LOOPBACK, 5), ["127.0.0.1"])

    def test_ways_of_writing_loopback_are_seen_through_by_looking_them_up(self):
        for host in ("127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0", "localhost", "LOCALHOST"):
            with self.subTest(host), self.assertRaises((AddressRefused, NameUnknown)):
                resolve(target_of(f"http://{host}/"), (), 20)

    def test_a_name_without_an_address_or_an_answer_is_unknown(self):
        with mock.patch.object(addresses.socket, "getaddrinfo", side_effect=socket.gaierror):
            self.assertRaises(NameUnknown, resolve, target_of("http://a.example/"), (), 5)
        never = threading.Event()
        self.addCleanup(never.set)
        with mock.patch.object(addresses.socket, "getaddrinfo", side_effect=lambda *a, **k: never.wait(30) and []):
            self.assertRaises(NameUnknown, resolve, target_of("http://a.example/"), (), 0.05)

    def test_the_form_of_a_url(self):
        self.assertEqual(target_of("https://a.example"), ("https", "a.example", 443, "/"))
        self.assertEqual(target_of("HTTP://A.Example:8080/p?q=%20"), ("http", "a.example", 8080, "/p?q=%20"))
        self.assertEqual(target_of("http://[2606:4700::1]/"), ("http", "2606:4700::1", 80, "/"))
        self.assertEqual(target_of("http://[2606:4700::1]:8100/").authority, "[2606:4700::1]:8100")
        self.assertEqual(target_of("https://a.example:443/").authority, "a.example")
        for url in (
            "",
            "a.example",
            "//a.example/",
            "ftp://a.example/",
            "file:///etc/passwd",
            "gopher://a.example/",
            "http://",
            "http:///path",
            "http://user@a.example/",
            "http://user:pass@a.example/",
            "http://a.example@b.example/",
            "http://a.example/#fragment",
            "http://a.example:0/",
            "http://a.example:22/",
            "http://a.example:25/",
            "http://a.example:65536/",
            "http://a.example:port/",
            "http://a b/",
            "http://a.example/\r\nX: y",
            "http://a.example\\@b.example/",
            "http://ä.example/",
            "http://[::1/",
            "http://[fe80::1%25eth0]/",
            "http://a_%41.example/",
            "http://a.example/" + "x" * 2048,
        ):
            with self.subTest(url), self.assertRaises(AddressRefused):
                target_of(url)

    def test_what_needs_no_look_up_is_refused_at_once(self):
        for host in ("127.0.0.1", "[::1]", "10.0.0.1", "localhost", "a.localhost.", "169.254.169.254"):
            with self.subTest(host), self.assertRaises(AddressRefused):
                refuse_at_once(target_of(f"http://{host}/"), ())
        refuse_at_once(target_of("http://a.example/"), ())
        refuse_at_once(target_of("http://8.8.8.8/"), ())
        refuse_at_once(target_of("http://localhost/"), LOOPBACK)


class Server:
    """A server of loopback whose handler is given; a context manager."""

    def __init__(self, answer, context=None):
        self.seen = seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                seen.append(
                    (self.path, dict(self.headers), self.rfile.read(int(self.headers.get("Content-Length", 0))))
                )
                answer(self)

            do_GET = do_POST

            def log_message(self, *unused):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.server.shutdown()
        self.server.server_close()


def say(status=200, body=b"fine", **headers):
    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


class ExchangeTest(unittest.TestCase):
    def post(self, url, seconds=20.0, allowed=LOOPBACK, max_bytes=100):
        target = target_of(url)
        return exchange(target, "POST", {"X-A": "b"}, b"body", allowed=allowed, seconds=seconds, max_bytes=max_bytes)

    def test_a_request_and_its_answer(self):
        with Server(say(201, b"done", Kept="yes")) as server:
            answer = self.post(f"http://127.0.0.1:{server.port}/a?b=c")
            self.assertEqual((answer.status, answer.body, answer.whole), (201, b"done", True))
            self.assertEqual(answer.headers["kept"], "yes")
            path, headers, body = server.seen[0]
            self.assertEqual((path, headers["X-A"], body), ("/a?b=c", "b", b"body"))
            self.assertEqual(headers["Host"], f"127.0.0.1:{server.port}")

    def test_the_connection_goes_to_the_address_that_was_checked(self):
        """A name that means something else a moment later: the second look-up would be refused."""
        first, second = ([(socket.AF_INET, 1, 6, "", (a, 0))] for a in ("127.0.0.1", "10.0.0.1"))
        with Server(say()) as server:
            real = socket.getaddrinfo
            pending = [first, second]

            def rebinding(host, *arguments, **named):
                return pending.pop(0) if host == "rebind.example" else real(host, *arguments, **named)

            with mock.patch.object(addresses.socket, "getaddrinfo", rebinding):
                answer = self.post(f"http://rebind.example:{server.port}/")
            self.assertEqual((answer.status, pending), (200, [second]))
            self.assertEqual(server.seen[0][1]["Host"], f"rebind.example:{server.port}")

    def test_nothing_is_sent_to_an_address_that_is_not_admitted(self):
        with Server(say()) as server:
            self.assertRaises(AddressRefused, self.post, f"http://127.0.0.1:{server.port}/", allowed=())
            self.assertRaises(AddressRefused, self.post, f"http://localhost:{server.port}/", allowed=())
            self.assertEqual(server.seen, [])

    def test_a_redirect_is_not_followed(self):
        with Server(say(302, b"", Location="/elsewhere")) as server:
            answer = self.post(f"http://127.0.0.1:{server.port}/")
            self.assertEqual((answer.status, answer.headers["location"]), (302, "/elsewhere"))
            self.assertEqual(len(server.seen), 1)

    def test_no_more_is_read_than_asked_for(self):
        with Server(say(200, b"x" * 101)) as server:
            answer = self.post(f"http://127.0.0.1:{server.port}/")
            self.assertEqual((len(answer.body), answer.whole), (100, False))

    def test_who_sends_drop_by_drop_is_cut_off(self):
        ended = threading.Event()

        def drip(handler):
            try:
                handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while not ended.wait(0.02):
                    handler.wfile.write(b"X-A: b\r\n" if handler.path == "/headers" else b"X")
            except OSError:
                ended.set()

        for path in ("headers", "line"):
            ended.clear()
            with self.subTest(path), Server(drip) as server:
                self.assertRaises(NoAnswer, self.post, f"http://127.0.0.1:{server.port}/{path}", seconds=0.5)
                self.assertTrue(ended.wait(20))

    def test_nobody_there_and_no_http_is_no_answer(self):
        with Server(lambda handler: handler.wfile.write(b"SSH-2.0-x\r\n")) as server:
            self.assertRaises(NoAnswer, self.post, f"http://127.0.0.1:{server.port}/")
            port = server.port
        self.assertRaises(NoAnswer, self.post, f"http://127.0.0.1:{port}/")

    def test_tls_is_for_the_name_and_not_for_the_address(self):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="imgdetect-test-")))
        key, certificate = folder / "key", folder / "certificate"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-days", "2", "-subj", "/CN=a.example", "-addext", "subjectAltName=DNS:a.example"),
                *("-keyout", str(key), "-out", str(certificate)),
            ],
            check=True,
            capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        real = socket.getaddrinfo
        local = mock.patch.object(addresses.socket, "getaddrinfo", lambda host, *a, **k: real("127.0.0.1", *a, **k))
        with Server(say(), context) as server, local:
            self.assertRaises(NoAnswer, self.post, f"https://a.example:{server.port}/")  # nobody vouches for it
            with mock.patch.dict("os.environ", SSL_CERT_FILE=str(certificate)):
                self.assertEqual(self.post(f"https://a.example:{server.port}/").status, 200)
                self.assertRaises(NoAnswer, self.post, f"https://b.example:{server.port}/")


if __name__ == "__main__":
    unittest.main()
