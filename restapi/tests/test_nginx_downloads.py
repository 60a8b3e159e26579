"""Downloads: the same answers whether nginx sends the file or the service does, and the whole service behind nginx."""

import unittest

import requests

from tests.live_server import ROOT, LiveServer
from tests.nginx_cases import WAIT_SECONDS
from tests.nginx_server import NginxTest

PICTURE = ROOT / "test_images" / "input" / "astronaut.jpg"
# What may differ: nginx names itself, and every answer has its own id and time.
OF_THE_HOP = {"server", "date", "connection", "x-request-id"}


class DownloadTest(NginxTest):
    """One service behind nginx and one without share a data folder."""

    paths: tuple[str, ...]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.behind = cls.enterClassContext(LiveServer(IMGDETECT_ACCEL_PREFIX="/_files/", IMGDETECT_TRUSTED_PROXIES="1"))
        cls.direct = cls.enterClassContext(LiveServer(IMGDETECT_DATA_DIR=str(cls.behind.data)))
        cls.start_nginx(f"127.0.0.1:{cls.behind.port}", cls.behind.data / "images")
        with PICTURE.open("rb") as picture:
            url = f"{cls.nginx.url}/api/v1/objectdetection/image"
            answer = requests.post(url, files={"image": ("na\u00efve; .jpg", picture)}, timeout=WAIT_SECONDS)
        answer.raise_for_status()
        own = str(answer.json()["image"]["links"]["self"])
        cls.paths = (
            own,
            f"{own}/processed",
            f"{own}/processed?format=png",
            f"{own.rpartition('/')[0]}/na\u00efve; .jpg",
        )

    def test_nginx_really_sends_the_file(self) -> None:
        for path in self.paths[:2]:
            handed_over = requests.get(self.behind.url + path, timeout=WAIT_SECONDS)
            self.assertRegex(handed_over.headers["X-Accel-Redirect"], "^/_files/")
            self.assertEqual(handed_over.content, b"")
            sent = requests.get(self.nginx.url + path, timeout=WAIT_SECONDS)
            self.assertGreater(len(sent.content), 1000)
            self.assertNotIn("X-Accel-Redirect", sent.headers)
        self.assertEqual(
            requests.get(self.nginx.url + self.paths[0], timeout=WAIT_SECONDS).content, PICTURE.read_bytes()
        )

    def test_answers_are_the_same_with_and_without_nginx(self) -> None:
        etag = requests.get(self.direct.url + self.paths[0], timeout=WAIT_SECONDS).headers["ETag"]
        for headers, status in (
            ({}, 200),
            ({"If-None-Match": etag}, 304),
            ({"If-None-Match": f'"other", W/{etag}'}, 304),
            ({"If-None-Match": "*"}, 304),
            ({"If-None-Match": '"other"'}, 200),
            ({"If-None-Match": '"other"', "If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 200),
            ({"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 200),
            ({"Range": "bytes=0-99"}, 206),
            ({"Range": "bytes=100-"}, 206),
            ({"Range": "bytes=-100"}, 206),
            ({"Range": "bytes=0-9999999"}, 206),
            ({"Range": "bytes=9999999-"}, 416),
            ({"Range": "bytes=0-99", "If-Range": etag}, 206),
            ({"Range": "bytes=0-99", "If-Range": '"other"'}, 200),
            ({"Range": "bytes=0-99", "If-None-Match": etag}, None),
            ({"Range": "bytes=0-9,20-29"}, None),
            ({"Range": "bytes=9-0"}, None),
            ({"Range": "bytes=abc"}, None),
            ({"Range": "lines=1-2"}, None),
        ):
            for path in self.paths:
                for method in ("GET", "HEAD"):
                    with self.subTest(path=path, method=method, headers=headers):
                        found = self._compare(method, path, headers)
                        if path == self.paths[0] and status:
                            self.assertEqual(found, status)

    def test_an_upload_over_tls_is_detected(self) -> None:
        url = f"{self.nginx.https_url}/api/v1/objectdetection/image"
        with PICTURE.open("rb") as picture:
            certificate = str(self.nginx.certificate)
            answer = requests.post(url, files={"image": picture}, verify=certificate, timeout=WAIT_SECONDS)
        self.assertEqual(answer.status_code, 200)
        self.assertEqual(len(answer.json()["detections"]), 1)
        self.assertTrue(answer.headers["Location"].startswith("/"), answer.headers["Location"])

    def _compare(self, method: str, path: str, headers: dict[str, str]) -> int:
        answers = [
            requests.request(method, server + path, headers=headers | {"Accept-Encoding": ""}, timeout=WAIT_SECONDS)
            for server in (self.direct.url, self.nginx.url)
        ]
        direct, through = answers
        self.assertEqual(through.status_code, direct.status_code)
        kept = [
            {name.lower(): value for name, value in answer.headers.items() if name.lower() not in OF_THE_HOP}
            for answer in answers
        ]
        self.assertEqual(kept[1], kept[0])
        if direct.status_code < 400:
            self.assertEqual(through.content, direct.content)
        return direct.status_code


if __name__ == "__main__":
    unittest.main()
