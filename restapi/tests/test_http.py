"""Names, ids, methods, ranges and forged headers, against a live gunicorn with nothing in front of it."""

import itertools
import re
import unittest
from pathlib import Path
from urllib.parse import quote

import requests

from tests.app import API, astronaut, jpeg
from tests.contract import check
from tests.http_case import HttpTest
from tests.wire import END, part, request

NOBODY = "0" * 32


FORGED = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "4711",
    "X-Forwarded-Prefix": "/evil",
    "X-Real-IP": "203.0.113.8",
    "Forwarded": "for=203.0.113.9;host=evil.example;proto=https",
}


class Forged:
    """What holds with and without a proxy in front."""

    def remote_of(self, **headers):
        """The address in the log of a request with some headers."""
        answer = self.session.get(f"{self.server.api}/detectors", headers=headers, timeout=30)
        self.assertEqual(answer.status_code, 200, answer.text)
        line = next(line for line in self.server.log().splitlines() if answer.headers["X-Request-ID"] in line)
        return re.search(r"remote=(\S+)", line)[1]

    def test_a_forged_host_does_not_pass_for_ours(self):
        answer = self.session.get(f"{self.server.api}/image", headers={"Host": "evil.example"}, timeout=30)
        self.assertProblem(answer, 403, "forbidden")

    def test_a_page_of_another_site_cannot_pass_for_ours_by_forged_headers(self):
        headers = FORGED | {"Origin": "https://evil.example"}
        self.assertProblem(self.upload(headers=headers), 403, "forbidden")


