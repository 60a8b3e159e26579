"""DeepStack's contract, as Frigate, Home Assistant and CodeProject.AI's clients use it."""

import tempfile
import unittest
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage

from imgdetect import config
from imgdetect.detection import Box, Detection
from imgdetect.equipment import create_detectors, detector_urls
from imgdetect.web.dialects.deepstack import confidence_of
from tests import onnx_models as models
from tests.app import IN_MEMORY, AppTest, astronaut, jpeg
from tests.test_onnx_api import BOX, png

KEY, ENTRY = config.make_api_key("camera")
DETECTION, FACE, CUSTOM = "/v1/vision/detection", "/v1/vision/face", "/v1/vision/custom/"
ALL = (DETECTION, FACE, f"{CUSTOM}face", f"{CUSTOM}list", "/v1/vision/listmodels")


def many_faces():
    """A picture with 25 times the same face."""
    face = cv2.imdecode(np.frombuffer(astronaut(), np.uint8), cv2.IMREAD_COLOR)[40:200, 150:310]
    return cv2.imencode(".png", np.tile(cv2.resize(face, (120, 120)), (5, 5, 1)))[1].tobytes()


class DeepStackTest(AppTest):
    def send(self, path=DETECTION, data=None, filename="image", headers=None, **form):
        """Send a picture as Frigate does: the part has a name without extension."""
        picture = FileStorage(BytesIO(astronaut() if data is None else data), filename, "image")
        return self.post_form(path, {"image": picture} | form, headers)

    def assertRefused(self, answer, status, part):
        self.assertEqual((answer.status_code, answer.mimetype), (status, "application/json"), answer.text)
        body = answer.get_json()
        self.assertEqual((set(body), body["success"]), ({"success", "error"}, False))
        self.assertIn(part, body["error"])


class CascadesTest(DeepStackTest):
    def test_a_picture_gives_its_faces(self):
        for path in (DETECTION, FACE, f"{CUSTOM}face"):
            body = self.send(path).get_json()
            self.assertEqual((body["success"], body["code"], body["count"]), (True, 200, len(body["predictions"])))
            best = body["predictions"][0]
            self.assertEqual(set(best), {"label", "confidence", "x_min", "y_min", "x_max", "y_max"})
            self.assertEqual(best["label"], "face")
            self.assertTrue(150 < best["x_min"] < 230 < best["x_max"] < 320, best)
            self.assertGreater(best["confidence"], 0.9)

    def test_nothing_found_is_a_success(self):
        body = self.send(data=jpeg()).get_json()
        self.assertEqual((body["success"], body["predictions"], body["count"]), (True, [], 0))

    def test_the_surest_come_first_and_no_more_than_20(self):
        predictions = self.send(data=many_faces(), min_confidence="0").get_json()["predictions"]
        self.assertEqual(len(predictions), 20)
        sure = [one["confidence"] for one in predictions]
        self.assertEqual(sure, sorted(sure, reverse=True))

    def test_min_confidence_leaves_out_the_less_sure(self):
        sure = self.send().get_json()["predictions"][0]["confidence"]
        self.assertEqual(self.send(min_confidence=str(sure)).get_json()["predictions"][0]["confidence"], sure)
        self.assertEqual(self.send(min_confidence="0.9999").get_json()["predictions"], [])
        self.assertEqual(self.send(min_confidence="").get_json()["count"], self.send().get_json()["count"])
        for wrong in ("-0.1", "1.1", "nan", "inf", "much"):
            self.assertRefused(self.send(min_confidence=wrong), 400, "min_confidence: should be a number from 0 to 1")

    def test_an_empty_key_and_unknown_fields_do_no_harm(self):
        self.assertEqual(self.send(api_key="", mode="fast").status_code, 200)

    def test_bad_content_is_a_400_that_says_why(self):
        self.assertRefused(self.send(data=b"hello, I am no picture"), 400, "")
        self.assertRefused(self.send(data=astronaut()[:2000]), 400, "")
        self.assertRefused(self.send(data=b""), 400, "")
        self.assertRefused(self.post_form(DETECTION, {"min_confidence": "0.5"}), 400, "image: is missing")
        self.assertRefused(self.client.post(DETECTION), 400, "image: is missing")
        limit = self.service.settings.max_upload_bytes
        self.assertRefused(self.send(data=astronaut() + b"\0" * limit), 400, "larger")

    def test_what_is_not_there_is_a_404_and_a_wrong_method_a_405(self):
        self.assertRefused(self.send(f"{CUSTOM}unicorn"), 404, "there is no detector 'unicorn'; known here:")
        answer = self.client.get(DETECTION)
        self.assertRefused(answer, 405, "method")
        self.assertIn("POST", answer.headers["Allow"])
        plain = FlaskClient(self.app, self.app.response_class)  # the contract knows no such address
        self.assertRefused(plain.post("/v1/vision/scene"), 404, "nothing here")

    def test_several_detectors_look_at_one_picture(self):
        labels = {one["label"] for one in self.send(f"{CUSTOM}face,eye").get_json()["predictions"]}
        self.assertEqual(labels, {"face", "eye"})
        for wrong in ("face,", "face,face", ",".join(f"n{number}" for number in range(9))):
            self.assertRefused(self.send(f"{CUSTOM}{wrong}"), 400, "detector: ")

    def test_models_are_listed_and_the_server_answers(self):
        for path in ("/v1/vision/listmodels", f"{CUSTOM}list"):
            body = self.client.post(path).get_json()
            self.assertTrue(body["success"])
            self.assertLessEqual({"face", "eye"}, set(body["models"]))
        self.assertEqual(self.client.get("/v1/server/status/ping").get_json(), {"success": True})

    def test_a_foreign_page_is_refused_in_the_same_form(self):
        self.assertRefused(self.send(headers={"Origin": "https://evil.example"}), 403, "other sites")


