"""The page at `/`, as a browser without script meets it."""

import base64
import hashlib
import json
from html.parser import HTMLParser
from io import BytesIO
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse

from imgdetect.errors import BackendUnavailable, Busy
from imgdetect.parameters import UploadParameters
from tests import cascades
from tests.app import API, AppTest, astronaut, jpeg

KEY = "a-key-of-alice"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
EMPTY_ELEMENTS = {"meta", "link", "img", "input", "br"}
HOSTILE = "'><script>alert(1)<script><img src=x onerror=alert(2)>.jpg"


class Parsed(HTMLParser):
    """The elements of a page outside <template>, each with its attributes and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[dict[str, Any]] = []
        self._open: list[dict[str, Any]] = []
        self._templates = 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._templates += tag == "template"
        element = {"tag": tag, "text": ""} | {name: value or "" for name, value in attrs}
        if not self._templates:
            self.elements.append(element)
        if tag not in EMPTY_ELEMENTS:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        self._templates -= tag == "template"
        assert self._open.pop()["tag"] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element["text"] += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, Any]]:
        wanted = {"tag": tag} | {name.replace("_", "-").strip("-"): value for name, value in attributes.items()}
        return [e for e in self.elements if wanted.items() <= e.items()]

    def by_id(self, element_id: str) -> dict[str, Any]:
        (found,) = [e for e in self.elements if e.get("id") == element_id]
        return found

    def slot(self, name: str) -> dict[str, Any]:
        (found,) = [e for e in self.elements if e.get("data-slot") == name]
        return found


class PageTest(AppTest):
    def get(self, **headers: str) -> Parsed:
        answer = self.client.get("/", headers=BROWSER | headers)
        self.assertEqual(answer.status_code, 200)
        return self.parsed(answer)

    def parsed(self, answer: TestResponse) -> Parsed:
        """The page that an answer is: HTML, under its policy, with nothing in it that the policy refuses."""
        self.assertEqual(answer.content_type, "text/html; charset=utf-8")
        self.assertEqual(answer.headers["Content-Security-Policy"], POLICY)
        page = Parsed(answer.text)
        for element in page.elements:
            self.assertFalse({"style"} & set(element) or any(name.startswith("on") for name in element), element)
            self.assertTrue(element["tag"] != "style" and (element["tag"] != "script" or not element["text"]), element)
        self.assertEqual([s["src"] for s in page.all("script")], ["/static/page.js"])
        return page

    def submit(self, data: bytes | None = None, filename: str = "image.jpg", **fields: Any) -> TestResponse:
        """Send the form as a browser does: every field, most of them empty."""
        headers = BROWSER | fields.pop("headers", {})
        form = dict.fromkeys(UploadParameters.model_fields, "") | {"detector": "face"}
        picture = (BytesIO(jpeg() if data is None else data), filename)
        return self.client.post("/", data=form | {"image": picture} | fields, headers=headers)

    def shown(self, *arguments: Any, **fields: Any) -> Parsed:
        answer = self.submit(*arguments, **fields)
        self.assertEqual(answer.status_code, 200, answer.text)
        return self.parsed(answer)

    def assertTrouble(self, answer: TestResponse, status: int, title: str) -> Parsed:
        self.assertEqual(answer.status_code, status, answer.text)
        page = self.parsed(answer)
        self.assertEqual(page.slot("title")["text"], title)
        self.assertEqual(len(page.all("div", class_="problem", role="alert")) or page.elements, 1)
        return page


class EmptyPageTest(PageTest):
    def test_it_has_a_field_for_every_parameter(self):
        page = self.get()
        form = page.by_id("form")
        self.assertEqual((form["method"], form["enctype"], form["action"]), ("post", "multipart/form-data", "/#answer"))
        named = {e["name"] for e in page.elements if e["tag"] in ("input", "select")}
        self.assertEqual(named, set(UploadParameters.model_fields) | {"image"})

    def test_the_chooser_offers_what_the_server_takes(self):
        chooser = self.get().by_id("image")
        self.assertEqual(chooser["type"], "file")
        self.assertEqual(chooser["accept"], "image/jpeg,image/png,image/webp,image/bmp,image/gif,image/tiff")

    def test_it_offers_every_detector_and_the_default_one_is_chosen(self):
        options = [o for o in self.get().all("option") if "data-defaults" in o]
        self.assertEqual([o["value"] for o in options], sorted(self.service.detectors))
        self.assertEqual([o["value"] for o in options if "selected" in o], ["face"])
        defaults = {o["value"]: json.loads(o["data-defaults"]) for o in options}
        self.assertEqual((defaults["face"]["min_size"], defaults["smile"]["min_neighbors"]), ([20, 20], 20))

    def test_every_control_has_a_label_and_every_reference_its_target(self):
        for page in (self.get(), self.parsed(self.submit(detector="no", roi="x"))):
            ids = [e["id"] for e in page.elements if "id" in e]
            self.assertEqual(len(ids), len(set(ids)))
            controls = [e for e in page.elements if e["tag"] in ("input", "select")]
            self.assertEqual({e["for"] for e in page.all("label")}, {e["id"] for e in controls})
            references = {name for e in page.elements for name in e.get("aria-describedby", "").split()}
            references |= {e["href"][1:] for e in page.all("a") if e["href"].startswith("#")}
            self.assertLessEqual(references, set(ids))

    def test_everything_it_links_is_there_and_here(self):
        page = self.get()
        addresses = {e.get("href") or e.get("src") for e in page.elements} - {None}
        self.assertLessEqual({"/apidocs/", "/redoc", "/static/page.css", "/static/page.js"}, addresses)
        for address in addresses:
            self.assertRegex(address, "^/[^/]*")
            with self.client.get(address) as answer:
                self.assertEqual(answer.status_code, 200, address)

    def test_no_key_is_asked_for_on_an_open_server(self):
        self.assertNotIn("api_key", self.client.get("/").text)

    def test_a_head_request_has_no_body(self):
        answer = self.client.head("/")
        self.assertEqual((answer.status_code, answer.data), (200, b""))

    def test_other_methods_are_refused(self):
        self.assertProblem(self.client.put("/"), 405, "method-not-allowed")


class UploadTest(PageTest):
    def test_it_shows_the_picture_the_list_and_the_record(self):
        page = self.shown(astronaut(), "astronaut.jpg", min_neighbors="5")
        self.assertEqual(page.slot("summary")["text"], "1 found in astronaut.jpg")
        self.assertIn("1 found", page.all("title")[0]["text"])
        document = json.loads(page.slot("json")["text"])
        path = document["image"]["links"]["self"]
        self.assertEqual(
            {e["href"] for e in page.all("a") if "data-link" in e}, set(document["image"]["links"].values())
        )
        stored = self.client.get(f"{path}/detections").get_json()
        self.assertEqual({name: document[name] for name in stored}, stored)
        with self.client.get(f"{path}/processed") as processed:
            head, _, picture = page.slot("picture")["src"].partition(",")
            self.assertEqual((head, base64.b64decode(picture)), ("data:image/jpeg;base64", processed.data))
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(picture), np.uint8), cv2.IMREAD_COLOR)
        self.assertEqual(pixels.shape, (512, 512, 3))
        box = document["detections"][0]["box"]
        cells = [e["text"].strip() for e in page.all("td")]
        self.assertEqual(cells[:3], ["face", f"{box['x']}, {box['y']}", f"{box['width']} × {box['height']}"])

    def test_it_keeps_the_original(self):
        page = self.shown(astronaut())
        with self.client.get(json.loads(page.slot("json")["text"])["image"]["links"]["self"]) as original:
            self.assertEqual(original.data, astronaut())

    def test_the_original_is_not_linked_where_it_was_not_kept(self):
        page = self.shown(keep_original="false")
        self.assertEqual([e["data-link"] for e in page.all("a") if "data-link" in e and "hidden" in e], ["self"])

    def test_the_form_shows_what_was_chosen(self):
        page = self.shown(detector="eye", scale_factor=" 1.2 ", style="blur", rotations="0,90", label="false")
        self.assertEqual([page.by_id(name)["value"] for name in ("scale_factor", "rotations")], ["1.2", "0,90"])
        selected = {e["value"] for e in page.all("option") if "selected" in e}
        self.assertEqual(selected, {"eye", "blur", "false"})
        self.assertIn("open", page.by_id("more"))
        used = json.loads(page.slot("json")["text"])["parameters"]
        self.assertEqual((used["detector"], used["scale_factor"], used["style"]), ("eye", 1.2, "blur"))
        self.assertEqual((used["rotations"], used["label"]), ([0, 90], False))

    def test_empty_fields_were_not_given(self):
        page = self.shown()
        used = json.loads(page.slot("json")["text"])["parameters"]
        self.assertEqual((used["scale_factor"], used["min_neighbors"], used["max_detections"]), (1.1, 3, 1000))
        self.assertNotIn("open", page.by_id("more"))

    def test_the_file_field_may_be_called_file(self):
        answer = self.client.post("/", data={"file": (BytesIO(jpeg()), "a.jpg")})
        self.assertEqual(self.parsed(answer).slot("summary")["text"], "Nothing found in a.jpg")

    def test_it_says_what_would_have_been_found(self):
        page = self.shown(jpeg(200, 200))
        self.assertEqual(page.slot("summary")["text"], "Nothing found in image.jpg")
        hint = json.loads(page.slot("json")["text"])["near_misses"]["hint"]
        self.assertEqual(page.slot("advice")["text"], hint)
        self.assertNotIn("hidden", page.slot("advice"))
        self.assertIn("hidden", page.slot("list"))

    def test_names_are_shown_as_text(self):
        for name in (HOSTILE, "{{ 7 * 7 }}.jpg", "&lt;b&gt;.jpg"):
            page = self.shown(filename=name)
            self.assertEqual(page.slot("summary")["text"], f"Nothing found in {name}")
            self.assertEqual(json.loads(page.slot("json")["text"])["image"]["filename"], name)


class TroubleTest(PageTest):
    def test_a_form_without_a_file_says_so(self):
        page = self.assertTrouble(self.submit(b"", ""), 400, "The request is not valid.")
        self.assertEqual(page.by_id("image-error")["text"], "choose a picture first")
        self.assertEqual(page.by_id("image")["aria-invalid"], "true")
        self.assertIn("choose a picture first", page.slot("errors")["text"])

    def test_a_request_without_any_field_says_so(self):
        for form in ({}, {"file": (BytesIO(b""), "")}):
            answer = self.client.post("/", data=form, headers=BROWSER)
            self.assertEqual((answer.status_code, answer.headers["Location"]), (302, "/?message=no-file"))
            page = self.assertTrouble(self.client.get(answer.headers["Location"]), 200, "The request is not valid.")
            self.assertEqual(page.by_id("image-error")["text"], "choose a picture first")

    def test_an_empty_file_says_so(self):
        page = self.assertTrouble(self.submit(b"", "a.jpg"), 400, "The request is not valid.")
        self.assertEqual(page.by_id("image-error")["text"], "the file is empty")

    def test_wrong_fields_are_named_and_kept(self):
        page = self.assertTrouble(self.submit(scale_factor="0.5", roi="1,2"), 400, "The request is not valid.")
        self.assertIn("greater than 1", page.by_id("scale_factor-error")["text"])
        self.assertIn("X,Y,WIDTH,HEIGHT", page.by_id("roi-error")["text"])
        self.assertEqual([page.by_id(name)["value"] for name in ("scale_factor", "roi")], ["0.5", "1,2"])
        self.assertEqual([e["href"] for e in page.all("a") if e["href"][0] == "#"], ["#scale_factor", "#roi"])
        self.assertIn("open", page.by_id("more"))
        self.assertEqual(page.by_id("min_size-error")["text"], "")

    def test_fields_that_do_not_fit_each_other_are_told(self):
        page = self.assertTrouble(self.submit(min_size="60", max_size="40"), 400, "The request is not valid.")
        self.assertIn("min_size is larger than max_size", page.slot("errors")["text"])

    def test_unknown_fields_and_files_are_refused(self):
        page = self.assertTrouble(self.submit(colour="red"), 400, "The request is not valid.")
        self.assertIn("colour: there is no such parameter", page.slot("errors")["text"])
        other = {"images": (BytesIO(jpeg()), "b.jpg")}
        page = self.assertTrouble(self.submit(**other), 400, "The request is not valid.")
        self.assertIn("images: there is no such file field", page.slot("errors")["text"])

    def test_a_field_given_twice_is_refused(self):
        page = self.assertTrouble(self.submit(roi=["1,1,2,2", "1,1,3,3"]), 400, "The request is not valid.")
        self.assertEqual(page.by_id("roi-error")["text"], "was given more than once")

    def test_an_unknown_detector_is_told(self):
        page = self.assertTrouble(self.submit(detector="unicorn"), 400, "The request is not valid.")
        self.assertIn("there is no detector 'unicorn'", page.slot("errors")["text"])

    def test_more_work_than_allowed_is_told(self):
        fields = {"scale_factor": "1.05", "rotations": ",".join(str(n) for n in range(0, 160, 10))}
        title = "The parameters ask for more work than one request may cost."
        with patch.object(self.service, "settings", self.service.settings.model_copy(update={"max_windows": 1000})):
            page = self.assertTrouble(self.submit(astronaut(), **fields), 400, title)
        self.assertIn("Raise scale_factor", page.slot("detail")["text"])
        self.assertNotIn("hidden", page.slot("detail"))

    def test_what_is_no_image_is_told(self):
        page = self.assertTrouble(
            self.submit(b"Just some words.\n" * 9, "words.jpg"), 415, "The upload is not an image of an accepted type."
        )
        self.assertIn("image/jpeg", page.slot("detail")["text"])
        self.assertEqual(page.all("img", class_="picture"), [])

    def test_a_damaged_image_is_told(self):
        self.assertTrouble(self.submit(astronaut()[:300]), 422, "The image is damaged and cannot be read.")

    def test_a_busy_server_says_when_to_come_back(self):
        with patch.object(self.service.pool, "run", side_effect=Busy()):
            answer = self.submit(jpeg(seed=77))
        self.assertTrouble(answer, 503, Busy.title)
        self.assertEqual(answer.headers["Retry-After"], "1")

    def test_a_bug_shows_its_request_and_nothing_else(self):
        with patch.object(self.service, "detect", side_effect=RuntimeError("a secret of the house")):
            answer = self.submit()
        page = self.assertTrouble(answer, 500, "Something went wrong on our side.")
        self.assertEqual(page.slot("request")["text"], f"Request {answer.headers['X-Request-ID']}")
        self.assertNotIn("secret", answer.text)

    def test_values_and_field_names_are_shown_as_text(self):
        page = self.assertTrouble(
            self.submit(**{"min_size": HOSTILE, HOSTILE: "1", "detector": "eye"}), 400, "The request is not valid."
        )
        self.assertEqual(page.by_id("min_size")["value"], HOSTILE)
        self.assertIn(f"{HOSTILE}: there is no such parameter", page.slot("errors")["text"])
        self.assertEqual({e["src"] for e in page.all("img") if "src" in e}, {"/static/icon.svg"})

    def test_no_value_ends_its_attribute(self):
        fields = {"roi": '" autofocus onfocus="alert(1)', "detector": '"', "style": "' onclick='alert(1)"}
        answer = self.client.post("/", data=fields, headers=BROWSER)  # urlencoded: quotes come as they are
        page = self.assertTrouble(answer, 400, "The request is not valid.")
        self.assertEqual(page.by_id("roi")["value"], fields["roi"])


class LimitTest(PageTest):
    settings = {"max_upload_bytes": 20_000}

    def test_the_limit_is_told_before_and_after(self):
        page = self.get()
        self.assertEqual(page.by_id("form")["data-max-bytes"], "20000")
        self.assertIn("up to 0.02 MB", page.by_id("image-hint")["text"])
        for size in (20_001, 200_000):  # over the limit of the file, and over the limit of the whole request
            answer = self.submit(jpeg() + b"\0" * size)
            self.assertTrouble(answer, 413, "The upload is larger than this server takes.")


class DoorTest(PageTest):
    def test_a_browser_under_a_foreign_name_gets_the_refusal_and_nothing_else(self):
        answer = self.client.get("/", headers=BROWSER | {"Host": "evil.example"})
        page = self.assertTrouble(answer, 403, "This request is not allowed.")
        self.assertIn("IMGDETECT_ALLOWED_HOSTS", page.slot("detail")["text"])
        self.assertEqual(page.all("form"), [])

    def test_a_program_gets_it_as_a_problem_document(self):
        self.assertProblem(self.client.get("/", headers={"Host": "evil.example"}), 403, "forbidden")

    def test_forms_of_other_sites_are_refused(self):
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
            answer = self.submit(headers=headers)
            self.assertTrouble(answer, 403, "This request is not allowed.")


class KeyTest(PageTest):
    settings = {"api_keys": f"alice:{hashlib.sha256(KEY.encode()).hexdigest()}"}

    def test_it_asks_for_the_key(self):
        field = self.get().by_id("api_key")
        self.assertEqual((field["type"], field["name"], field.get("value", "")), ("password", "api_key", ""))

    def test_without_the_key_nothing_is_looked_at(self):
        with patch.object(self.service, "detect") as detect:
            for key, message in (("", "is needed"), ("  ", "is needed"), ("wrong", "is not known here")):
                answer = self.submit(api_key=key, scale_factor="1.3")
                page = self.assertTrouble(answer, 401, "A valid API key is needed.")
                self.assertEqual(page.by_id("api_key-error")["text"], message)
                self.assertEqual(page.by_id("scale_factor")["value"], "1.3")
                self.assertEqual(answer.headers["WWW-Authenticate"], 'Bearer realm="imgdetect"')
        detect.assert_not_called()

    def test_the_key_works_and_is_not_shown(self):
        answer = self.submit(astronaut(), "mine.jpg", api_key=f" {KEY} ")
        page = self.parsed(answer)
        self.assertEqual(page.slot("summary")["text"], "1 found in mine.jpg")
        self.assertNotIn(KEY, answer.text)
        path = json.loads(page.slot("json")["text"])["image"]["links"]["self"]
        self.assertEqual(page.slot("address")["text"], path)
        self.assertEqual([e for e in page.all("a") if "data-link" in e], [])
        self.assertEqual(self.client.get(path).status_code, 401)
        with self.client.get(path, headers={"x-api-key": KEY}) as original:
            self.assertEqual(original.data, astronaut())
        self.assertEqual(self.client.get(f"{API}/image/mine.jpg", headers={"x-api-key": "wrong"}).status_code, 401)

    def test_the_answer_to_a_key_offers_its_own_detectors(self):
        cascade = FileStorage(BytesIO(cascades.lbp_cascade((24, 24), cascades.BRIGHT_CENTER).encode()), "own.xml")
        self.post_form(f"{API}/detectors", {"cascade": cascade, "name": "own"}, {"x-api-key": KEY})
        offered = [[o["value"] for o in page.all("option")] for page in (self.get(), self.parsed(self.submit()))]
        self.assertNotIn("own", offered[0] + offered[1])
        page = self.parsed(self.submit(astronaut(), api_key=KEY, detector="own"))
        self.assertIn("own", [o["value"] for o in page.all("option") if "selected" in o])
        with patch.object(self.service.database.detectors, "all_of", side_effect=BackendUnavailable()):
            page = self.parsed(self.submit(astronaut(), api_key=KEY))
        self.assertNotIn("own", [o["value"] for o in page.all("option")])

    def test_the_key_may_come_in_the_header_too(self):
        self.assertEqual(self.submit(headers={"x-api-key": KEY}).status_code, 200)

    def test_it_stays_in_the_form_of_no_page(self):
        self.assertNotIn("wrong-but-secret", self.submit(api_key="wrong-but-secret").text)
