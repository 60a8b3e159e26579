"""The documentation pages in a real browser: "Try it out" with a real picture, from here and from a foreign origin."""

import functools
import http.server
import json
import threading
import unittest
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import flasgger
import requests
from playwright.sync_api import Locator, Page

from tests.browser import BrowserTest
from tests.contract import check, contract
from tests.live_server import ROOT, LiveServer
from tests.nginx_server import NginxServer

PICTURE = ROOT / "test_images" / "input" / "astronaut.jpg"
UPLOAD = "Images/upload_image"
DETECT = "Detect/detect"


def operation(page: Page, name: str) -> Locator:
    """An operation in Swagger UI, opened and ready to be tried out."""
    block = page.locator(f"#operations-{name.replace('/', '-')}")
    block.locator(".opblock-summary").click()
    block.locator(".try-out__btn").click()
    return block


def executed(block: Locator) -> tuple[str, Locator]:
    """Press Execute; the status that came back, and the part of the page that shows the answer."""
    block.locator("button.execute").click()
    answer = block.locator(".live-responses-table tbody .response").first
    status = answer.locator(".response-col_status").inner_text()
    return status.split()[0], answer


class DocsTest(BrowserTest):
    """What both kinds of tests do with Swagger UI."""

    def records(self, server: LiveServer | None = None) -> list[dict[str, Any]]:
        """What the server keeps."""
        answer = check(requests.get(f"{(server or self.server).api}/image", timeout=30))
        found: list[dict[str, Any]] = answer.json()["images"]
        return found

    def document(self, answer: Locator) -> dict[str, Any]:
        """The JSON that Swagger UI shows."""
        shown: dict[str, Any] = json.loads(answer.locator(".response-col_description pre").first.inner_text())
        return shown

    def assert_picture(self, page: Page, answer: Locator) -> None:
        """Swagger UI shows the picture, whole."""
        picture = answer.locator("img")
        picture.wait_for()
        page.wait_for_function("image => image.complete", arg=picture.element_handle())
        self.assertEqual(picture.evaluate("image => [image.naturalWidth, image.naturalHeight]"), [512, 512])


class TheDocumentationTest(DocsTest):
    def setUp(self) -> None:
        self.here = self.watched()

    def assert_undisturbed(self) -> None:
        self.assertEqual((self.here.troubles, self.here.statuses), ([], []))
        self.assertLessEqual(self.here.hosts, {urlsplit(self.server.url).netloc, ""})  # "" is blob: and data:

    def test_trying_out_an_upload_shows_what_was_found(self) -> None:
        self.here.page.goto(f"{self.server.url}/apidocs/")
        block = operation(self.here.page, UPLOAD)
        block.locator("input[type=file]").set_input_files(PICTURE)
        status, answer = executed(block)
        self.assertEqual(status, "200")
        shown = self.document(answer)
        self.assertEqual([d["class_name"] for d in shown["detections"]], ["face"])
        self.assertEqual(shown["image"]["filename"], PICTURE.name)
        self.assertIn(shown["image"]["id"], [record["image"]["id"] for record in self.records()])
        self.assert_undisturbed()

    def test_trying_out_an_upload_with_parameters_sends_them(self) -> None:
        self.here.page.goto(f"{self.server.url}/docs")
        block = operation(self.here.page, UPLOAD)
        block.locator("tr[data-param-name=detector][data-param-in=query] input").fill("eye")
        block.locator("tr[data-param-name=equalize][data-param-in=query] select").select_option("true")
        block.locator("input[type=file]").set_input_files(PICTURE)
        status, answer = executed(block)
        self.assertEqual(status, "200")
        shown = self.document(answer)
        self.assertEqual((shown["parameters"]["detector"], shown["parameters"]["equalize"]), ("eye", True))
        self.assert_undisturbed()

    def test_trying_out_detect_shows_the_picture_that_comes_back(self) -> None:
        self.here.page.goto(f"{self.server.url}/apidocs/")
        block = operation(self.here.page, DETECT)
        block.locator("input[type=file]").set_input_files(PICTURE)
        block.locator(".responses-wrapper select.content-type").first.select_option("image/jpeg")
        status, answer = executed(block)
        self.assertEqual(status, "200")
        self.assert_picture(self.here.page, answer)
        self.assert_undisturbed()

    def test_trying_out_a_download_shows_the_picture(self) -> None:
        files = {"image": (PICTURE.name, PICTURE.read_bytes())}
        uploaded = check(requests.post(f"{self.server.api}/image", files=files, timeout=30))
        self.here.page.goto(f"{self.server.url}/apidocs/")
        block = operation(self.here.page, "Images/download_processed")
        block.locator("tr[data-param-name=id] input").fill(uploaded.json()["image"]["id"])
        status, answer = executed(block)
        self.assertEqual(status, "200")
        self.assert_picture(self.here.page, answer)
        self.assert_undisturbed()

    def test_an_address_cannot_bring_another_contract(self) -> None:
        other = f"{self.server.url}/healthz"
        self.here.page.goto(f"{self.server.url}/apidocs/?url={other}")
        self.here.page.locator("#operations-Detect-detect").wait_for()
        self.assertEqual(self.here.page.url, f"{self.server.url}/apidocs/")
        self.assert_undisturbed()

    def test_redoc_shows_the_contract_and_finds_words_in_it(self) -> None:
        self.here.page.goto(f"{self.server.url}/redoc")
        self.here.page.get_by_role("heading", name="Upload an image and get its detections").wait_for()
        self.here.page.locator("input[type=text]").fill("crop")
        self.here.page.locator("[role=search] [role=menuitem]").first.wait_for()
        self.assert_undisturbed()


