"""Requests that are malformed, too large, cut short or meant to be misunderstood, against a live gunicorn."""

import itertools
import socket
import unittest
from concurrent.futures import ThreadPoolExecutor

import requests

from tests.app import API, jpeg
from tests.http_case import HttpTest
from tests.processes import Family, forget_peak, memory_kib, until
from tests.wire import END, MULTIPART, chunked, part, request

MAX_BYTES = 400_000
MEBIBYTE = bytes(1 << 20)
HEALTHZ = request("GET /healthz HTTP/1.1")
TO_DETECT = f"POST {API}/detect HTTP/1.1"
RAW = "Content-Type: image/jpeg"


class MalformedTest(HttpTest):
    MALFORMED = {
        "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "method in small letters": request("get /healthz HTTP/1.1"),
        "no such version": request("GET /healthz HTTP/9.9"),
        "no version": request("GET /healthz"),
        "blanks in the address": request("GET /healthz /readyz HTTP/1.1"),
        "NUL in the address": request("GET /health\0z HTTP/1.1"),
        "a letter beyond ASCII in the address": request("GET /health\xe9 HTTP/1.1"),
        "NUL in a header": request("GET /healthz HTTP/1.1", "X-A: b\0c"),
        "a carriage return in a header": request("GET /healthz HTTP/1.1", "X-A: b\rc"),
        "bare line feeds": b"GET /healthz HTTP/1.1\nHost: 127.0.0.1\n\n",
        "a folded header": request("GET /healthz HTTP/1.1", "X-A: b", " c"),
        "a header without a name": request("GET /healthz HTTP/1.1", ": b"),
        "a header without a colon": request("GET /healthz HTTP/1.1", "X-A"),
        "a blank before the colon": request("GET /healthz HTTP/1.1", "X-A : b"),
        "no Host": request("GET /healthz HTTP/1.1", host=b""),
        "two Hosts": request("GET /healthz HTTP/1.1", "Host: elsewhere"),
        "an expectation": request(TO_DETECT, RAW, "Expect: miracles", "Content-Length: 4", body=b"abcd"),
    }
    # Behind each comes a request that must not get an answer: where it begins is what the two ends disagree about.
    SMUGGLED = {
        "length and chunks": ("Content-Length: 5", "Transfer-Encoding: chunked", chunked()),
        "two lengths": ("Content-Length: 4", "Content-Length: 60", b"abcd"),
        "two equal lengths": ("Content-Length: 4", "Content-Length: 4", b"abcd"),
        "a list of lengths": ("Content-Length: 4, 4", b"abcd"),
        "a negative length": ("Content-Length: -4", b"abcd"),
        "a length with a sign": ("Content-Length: +4", b"abcd"),
        "a length in hexadecimal": ("Content-Length: 0x4", b"abcd"),
        "a coding that is not spoken here": ("Transfer-Encoding: xchunked", chunked(b"abcd")),
        "chunks, and not as the last coding": ("Transfer-Encoding: chunked, gzip", chunked(b"abcd")),
        "chunks twice": ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", chunked(b"abcd")),
        "a blank before the colon of chunks": ("Transfer-Encoding : chunked", chunked(b"abcd")),
        "a tab before chunks": ("Transfer-Encoding: \x0bchunked", chunked(b"abcd")),
        "a size that is no number": ("Transfer-Encoding: chunked", b"zz\r\nabcd\r\n0\r\n\r\n"),
        "a size with a prefix": ("Transfer-Encoding: chunked", b"0x4\r\nabcd\r\n0\r\n\r\n"),
        "a negative size": ("Transfer-Encoding: chunked", b"-4\r\nabcd\r\n0\r\n\r\n"),
        "an empty size": ("Transfer-Encoding: chunked", b"\r\nabcd\r\n0\r\n\r\n"),
        "a size that is too small": ("Transfer-Encoding: chunked", b"2\r\nabcd\r\n0\r\n\r\n"),
        "sizes that end in a line feed": ("Transfer-Encoding: chunked", b"4\nabcd\n0\n\n\r\n"),
        "an extension that is none": ("Transfer-Encoding: chunked", b"4;\x01\r\nabcd\r\n0\r\n\r\n"),
        "a length as a trailer": ("Transfer-Encoding: chunked", b"4\r\nabcd\r\n0\r\nContent-Length: 9\r\n\r\n"),
    }

    def test_what_is_not_http_is_refused_once_and_the_connection_ends(self):
        for name, sent in self.MALFORMED.items():
            with self.subTest(name):
                self.assertRefused(self.send(sent + HEALTHZ), 400, "invalid-request")

    def test_a_smuggled_request_is_never_answered(self):
        for (name, (*headers, body)), kind in itertools.product(self.SMUGGLED.items(), (RAW, MULTIPART)):
            with self.subTest(name, kind=kind):
                exchanged = self.send(request(TO_DETECT, kind, *headers, body=body + HEALTHZ))
                self.assertRefused(exchanged, 400, "invalid-request")

    def test_a_malformed_body_that_nobody_reads_ends_the_connection(self):
        sent = request("GET /healthz HTTP/1.1", "Transfer-Encoding: chunked", body=b"zz\r\n" + HEALTHZ)
        exchanged = self.send(sent)
        self.assertEqual([answer.status for answer in exchanged.answers], [200])
        self.assertTrue(exchanged.closed)

    def test_requests_one_behind_the_other_are_answered_in_turn(self):
        last = request("GET /nothing HTTP/1.1", "Connection: close")
        exchanged = self.send(HEALTHZ + request("POST /healthz HTTP/1.1", "Content-Length: 3", body=b"abc") + last)
        self.assertEqual([answer.status for answer in exchanged.answers], [200, 405, 404])

    def test_long_addresses_and_large_headers(self):
        for sent, status, code in (
            (request(f"GET /{'a' * 5_000} HTTP/1.1"), 414, "uri-too-long"),
            (request(f"GET /healthz?a={'a' * 100_000} HTTP/1.1"), 414, "uri-too-long"),
            (request("GET /healthz HTTP/1.1", f"X-A: {'a' * 9_000}"), 431, "headers-too-large"),
            (request("GET /healthz HTTP/1.1", f"X-A: {'a' * 900_000}"), 431, "headers-too-large"),
            (request("GET /healthz HTTP/1.1", *(f"X-{n}: a" for n in range(100))), 431, "headers-too-large"),
            (request("GET /healthz HTTP/1.1", f"Cookie: {'a=b; ' * 2_000}"), 431, "headers-too-large"),
        ):
            with self.subTest(code, length=len(sent)):
                self.assertRefused(self.send(sent + HEALTHZ), status, code)
        self.assertEqual(self.send(request(f"GET /{'a' * 4_000} HTTP/1.1", "Connection: close")).answers[0].status, 404)

    def test_clients_that_do_not_close_their_end_hold_nobody_up(self):
        for sent in (b"nonsense\r\n\r\n", request("GET /healthz HTTP/1.1", "Connection: close")):
            lingering = [self.enterContext(socket.create_connection(("127.0.0.1", self.server.port))) for _ in range(4)]
            for connection in lingering:
                connection.sendall(sent)
            for connection in lingering:
                connection.settimeout(10)
                self.assertTrue(connection.recv(1 << 16))
            # Four who are waited for one after the other would take eight seconds.
            self.assertEqual(requests.get(f"{self.server.url}/healthz", timeout=1.9).status_code, 200)

    def test_what_is_logged_is_one_line_whatever_was_sent(self):
        for sent in (
            request("GET /a%0a%1b[31mforged-1 HTTP/1.1", "Connection: close"),
            request("GET /a%0a%1b[31m%20forged-2 HTTP/1.1", "Connection: close", "X-Request-ID: a\tforged-3"),
            request("GET /a\x1b[31mforged-4 HTTP/1.1"),
            request("GET /a HTTP/1.1", "X-A\x1b[31mforged-5: b"),
        ):
            self.send(sent)
        log = self.server.log()
        for number in (1, 2, 4, 5):
            self.assertIn(f"forged-{number}", log)
        self.assertNotIn("forged-3", log)
        self.assertNotIn("\x1b", log)
        self.assertEqual([line for line in log.splitlines() if "forged" in line.partition(" ")[0]], [])


