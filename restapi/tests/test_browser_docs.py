"""The documentation pages in a real browser: "Try it out" with a real picture, from here and from a foreign origin."""

import functools
import http.server
import json
import shutil
import threading
import unittest
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import flasgger
import requests
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from tests.contract import check, contract
from tests.live_server import ROOT, LiveServer, LiveServerTest

PICTURE = ROOT / "test_images" / "input" / "astronaut.jpg"
UPLOAD = "Images/upload_image"
DETECT = "Detect/detect"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 30_000
NOTE_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (e) => violations.push(e.violatedDirective + " " + e.blockedURI));
"""


class Watched:
    """A browser page that notes what goes wrong in it and whom it talks to."""

    def __init__(self, browser: Browser) -> None:
        self.page: Page = browser.new_page(viewport={"width": 1200, "height": 1000})
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.add_init_script(NOTE_VIOLATIONS)
        self.troubles: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", lambda m: self.troubles.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    def violations(self) -> list[str]:
        """What the Content-Security-Policy of the page refused."""
        found: list[str] = self.page.evaluate("violations")
        return found

    def operation(self, name: str) -> Locator:
        """An operation in Swagger UI, opened and ready to be tried out."""
        block = self.page.locator(f"#operations-{name.replace('/', '-')}")
        block.locator(".opblock-summary").click()
        block.locator(".try-out__btn").click()
        return block


def executed(block: Locator) -> tuple[str, Locator]:
    """Press Execute; the status that came back, and the part of the page that shows the answer."""
    block.locator("button.execute").click()
    answer = block.locator(".live-responses-table tbody .response").first
    status = answer.locator(".response-col_status").inner_text()
    return status.split()[0], answer


class BrowserTest(LiveServerTest):
    """Tests with a browser and a live server."""

    browser: ClassVar[Browser]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        chromium = shutil.which("chromium")
        if chromium is None:
            raise AssertionError("Chromium is not installed; 'make tools' installs it")
        playwright = cls.enterClassContext(sync_playwright())
        cls.browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        cls.addClassCleanup(cls.browser.close)

    def watched(self) -> Watched:
        watched = Watched(self.browser)
        self.addCleanup(watched.page.close)
        return watched

    def records(self, server: LiveServer | None = None) -> list[dict[str, Any]]:
        """What the server keeps."""
        answer = check(requests.get(f"{(server or self.server).api}/image", timeout=30))
        found: list[dict[str, Any]] = answer.json()["images"]
        return found


class TheDocumentationTest(BrowserTest):
    def setUp(self) -> None:
        self.here = self.watched()

    def assert_undisturbed(self) -> None:
        self.assertEqual(self.here.troubles, [])
        self.assertEqual(self.here.violations(), [])
        self.assertLessEqual(self.here.hosts, {urlsplit(self.server.url).netloc, ""})  # "" is blob: and data:

    def test_trying_out_an_upload_shows_what_was_found(self) -> None:
        self.here.page.goto(f"{self.server.url}/apidocs/")
        block = self.here.operation(UPLOAD)
        block.locator("input[type=file]").set_input_files(PICTURE)
        status, answer = executed(block)
        self.assertEqual(status, "200")
        shown = json.loads(answer.locator(".response-col_description pre").first.inner_text())
        self.assertEqual([d["class_name"] for d in shown["detections"]], ["face"])
        self.assertEqual(shown["image"]["filename"], PICTURE.name)
        self.assertIn(shown["image"]["id"], [record["image"]["id"] for record in self.records()])
        self.assert_undisturbed()

    def test_trying_out_an_upload_with_parameters_sends_them(self) -> None:
        self.here.page.goto(f"{self.server.url}/docs")
        block = self.here.operation(UPLOAD)
        block.locator("tr[data-param-name=detector][data-param-in=query] input").fill("eye")
        block.locator("tr[data-param-name=equalize][data-param-in=query] select").select_option("true")
        block.locator("input[type=file]").set_input_files(PICTURE)
        status, answer = executed(block)
        self.assertEqual(status, "200")
        shown = json.loads(answer.locator(".response-col_description pre").first.inner_text())
        self.assertEqual((shown["parameters"]["detector"], shown["parameters"]["equalize"]), ("eye", True))
        self.assert_undisturbed()

    def test_trying_out_detect_shows_the_picture_that_comes_back(self) -> None:
        self.here.page.goto(f"{self.server.url}/apidocs/")
        block = self.here.operation(DETECT)
        block.locator("input[type=file]").set_input_files(PICTURE)
        block.locator(".responses-wrapper select.content-type").first.select_option("image/jpeg")
        status, answer = executed(block)
        self.assertEqual(status, "200")
        self.assert_picture(answer)
        self.assert_undisturbed()

    def test_trying_out_a_download_shows_the_picture(self) -> None:
        files = {"image": (PICTURE.name, PICTURE.read_bytes())}
        uploaded = check(requests.post(f"{self.server.api}/image", files=files, timeout=30))
        self.here.page.goto(f"{self.server.url}/apidocs/")
        block = self.here.operation("Images/download_processed")
        block.locator("tr[data-param-name=id] input").fill(uploaded.json()["image"]["id"])
        status, answer = executed(block)
        self.assertEqual(status, "200")
        self.assert_picture(answer)
        self.assert_undisturbed()

    def assert_picture(self, answer: Locator) -> None:
        picture = answer.locator("img")
        picture.wait_for()
        self.here.page.wait_for_function("image => image.complete", arg=picture.element_handle())
        size = picture.evaluate("image => [image.naturalWidth, image.naturalHeight]")
        self.assertEqual(size, [512, 512])

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


class ForeignOriginTest(BrowserTest):
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
            block = self.there.operation(UPLOAD)
            self.fill(block)
            status, answer = executed(block)
            self.assertEqual(status, "200")
            shown = json.loads(answer.locator(".response-col_description pre").first.inner_text())
            self.assertEqual([d["class_name"] for d in shown["detections"]], ["face"])
            self.assertIn("location:", answer.locator("pre.microlight").last.inner_text().lower())
            self.assertRegex(server.log(), r"method=OPTIONS .*path=/api/v1/objectdetection/image ")
            self.assertEqual(len(self.records(server)), 1)
            self.assertEqual(self.there.troubles, [])

    def test_it_sees_pictures_too(self) -> None:
        with LiveServer(IMGDETECT_CORS_ORIGINS=self.origin) as server:
            self.show(f"{server.url}/openapi.json")
            block = self.there.operation(DETECT)
            block.locator("input[type=file]").set_input_files(PICTURE)
            block.locator(".responses-wrapper select.content-type").first.select_option("image/jpeg")
            status, answer = executed(block)
            self.assertEqual(status, "200")
            answer.locator("img").wait_for()

    def test_an_origin_that_is_not_configured_cannot_even_read_the_contract(self) -> None:
        self.show(f"{self.server.url}/openapi.json")
        self.there.page.get_by_text("Failed to load API definition").wait_for()
        self.assertIn("blocked by CORS policy", " ".join(self.there.troubles))

    def test_an_origin_that_is_not_configured_cannot_upload(self) -> None:
        own = contract() | {"servers": [{"url": self.server.url}]}
        self.handler.contract = json.dumps(own).encode()
        self.show("/contract.json")
        block = self.there.operation(UPLOAD)
        block.locator("input[type=file]").set_input_files(PICTURE)
        block.locator("button.execute").click()
        block.get_by_text("Failed to fetch").wait_for()
        self.assertIn("blocked by CORS policy", " ".join(self.there.troubles))
        self.assertEqual(self.records(), [])
        self.assertRegex(self.server.log(), r"method=POST .*path=/api/v1/objectdetection/image .*status=403")


if __name__ == "__main__":
    unittest.main()