class BehindNginxTest(DocsTest):
    def test_the_pages_work_over_tls_through_nginx(self) -> None:
        with NginxServer(f"127.0.0.1:{self.server.port}") as nginx:
            here = self.watched(ignore_https_errors=True)
            here.page.goto(f"{nginx.https_url}/apidocs/")
            block = operation(here.page, DETECT)
            block.locator("input[type=file]").set_input_files(PICTURE)
            block.locator(".responses-wrapper select.content-type").first.select_option("image/png")
            status, answer = executed(block)
            self.assertEqual(status, "200")
            self.assert_picture(here.page, answer)
            here.page.goto(f"{nginx.https_url}/redoc")
            here.page.get_by_role("heading", name="Upload an image and get its detections").wait_for()
            self.assertEqual((here.troubles, here.statuses), ([], []))
            self.assertLessEqual(here.hosts, {urlsplit(nginx.https_url).netloc, ""})

    def test_nginx_leaves_their_headers_alone(self) -> None:
        with NginxServer(f"127.0.0.1:{self.server.port}") as nginx:
            for path in ("/apidocs/", "/redoc", "/openapi.json", "/openapi.yaml"):
                direct = check(requests.get(self.server.url + path, timeout=30))
                passed = check(requests.get(nginx.url + path, timeout=30))
                self.assertEqual(passed.text, direct.text)
                for name in ("Content-Security-Policy", "Content-Type", "Cache-Control"):
                    self.assertEqual(passed.headers[name], direct.headers[name], f"{path} {name}")


class Elsewhere(http.server.SimpleHTTPRequestHandler):
    """Another site with a Swagger UI of its own."""

    page = ""
    contract = b""

    def do_GET(self) -> None:
        made = {"/": ("text/html", self.page.encode()), "/contract.json": ("application/json", self.contract)}
        if self.path not in made:
            super().do_GET()
            return
        media_type, content = made[self.path]
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


PAGE = """<!doctype html><meta charset="utf-8"><title>elsewhere</title><link rel="icon" href="favicon-32x32.png">
<link rel="stylesheet" href="swagger-ui.css"><div id="swagger-ui"></div><script src="swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: %s, dom_id: "#swagger-ui", validatorUrl: null})</script>"""


class ForeignOriginTest(DocsTest):
    """A Swagger UI on another host and port, as petstore's would be; our server is started for it in each test."""

    def setUp(self) -> None:
        folder = Path(flasgger.__file__).parent / "ui3" / "static"
        self.handler = type("Handler", (Elsewhere,), {})
        site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(self.handler, directory=str(folder)))
        self.addCleanup(site.server_close)
        thread = threading.Thread(target=site.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(site.shutdown)
        # Another name than the server's, so that the browser takes it for another site and not just another port.
        self.origin = f"http://localhost:{site.server_port}"
        self.there = self.watched()

    def show(self, contract_url: str) -> None:
        self.handler.page = PAGE % json.dumps(contract_url)
        self.there.page.goto(f"{self.origin}/")

    def fill(self, block: Locator) -> None:
        """An upload whose header makes the browser ask beforehand."""
        block.locator("input[type=file]").set_input_files(PICTURE)
        block.locator("tr[data-param-name=Idempotency-Key] input").fill("from-elsewhere")

    def test_an_origin_that_is_configured_can_upload(self) -> None:
        with LiveServer(IMGDETECT_CORS_ORIGINS=f"https://other.example {self.origin}") as server:
            self.show(f"{server.url}/openapi.json")
            block = operation(self.there.page, UPLOAD)
            self.fill(block)
            status, answer = executed(block)
            self.assertEqual(status, "200")
            shown = self.document(answer)
            self.assertEqual([d["class_name"] for d in shown["detections"]], ["face"])
            self.assertIn("location:", answer.locator("pre.microlight").last.inner_text().lower())
            self.assertRegex(server.log(), r"method=OPTIONS .*path=/api/v1/objectdetection/image ")
            self.assertEqual(len(self.records(server)), 1)
            self.assertEqual(self.there.troubles, [])

    def test_it_sees_pictures_too(self) -> None:
        with LiveServer(IMGDETECT_CORS_ORIGINS=self.origin) as server:
            self.show(f"{server.url}/openapi.json")
            block = operation(self.there.page, DETECT)
            block.locator("input[type=file]").set_input_files(PICTURE)
            block.locator(".responses-wrapper select.content-type").first.select_option("image/jpeg")
            status, answer = executed(block)
            self.assertEqual(status, "200")
            self.assert_picture(self.there.page, answer)

    def test_an_origin_that_is_not_configured_cannot_even_read_the_contract(self) -> None:
        self.show(f"{self.server.url}/openapi.json")
        self.there.page.get_by_text("Failed to load API definition").wait_for()
        self.assertIn("blocked by CORS policy", " ".join(self.there.troubles))

    def test_an_origin_that_is_not_configured_cannot_upload(self) -> None:
        own = contract() | {"servers": [{"url": self.server.url}]}
        self.handler.contract = json.dumps(own).encode()
        self.show("/contract.json")
        block = operation(self.there.page, UPLOAD)
        block.locator("input[type=file]").set_input_files(PICTURE)
        block.locator("button.execute").click()
        block.get_by_text("Failed to fetch").wait_for()
        self.assertIn("blocked by CORS policy", " ".join(self.there.troubles))
        self.assertEqual(self.records(), [])
        self.assertRegex(self.server.log(), r"method=POST .*path=/api/v1/objectdetection/image .*status=403")


if __name__ == "__main__":
    unittest.main()
