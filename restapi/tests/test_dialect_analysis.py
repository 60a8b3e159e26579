"""The image analysis API: addresses with dashes, forms and JSON, every status and body of its contract."""

import base64
import json
import tempfile
import unittest
import uuid
from io import BytesIO
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
from werkzeug.datastructures import FileStorage

from imgdetect import config
from imgdetect.equipment import prove
from imgdetect.web.dialects import analysis
from tests.app import IN_MEMORY, INPUT, AppTest, astronaut, jpeg

KEY, ENTRY = config.make_api_key("camera")
GET, PROCESS, DETECT = "/get-image", "/process-image", "/run-image-object-detection"


def pixels_of(data):
    """The decoded picture."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def see_through():
    """A PNG whose upper half is red and whose lower half is transparent."""
    bgra = np.zeros((40, 60, 4), np.uint8)
    bgra[:20] = 0, 0, 255, 255
    return cv2.imencode(".png", bgra)[1].tobytes()


class AnalysisTest(AppTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.folder / "astronaut.jpg").write_bytes(astronaut())
        (cls.folder / "clear.png").write_bytes(see_through())
        (cls.folder / "broken.jpg").write_bytes(b"no picture")
        cls.settings = cls.settings | {"dataset_dir": str(cls.folder)}
        super().setUpClass()

    def send(self, path, data=None, headers=None, **form):
        """Send a picture as a form."""
        picture = FileStorage(BytesIO(astronaut() if data is None else data), "image.jpg", "image/jpeg")
        return self.post_form(path, {"file": picture} | form, headers)

    def name(self, path, **body):
        return self.client.post(path, json=body)

    def assertRefused(self, answer, part, status=400):
        self.assertEqual((answer.status_code, answer.mimetype), (status, "application/json"), answer.data[:300])
        self.assertEqual(set(answer.get_json()), {"error"})
        self.assertIn(part, answer.get_json()["error"])

    def assertPicture(self, answer, size_wh):
        self.assertEqual((answer.status_code, answer.mimetype), (200, "image/jpeg"), answer.data[:300])
        height, width, channels = pixels_of(answer.data).shape
        self.assertEqual(((width, height), channels), (size_wh, 3))


class GetImageTest(AnalysisTest):
    def test_a_named_picture_comes_as_it_is(self):
        answer = self.client.get(f"{GET}?filename=astronaut.jpg")
        self.assertPicture(answer, (512, 512))
        self.assertEqual(answer.data, astronaut())

    def test_what_is_no_jpeg_becomes_one_with_its_alpha_on_white(self):
        answer = self.client.get(f"{GET}?filename=clear.png")
        self.assertPicture(answer, (60, 40))
        self.assertGreater(pixels_of(answer.data)[30:].min(), 245)

    def test_without_a_name_any_picture_of_the_folder_comes(self):
        with mock.patch("random.randrange", lambda count: self.assertEqual(count, 3) or 0):
            self.assertEqual(self.client.get(GET).data, astronaut())

    def test_an_unknown_name_is_a_400(self):
        names = (
            "nothing.jpg",
            "",
            ".",
            "..",
            "../astronaut.jpg",
            "%2e%2e/astronaut.jpg",
            "/etc/passwd",
            "%00",
            "a" * 999,
        )
        for name in names:
            self.assertRefused(self.client.get(f"{GET}?filename={name}"), "There is no picture")
        self.assertRefused(self.client.get(f"{GET}?filename=broken.jpg"), "")

    def test_a_folder_without_pictures_says_how_to_get_some(self):
        with mock.patch.object(self.service.dataset, "_folder", self.folder / "nothing"):
            self.assertRefused(self.client.get(GET), "imgdetect dataset fetch")


class ProcessImageTest(AnalysisTest):
    def test_a_picture_gets_the_size_that_was_asked_for(self):
        self.assertPicture(self.send(PROCESS, width="100", height="50"), (100, 50))
        self.assertPicture(self.send(PROCESS, width="700", height="600"), (700, 600))
        self.assertPicture(self.name(PROCESS, filename="astronaut.jpg", width=64, height=32), (64, 32))

    def test_without_a_size_it_keeps_its_own(self):
        self.assertPicture(self.send(PROCESS), (512, 512))
        self.assertPicture(self.send(PROCESS, width="", height=""), (512, 512))
        self.assertPicture(self.name(PROCESS, filename="clear.png"), (60, 40))

    def test_alpha_is_flattened(self):
        for size in ({}, {"width": "30", "height": "20"}):
            answer = self.send(PROCESS, see_through(), **size)
            self.assertPicture(answer, (30, 20) if size else (60, 40))
            self.assertGreater(pixels_of(answer.data)[-5:].min(), 240)

    def test_half_a_size_or_a_wrong_one_is_a_400(self):
        self.assertRefused(self.send(PROCESS, width="100"), "belong together")
        self.assertRefused(self.name(PROCESS, filename="astronaut.jpg", height=3), "belong together")
        for wrong in ("0", "-1", "1.5", "ten", "1e2", "999999", "１"):
            self.assertRefused(self.send(PROCESS, width=wrong, height="10"), "width: should be a whole number")
        for wrong in (True, 0, 1.5, [], {}):
            self.assertRefused(self.name(PROCESS, filename="astronaut.jpg", width=10, height=wrong), "height: should")
        self.assertRefused(self.send(PROCESS, width="16000", height="16000"), "too large")
        self.assertRefused(self.send(PROCESS, width="20000", height="1"), "too large")

    def test_bad_input_is_a_400_that_says_why(self):
        for path in (PROCESS, DETECT):
            self.assertRefused(self.post_form(path, {"width": "1"}), "file: is missing")
            self.assertRefused(self.client.post(path), "file: is missing")
            self.assertRefused(self.send(path, b"hello"), "")
            self.assertRefused(self.send(path, b""), "empty")
            self.assertRefused(self.send(path, astronaut()[:2000]), "")
            self.assertRefused(self.name(path, filename="nothing.jpg"), "There is no picture 'nothing.jpg'")
            self.assertRefused(self.name(path, filename="../astronaut.jpg"), "There is no picture")
            self.assertRefused(self.name(path, filename="a\ud800\0"), "There is no picture")
            self.assertRefused(self.name(path), "filename: is missing")
            for wrong in (7, [], {}, True, ""):
                self.assertRefused(self.name(path, filename=wrong), "filename: should be a text")

    def test_a_body_that_is_no_json_object_is_a_400(self):
        for path in (PROCESS, DETECT):
            for body in ("", "{", "[]", "7", '"a"', "null", "[" * 60_000, b"\xff", '{"filename": ' + "9" * 5000 + "}"):
                answer = self.client.post(path, data=body, content_type="application/json")
                self.assertRefused(answer, "")
            large = json.dumps({"filename": "a" * 70_000})
            self.assertRefused(self.client.post(path, data=large, content_type="application/json"), "")


class DetectTest(AnalysisTest):
    def assertFace(self, answer):
        self.assertEqual((answer.status_code, answer.mimetype), (200, "application/json"), answer.data[:300])
        body = answer.get_json()
        self.assertEqual(set(body), {"request_id", "compute_time", "payload"})
        uuid.UUID(body["request_id"])
        self.assertGreater(body["compute_time"], 0)
        best = body["payload"][0]
        self.assertEqual(set(best), {"bbox", "class", "score", "image"})
        (x, y), (width, height) = best["bbox"]["origin"], best["bbox"]["size"]
        self.assertTrue(150 < x < 230 and 40 < y < 110 and 80 < width < 160 and 80 < height < 160, best["bbox"])
        self.assertEqual(best["class"], "face")
        self.assertTrue(0.5 <= best["score"] <= 1)
        return best

    def test_a_picture_gives_its_objects_with_origins_at_their_top_left(self):
        self.assertFace(self.send(DETECT))
        self.assertFace(self.name(DETECT, filename="astronaut.jpg"))

    def test_each_object_comes_with_the_picture_and_its_boxes(self):
        best = self.assertFace(self.send(DETECT))
        png = base64.b64decode(best["image"], validate=True)
        self.assertEqual(png[:8], b"\x89PNG\r\n\x1a\n")
        drawn, plain = pixels_of(png), pixels_of(astronaut())
        self.assertEqual(drawn.shape, plain.shape)
        (x, y), (width, _) = best["bbox"]["origin"], best["bbox"]["size"]
        changed = np.abs(drawn[y + 1, x : x + width].astype(int) - plain[y + 1, x : x + width]).max(axis=1)
        self.assertGreater(np.median(changed), 20)  # the upper side of the box

    def test_an_answer_that_would_be_too_large_has_smaller_pictures(self):
        with mock.patch.object(analysis, "MAX_ANSWER_BYTES", 400_000):
            best = self.assertFace(self.send(DETECT))
        height, width = pixels_of(base64.b64decode(best["image"])).shape[:2]
        self.assertLessEqual(width * height * 4, 400_000)
        self.assertEqual(width, height)

    def test_nothing_found_is_an_empty_payload(self):
        answer = self.send(DETECT, jpeg())
        self.assertEqual((answer.status_code, answer.get_json()["payload"]), (200, []))

    def test_the_request_id_is_that_of_the_request_where_it_is_a_uuid(self):
        chosen = str(uuid.uuid4())
        self.assertEqual(self.send(DETECT, headers={"X-Request-ID": chosen}).get_json()["request_id"], chosen)
        uuid.UUID(self.send(DETECT, headers={"X-Request-ID": "my-request-1"}).get_json()["request_id"])

    def test_other_methods_are_a_405(self):
        for path in (PROCESS, DETECT):
            self.assertRefused(self.client.get(path), "", 405)
        self.assertRefused(self.client.post(GET), "", 405)


class SettingsTest(AnalysisTest):
    settings = {"analysis_detector": "cat_face", "api_keys": ENTRY}

    def test_the_setting_names_the_detector(self):
        self.assertEqual(self.send(DETECT, headers={"x-api-key": KEY}).get_json()["payload"], [])

    def test_every_address_needs_the_key(self):
        for headers in ({}, {"x-api-key": "wrong"}):
            self.assertRefused(self.client.get(GET, headers=headers), "key", 401)
            for path in (PROCESS, DETECT):
                self.assertRefused(self.send(path, headers=headers), "key", 401)
        answer = self.client.get(f"{GET}?filename=astronaut.jpg", headers={"Authorization": f"Bearer {KEY}"})
        self.assertPicture(answer, (512, 512))


class WithoutADatasetTest(AppTest):
    def test_the_sample_pictures_are_the_dataset(self):
        self.assertEqual(set(self.service.dataset.names()), {path.name for path in INPUT.iterdir()})
        self.assertEqual(self.client.get(f"{GET}?filename=astronaut.jpg").data, astronaut())


class WrongSettingsTest(unittest.TestCase):
    def test_a_dataset_folder_that_is_missing_is_told_at_start(self):
        with self.assertRaisesRegex(ValueError, "IMGDETECT_DATASET_DIR: there is no folder /nothing/here"):
            prove(config.load(IN_MEMORY | {"dataset_dir": "/nothing/here"}))


if __name__ == "__main__":
    unittest.main()
