"""A classifier's web form: /predict for forms, /display, /feedback, and the page."""

from io import BytesIO
from unittest.mock import patch

import cv2
import numpy as np

from imgdetect import config
from imgdetect.web.dialects import web_form
from tests.app import AppTest, astronaut, jpeg
from tests.test_dialect_classifier import ClassifierCase, part
from tests.test_onnx_api import png
from tests.test_page import Parsed

KEY, ENTRY = config.make_api_key("form")
GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
FAILED = {"success": False, "prediction": None, "score": None}


class FormTest(ClassifierCase):
    def predict(self, data, filename="a.png", field="file", **form):
        return self.post_form("/predict", {field: part(data, filename)} | form)

    def assertFailed(self, answer):
        self.assertEqual((answer.status_code, answer.get_json()), (400, FAILED))


class PredictTest(FormTest):
    def test_a_picture_is_classified(self):
        for colour in ("red", "green", "blue"):
            body = self.predict(png(colour)).get_json()
            self.assertEqual((set(body), body["success"], body["prediction"]), (set(FAILED), True, colour))
            self.assertEqual(body["score"], round(body["score"], 4))
            self.assertTrue(0 < body["score"] <= 1)

    def test_png_jpeg_and_gif_are_taken_by_their_content(self):
        self.assertEqual(self.predict(astronaut(), "a.jpeg").status_code, 200)
        image = cv2.imdecode(np.frombuffer(png(), np.uint8), cv2.IMREAD_COLOR)
        self.assertEqual(self.predict(GIF, "a.gif").status_code, 200)
        for kind in (".webp", ".bmp"):
            self.assertFailed(self.predict(cv2.imencode(kind, image)[1].tobytes(), f"a{kind}"))

    def test_everything_wrong_is_one_400(self):
        self.assertFailed(self.client.post("/predict"))
        self.assertFailed(self.client.post("/predict", json={"picture": "a"}))
        self.assertFailed(self.client.post("/predict", json=["image_id"]))
        self.assertFailed(self.client.post("/predict", data=b"{", content_type="application/json"))
        self.assertFailed(self.post_form("/predict", {"text": "a"}))
        self.assertFailed(self.predict(b"no picture", "a.png"))
        self.assertFailed(self.predict(b"", "a.png"))
        self.assertFailed(self.predict(astronaut()[:9000], "a.jpg"))
        self.assertFailed(self.predict(astronaut() + b"\0" * self.service.settings.max_upload_bytes))

    def test_a_broken_picture_fails_its_own_job_only(self):
        self.assertFailed(self.predict(astronaut()[:9000], "a.jpg"))
        self.assertEqual(self.predict(png("red")).get_json()["prediction"], "red")

    def test_a_wait_has_an_end(self):
        jobs = self.app.extensions["imgdetect"].jobs
        with patch.object(jobs.queue, "submit"), patch.object(web_form, "_WAIT_SECONDS", 0.05):
            answer = self.predict(png("blue"))
        self.assertEqual(answer.status_code, 504)
        self.assertEqual(self.predict(png("blue")).status_code, 200)

    def test_it_takes_no_get(self):
        self.assertEqual(self.client.get("/predict").status_code, 405)

    def test_what_was_sent_is_shown_under_its_name(self):
        self.predict(png("red"), "my dog.png")
        answer = self.client.get("/display/my dog.png")
        self.assertEqual(answer.status_code, 301)
        self.assertEqual(self.client.get(answer.headers["Location"]).data, png("red"))
        self.assertProblem(self.client.get("/display/unicorn.png"), 404, "not-found")


class PageTest(FormTest):
    def test_a_form_with_file_shows_the_class(self):
        answer = self.client.post("/", data={"file": (BytesIO(png("green")), "a.png")})
        self.assertEqual(answer.status_code, 200)
        self.assertIn("Predicted class", answer.text)
        self.assertIn("Score", answer.text)
        page = Parsed(answer.text)
        self.assertEqual(page.slot("summary")["text"], "green in a.png")
        self.assertTrue(page.all("img", class_="picture"))

    def test_another_detector_can_be_named(self):
        answer = self.client.post("/", data={"file": (BytesIO(png("green")), "a.png"), "detector": "face"})
        self.assertIn("Nothing found in a.png", answer.text)


class FeedbackTest(AppTest):
    def test_a_report_is_kept_as_it_is(self):
        report = "{'filename': 'a.png', 'prediction': \"Eskimo_dog\", 'score': 0.73} <b>ä</b>"
        answer = self.client.post("/feedback", data={"report": report})
        self.assertEqual((answer.status_code, answer.mimetype), (200, "text/html"))
        self.assertNotIn("<b>", answer.text)
        self.assertEqual(self.service.database.feedback.newest("", 5), [report])
        self.assertIn("Eskimo_dog", self.client.get("/feedback").text)

    def test_without_a_report_it_is_a_page(self):
        for answer in (self.client.get("/feedback"), self.client.post("/feedback", data={"other": "x"})):
            self.assertEqual((answer.status_code, answer.mimetype), (200, "text/html"))

    def test_what_is_too_long_is_refused(self):
        for wrong in ("x" * 20_001, "a\0b"):
            self.assertProblem(self.client.post("/feedback", data={"report": wrong}), 400, "invalid-request")

    def test_the_oldest_go_when_there_are_too_many(self):
        rows = self.service.database.feedback
        for number in range(5):
            rows.add(f"{number:032x}", "anna", str(number), most=3)
        self.assertEqual((rows.newest("anna", 9), rows.count("anna"), rows.newest("bert", 9)), (["4", "3", "2"], 3, []))


class NoClassifierTest(FormTest):
    networks = ()

    def test_a_picture_is_answered_with_how_to_get_one(self):
        answer = self.predict(jpeg())
        self.assertEqual(answer.status_code, 503)
        self.assertIn("imgdetect models fetch mobilenet_v2", answer.text)
        self.assertFailed(self.client.post("/predict"))


class KeysTest(FormTest):
    settings = {"api_keys": ENTRY}

    def test_every_address_needs_a_key(self):
        for method, path in (
            ("POST", "/predict"),
            ("GET", "/display/a.png"),
            ("GET", "/feedback"),
            ("POST", "/feedback"),
        ):
            self.assertEqual(self.client.open(path, method=method).status_code, 401, path)
        headers = {"x-api-key": KEY}
        sent = self.post_form("/predict", {"file": part(png("red"))}, headers)
        self.assertEqual(sent.get_json()["prediction"], "red")
        self.assertEqual(self.client.post("/feedback", data={"report": "x", "api_key": KEY}).status_code, 200)
        self.assertEqual(self.service.database.feedback.newest("form", 9), ["x"])
