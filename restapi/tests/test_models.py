"""The folder of models, and the command line around it."""

import hashlib
import json
import re
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
from click.testing import CliRunner

from imgdetect import config
from imgdetect.catalogue import CATALOGUE, Offer
from imgdetect.cli import main
from imgdetect.detection import Box, ClassScore, Detection, DetectionResult
from imgdetect.detectors import _smaller, create
from imgdetect.equipment import create_detectors, detector_urls
from imgdetect.fetching import fetch
from imgdetect.models import Models
from tests import onnx_models
from tests.test_onnx import COLOURS, picture


class Files(BaseHTTPRequestHandler):
    """Serves the bytes of `server.content`; `server.cuts` says after how many bytes each next answer breaks off."""

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        content, start = server.content, 0
        ranged = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if server.status:
            self.send_response(server.status.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if ranged and server.ranges:
            start = int(ranged[1])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, *arguments):
        pass


class FetchCase(unittest.TestCase):
    """A class whose tests have a server of one file."""

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
        self.server.content = np.random.default_rng(0).integers(0, 256, 1_500_000, dtype=np.uint8).tobytes()
        self.server.asked, self.server.cuts, self.server.status, self.server.ranges = [], [], [], True
        thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.url = f"http://127.0.0.1:{self.server.server_port}/model.onnx"
        self.path = self.folder / "model.onnx"

    @property
    def sha256(self):
        return hashlib.sha256(self.server.content).hexdigest()

    def fetched(self, **options):
        given = {"max_bytes": 2_000_000, "sha256": self.sha256, "pause_seconds": 0, "tries": 3} | options
        return fetch(self.url, self.path, **given)


class FetchTest(FetchCase):
    def test_a_file_arrives_whole(self):
        seen = []
        self.assertEqual(self.fetched(progress=lambda done, total: seen.append((done, total))), self.sha256)
        self.assertEqual(self.path.read_bytes(), self.server.content)
        self.assertEqual(seen[-1], (1_500_000, 1_500_000))
        self.assertEqual([p.name for p in self.folder.iterdir()], ["model.onnx"])

    def test_a_connection_that_is_cut_goes_on_where_it_ended(self):
        self.server.cuts = [500_000, 0, 400_000]
        self.fetched()
        self.assertEqual(self.path.read_bytes(), self.server.content)
        self.assertIsNone(self.server.asked[0])
        places = [int(asked[6:-1]) for asked in self.server.asked[1:]]
        self.assertEqual(places[0], places[1])
        self.assertTrue(480_000 < places[0] <= 500_000 and 860_000 < places[2] <= 900_000, places)

    def test_a_later_call_goes_on_too(self):
        self.server.cuts = [600_000, 0, 0, 0]
        with self.assertRaisesRegex(ValueError, "the connection failed 3 times"):
            self.fetched()
        self.assertFalse(self.path.exists())
        self.server.cuts = []
        self.fetched()
        self.assertEqual(self.path.read_bytes(), self.server.content)
        self.assertTrue(580_000 < int(self.server.asked[-1][6:-1]) <= 600_000, self.server.asked)

    def test_a_part_that_is_whole_already_is_enough(self):
        (self.folder / "model.onnx.part").write_bytes(self.server.content)
        self.fetched()
        self.assertEqual(self.path.read_bytes(), self.server.content)

    def test_a_server_without_ranges_sends_it_again(self):
        self.server.ranges, self.server.cuts = False, [700_000]
        self.fetched()
        self.assertEqual(self.path.read_bytes(), self.server.content)

    def test_a_part_of_another_file_is_found_out(self):
        for size in (1000, 1_600_000):
            (self.folder / "model.onnx.part").write_bytes(bytes(size))
            if size == 1000:
                with self.assertRaisesRegex(ValueError, "should be"):
                    self.fetched()
            self.fetched()
            self.assertEqual(self.path.read_bytes(), self.server.content)

    def test_a_wrong_checksum_keeps_nothing(self):
        with self.assertRaisesRegex(ValueError, f"its SHA-256 is {self.sha256} and should be {'0' * 64}"):
            self.fetched(sha256="0" * 64)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_what_is_too_long_or_missing_is_refused(self):
        with self.assertRaisesRegex(ValueError, "1500000 bytes, more than the 1000"):
            self.fetched(max_bytes=1000)
        self.server.status = [404]
        with self.assertRaisesRegex(ValueError, "answered 404"):
            self.fetched()
        with self.assertRaisesRegex(ValueError, "https only"):
            fetch("http://models.example/x.onnx", self.path, max_bytes=10)

    def test_a_server_in_trouble_is_asked_again(self):
        self.server.status = [503, 500]
        self.fetched()
        self.assertEqual(self.path.read_bytes(), self.server.content)


class FolderTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.models = Models(self.folder / "models")
        self.file = onnx_models.build(self.folder / "given.onnx", "yolov8", names=None)

    def settings(self, **more):
        return config.load({"models_dir": self.folder / "models"} | more)

    def test_an_added_model_is_a_detector(self):
        labels = self.folder / "names.txt"
        labels.write_text("rot\ngrün\nblau")
        model, seen = self.models.add(
            self.file, "net", {"confidence": "0.4"}, labels=str(labels), licence="MIT", source="me"
        )
        self.assertEqual((model.task, model.licence, model.labels), ("detection", "MIT", ("rot", "grün", "blau")))
        self.assertEqual((seen.task, seen.classes), ("detection", 3))
        self.assertEqual(self.models.all(), [model])
        detector = create_detectors(self.settings(default_detector="net"))["net"]
        self.assertEqual(detector.class_names, ("rot", "grün", "blau"))
        self.assertEqual(detector.facts.defaults["confidence"], 0.4)
        told = json.loads((self.folder / "models" / "net.json").read_text())
        self.assertEqual(told["sha256"], hashlib.sha256(self.file.read_bytes()).hexdigest())
        self.models.remove("net")
        self.assertEqual(list((self.folder / "models").iterdir()), [])
        self.assertNotIn("net", detector_urls(self.settings()))

    def test_labels_with_a_background_survive(self):
        file = onnx_models.build(self.folder / "ssd.onnx", "ssd", names=None)
        self.models.add(file, "ssd", {}, labels="coco91")
        self.assertEqual(len(create_detectors(self.settings())["ssd"].class_names), 80)

    def test_the_data_folder_is_where_models_are_unless_told_otherwise(self):
        self.assertEqual(config.load({"data_dir": Path("x")}).effective_models_dir, Path("x/models"))

    def test_what_cannot_be_used_changes_nothing(self):
        self.models.add(self.file, "net", {})
        before = {path.name: path.read_bytes() for path in (self.folder / "models").iterdir()}
        bad = self.folder / "bad.onnx"
        bad.write_bytes(b"no model")
        endless = onnx_models.endless(self.folder / "endless.onnx")
        hungry = onnx_models.hungry(self.folder / "hungry.onnx")
        limits = {"seconds": 5, "memory_bytes": 4 << 30}
        for file, name, parameters, message in (
            (bad, "other", {}, "is no ONNX model"),
            (self.file, "other", {"family": "yunet"}, "no network of the family yunet"),
            (self.file, "other", {"colour": "red"}, "no parameter 'colour'"),
            (self.file, "../other", {}, "is no name"),
            (self.file, "net", {}, "there is a model net already"),
            (endless, "other", {}, "not ready after 5 s"),
            (hungry, "other", {}, "(?i)alloc|memory"),
        ):
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                self.models.add(file, name, parameters, limits=limits)
        after = {path.name: path.read_bytes() for path in (self.folder / "models").iterdir()}
        self.assertEqual(before, after)

    def test_a_model_that_was_exchanged_keeps_the_server_from_starting(self):
        self.models.add(self.file, "net", {})
        onnx_models.build(self.models.path("net"), "yolov8", size_wh=(640, 640), names=None)
        with self.assertRaisesRegex(ValueError, "is another file: its SHA-256 is"):
            create_detectors(self.settings())

    def test_a_broken_folder_is_told_in_one_line(self):
        self.models.add(self.file, "net", {})
        path = self.folder / "models" / "net.json"
        good = path.read_text()
        for text in (
            "",
            "[]",
            "{}",
            good.replace('"net"', '"other"'),
            good.replace('"parameters": {}', '"parameters": 3'),
        ):
            path.write_text(text)
            with self.subTest(text[:20]), self.assertRaisesRegex(ValueError, r"^model .*net\.json: [^\n]+$"):
                detector_urls(self.settings())
        path.write_text(good)
        self.models.path("net").unlink()
        with self.assertRaisesRegex(ValueError, "net.onnx is missing"):
            detector_urls(self.settings())


