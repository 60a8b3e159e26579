"""The classifier API's contract, with a network and without one."""

import tempfile
import unittest
from io import BytesIO
from pathlib import Path

from werkzeug.datastructures import FileStorage

from imgdetect import __version__, config, metrics
from imgdetect.detectors import onnx
from imgdetect.equipment import create_detectors
from tests import onnx_models as models
from tests.app import IN_MEMORY, AppTest, astronaut, jpeg
from tests.test_onnx_api import png

KEY, ENTRY = config.make_api_key("classes")
CLASSIFY, BATCH = "/api/v1/classify", "/api/v1/classify-batch"
NO_KEY = "Send the key as 'x-api-key: KEY' or 'Authorization: Bearer KEY'."
INFO = {"model_name", "device", "num_classes", "framework", "quantized", "parameters", "model_size_mb"}


def part(data, filename="image.png"):
    return FileStorage(BytesIO(data), filename, "image")


def value(counter, **labels):
    """What a counter or histogram has counted."""
    wanted = {str(k): str(v) for k, v in labels.items()}
    samples = [s for m in counter.collect() for s in m.samples if s.name.endswith(("_total", "_count"))]
    return sum(sample.value for sample in samples if wanted.items() <= sample.labels.items())


class ClassifierCase(AppTest):
    networks = (("colours", "classification"), ("boxes", "yolox"))

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        for name, family in cls.networks:
            models.build(Path(folder.name) / f"{name}.onnx", family)
        urls = " ".join(f"{name}=onnx:{folder.name}/{name}.onnx" for name, _ in cls.networks)
        cls.settings = cls.settings | {"detectors": urls}
        super().setUpClass()

    def assertDetail(self, answer, status, detail):
        self.assertEqual((answer.status_code, answer.mimetype), (status, "application/json"), answer.text)
        self.assertEqual(answer.get_json(), {"detail": detail})

    def assertInvalid(self, answer, field, part):
        self.assertEqual(answer.status_code, 422, answer.text)
        (error,) = answer.get_json()["detail"]
        self.assertEqual(error["loc"], ["body", field])
        self.assertIn(part, error["msg"])


class ClassifierTest(ClassifierCase):
    def test_a_picture_is_classified(self):
        for field in ("file", "image"):
            body = self.post_form(CLASSIFY, {field: part(png("green"))}).get_json()
            self.assertEqual(set(body), {"predictions", "model_info", "processing_time_ms"})
            best = body["predictions"][0]
            self.assertEqual((best["class_name"], best["class_id"]), ("green", 1))
            sure = [one["probability"] for one in body["predictions"]]
            self.assertEqual(sure, sorted(sure, reverse=True))
            self.assertAlmostEqual(sum(sure), 1, places=4)
            self.assertGreater(body["processing_time_ms"], 0)
            self.assertEqual(set(body["model_info"]), INFO)

    def test_top_k_says_how_many(self):
        for top_k, count in (("1", 1), ("2", 2), ("10", 3)):
            body = self.post_form(CLASSIFY, {"file": part(png("red")), "top_k": top_k}).get_json()
            self.assertEqual(len(body["predictions"]), count)
        for wrong, why in (("0", "greater than or equal to 1"), ("11", "less than or equal to 10"), ("x", "integer")):
            self.assertInvalid(self.post_form(CLASSIFY, {"file": part(png()), "top_k": wrong}), "top_k", why)
            self.assertInvalid(self.post_form(BATCH, {"files": part(png()), "top_k": wrong}), "top_k", why)

    def test_a_missing_file_is_a_422_and_two_are(self):
        self.assertInvalid(self.post_form(CLASSIFY, {"top_k": "3"}), "file", "Field required")
        self.assertInvalid(self.client.post(CLASSIFY), "file", "Field required")
        two = {"file": part(png()), "image": part(png())}
        self.assertInvalid(self.post_form(CLASSIFY, two), "file", "One file at a time")
        self.assertInvalid(self.post_form(BATCH, {"top_k": "3"}), "files", "Field required")

    def test_what_is_no_image_is_a_400(self):
        for data in (b"I am no picture at all", b"", astronaut()[:1000]):
            answer = self.post_form(CLASSIFY, {"file": part(data, "photo.jpg")})
            if data:
                self.assertDetail(answer, 400, "File must be an image")
            self.assertEqual(answer.status_code, 400)

    def test_a_large_one_is_a_400(self):
        for size in (10_000_001, 30_000_000):
            answer = self.post_form(CLASSIFY, {"file": part(jpeg() + b"\0" * (size - len(jpeg())))})
            self.assertDetail(answer, 400, "Image too large (max 10MB)")
        right = self.post_form(CLASSIFY, {"file": part(jpeg() + b"\0" * (10_000_000 - len(jpeg())))})
        self.assertEqual(right.status_code, 200, right.text)

    def test_a_batch_has_a_result_for_each_file(self):
        files = [part(png("red"), "a.png"), part(b"no picture", "b.txt"), part(png("blue"), "c.png")]
        files.append(part(jpeg() + b"\0" * 10_000_000, "d.jpg"))
        body = self.post_form(BATCH, {"files": files, "top_k": "1"}).get_json()
        self.assertEqual((body["total_files"], body["successful_files"]), (4, 2))
        self.assertEqual([one["file_index"] for one in body["results"]], [0, 1, 2, 3])
        self.assertEqual([one["filename"] for one in body["results"]], ["a.png", "b.txt", "c.png", "d.jpg"])
        self.assertEqual(body["results"][1]["error"], "File must be an image")
        self.assertEqual(body["results"][3]["error"], "Image too large (max 10MB)")
        seen = [body["results"][index]["predictions"][0]["class_name"] for index in (0, 2)]
        self.assertEqual(seen, ["red", "blue"])

    def test_a_batch_has_at_most_ten(self):
        self.assertEqual(
            self.post_form(BATCH, {"files": [part(png()) for _ in range(10)]}).get_json()["successful_files"], 10
        )
        self.assertDetail(
            self.post_form(BATCH, {"files": [part(png()) for _ in range(11)]}), 400, "Maximum 10 images per batch"
        )

    def test_it_is_healthy_and_tells_what_it_classifies_with(self):
        body = self.client.get("/api/v1/health").get_json()
        self.assertEqual((body["status"], body["model_loaded"], set(body["model_info"])), ("healthy", True, INFO))
        info = self.client.get("/api/v1/model/info").get_json()
        self.assertEqual(info, body["model_info"])
        self.assertTrue(all(isinstance(text, str) for text in info.values()))
        self.assertEqual((info["model_name"], info["num_classes"], info["quantized"]), ("colours", "3", "false"))
        self.assertTrue(info["framework"].startswith("onnxruntime "))
        self.assertEqual(self.client.get("/api/v1/models").get_json(), {"models": [info]})

    def test_the_root_tells_programs_where_things_are(self):
        body = self.client.get("/", headers={"Accept": "application/json"}).get_json()
        self.assertEqual(body["version"], __version__)
        self.assertEqual(set(body["endpoints"]), {"health", "classify", "model_info", "docs", "metrics"})
        for accept in ("text/html", "*/*", "text/html,application/xhtml+xml,*/*;q=0.8"):
            self.assertEqual(self.client.get("/", headers={"Accept": accept}).mimetype, "text/html")
        for path in body["endpoints"].values():
            if path != body["endpoints"]["classify"]:
                answer = self.client.get(path)
                self.assertEqual(answer.status_code, 200, path)
                answer.close()
        self.assertEqual(self.client.get("/redoc").status_code, 200)

    def test_classifications_are_counted(self):
        counters = metrics.classification_seconds, metrics.classification_confidence
        before = [value(counter) for counter in counters]
        good = value(metrics.classifications_total, model_name="colours", status="success")
        bad = value(metrics.classifications_total, model_name="colours", status="error")
        self.post_form(CLASSIFY, {"file": part(png("red", 301))})
        self.assertEqual(self.post_form(CLASSIFY, {"file": part(astronaut()[:9000])}).status_code, 400)
        self.assertEqual([value(counter) - 1 for counter in counters], before)
        self.assertEqual(value(metrics.classifications_total, model_name="colours", status="success"), good + 1)
        self.assertEqual(value(metrics.classifications_total, model_name="colours", status="error"), bad + 1)
        text = self.client.get("/metrics").text
        self.assertRegex(text, r"(?m)^model_load_time_seconds_count [1-9]")
        for name in ("http_requests_total{", "http_request_duration_seconds_bucket{", "image_size_bytes_bucket{"):
            self.assertIn(f"\n{name}", text)

    def test_a_wrong_method_has_the_same_form(self):
        self.assertDetail(self.client.get(CLASSIFY), 405, "This address does not take that method.")