class BodyTest(HttpTest):
    settings = {"IMGDETECT_MAX_UPLOAD_BYTES": str(MAX_BYTES), "IMGDETECT_SLOTS": "1"}

    def setUp(self):
        super().setUp()
        self.before = sorted(self.files())

    def tearDown(self):
        self.assertEqual(sorted(self.files()), self.before)
        self.assertRowsAndFilesAgree()
        self.assertEqual(self.session.get(f"{self.server.url}/healthz", timeout=10).status_code, 200)

    def multipart(self, *parts, length=None, line=f"POST {API}/image HTTP/1.1", kind=MULTIPART, end=END):
        body = b"".join(parts) + end
        headers = (kind, f"Content-Length: {len(body) if length is None else length}", "Connection: close")
        return request(line, *headers, body=body)

    def test_a_body_over_the_limit_is_refused_however_it_is_sent(self):
        image = part(MEBIBYTE, 'name="image"; filename="a.jpg"') + END
        pieces = [image[start : start + 50_000] for start in range(0, len(image), 50_000)]
        for name, sent in {
            "by length": request(TO_DETECT, RAW, f"Content-Length: {len(MEBIBYTE)}", body=MEBIBYTE),
            "by length, in parts": request(TO_DETECT, MULTIPART, f"Content-Length: {len(image)}", body=image),
            "in chunks": request(TO_DETECT, RAW, "Transfer-Encoding: chunked", body=chunked(*[MEBIBYTE[:50_000]] * 20)),
            "in chunks, in parts": request(TO_DETECT, MULTIPART, "Transfer-Encoding: chunked", body=chunked(*pieces)),
            "by a length that never comes": request(TO_DETECT, RAW, f"Content-Length: {10**20}", body=b"a"),
            "in one chunk that never ends": request(
                TO_DETECT, RAW, "Transfer-Encoding: chunked", body=b"f" * 12 + b"\r\n" + MEBIBYTE
            ),
        }.items():
            with self.subTest(name):
                body = self.assertRefused(self.send(sent + HEALTHZ), 413, "upload-too-large")
                self.assertEqual(body["max_bytes"], MAX_BYTES)

    def test_the_limit_is_of_the_picture_and_not_of_the_form_around_it(self):
        small = jpeg()
        for size, status in ((MAX_BYTES, 200), (MAX_BYTES + 1, 413)):
            data = small + bytes(size - len(small))
            for headers, sent in (
                ({"Content-Type": "image/jpeg"}, {"data": data}),
                ({}, {"files": {"image": ("a" * 200, data)}}),
            ):
                with self.subTest(size, kind=list(sent)):
                    answer = self.session.post(f"{self.server.api}/detect", headers=headers, timeout=30, **sent)
                    self.assertEqual(answer.status_code, status, answer.text[:300])

    def test_a_client_of_the_usual_kind_gets_to_see_the_refusal(self):
        for _ in range(3):
            answer = self.upload(MEBIBYTE * 40)
            self.assertProblem(answer, 413, "upload-too-large")

    def test_memory_and_disk_are_bounded_while_bodies_without_end_come_in(self):
        sent = request(f"POST {API}/image HTTP/1.1", MULTIPART, "Transfer-Encoding: chunked")
        start = part(b"", 'name="image"; filename="a.jpg"')[:-2]
        (worker,) = Family.of(self.server).workers
        forget_peak(worker.pid)
        before = memory_kib(worker.pid, "VmRSS")
        with ThreadPoolExecutor(6) as threads:
            many = [sent + chunked(start, *[MEBIBYTE] * 30)] * 6
            for exchanged in threads.map(self.send, many):
                self.assertEqual([answer.status for answer in exchanged.answers], [413])
        self.assertLess(memory_kib(worker.pid, "VmHWM") - before, 60 << 10)  # of 180 MiB that were sent
        self.assertRowsAndFilesAgree()

    def test_a_body_that_ends_before_its_length_is_no_upload(self):
        image = jpeg()
        whole = part(image, 'name="image"; filename="a.jpg"') + END
        for name, sent in {
            "raw": request(f"POST {API}/image HTTP/1.1", RAW, f"Content-Length: {len(image) + 1}", body=image),
            "in parts": request(
                f"POST {API}/image HTTP/1.1", MULTIPART, f"Content-Length: {len(whole) + 1}", body=whole
            ),
            "in chunks": request(
                f"POST {API}/image HTTP/1.1", RAW, "Transfer-Encoding: chunked", body=chunked(image)[:-5]
            ),
        }.items():
            with self.subTest(name):
                self.assertRefused(self.send(sent, then_close=True), 400, "invalid-request")

    def test_a_client_that_vanishes_in_the_middle_leaves_nothing(self):
        for size in (0, 10, 100_000):
            sent = request(f"POST {API}/image HTTP/1.1", RAW, "Content-Length: 300000", body=jpeg() + bytes(size))
            with socket.create_connection(("127.0.0.1", self.server.port)) as connection:
                connection.sendall(sent)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset, do not end
        self.assertTrue(until(lambda: self.server.log().count("status=400") >= 3), self.server.log()[-1000:])

    def test_a_length_that_cuts_the_form_off(self):
        image = part(jpeg(), 'name="image"; filename="a.jpg"')
        for length in (0, 1, 20, 80, 300, len(image) - 1):
            with self.subTest(length):
                (answer,) = self.send(self.multipart(image, length=length)).answers
                self.assertProblem(answer, 400, "invalid-request")

    def test_parts_that_are_missing_doubled_or_of_another_name(self):
        image = part(jpeg(), 'name="image"; filename="a.jpg"')
        text = part(b"face", 'name="detector"')
        for name, parts in {
            "none": (),
            "text only": (text,),
            "twice": (image, image),
            "another name": (part(jpeg(), 'name="picture"; filename="a.jpg"'),),
            "a second file": (image, part(b"x", 'name="more"; filename="b.jpg"')),
            "no file name": (part(b"abc", 'name="image"'),),
            "no name": (part(jpeg(), 'filename="a.jpg"'),),
            "an empty name": (part(jpeg(), 'name=""; filename="a.jpg"'),),
            "nothing in it": (part(b"", 'name="image"; filename="a.jpg"'),),
            "a header only": (b'--edge\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n',),
            "no headers": (b"--edge\r\n\r\n" + jpeg() + b"\r\n",),
            "a parameter twice": (image, text, text),
            "no such parameter": (image, part(b"1", 'name="colour"')),
            "forty parameters": (image, *(part(b"1", f'name="p{n}"') for n in range(30))),
            "a text without a name": (image, part(b"1", 'x="y"')),
            "letters that are no UTF-8": (image, part(b"\xff\xfe", 'name="detector"')),
        }.items():
            with self.subTest(name):
                (answer,) = self.send(self.multipart(*parts)).answers
                self.assertIn(answer.status, (400, 404), answer)
                self.assertProblem(answer, answer.status, answer.json()["code"])

    def test_more_parts_or_text_than_any_upload_has(self):
        image = part(jpeg(), 'name="image"; filename="a.jpg"')
        for name, parts in {
            "1,001 parts": [part(b"1", 'name="detector"')] * 1_000 + [image],
            "1,001 files": [image] * 1_001,
            "a huge text": [image, part(b"a" * 300_000, 'name="detector"')],
            "many texts": [image, *(part(b"a" * 20_000, f'name="p{n}"') for n in range(18))],
            "a huge part header": [part(jpeg(), f'name="image"; filename="{"a" * 300_000}"')],
        }.items():
            with self.subTest(name):
                (answer,) = self.send(self.multipart(*parts)).answers
                self.assertIn(answer.status, (400, 413))
                self.assertProblem(answer, answer.status, answer.json()["code"])

    def test_bodies_whose_kind_is_wrong(self):
        image = part(jpeg(), 'name="image"; filename="a.jpg"')
        for kind in (
            "Content-Type: multipart/form-data",
            "Content-Type: multipart/form-data; boundary=",
            "Content-Type: multipart/form-data; boundary=another",
            f"Content-Type: multipart/form-data; boundary={'e' * 300}",
            "Content-Type: multipart/mixed; boundary=edge",
            "Content-Type: application/x-www-form-urlencoded",
            "Content-Type: application/json",
            "Content-Type: text/plain",
            "Content-Type: image",
            "Content-Type: \xff/\xfe",
            "X-No-Content-Type: 1",
        ):
            with self.subTest(kind):
                (answer,) = self.send(self.multipart(image, kind=kind)).answers
                self.assertProblem(answer, 400, "invalid-request")

    def test_compressed_bodies_are_not_unpacked(self):
        headers = {"Content-Type": "image/jpeg", "Content-Encoding": "gzip"}
        answer = self.session.post(
            f"{self.server.api}/detect", data=b"\x1f\x8b" + bytes(100), headers=headers, timeout=30
        )
        self.assertProblem(answer, 415, "unsupported-image")


if __name__ == "__main__":
    unittest.main()