class CatalogueTest(unittest.TestCase):
    def test_every_offer_is_free_for_every_use_and_says_what_it_has_to_be(self):
        for name, offer in CATALOGUE.items():
            with self.subTest(name):
                self.assertIn(offer.licence, ("Apache-2.0", "MIT", "BSD-3-Clause"))
                self.assertTrue(offer.url.startswith("https://"))
                self.assertEqual(offer.verified, bool(re.fullmatch("[0-9a-f]{64}", offer.sha256)))
                self.assertEqual(offer.verified, offer.size_bytes > 0)
                self.assertIn("family", offer.parameters)
        self.assertEqual([name for name, offer in CATALOGUE.items() if not offer.verified], ["mobilenet_v3_large"])


class CommandTest(FetchCase):
    def setUp(self):
        super().setUp()
        self.file = onnx_models.build(self.folder / "given.onnx", "yolov8")
        self.server.content = self.file.read_bytes()
        offer = Offer("net", "detection", "MIT", "us", self.url, len(self.server.content), self.sha256)
        self.enterContext(patch.dict(CATALOGUE, {"net": offer}, clear=True))

    def run_command(self, *arguments, code=0):
        environment = {"IMGDETECT_MODELS_DIR": str(self.folder / "models")}
        done = CliRunner(env=environment).invoke(main, ["models", *map(str, arguments)])
        self.assertEqual(done.exit_code, code, done.output)
        return done.output

    def test_fetch_list_and_remove(self):
        self.assertRegex(self.run_command("list"), r"here: none\ncan be fetched:\n  net +detection +MIT +0\.0\d+ MB\n$")
        self.assertRegex(self.run_command("fetch", "net"), r"net: detection, 3 classes, ")
        self.assertRegex(self.run_command("list"), r"here:\n  net +detection +MIT +0\.0\d+ MB\ncan be fetched:\n$")
        self.assertIn("there is a model net already", self.run_command("fetch", "net", code=2))
        self.assertIn("removed net", self.run_command("remove", "net"))
        self.assertIn("there is no model 'net'", self.run_command("remove", "net", code=2))
        self.assertIn("the catalogue has no 'x'; it has net", self.run_command("fetch", "x", code=2))

    def test_a_wrong_file_is_never_taken(self):
        self.server.content = b"x" * 1000
        self.assertIn("this is another file", self.run_command("fetch", "net", code=2))
        self.assertIn("here: none", self.run_command("list"))

    def test_what_is_unverified_needs_a_person(self):
        CATALOGUE["net"] = Offer("net", "detection", "MIT", "us", self.url, 0, "")
        self.assertIn("unverified: no checksum is known", self.run_command("list"))
        self.assertIn("--sha256 HEX, or --accept-unverified", self.run_command("fetch", "net", code=2))
        self.assertEqual(self.server.asked, [])
        self.assertIn("should be", self.run_command("fetch", "net", "--sha256", "0" * 64, code=2))
        self.assertIn(f"has the SHA-256 {self.sha256}", self.run_command("fetch", "net", "--accept-unverified"))
        self.run_command("remove", "net")
        self.assertNotIn("unverified", self.run_command("fetch", "net", "--sha256", self.sha256))

    def test_add_tries_the_file_and_says_what_it_saw(self):
        bad = self.folder / "bad.onnx"
        bad.write_bytes(b"x")
        self.assertIn("is no ONNX model", self.run_command("add", bad, code=2))
        said = self.run_command("add", self.file, "--name", "mine", "--licence", "MIT", "--confidence", "0.3")
        self.assertRegex(said, r"mine: detection, 3 classes, 0\.0\d+ MB\n  a look takes [\d.]+ ms here")
        self.assertIn("already; remove it first", self.run_command("add", self.file, "--name", "mine", code=2))
        self.run_command("add", self.file, "--name", "mine", "--replace")

    def test_optimize_tells_what_it_costs(self):
        pictures = self.folder / "pictures"
        pictures.mkdir()
        for colour in COLOURS:
            image = picture(300, 200, (60, 40, 190, 171), colour)
            (pictures / f"{colour}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
        (pictures / "notes.txt").write_text("no picture")
        self.run_command("add", self.file, "--name", "net")
        said = self.run_command("optimize", "net", "--pictures", pictures)
        self.assertRegex(said, r"net_int8: detection")
        self.assertRegex(said, r"size +[\d.]+ MB -> [\d.]+ MB\n  a look +[\d.]+ ms -> [\d.]+ ms\n")
        self.assertRegex(said, r"agreement  100\.0% on 3 of your pictures")
        self.assertIn("notes.txt", said)
        import onnx

        made = onnx.load(str(self.folder / "models" / "net_int8.onnx"))
        self.assertIn("QuantizeLinear", {node.op_type for node in made.graph.node})
        # Boxes and scores in one table have no scale in common: int8 would leave nothing of the scores.
        last = {name: node.op_type for node in made.graph.node for name in node.output}[made.graph.output[0].name]
        self.assertNotEqual(last, "DequantizeLinear")
        said = self.run_command("optimize", "net", "--no-int8", "--as", "fused")
        self.assertRegex(said, r"fused: detection(.|\n)*agreement  100\.0% on 4 pictures of noise")
        self.assertIn("there is no model 'x'", self.run_command("optimize", "x", code=2))

    def test_matrices_become_int8_without_pictures(self):
        file = onnx_models.build(self.folder / "classes.onnx", "classification", size_wh=(224, 224))
        self.run_command("add", file, "--name", "colours")
        self.run_command("optimize", "colours")
        url = Models(self.folder / "models").urls()["colours_int8"]
        detector = create("it", url, working_pixels=10**6)
        image = picture(100, 100, (0, 0, 100, 100), "blue")
        from imgdetect.detection import DetectOptions

        self.assertEqual(detector.detect(image, DetectOptions("it")).classes[0].class_name, "blue")


class AgreementTest(unittest.TestCase):
    def found(self, *boxes):
        return DetectionResult(tuple(Detection("d", name, Box(*xywh), 0.5, 1) for name, xywh in boxes))

    def test_it_is_what_both_find_of_all_that_either_finds(self):
        cat, dog = ("cat", (0, 0, 10, 10)), ("dog", (50, 50, 20, 20))
        near, far = ("cat", (1, 0, 10, 10)), ("cat", (30, 0, 10, 10))
        for one, other, share in (
            ((), (), 1),
            ((cat,), (), 0),
            ((cat,), (near,), 1),
            ((cat,), (far,), 0),
            ((cat, dog), (near,), 0.5),
            ((cat, near), (near,), 0.5),
            ((cat,), (("dog", (0, 0, 10, 10)),), 0),
        ):
            with self.subTest(one=one, other=other):
                self.assertAlmostEqual(_smaller.agreement(self.found(*one), self.found(*other)), share)
                self.assertAlmostEqual(_smaller.agreement(self.found(*other), self.found(*one)), share)
        one, two = (DetectionResult(classes=(ClassScore("x", number, 0.9),)) for number in (1, 2))
        self.assertEqual((_smaller.agreement(one, one), _smaller.agreement(one, two)), (1, 0))
