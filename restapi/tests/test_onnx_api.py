"""Networks over HTTP, beside the cascades and at the same addresses."""

import json
import subprocess
import sys
import tempfile
import unittest
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
from werkzeug.datastructures import FileStorage

from imgdetect import config, masks
from imgdetect.detection import Mask
from imgdetect.detectors import _session, _vetting, onnx
from imgdetect.equipment import CHILD_MEMORY_BYTES, child_memory_bytes, prove
from tests import onnx_models as models
from tests.app import API, IN_MEMORY, AppTest
from tests.test_onnx import picture

BOX = (60, 40, 190, 171)


def png(colour="green", width=300, height=200):
    return cv2.imencode(".png", picture(width, height, BOX, colour))[1].tobytes()


class NetworkApiTest(AppTest):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        for name, family, options in (
            ("boxes", "yolox", {}),
            ("segments", "yolov8", {"masks": True}),
            ("colours", "classification", {"size_wh": (224, 224)}),
        ):
            models.build(Path(folder.name) / f"{name}.onnx", family, **options)
        urls = " ".join(f"{name}=onnx:{folder.name}/{name}.onnx" for name in ("boxes", "segments", "colours"))
        cls.settings = {"detectors": urls, "default_detector": "boxes"}
        super().setUpClass()

    def test_a_detection_looks_like_a_cascades_with_a_confidence(self):
        answer = self.uploaded(png())
        self.assertEqual((answer["detector"], answer["engine"], answer["found"]), ("boxes", "onnxruntime", 1))
        (found,) = answer["detections"]
        self.assertEqual((found["class_name"], found["neighbors"], found["rotation"]), ("green", 1, 0))
        self.assertAlmostEqual(found["confidence"], models.SCORE, places=3)
        box = found["box"]
        edges = box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]
        np.testing.assert_allclose(edges, BOX, atol=1)
        self.assertNotIn("segmentation", found)
        self.assertEqual((answer["near_misses"], answer["classes"]), (None, []))
        self.assertEqual(answer["parameters"]["confidence"], 0.3)
        self.assertIsNone(answer["parameters"]["scale_factor"])
        nothing = self.uploaded(png(), confidence="0.95")
        self.assertEqual((nothing["found"], nothing["near_misses"]), (0, None))

    def test_a_segmentation_has_polygons_and_run_lengths_that_survive_storage_and_cache(self):
        first = self.uploaded(png("blue"), detector="segments")
        again = self.uploaded(png("blue"), detector="segments")
        self.assertEqual((first["cached"], again["cached"]), (False, True))
        kept = self.client.get(f"{first['image']['links']['detections']}").get_json()
        self.assertEqual(first["detections"], again["detections"])
        self.assertEqual(first["detections"], kept["detections"])
        shown = first["detections"][0]["segmentation"]
        self.assertEqual(shown["rle"]["size"], [200, 300])
        bits = masks.decode(Mask(*shown["rle"]["size"], shown["rle"]["counts"]))
        wanted = np.zeros((200, 300), bool)
        wanted[BOX[1] : BOX[3], BOX[0] : BOX[2]] = True
        self.assertGreater((bits & wanted).sum() / (bits | wanted).sum(), 0.93)
        self.assertEqual(len(shown["polygons"]), 1)

    def test_a_classification_names_classes_and_no_boxes(self):
        answer = self.uploaded(png("red"), detector="colours", top_k="2")
        self.assertEqual((answer["detections"], answer["found"], len(answer["classes"])), ([], 0, 2))
        self.assertEqual((answer["classes"][0]["class_name"], answer["classes"][0]["class_id"]), ("red", 0))
        kept = self.client.get(answer["image"]["links"]["detections"]).get_json()
        self.assertEqual(kept["classes"], answer["classes"])
        processed = self.client.get(answer["image"]["links"]["processed"]).data
        drawn = cv2.imdecode(np.frombuffer(processed, np.uint8), cv2.IMREAD_COLOR)
        # The strip with its name covers the even grey of the corner, and nothing else of the picture.
        self.assertGreater(np.abs(drawn[:12, :12].astype(int) - 60).max(), 40)
        self.assertLess(np.abs(drawn[150:, 220:].astype(int) - 60).max(), 20)

    def test_jobs_crops_and_another_look_work(self):
        answer = self.upload(png(), detector="segments", headers={"Prefer": "respond-async"})
        job = self.client.get(answer.headers["Location"]).get_json()
        self.assertEqual(job["state"], "done", job)
        crop = self.client.get(f"{job['links']['image']}/crops/0?format=png")
        cut = cv2.imdecode(np.frombuffer(crop.data, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_allclose(cut.shape[:2], (131, 130), atol=2)
        again = self.client.post(f"{job['links']['image']}/processed?detector=colours").get_json()
        self.assertEqual(again["classes"][0]["class_name"], "green")

    def test_what_a_network_has_not_is_refused_with_every_reason(self):
        body = self.assertProblem(self.upload(png(), scale_factor="1.2", rotations="0,90"), 400, "invalid-request")
        self.assertEqual({error["field"] for error in body["errors"]}, {"scale_factor", "rotations"})
        body = self.assertProblem(self.upload(png(), classes="green,cat"), 400, "invalid-request")
        self.assertIn("it knows red, green, blue", body["detail"])
        self.assertEqual(self.uploaded(png(), classes="red,blue")["found"], 0)
        self.assertEqual(self.uploaded(png(), classes="green")["found"], 1)

    def test_detectors_are_listed_with_task_and_classes(self):
        shown = {d["name"]: d for d in self.client.get(f"{API}/detectors").get_json()["detectors"]}
        self.assertEqual(
            [shown[name]["task"] for name in ("boxes", "segments", "colours", "face")],
            ["detection", "segmentation", "classification", "detection"],
        )
        self.assertEqual(shown["boxes"]["class_names"], ["red", "green", "blue"])
        self.assertIsNone(shown["boxes"]["window"])

    def test_the_page_shows_classes(self):
        image = FileStorage(BytesIO(png("blue")), "a.png", "image")
        answer = self.post_form("/", {"image": image, "detector": "colours"})
        self.assertIn("<title>blue · imgdetect</title>", answer.text)
        self.assertIn("blue in a.png", answer.text)

    def test_the_process_that_serves_loads_no_network(self):
        look = "; ".join(
            (
                "import sys",
                "from imgdetect import config",
                "from imgdetect.detection import DetectOptions",
                "from imgdetect.service import DetectionService",
                "service = DetectionService.open(config.load(eval(sys.argv[1])))",
                "upload = service.read_upload(open(sys.argv[2], 'rb').read(), '')",
                "found = service.look(upload, DetectOptions('boxes')).outcome.result.found",
                "service.close()",
                "print(found, sorted({'onnx', 'onnxruntime'} & set(sys.modules)))",
            )
        )
        with tempfile.NamedTemporaryFile() as image:
            Path(image.name).write_bytes(png())
            settings = repr(IN_MEMORY | self.settings)
            said = subprocess.run(
                [sys.executable, "-c", look, settings, image.name], capture_output=True, text=True, check=False
            )
        self.assertEqual(said.stdout, "1 []\n", said.stderr)


class StartTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def settings(self, path):
        values = {"database_url": "sqlite:///:memory:", "storage_url": "memory:"}
        return config.load(values | {"detectors": f"net=onnx:{path}"})

    def test_a_good_model_starts(self):
        prove(self.settings(models.build(self.folder / "good.onnx", "yolov8")))

    def test_a_model_that_cannot_be_loaded_keeps_the_server_from_starting(self):
        import onnx as library

        path = models.build(self.folder / "bad.onnx", "yolov8")
        model = library.load(path)
        for node in model.graph.node:
            if node.op_type == "Conv":
                node.op_type = "NoSuchOperation"
        library.save(model, path)
        with self.assertRaisesRegex(ValueError, r"^detector net: .*NoSuchOperation") as caught:
            prove(self.settings(path))
        self.assertNotIn("\n", str(caught.exception))

    def test_one_that_answers_otherwise_than_its_family_does_too(self):
        path = models.build(self.folder / "other.onnx", "ultraface", metadata={"family": "yunet"}, size_wh=(320, 240))
        with self.assertRaisesRegex(ValueError, "no network of the family yunet: no output 'cls_8'"):
            prove(self.settings(path))

    def test_hostile_models_end_their_own_process_only(self):
        hungry = f"onnx:{models.hungry(self.folder / 'hungry.onnx')}"
        with self.assertRaisesRegex(ValueError, "^detector net: .*(?i:alloc|memory)"):
            onnx.vet("net", hungry, working_pixels=10**6, memory_bytes=CHILD_MEMORY_BYTES)
        endless = f"onnx:{models.endless(self.folder / 'endless.onnx')}"
        with self.assertRaisesRegex(ValueError, "^detector net: the model was not ready after 5 s"):
            onnx.vet("net", endless, working_pixels=10**6, seconds=5)
        with (
            patch.object(_vetting.sys, "executable", "/bin/false"),
            self.assertRaisesRegex(ValueError, "^detector net: the process that tried the model died"),
        ):
            onnx.vet("net", endless, working_pixels=10**6)

    def test_what_a_model_shows_is_told(self):
        path = models.build(self.folder / "good.onnx", "classification", size_wh=(224, 224))
        seen = onnx.vet("net", f"onnx:{path}", working_pixels=10**6)
        self.assertEqual((seen.task, seen.classes), ("classification", 3))
        self.assertGreater(seen.peak_bytes, 10_000_000)

    def test_without_the_library_the_extra_is_named(self):
        path = models.build(self.folder / "good.onnx", "yolov8")
        missing = _session.metadata.PackageNotFoundError()
        with (
            patch.object(_session.metadata, "version", side_effect=missing),
            patch.object(_session, "find_spec", return_value=None),
            self.assertRaisesRegex(ValueError, r"pip install 'imgdetect\[onnx\]'"),
        ):
            prove(self.settings(path))

    def test_only_a_graphics_card_lifts_the_limit_of_a_childs_memory(self):
        path = models.build(self.folder / "good.onnx", "yolov8")
        for package, has_device, limit in (
            ("onnxruntime", True, CHILD_MEMORY_BYTES),
            ("onnxruntime-gpu", False, CHILD_MEMORY_BYTES),
            ("onnxruntime-gpu", True, 0),
        ):

            def version(name, package=package):
                if name != package:
                    raise _session.metadata.PackageNotFoundError
                return "1.0"

            device = self.folder if has_device else self.folder / "none"
            with patch.object(_session.metadata, "version", version), patch.object(_session, "_DEVICE", device):
                self.assertEqual(child_memory_bytes(self.settings(path)), limit)
        self.assertEqual(child_memory_bytes(config.load()), CHILD_MEMORY_BYTES)


class CommandTest(unittest.TestCase):
    def test_the_command_line_looks_with_networks(self):
        from click.testing import CliRunner

        from imgdetect.cli import main

        with tempfile.TemporaryDirectory() as folder:
            one = models.build(Path(folder) / "a.onnx", "yolov8")
            two = models.build(Path(folder) / "b.onnx", "classification", size_wh=(224, 224))
            image = Path(folder) / "a.png"
            image.write_bytes(png())
            environment = {"IMGDETECT_DETECTORS": f"a=onnx:{one} b=onnx:{two}"}
            run = CliRunner(env=environment)
            said = run.invoke(main, ["detect", "--detector", "a", "--classes", "green", str(image)])
            self.assertEqual(said.exit_code, 0, said.output)
            self.assertRegex(said.output, r"1 found\n  green at x=\d+ y=\d+ width=\d+ height=\d+, confidence 0\.90")
            said = run.invoke(main, ["detect", "--detector", "b", "--json", "--top-k", "1", str(image)])
            self.assertEqual(json.loads(said.output)["classes"][0]["class_name"], "green")
            said = run.invoke(main, ["detect", "--detector", "b", str(image)])
            self.assertRegex(said.output, r"a\.png: green\n  green, confidence 0\.\d+")

    def test_a_video_is_looked_at_with_networks_that_find_boxes(self):
        from click.testing import CliRunner

        from imgdetect.cli import main
        from tests.films import film

        with tempfile.TemporaryDirectory() as folder:
            one = models.build(Path(folder) / "a.onnx", "yolov8", masks=True)
            two = models.build(Path(folder) / "b.onnx", "classification", size_wh=(224, 224))
            video = Path(folder) / "v.mp4"
            video.write_bytes(film(6))
            run = CliRunner(env={"IMGDETECT_DETECTORS": f"a=onnx:{one} b=onnx:{two}"})
            said = run.invoke(main, ["video", str(video), "--output", f"{folder}/out", "--detector", "a"])
            self.assertEqual(said.exit_code, 0, said.output)
            first = json.loads((Path(folder) / "out" / "v.jsonl").read_text().splitlines()[0])
            self.assertTrue(first["detections"][0]["segmentation"]["rle"]["counts"])
            said = run.invoke(main, ["video", str(video), "--output", f"{folder}/out", "--detector", "b"])
            self.assertNotEqual(said.exit_code, 0)
            self.assertIn("a video needs one that finds boxes", said.output)