class KeysTest(DeepStackTest):
    settings = {"api_keys": ENTRY}

    def test_a_missing_or_wrong_key_is_a_401_in_the_same_form(self):
        for path in ALL:
            for form in ({}, {"api_key": ""}, {"api_key": "wrong"}):
                self.assertRefused(self.send(path, **form), 401, "key")
        self.assertRefused(self.client.get("/v1/server/status/ping"), 401, "key")
        self.assertRefused(self.send(api_key=KEY, headers={"x-api-key": "wrong"}), 401, "key")

    def test_form_and_headers_carry_a_key(self):
        for path in ALL:
            self.assertEqual(self.send(path, api_key=KEY).status_code, 200)
            self.assertEqual(self.send(path, headers={"x-api-key": KEY}).status_code, 200)
            self.assertEqual(self.send(path, headers={"Authorization": f"Bearer {KEY}"}).status_code, 200)
        ping = self.client.get("/v1/server/status/ping", headers={"x-api-key": KEY})
        self.assertEqual(ping.get_json(), {"success": True})


class NetworksTest(DeepStackTest):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        for name, family in (("boxes", "yolox"), ("colours", "classification")):
            models.build(Path(folder.name) / f"{name}.onnx", family)
        urls = " ".join(f"{name}=onnx:{folder.name}/{name}.onnx" for name in ("boxes", "colours"))
        cls.settings = {"detectors": urls, "deepstack_detector": "boxes,face"}
        super().setUpClass()

    def test_the_named_network_gives_labels_and_its_own_confidence(self):
        (found,) = self.send(data=png("blue")).get_json()["predictions"]
        self.assertEqual(found["label"], "blue")
        self.assertAlmostEqual(found["confidence"], models.SCORE, places=3)
        for edge, wanted in zip(("x_min", "y_min", "x_max", "y_max"), BOX, strict=True):
            self.assertAlmostEqual(found[edge], wanted, delta=1)
        self.assertEqual(self.send(data=png("blue"), min_confidence="0.95").get_json()["predictions"], [])

    def test_a_classification_finds_no_objects(self):
        self.assertRefused(self.send(f"{CUSTOM}colours"), 404, "names classes")
        self.assertNotIn("colours", self.client.post(f"{CUSTOM}list").get_json()["models"])
        with self.assertRaisesRegex(ValueError, "IMGDETECT_DEEPSTACK_DETECTOR: colours names classes"):
            create_detectors(config.load(IN_MEMORY | self.settings | {"deepstack_detector": "colours"}))


class ConfidenceTest(unittest.TestCase):
    def test_it_rises_with_the_neighbors_from_a_half_to_one(self):
        for strictness in (0, 3, 8):
            seen = [Detection("face", "face", Box(0, 0, 1, 1), 0.0, n, None) for n in range(strictness, 300)]
            sure = [confidence_of(one, strictness) for one in seen]
            self.assertEqual(sure, sorted(sure))
            self.assertEqual((sure[0], sure[1]), (0.5, 0.5))
            self.assertTrue(0.98 < sure[-1] < 1, sure[-1])

    def test_a_detector_that_is_not_there_keeps_the_server_from_starting(self):
        with self.assertRaisesRegex(ValueError, "IMGDETECT_DEEPSTACK_DETECTOR: there is no detector 'x'; known: "):
            detector_urls(config.load(IN_MEMORY | {"deepstack_detector": "x"}))


if __name__ == "__main__":
    unittest.main()