class AddressTest(Forged, HttpTest):
    """Names, ids, methods, ranges and headers, without a proxy in front."""

    NAMES = (
        "../../etc/passwd",
        "..\\..\\windows\\system32\\cmd.exe",
        "/etc/passwd",
        "C:\\photo.jpg",
        "a\0b.jpg",
        "a" * 4096 + ".jpg",
        "CON.jpg",
        "photo\u202egpj.exe",
        "a.jpg.php",
        "a\r\nX-Evil: 1.jpg",
        'a"; filename="evil.html',
        "a;b=c.jpg",
        "<script>alert(1)</script>.jpg",
        "%2e%2e%2fa.jpg",
        "~root/.ssh/authorized_keys",
        "$(reboot).jpg",
        "Größe 写真 🙂.jpg",
        ".",
        "..",
        ".htaccess",
        " ",
        "-rf",
        "nul",
    )

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        files = {"image": ("face.jpg", astronaut())}
        cls.id = requests.post(f"{cls.server.api}/image", files=files, timeout=60).json()["image"]["id"]

    def body(self, name):
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        return part(jpeg(), f'name="image"; filename="{quoted}"') + END

    def test_a_name_is_never_a_path_and_never_breaks_a_header(self):
        outside = {path for path in Path(self.server.folder.name).rglob("*") if path.is_file()}
        for name in self.NAMES:
            with self.subTest(name[:60]):
                headers = {"Content-Type": "multipart/form-data; boundary=edge"}
                answer = self.session.post(
                    f"{self.server.api}/image", data=self.body(name), headers=headers, timeout=30
                )
                if answer.status_code == 400 and re.search(r"[\0\r\n]", name):
                    continue  # such a part is malformed, and may be refused
                check(answer)
                self.assertEqual(answer.status_code, 200, answer.text)
                self.assertLessEqual(len(answer.json()["image"].get("filename", "")), 255)
                record = answer.json()["image"]["id"]
                for path in ("", "/processed"):
                    download = check(self.session.get(f"{self.server.api}/image/{record}{path}", timeout=30))
                    self.assertEqual(download.status_code, 200)
                    self.assertNotIn("X-Evil", download.headers)
                    self.assertRegex(
                        download.headers["Content-Disposition"],
                        r"""\Ainline; filename="[A-Za-z0-9._ -]+"; filename\*=UTF-8''[A-Za-z0-9%._~-]+\Z""",
                    )
        self.assertRowsAndFilesAgree()
        key = re.compile(r"[0-9a-f]{32}\.(original|processed-[0-9a-f]{8})\.jpg")
        self.assertEqual([name for name in self.files() if not key.fullmatch(name)], [])
        inside = self.server.data / "images"
        found = {path for path in Path(self.server.folder.name).rglob("*") if path.is_file()}
        self.assertEqual({path for path in found - outside if inside not in path.parents}, set())

    def test_no_id_leads_outside(self):
        (Path(self.server.folder.name) / "secret.jpg").write_bytes(jpeg())
        ids = (
            "..%2fsecret.jpg",
            "%2e%2e%2fsecret.jpg",
            "%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd",
            "..%5c..%5csecret.jpg",
            "..%c0%afsecret.jpg",
            "%252e%252e%252fsecret.jpg",
            quote(str(Path(self.server.folder.name) / "secret.jpg"), safe=""),
            "/etc/passwd",
            "../../secret.jpg",
            "imgdetect.db",
            "server.log",
            "a" * 3_000,
            "b" * 3_000 + ".jpg",
            NOBODY,
            NOBODY.upper(),
            f"{NOBODY}.original.jpg",
            f"{NOBODY}%00.jpg",
            "%00",
            "%ff%fe.jpg",
            "%zz",
            "'%20OR%201=1--.jpg",
            "*.jpg",
            "%25.jpg",
        )
        for method, path in itertools.product(("GET", "DELETE", "POST"), ids):
            end = "/processed" if method == "POST" else ""
            with self.subTest(method, path=path[:60]):
                sent = request(f"{method} {API}/image/{path}{end} HTTP/1.1", "Content-Length: 0", "Connection: close")
                (answer,) = self.send(sent).answers
                self.assertIn(answer.status, (404, 405) if "/" in path else (404,))
                self.assertProblem(answer, answer.status, answer.json()["code"])

    def ask(self, method, path, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.session.request(method, f"{self.server.url}{path}", headers=named, timeout=30)

    def test_a_wrong_method_is_told_the_right_ones(self):
        for path, allowed in {
            "/healthz": "GET HEAD OPTIONS",
            "/readyz": "GET HEAD OPTIONS",
            "/metrics": "GET HEAD OPTIONS",
            "/openapi.yaml": "GET HEAD OPTIONS",
            f"{API}/image": "GET HEAD OPTIONS POST",
            f"{API}/image/{self.id}": "DELETE GET HEAD OPTIONS",
            f"{API}/image/{self.id}/detections": "GET HEAD OPTIONS",
            f"{API}/image/{self.id}/processed": "DELETE GET HEAD OPTIONS POST",
            f"{API}/image/{self.id}/crops/0": "GET HEAD OPTIONS",
            f"{API}/detect": "OPTIONS POST",
            f"{API}/detectors": "GET HEAD OPTIONS POST",
            f"{API}/detectors/face": "DELETE GET HEAD OPTIONS",
            f"/api/v1/jobs/{NOBODY}": "DELETE GET HEAD OPTIONS",
        }.items():
            for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"} - set(allowed.split()):
                with self.subTest(path, method=method):
                    answer = self.ask(method, path)
                    self.assertEqual(answer.status_code, 405)
                    self.assertEqual(sorted(answer.headers["Allow"].split(", ")), allowed.split())
                    if method != "HEAD":
                        self.assertProblem(answer, 405, "method-not-allowed")
            with self.subTest(path, method="OPTIONS"):
                answer = self.ask("OPTIONS", path)
                self.assertEqual((answer.status_code, answer.content), (200, b""))
                self.assertEqual(sorted(answer.headers["Allow"].split(", ")), allowed.split())

    def test_head_is_get_without_the_body(self):
        varying = {"X-Request-ID", "Date"}
        for path in ("", "/detections", "/processed", "/processed?format=png", "/crops/0"):
            with self.subTest(path):
                got, headed = (self.ask(method, f"{API}/image/{self.id}{path}") for method in ("GET", "HEAD"))
                self.assertEqual((headed.status_code, headed.content), (200, b""))
                self.assertTrue(got.content)
                self.assertEqual(
                    {name: value for name, value in headed.headers.items() if name not in varying},
                    {name: value for name, value in got.headers.items() if name not in varying},
                )

    def test_ranges(self):
        for path in (f"{API}/image/{self.id}", f"{API}/image/{self.id}/processed"):
            whole = self.ask("GET", path)
            size, etag = len(whole.content), whole.headers["ETag"]
            self.assertEqual(whole.headers["Accept-Ranges"], "bytes")
            for given, (start, end) in {
                "bytes=0-0": (0, 1),
                "bytes=5-99": (5, 100),
                "bytes=100-": (100, size),
                "bytes=-7": (size - 7, size),
                f"bytes=10-{size * 2}": (10, size),
                f"bytes=-{size * 2}": (0, size),
            }.items():
                with self.subTest(path, given=given):
                    answer = check(self.ask("GET", path, Range=given))
                    self.assertEqual((answer.status_code, answer.content), (206, whole.content[start:end]))
                    self.assertEqual(answer.headers["Content-Range"], f"bytes {start}-{end - 1}/{size}")
                    self.assertEqual(answer.headers["ETag"], etag)
            answer = check(self.ask("GET", path, Range=f"bytes={size}-"))
            self.assertProblem(answer, 416, "range-not-satisfiable")
            self.assertEqual(answer.headers["Content-Range"], f"bytes */{size}")
            for ignored in ("bytes=", "bytes=a-b", "lines=0-5", "bytes=9-5", "0-5"):
                with self.subTest(path, ignored=ignored):
                    answer = check(self.ask("GET", path, Range=ignored))
                    self.assertIn(answer.status_code, (200, 416))
                    self.assertIn(answer.content if answer.status_code == 200 else whole.content, (whole.content,))
            self.assertEqual(self.ask("GET", path, Range="bytes=0-9", If_Range=etag).status_code, 206)
            other = self.ask("GET", path, Range="bytes=0-9", If_Range='"another"')
            self.assertEqual((other.status_code, other.content), (200, whole.content))

    def test_many_ranges_do_not_multiply_the_file(self):
        given = "bytes=" + ",".join("0-" for _ in range(500))
        answer = self.ask("GET", f"{API}/image/{self.id}", Range=given)
        self.assertLessEqual(len(answer.content), len(astronaut()))

    def test_what_the_client_has_is_not_sent_again(self):
        for path in ("", "/processed", "/processed?format=webp", "/crops/0", "/detections"):
            whole = self.ask("GET", f"{API}/image/{self.id}{path}")
            etag = whole.headers["ETag"]
            self.assertRegex(etag, r'\A"[0-9a-f]+(-\w+)?"\Z')
            for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
                with self.subTest(path, given=given):
                    answer = check(self.ask("GET", f"{API}/image/{self.id}{path}", If_None_Match=given))
                    self.assertEqual((answer.status_code, answer.content), (304, b""))
                    self.assertEqual(answer.headers["ETag"], etag)
            for given in ('"other"', 'W/"other"', ""):
                with self.subTest(path, given=given):
                    answer = self.ask("GET", f"{API}/image/{self.id}{path}", If_None_Match=given)
                    self.assertEqual((answer.status_code, answer.content), (200, whole.content))

    def test_forwarded_headers_are_not_believed_without_a_proxy(self):
        self.assertEqual(self.remote_of(**FORGED), "127.0.0.1")
        page = self.session.get(f"{self.server.url}/apidocs/", headers=FORGED, timeout=30)
        self.assertNotIn("evil", page.text + str(page.headers))
        for name, value in (("X-Forwarded-Ssl", "on"), ("X-Forwarded-Protocol", "ssl"), ("SCRIPT_NAME", "/evil")):
            contradicting = {name: value, "X-Forwarded-Proto": "http"}
            with self.subTest(name):
                self.assertEqual(self.remote_of(**contradicting), "127.0.0.1")


class OneProxyTest(Forged, HttpTest):
    settings = {"IMGDETECT_TRUSTED_PROXIES": "1"}

    def test_of_forwarded_headers_only_what_the_proxy_added_is_believed(self):
        self.assertEqual(self.remote_of(**{"X-Forwarded-For": "203.0.113.7"}), "203.0.113.7")
        self.assertEqual(self.remote_of(**{"X-Forwarded-For": "198.51.100.1, 203.0.113.7"}), "203.0.113.7")
        self.assertEqual(self.remote_of(), "127.0.0.1")


if __name__ == "__main__":
    unittest.main()
