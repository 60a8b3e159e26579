"""Uploads as JSON: Base64, data: URLs, and images that are fetched from an address."""

import base64
import http.server
import json
import threading
import unittest
from unittest import mock

from imgdetect import remote
from tests.app import API, AppTest, astronaut


class Site:
    """A server of pictures on loopback, with addresses that misbehave."""

    def __init__(self):
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                site.seen.append(self.path)
                kind, _, rest = self.path.strip("/").partition("/")
                if kind == "to":
                    self.send_response(302)
                    self.send_header("Location", rest if rest.startswith("http") else f"/{rest}")
                    self.end_headers()
                elif kind == "missing":
                    self.send_error(404)
                elif kind == "cut":
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.wfile.write(b"\xff\xd8")
                elif kind == "slow":
                    site.stop.wait(60)
                else:
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(b"x" * 300_000 if kind == "large" else astronaut() if kind == "a.jpg" else b"text")

            def log_message(self, *unused):
                pass

        self.seen = []
        self.stop = threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.stop.set()
        self.server.shutdown()
        self.server.server_close()


class JsonCase(AppTest):
    def send(self, body, path="image", headers=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(f"{API}/{path}", data=data, content_type="application/json", headers=headers)

    def refused(self, field, body, path="image"):
        problem = self.assertProblem(self.send(body, path), 400, "invalid-request")
        if field:
            self.assertIn(field, {error["field"] for error in problem["errors"]})
        return problem["detail"]


class Base64Test(JsonCase):
    settings = {"max_upload_bytes": 200_000}

    def body(self, data=None, **members):
        return {"image_base64": base64.b64encode(data or astronaut()).decode()} | members

    def test_it_is_looked_at_and_kept_as_a_form_is(self):
        answer = self.send(self.body(filename="../me.jpg", min_neighbors=4, rotations=[0, 90], label=False))
        self.assertEqual(answer.status_code, 200, answer.text)
        found = answer.get_json()
        self.assertEqual((found["found"], found["image"]["filename"]), (1, "me.jpg"))
        self.assertEqual(self.client.get(found["image"]["links"]["self"]).data, astronaut())
        form = self.uploaded(astronaut(), min_neighbors=4, rotations="0,90", label="false")
        self.assertEqual((form["detections"], form["parameters"]), (found["detections"], found["parameters"]))
        self.assertTrue(form["cached"])

    def test_the_parameters_of_an_answer_can_be_sent_again(self):
        asked = "roi=0,0,400,400&min_size=30,40&mask=0,0;500,0;500,500;0,500&max_area=90000"
        first = self.client.post(f"{API}/detect?{asked}", data=astronaut(), content_type="image/jpeg").get_json()
        again = self.send(self.body(**first["parameters"]), "detect")
        self.assertEqual(again.status_code, 200, again.text)
        self.assertEqual(again.get_json()["parameters"], first["parameters"])

    def test_a_data_url_is_taken(self):
        data = f"data:image/jpeg;base64,{base64.b64encode(astronaut()).decode()}"
        answer = self.send({"image_base64": data}, "detect", {"Accept": "image/jpeg"})
        self.assertEqual((answer.status_code, answer.mimetype), (200, "image/jpeg"))

    def test_it_can_be_done_later(self):
        answer = self.send(self.body(), headers={"Prefer": "respond-async"})
        self.assertEqual(answer.status_code, 202)
        self.assertEqual(self.client.get(answer.headers["Location"]).get_json()["state"], "done")

    def test_a_body_that_is_not_what_it_should_be_is_refused(self):
        for field, body in (
            ("", b"{"),
            ("", b"[" * 100_000),
            ("", b'{"confidence": NaN}'),
            ("", b"\xff\xfe"),
            ("", []),
            ("image_base64", {}),
            ("image_base64", {"image_base64": 5}),
            ("image_base64", {"image_base64": "a b="}),
            ("image_base64", {"image_base64": "YWJj\n"}),
            ("image_base64", {"image_base64": "YWJ"}),
            ("image_base64", {"image_base64": "YWJj", "url": "http://example.com/"}),
            ("label", b'{"image_base64": "YWJj", "label": true, "label": false}'),
            ("colour", self.body(colour="red")),
            ("roi", self.body(roi=[[1]])),
            ("min_neighbors", self.body(min_neighbors="many")),
            ("detector", self.body(detector="\ud800")),
            ("url", {"url": "http://example.com/a.jpg"}),
        ):
            with self.subTest(body=str(body)[:60]):
                self.refused(field, body)
        self.assertProblem(self.send({"image_base64": "YWJj"}), 415, "unsupported-image")
        answer = self.client.post(
            f"{API}/image?label=true", json=self.body(label=True), content_type="application/json"
        )
        self.assertProblem(answer, 400, "invalid-request")

    def test_too_large_is_refused_before_it_is_decoded(self):
        with mock.patch("base64.b64decode", side_effect=AssertionError("decoded")):
            self.assertProblem(self.send({"image_base64": "A" * 270_000}), 413, "upload-too-large")
        self.assertProblem(self.send({"image_base64": "A" * 400_000}), 413, "upload-too-large")


class UrlTest(JsonCase):
    settings = {
        "allow_remote_images": True,
        "allowed_callback_nets": "127.0.0.0/8",
        "max_upload_bytes": 200_000,
    }

    def setUp(self):
        super().setUp()
        self.site = Site()
        self.addCleanup(self.site.close)

    def test_it_is_fetched_and_redirects_are_followed(self):
        answer = self.send({"url": f"{self.site.url}/to/to/to/a.jpg"})
        self.assertEqual(answer.status_code, 200, answer.text)
        self.assertEqual((answer.get_json()["found"], answer.get_json()["image"]["filename"]), (1, "a.jpg"))
        problem = self.assertProblem(self.send({"url": f"{self.site.url}/to/to/to/to/a.jpg"}), 422, "remote-failed")
        self.assertIn("3 times", problem["detail"])

    def test_a_redirect_to_an_address_that_is_not_admitted_is_not_followed(self):
        for target in ("http://10.0.0.1/a.jpg", "http://[::1]/", "http://169.254.169.254/latest", "file:///etc/passwd"):
            with self.subTest(target=target):
                self.refused("url", {"url": f"{self.site.url}/to/{target}" if target[0] == "h" else target})
        self.assertTrue(all(path.startswith("/to/http") for path in self.site.seen), self.site.seen)

    def test_what_is_no_picture_is_told(self):
        self.assertProblem(self.send({"url": f"{self.site.url}/missing"}), 422, "remote-failed")
        self.assertProblem(self.send({"url": f"{self.site.url}/cut"}), 422, "remote-failed")
        self.assertProblem(self.send({"url": f"{self.site.url}/text"}), 415, "unsupported-image")
        self.assertProblem(self.send({"url": f"{self.site.url}/large"}), 413, "upload-too-large")
        self.assertProblem(self.send({"url": "http://127.0.0.1:1/"}), 400, "invalid-request")

    def test_what_takes_too_long_is_given_up(self):
        with mock.patch.object(remote.fetch, "__kwdefaults__", {"seconds": 0.5}):
            answer = self.send({"url": f"{self.site.url}/slow"}, "detect")
        self.assertProblem(answer, 504, "remote-too-slow")
        self.assertTrue(remote._fetching.acquire(timeout=5))
        remote._fetching.release()

    def test_only_some_are_fetched_at_once(self):
        for _ in range(4):
            self.assertTrue(remote._fetching.acquire(blocking=False))
        try:
            self.assertProblem(self.send({"url": f"{self.site.url}/a.jpg"}), 503, "busy")
        finally:
            for _ in range(4):
                remote._fetching.release()


if __name__ == "__main__":
    unittest.main()