class NoClassifierTest(ClassifierCase):
    networks = ()

    def test_it_is_unhealthy(self):
        answer = self.client.get("/api/v1/health")
        self.assertEqual(answer.status_code, 503)
        self.assertEqual(answer.get_json(), {"status": "unhealthy", "model_loaded": False, "model_info": None})
        self.assertEqual(self.client.get("/api/v1/models").get_json(), {"models": []})

    def test_what_needs_one_says_how_to_get_one(self):
        for answer in (
            self.post_form(CLASSIFY, {"file": part(png())}),
            self.post_form(BATCH, {"files": part(png())}),
            self.client.get("/api/v1/model/info"),
        ):
            self.assertEqual(answer.status_code, 503)
            self.assertIn("imgdetect models fetch mobilenet_v2", answer.get_json()["detail"])
            self.assertEqual(answer.headers["Retry-After"], "60")


class ChosenTest(ClassifierCase):
    networks = (("a", "classification"), ("b", "classification"), ("boxes", "yolox"))
    settings = {"classifier_detector": "b", "api_keys": ENTRY}

    def test_the_setting_chooses_and_every_address_needs_a_key(self):
        for method, path in (
            ("GET", "/api/v1/health"),
            ("GET", "/api/v1/model/info"),
            ("GET", "/api/v1/models"),
            ("POST", CLASSIFY),
            ("POST", BATCH),
        ):
            self.assertDetail(self.client.open(path, method=method), 401, NO_KEY)
            answer = self.client.open(path, method=method, headers={"x-api-key": KEY})
            self.assertEqual(answer.status_code, 200 if method == "GET" else 422)
        info = self.client.get("/api/v1/model/info", headers={"x-api-key": KEY}).get_json()
        self.assertEqual(info["model_name"], "b")

    def test_a_setting_that_names_no_classification_keeps_the_server_from_starting(self):
        for name, why in (("boxes", "boxes is no classification"), ("x", "there is no detector 'x'")):
            with self.assertRaisesRegex(ValueError, f"IMGDETECT_CLASSIFIER_DETECTOR: {why}"):
                create_detectors(config.load(IN_MEMORY | self.settings | {"classifier_detector": name}))


class FactsTest(unittest.TestCase):
    def test_a_file_tells_how_many_numbers_it_has_and_whether_they_are_small(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = models.build(Path(folder) / "a.onnx", "classification", size_wh=(32, 32))
        plain = onnx.create("a", str(path), {}, working_pixels=10_000).session.file
        self.assertFalse(plain.quantised)
        import onnx as library

        weights = library.load(path).graph.initializer
        self.assertEqual(plain.numbers, sum(library.numpy_helper.to_array(one).size for one in weights))


if __name__ == "__main__":
    unittest.main()
