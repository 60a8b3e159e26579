"""The page in a real browser, with script and without."""

import hashlib
import re
import tempfile
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import cv2
import numpy as np
import requests
from playwright.sync_api import Locator, expect

from tests import cascades, onnx_models
from tests.app import INPUT, astronaut
from tests.browser import BrowserTest, Watched
from tests.live_server import ROOT, LiveServer

KEY = "the-key-of-alice"
PHOTO = INPUT / "astronaut.jpg"
NO_PICTURE = ROOT / "openapi.yaml"
PHONE = {"width": 390, "height": 800}


class PageTest(BrowserTest):
    """What holds with script and without."""

    scripts = True
    strict: ClassVar[LiveServer]  # asks for a key and takes small files only

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        keys = f"alice:{hashlib.sha256(KEY.encode()).hexdigest()}"
        cls.strict = cls.enterClassContext(LiveServer(IMGDETECT_API_KEYS=keys, IMGDETECT_MAX_UPLOAD_BYTES="500000"))

    def setUp(self) -> None:
        super().setUp()
        self.here = self.visit()

    def visit(self, server: LiveServer | None = None, **options: object) -> Watched:
        here = self.watched(java_script_enabled=self.scripts, **options)
        here.page.goto((server or self.server).url)
        return here

    def assert_undisturbed(self, here: Watched, *statuses: int) -> None:
        """No console error, no refusal by the policy, no foreign host, and no answers of 400 and above but these."""
        self.assertEqual(here.troubles, [])
        self.assertEqual(here.statuses, list(statuses))
        self.assertEqual(here.hosts - {""}, {urlsplit(here.page.url).netloc})  # "" is blob: and data:

    def submit(self, here: Watched, file: Path | None = PHOTO) -> None:
        if file:
            here.page.set_input_files("#image", file)
        here.page.get_by_role("button", name="Detect").click()

    def title(self, here: Watched, text: str) -> None:
        expect(here.page.locator("#answer h2")).to_have_text(text)

    def assert_shows(self, picture: Locator, data: bytes) -> None:
        """What the screen shows is the picture of these bytes."""
        wanted = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        seen = cv2.imdecode(np.frombuffer(picture.screenshot(), np.uint8), cv2.IMREAD_COLOR)
        height, width = wanted.shape[:2]
        # A picture that starts between two rows of the screen comes with one row more.
        starts = [(y, x) for y in range(seen.shape[0] - height + 1) for x in range(seen.shape[1] - width + 1)]
        self.assertIn(len(starts), (1, 2, 4), f"it is shown as {seen.shape}, not as {wanted.shape}")
        shifted = [seen[y : y + height, x : x + width].astype(int) for y, x in starts]
        self.assertLess(min(np.abs(pixels - wanted).mean() for pixels in shifted), 1)

    def large_file(self) -> Path:
        """A file of 8 MB that begins as a picture."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        large = Path(folder, "large.jpg")
        large.write_bytes(astronaut().ljust(8_000_000, b"\0"))
        return large


class BothWays:
    """Tests that are inherited by a class with script and by one without."""

    def test_a_picture_is_shown_with_what_was_found(self):
        self.submit(self.here)
        self.title(self.here, "1 found in astronaut.jpg")
        picture = self.here.page.locator("#answer img.picture")
        links = self.here.page.locator("#answer a[data-link]")
        addresses = [link.get_attribute("href") for link in links.all()]
        processed = requests.get(self.server.url + addresses[0], timeout=30).content
        self.assert_shows(picture, processed)
        self.assertNotEqual(processed, astronaut())
        self.assertEqual(picture.get_attribute("alt"), "The picture with 1 marked")
        record = requests.get(f"{self.server.url}{addresses[2]}", timeout=30).json()
        box = record["detections"][0]["box"]
        cells = self.here.page.locator("#answer td").all_inner_texts()
        self.assertEqual(cells[:3], ["face", f"{box['x']}, {box['y']}", f"{box['width']} × {box['height']}"])
        self.assertIn(record["image"]["sha256"], self.here.page.locator("#answer pre").inner_text())
        self.assertIn("1 found", self.here.page.title())
        self.assert_undisturbed(self.here)

    def test_a_classification_shows_its_classes(self):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        model = onnx_models.build(folder / "colours.onnx", "classification", size_wh=(224, 224))
        image = folder / "red.png"
        image.write_bytes(cv2.imencode(".png", np.full((60, 90, 3), (0, 0, 255), np.uint8))[1].tobytes())
        with LiveServer(IMGDETECT_DETECTORS=f"colours=onnx:{model}", IMGDETECT_DEFAULT_DETECTOR="colours") as server:
            here = self.visit(server)
            self.submit(here, image)
            self.title(here, "red in red.png")
            tables = here.page.locator("#answer table:visible")
            self.assertEqual(tables.count(), 1)
            names = tables.locator("tbody tr td:first-child").all_inner_texts()
            self.assertEqual((names[0], sorted(names)), ("red", ["blue", "green", "red"]))
            self.assertRegex(tables.locator("tbody tr td").nth(1).inner_text(), r"^99\.\d %$")
            expect(here.page.locator("#answer img.picture")).to_have_attribute("alt", "The picture with its class")
            self.assert_undisturbed(here)

    def test_options_are_used_and_stay(self):
        page = self.here.page
        page.get_by_text("More options").click()
        page.select_option("#detector", "eye")
        page.fill("#min_neighbors", "4")
        page.select_option("#style", "pixelate")
        self.submit(self.here)
        expect(page.locator("#answer .facts")).to_contain_text("eye")
        json = page.locator("#answer pre").inner_text()
        self.assertRegex(json, r'"min_neighbors": 4,')
        self.assertRegex(json, r'"style": "pixelate"')
        self.assertEqual([page.input_value(f"#{n}") for n in ("detector", "min_neighbors")], ["eye", "4"])
        expect(page.locator("#min_neighbors")).to_be_visible()
        self.assert_undisturbed(self.here)

    def test_nothing_found_comes_with_advice(self):
        self.here.page.select_option("#detector", "cat_face")
        self.submit(self.here, INPUT / "chelsea.jpg")
        self.title(self.here, "Nothing found in chelsea.jpg")
        expect(self.here.page.locator("#answer .advice")).to_contain_text("min_neighbors")
        expect(self.here.page.locator("#answer table:visible")).to_have_count(0)
        self.assert_undisturbed(self.here)

    def test_a_file_that_is_no_picture_gets_a_readable_error(self):
        self.submit(self.here, NO_PICTURE)
        self.title(self.here, "The upload is not an image of an accepted type.")
        expect(self.here.page.get_by_role("alert")).to_contain_text("image/jpeg")
        self.assertEqual(self.here.page.locator("#answer img").count(), 0)
        self.assert_undisturbed(self.here, 415)

    def test_a_wrong_field_is_marked(self):
        page = self.here.page
        page.get_by_text("More options").click()
        page.fill("#scale_factor", "0.5")
        self.submit(self.here)
        self.title(self.here, "The request is not valid.")
        expect(page.locator("#scale_factor-error")).to_contain_text("greater than 1")
        expect(page.locator("#scale_factor")).to_have_attribute("aria-invalid", "true")
        expect(page.locator("#scale_factor")).to_be_visible()
        self.assertEqual(page.input_value("#scale_factor"), "0.5")
        page.fill("#scale_factor", "")
        self.submit(self.here)
        self.title(self.here, "1 found in astronaut.jpg")
        expect(page.locator("#scale_factor-error")).to_be_hidden()
        self.assertEqual(page.locator('[aria-invalid="true"]').count(), 0)
        self.assert_undisturbed(self.here, 400)

    def test_a_hostile_file_name_is_only_a_name(self):
        with tempfile.TemporaryDirectory() as folder:
            name = "<img src=x onerror=alert(1)><script>alert(2)<&amp;script>.jpg"
            hostile = Path(folder, name)
            hostile.write_bytes(astronaut())
            self.submit(self.here, hostile)
            self.title(self.here, f"1 found in {name}")
        self.assert_undisturbed(self.here)

    def test_a_configured_key_is_needed_and_works(self):
        here = self.visit(self.strict)
        for key, message in (("", "is needed"), ("wrong", "is not known here")):
            here.page.fill("#api_key", key)
            self.submit(here)
            self.title(here, "A valid API key is needed.")
            expect(here.page.locator("#api_key-error")).to_have_text(message)
        here.page.fill("#api_key", KEY)
        self.submit(here)
        self.title(here, "1 found in astronaut.jpg")
        address = here.page.locator("#answer code").inner_text()
        processed = requests.get(
            f"{self.strict.url}{address}/processed", headers={"x-api-key": KEY}, timeout=30
        ).content
        self.assert_shows(here.page.locator("#answer img.picture"), processed)
        self.assertNotIn(KEY, self.strict.log())
        self.assert_undisturbed(here, *[401] * (3 if self.scripts else 2))  # a script asks for the key's detectors too

    def test_it_fits_a_phone_and_follows_the_colours_of_the_system(self):
        grounds = {}
        for scheme in ("light", "dark"):
            here = self.visit(viewport=PHONE, color_scheme=scheme)
            self.submit(here)
            self.title(here, "1 found in astronaut.jpg")
            # Once everything is laid out, the page is as wide as the screen; a wider one never gets there.
            here.page.wait_for_function(f"document.documentElement.scrollWidth === {PHONE['width']}")
            expect(here.page.locator("#answer h2")).to_be_in_viewport()
            grounds[scheme] = here.page.evaluate("getComputedStyle(document.body).backgroundColor")
            self.assert_undisturbed(here)
        brightness = {scheme: sum(map(int, re.findall(r"\d+", ground))) for scheme, ground in grounds.items()}
        self.assertGreater(brightness["light"], 600)
        self.assertLess(brightness["dark"], 150)


class WithoutScriptTest(BothWays, PageTest):
    scripts = False

    def test_a_form_without_a_file_says_so(self):
        with self.here.page.expect_navigation() as navigation:
            self.submit(self.here, None)
        self.assertEqual(navigation.value.status, 400)
        expect(self.here.page.locator("#image-error")).to_have_text("choose a picture first")
        self.assert_undisturbed(self.here, 400)

    def test_a_file_over_the_limit_gets_a_readable_error(self):
        here = self.visit(self.strict)
        self.submit(here, self.large_file())
        self.title(here, "The upload is larger than this server takes.")
        self.assert_undisturbed(here, 413)


class WithScriptTest(BothWays, PageTest):
    def put(self, event: str, target: str) -> None:
        """Drop or paste the photograph, as a browser would hand it over."""
        self.here.page.evaluate(
            """([event, target, bytes]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], "given.jpg", { type: "image/jpeg" }));
                const options = { bubbles: true, cancelable: true };
                const made = event === "paste"
                    ? new ClipboardEvent(event, { ...options, clipboardData: data })
                    : new DragEvent(event, { ...options, dataTransfer: data });
                document.querySelector(target).dispatchEvent(made);
            }""",
            [event, target, list(astronaut())],
        )

    def test_the_page_is_not_loaded_again(self):
        self.here.page.evaluate("window.still = true")
        self.submit(self.here)
        self.title(self.here, "1 found in astronaut.jpg")
        self.assertTrue(self.here.page.evaluate("window.still"))
        expect(self.here.page.get_by_role("status")).to_have_text("1 found in astronaut.jpg")
        expect(self.here.page.locator("#progress")).to_be_hidden()

    def test_a_chosen_picture_is_previewed(self):
        self.here.page.set_input_files("#image", PHOTO)
        preview = self.here.page.locator("#preview")
        expect(preview).to_be_visible()
        self.assertEqual(preview.evaluate("image => image.naturalWidth"), 512)
        self.here.page.set_input_files("#image", NO_PICTURE)
        expect(preview).to_be_hidden()
        self.assert_undisturbed(self.here)

    def test_a_picture_can_be_dropped_or_pasted(self):
        for event, target in (("drop", "#drop"), ("drop", "h1"), ("paste", "body")):
            with self.subTest(event=event, target=target):
                self.here.page.reload()
                self.put(event, target)
                expect(self.here.page.locator("#preview")).to_be_visible()
                self.submit(self.here, None)
                self.title(self.here, "1 found in given.jpg")
        self.assert_undisturbed(self.here)

    def test_the_drop_zone_lights_up_under_a_picture(self):
        self.put("dragenter", "#drop")
        expect(self.here.page.locator("#drop")).to_have_class("drop over")
        self.put("dragleave", "#drop")
        expect(self.here.page.locator("#drop")).to_have_class("drop")

    def test_the_detectors_of_a_key_can_be_chosen_once_it_is_entered(self):
        path, headers = f"{self.strict.api}/detectors", {"x-api-key": KEY}
        cascade = (cascades.BUNDLED_FOLDER / "haarcascade_russian_plate_number.xml").read_bytes()
        made = requests.post(path, files={"cascade": cascade}, data={"name": "own"}, headers=headers, timeout=30)
        self.assertEqual(made.status_code, 201, made.text)
        self.addCleanup(requests.delete, f"{path}/own", headers=headers, timeout=30)
        here = self.visit(self.strict)
        option = here.page.locator("#detector option[value=own]")
        expect(option).to_have_count(0)
        here.page.fill("#api_key", KEY)
        here.page.locator("#api_key").blur()
        expect(option).to_have_count(1)
        here.page.select_option("#detector", "own")
        self.assertEqual(here.page.get_attribute("#min_size", "placeholder"), "60,20")
        self.submit(here)
        expect(here.page.locator("#answer .facts")).to_contain_text("own")
        requests.delete(f"{path}/own", headers=headers, timeout=30)
        here.page.fill("#api_key", KEY + " ")
        here.page.locator("#api_key").blur()
        expect(option).to_have_count(0)
        self.assertEqual(here.page.get_attribute("#min_size", "placeholder"), "20,20")
        self.assert_undisturbed(here)

    def test_a_missing_file_needs_no_server(self):
        self.submit(self.here, None)
        expect(self.here.page.locator("#image-error")).to_have_text("choose a picture first")
        expect(self.here.page.locator("#image")).to_be_focused()
        self.assert_undisturbed(self.here)

    def test_a_file_over_the_limit_is_not_sent(self):
        here = self.visit(self.strict)
        self.submit(here, self.large_file())
        expect(here.page.locator("#image-error")).to_have_text("this file has 8 MB; the server takes 0.5 MB")
        self.assert_undisturbed(here)

    def test_a_server_that_is_gone_is_told_and_the_form_works_again(self):
        self.here.page.route("**/image", lambda route: route.abort("connectionrefused"))
        self.submit(self.here)
        self.title(self.here, "The server could not be reached.")
        self.here.page.unroute("**/image")
        self.submit(self.here, None)
        self.title(self.here, "1 found in astronaut.jpg")
        (complaint,) = self.here.troubles
        self.assertIn("ERR_CONNECTION_REFUSED", complaint)

    def test_an_answer_in_another_form_is_told_by_its_status(self):
        self.here.page.route("**/image", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
        self.submit(self.here)
        self.title(self.here, "The server answered 502.")

    def test_a_second_click_while_it_works_sends_nothing(self):
        def slowly(route):
            uploads.append(route.request.url)
            held.append(route)

        uploads, held = [], []
        self.here.page.route("**/image", slowly)
        self.submit(self.here)
        expect(self.here.page.locator("#progress")).to_be_visible()
        expect(self.here.page.get_by_role("status")).to_have_text("Looking at the picture …")
        self.here.page.locator("#submit").click(force=True)
        self.here.page.keyboard.press("Enter")
        held[0].continue_()
        self.title(self.here, "1 found in astronaut.jpg")
        self.assertEqual(len(uploads), 1)

    def test_it_works_by_keyboard_alone(self):
        page = self.here.page
        page.set_input_files("#image", PHOTO)
        page.focus("#image")
        reached = []
        for _ in range(4):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.localName"))
        self.assertEqual(reached[:3], ["detector", "summary", "submit"])
        page.focus("#submit")
        page.keyboard.press("Enter")
        self.title(self.here, "1 found in astronaut.jpg")
        expect(page.locator("#submit")).to_be_focused()

    def test_the_picture_can_be_saved_under_its_name(self):
        self.submit(self.here)
        with self.here.page.expect_download() as download:
            self.here.page.get_by_text("Save the picture").click()
        self.assertEqual(download.value.suggested_filename, "astronaut-found.jpeg")
        saved = Path(download.value.path()).read_bytes()
        processed = self.here.page.locator("#answer a[data-link=processed]").get_attribute("href")
        self.assertEqual(saved, requests.get(self.server.url + processed, timeout=30).content)

    def test_empty_fields_show_the_detectors_own_values(self):
        page = self.here.page
        self.assertEqual(page.get_attribute("#min_size", "placeholder"), "20,20")
        page.select_option("#detector", "smile")
        self.assertEqual(page.get_attribute("#min_neighbors", "placeholder"), "20")
