"""The image detection service: addresses with underscores, pictures by id, every status and body of its contract."""

import base64
import json
import tempfile
import unittest
import uuid
from pathlib import Path

import cv2
import numpy as np

from imgdetect import config
from imgdetect.web import create_app
from tests import onnx_models as models
from tests.app import IN_MEMORY, AppTest, astronaut, jpeg
from tests.contract import CheckingClient
from tests.test_onnx_api import BOX, png

ALICE, ALICE_ENTRY = config.make_api_key("alice")
BOB, BOB_ENTRY = config.make_api_key("bob")
GET, PROCESS, PREDICT = "/get_image", "/process_image", "/predict"
COCO = "000000000144.jpg"


def pixels_of(data):
    """The decoded picture."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


class ImagesTest(AppTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        for name, data in ((COCO, astronaut()), ("dark.jpg", jpeg()), ("145.jpg", jpeg(80, 60)), ("broken.jpg", b"no")):
            (cls.folder / name).write_bytes(data)
        (cls.folder / "green.jpg").write_bytes(png())
        cls.settings = cls.settings | {"dataset_dir": str(cls.folder)}
        super().setUpClass()

    def send(self, path, headers=None, **body):
        return self.client.post(path, json=body, headers=headers)

    def assertRefused(self, answer, status, message):
        self.assertEqual((answer.status_code, answer.mimetype), (status, "application/json"), answer.data[:300])
        self.assertEqual(set(answer.get_json()), {"message"})
        self.assertIn(message, answer.get_json()["message"])

    def assertPicture(self, answer, size_wh):
        self.assertEqual((answer.status_code, answer.mimetype), (200, "image/jpeg"), answer.data[:300])
        height, width = pixels_of(answer.data).shape[:2]
        self.assertEqual((width, height), size_wh)

    def assertMissing(self, answer):
        self.assertRefused(answer, 404, "Item not found")
        self.assertEqual(answer.get_json(), {"message": "Item not found"})


class GetImageTest(ImagesTest):
    def test_an_id_is_a_name_or_a_number_padded_with_zeros(self):
        for image_id in ("144", "000000000144", "0144"):
            self.assertEqual(self.client.get(f"{GET}/{image_id}").data, astronaut())
        self.assertPicture(self.client.get(f"{GET}/145"), (80, 60))
        self.assertPicture(self.client.get(f"{GET}/dark"), (64, 48))

    def test_what_is_no_jpeg_by_content_becomes_one(self):
        self.assertPicture(self.client.get(f"{GET}/green"), (300, 200))

    def test_an_unknown_id_is_a_404(self):
        for image_id in ("146", COCO, "..", "dark.jpg", "%5c", "%ff", "a" * 500, "000000000000144"):
            self.assertMissing(self.client.get(f"{GET}/{image_id}"))

    def test_a_file_that_is_no_picture_is_a_422(self):
        self.assertRefused(self.client.get(f"{GET}/broken"), 422, "")


class ProcessImageTest(ImagesTest):
    def test_a_factor_scales_both_sides(self):
        self.assertPicture(self.send(PROCESS, image_id="144", scaling_factor=0.5), (256, 256))
        self.assertPicture(self.send(PROCESS, image_id="144", scaling_factor=0.25), (128, 128))
        self.assertPicture(self.send(PROCESS, image_id="dark", scaling_factor=0.75), (48, 36))

    def test_without_a_factor_it_stays_as_it_is(self):
        for body in ({}, {"scaling_factor": None}, {"scaling_factor": 1}, {"scaling_factor": 1.0}):
            answer = self.send(PROCESS, image_id="144", **body)
            self.assertEqual((answer.status_code, answer.data), (200, astronaut()))

    def test_an_unknown_id_is_a_404(self):
        self.assertMissing(self.send(PROCESS, image_id="146"))
        self.assertMissing(self.send(PROCESS, image_id="../144", scaling_factor=0.5))
        self.assertMissing(self.send(PROCESS, image_id="a\ud800\0"))

    def test_a_factor_out_of_range_is_a_422(self):
        for wrong in (0.24, 1.01, 0, -1, 10**400, "0.5", "", True, False, [], {}):
            answer = self.send(PROCESS, image_id="144", scaling_factor=wrong)
            self.assertRefused(answer, 422, "scaling_factor: should be a number from 0.25 to 1, or null")
        for wrong in ("NaN", "Infinity", "1e999"):
            body = f'{{"image_id": "144", "scaling_factor": {wrong}}}'
            answer = self.client.post(PROCESS, data=body, content_type="application/json")
            self.assertRefused(answer, 422, "scaling_factor")

    def test_a_body_without_a_right_id_is_a_422(self):
        for path in (PROCESS, PREDICT):
            for wrong in (144, None, [], {}, True, ""):
                self.assertRefused(self.send(path, image_id=wrong), 422, "image_id: ")
        self.assertRefused(self.send(PROCESS), 422, "image_id: is missing")
        for body in ("", "{", "[]", "7", "null", "[" * 60_000, b"\xff", json.dumps({"image_id": "a" * 70_000})):
            answer = self.client.post(PROCESS, data=body, content_type="application/json")
            self.assertRefused(answer, 422, "")

    def test_other_methods_are_a_405(self):
        for path in (PROCESS, PREDICT):
            self.assertRefused(self.client.get(path), 405, "")


class PredictTest(ImagesTest):
    def predicted(self, image_id, **factor):
        self.assertEqual(self.send(PROCESS, image_id=image_id, **factor).status_code, 200)
        answer = self.send(PREDICT, image_id=image_id)
        self.assertEqual((answer.status_code, answer.mimetype), (200, "application/json"), answer.data[:300])
        body = answer.get_json()
        self.assertEqual(set(body), {"request_id", "compute_time", "image", "payload"})
        uuid.UUID(body["request_id"])
        self.assertGreater(body["compute_time"], 0)
        return body

    def test_a_picture_has_to_be_processed_first(self):
        answer = self.send(PREDICT, image_id="145")
        self.assertRefused(answer, 404, "")
        self.assertEqual(answer.get_json(), {"message": "145 not found in processed images"})
        self.assertEqual(
            self.send(PREDICT, image_id="nothing").get_json()["message"], "nothing not found in processed images"
        )
        self.assertEqual(self.send(PROCESS, image_id="145", scaling_factor=2).status_code, 422)
        self.assertEqual(self.send(PREDICT, image_id="145").status_code, 404)  # what was refused was not processed
        self.assertEqual(self.send(PROCESS, image_id="145").status_code, 200)
        self.assertEqual(self.send(PREDICT, image_id="145").status_code, 200)
        self.assertEqual(self.send(PREDICT, image_id="000000000145").status_code, 404)

    def test_origins_are_the_centres(self):
        best = self.predicted("144")["payload"][0]
        self.assertEqual(set(best), {"bbox", "class", "score"})
        (x, y), (width, height) = best["bbox"]["origin"], best["bbox"]["size"]
        self.assertTrue(210 < x < 250 and 90 < y < 150 and 80 < width < 160 and 80 < height < 160, best)
        self.assertEqual(best["class"], "face")
        self.assertTrue(0.5 <= best["score"] <= 1)

    def test_it_looks_at_the_picture_as_it_was_processed(self):
        whole, half = self.predicted("144"), self.predicted("144", scaling_factor=0.5)
        for body, side in ((whole, 512), (half, 256)):
            png_bytes = base64.b64decode(body["image"], validate=True)
            self.assertEqual(png_bytes[:8], b"\x89PNG\r\n\x1a\n")
            self.assertEqual(pixels_of(png_bytes).shape, (side, side, 3))
        for name in ("origin", "size"):
            twice = np.array(half["payload"][0]["bbox"][name]) * 2
            np.testing.assert_allclose(twice, whole["payload"][0]["bbox"][name], atol=24)

    def test_nothing_found_is_an_empty_payload_with_the_picture(self):
        body = self.predicted("dark")
        self.assertEqual(body["payload"], [])
        self.assertEqual(pixels_of(base64.b64decode(body["image"])).shape, (48, 64, 3))

    def test_a_picture_that_went_is_not_found(self):
        (self.folder / "gone.jpg").write_bytes(jpeg())
        self.predicted("gone")
        (self.folder / "gone.jpg").unlink()
        self.assertRefused(self.send(PREDICT, image_id="gone"), 404, "gone not found in processed images")


class NetworksTest(ImagesTest):
    @classmethod
    def setUpClass(cls):
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        models.build(folder / "segments.onnx", "yolov8", masks=True)
        models.build(folder / "colours.onnx", "classification", size_wh=(224, 224))
        urls = " ".join(f"{name}=onnx:{folder}/{name}.onnx" for name in ("segments", "colours"))
        cls.settings = {"detectors": urls, "images_detector": "segments", "default_detector": "colours"}
        super().setUpClass()

    def test_a_segmentation_also_gives_polygons(self):
        self.send(PROCESS, image_id="green")
        (found,) = self.send(PREDICT, image_id="green").get_json()["payload"]
        self.assertEqual(found["class"], "green")
        self.assertAlmostEqual(found["score"], models.SCORE, places=2)
        left, top, right, bottom = BOX
        np.testing.assert_allclose(found["bbox"]["origin"], [(left + right) / 2, (top + bottom) / 2], atol=2)
        (polygon,) = found["segmentation"]
        xs, ys = polygon[::2], polygon[1::2]
        self.assertEqual(len(xs), len(ys))
        self.assertTrue(left - 2 <= min(xs) and max(xs) <= right + 2 and top - 2 <= min(ys) and max(ys) <= bottom + 2)

    def test_a_default_detector_that_finds_no_objects_is_told_and_is_not_an_empty_answer(self):
        answer = self.client.post("/run-image-object-detection", json={"filename": "green.jpg"})
        self.assertEqual(answer.status_code, 503)
        self.assertIn("IMGDETECT_ANALYSIS_DETECTOR", answer.get_json()["error"])


class KeysTest(ImagesTest):
    settings = {"api_keys": f"{ALICE_ENTRY} {BOB_ENTRY}"}

    def test_every_address_needs_a_key(self):
        for headers in ({}, {"x-api-key": "wrong"}):
            self.assertRefused(self.client.get(f"{GET}/144", headers=headers), 401, "key")
            for path in (PROCESS, PREDICT):
                self.assertRefused(self.send(path, headers, image_id="144"), 401, "key")
        self.assertPicture(self.client.get(f"{GET}/144", headers={"x-api-key": ALICE}), (512, 512))

    def test_what_one_key_processed_is_not_processed_for_another(self):
        self.assertEqual(self.send(PROCESS, {"x-api-key": ALICE}, image_id="144").status_code, 200)
        self.assertEqual(self.send(PREDICT, {"x-api-key": ALICE}, image_id="144").status_code, 200)
        self.assertRefused(self.send(PREDICT, {"x-api-key": BOB}, image_id="144"), 404, "not found in processed images")


class RestartTest(unittest.TestCase):
    def test_what_was_processed_survives_a_restart(self):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        pictures = folder / "pictures"
        pictures.mkdir()
        (pictures / COCO).write_bytes(astronaut())
        settings = {name: IN_MEMORY[name] for name in ("queue_url", "slots")}
        settings |= {"data_dir": str(folder), "dataset_dir": str(pictures)}
        for path, factor in ((PROCESS, {"scaling_factor": 0.5}), (PREDICT, {})):
            app = create_app(config.load(settings))
            app.test_client_class = CheckingClient
            try:
                answer = app.test_client().post(path, json={"image_id": "144"} | factor)
            finally:
                app.extensions["imgdetect"].close()
            self.assertEqual(answer.status_code, 200, answer.data[:300])
        self.assertEqual(pixels_of(base64.b64decode(answer.get_json()["image"])).shape[:2], (256, 256))


if __name__ == "__main__":
    unittest.main()
