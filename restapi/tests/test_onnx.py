"""Neural networks: every family finds what its model sees, where it is."""

import tempfile
import unittest
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from imgdetect import detectors, masks
from imgdetect.detection import DetectOptions
from imgdetect.detectors import _graph, _labels
from imgdetect.errors import DetectorFailed, InvalidRequest
from tests import onnx_models as models

COLOURS = {"red": (40, 20, 250), "green": (10, 240, 30), "blue": (250, 30, 20)}  # blue, green, red
# Every family in every form: name, form, what the builder is told, what the URL is told.
FAMILIES = (
    ("yolov5", "", {}, ""),
    ("yolov8", "", {}, ""),
    ("yolov11", "", {}, ""),
    ("yolox", "", {}, ""),
    ("nanodet", "", {"size_wh": (416, 416)}, ""),
    ("nanodet", "three", {"size_wh": (320, 320)}, ""),
    ("ultraface", "", {"size_wh": (320, 240)}, ""),
    ("yunet", "", {}, ""),
    ("ssd", "", {"size_wh": (300, 300)}, ""),
    ("ssd", "zoo", {"size_wh": (400, 400)}, ""),
    ("ssd", "tensorflow", {"size_wh": None, "dtype": "uint8", "channels_last": True}, ""),
    ("fasterrcnn", "", {"size_wh": None, "batch": None}, ""),
    ("fasterrcnn", "", {"size_wh": (400, 400)}, ""),
    ("fasterrcnn", "zoo", {"size_wh": None, "batch": None}, ""),
    ("fasterrcnn", "tensorflow", {"size_wh": None, "dtype": "uint8", "channels_last": True}, ""),
)


def picture(width, height, box, colour="red", background=60):
    """A picture with a rectangle of a colour: box is left, top, right, bottom."""
    image = np.full((height, width, 3), background, np.uint8)
    left, top, right, bottom = box
    image[top:bottom, left:right] = COLOURS[colour]
    return image


def edges(found):
    return found.box.x, found.box.y, found.box.x + found.box.width, found.box.y + found.box.height


class ModelTest(unittest.TestCase):
    """A class whose tests build models."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def model(self, family, **options):
        return models.build(self.folder / f"{family}.onnx", family, **options)

    def detector(self, path, query="", working_pixels=2_000_000):
        return detectors.create("it", f"onnx:{path}{query}", working_pixels=working_pixels)

    def look(self, detector, image, **options):
        return detector.detect(image, detector.resolve(DetectOptions("it", **options)))

    def assertFrames(self, result, box, tolerance=1):
        self.assertEqual(result.found, 1, result)
        np.testing.assert_allclose(edges(result.detections[0]), box, atol=tolerance)


class FamilyTest(ModelTest):
    def test_each_frames_the_bright_part_and_tells_its_colour(self):
        for family, form, build, query in FAMILIES:
            path = self.model(family, form=form, **build)
            detector = self.detector(path, query)
            for colour in COLOURS:
                for (width, height), box in (
                    ((300, 200), (60, 40, 190, 171)),
                    ((151, 233), (30, 60, 101, 200)),
                    ((257, 33), (80, 3, 170, 30)),
                ):
                    with self.subTest(family=family, form=form, build=build, colour=colour, size=(width, height)):
                        result = self.look(detector, picture(width, height, box, colour))
                        # A network of a small input cannot say more than where a pixel of its own lies.
                        scale = result.working_size_wh[0] / width, result.working_size_wh[1] / height
                        self.assertFrames(result, box, max(1, 0.5 + 0.6 / min(scale)))
                        (found,) = result.detections
                        single = family in ("ultraface", "yunet")
                        self.assertEqual(found.class_name, "face" if single else colour)
                        self.assertAlmostEqual(found.confidence, models.SCORE, places=2)
                        self.assertEqual((found.score, found.neighbors), (found.confidence, 1))
                        self.assertIsNone(result.near_misses)

    def test_each_finds_nothing_where_nothing_is(self):
        for family, form, build, query in FAMILIES:
            with self.subTest(family=family, form=form, build=build):
                detector = self.detector(self.model(family, form=form, **build), query)
                result = self.look(detector, np.full((120, 180, 3), 90, np.uint8))
                # The builder's TensorFlow models also say 0.99 of a row behind num_detections.
                self.assertEqual((result.detections, result.found), ((), 0))

    def test_a_part_of_the_picture_comes_back_in_the_coordinates_of_all_of_it(self):
        image = picture(500, 380, (230, 150, 300, 222), "green")
        image[:60, :60] = COLOURS["red"]  # outside the part
        for family, form, build, query in FAMILIES:
            with self.subTest(family=family, form=form, build=build):
                detector = self.detector(self.model(family, form=form, **build), query)
                result = self.look(detector, image, roi=(201, 101, 153, 157))
                self.assertFrames(result, (230, 150, 300, 222))

    def test_odd_sizes_come_back_within_a_pixel(self):
        detector = self.detector(self.model("yolov8", size_wh=(640, 448)))
        rng = np.random.default_rng(3)
        for _ in range(40):
            width, height = (int(n) for n in rng.integers(40, 449, 2))
            left, top = int(rng.integers(0, width - 20)), int(rng.integers(0, height - 20))
            box = left, top, int(rng.integers(left + 10, width)), int(rng.integers(top + 10, height))
            with self.subTest(size=(width, height), box=box):
                self.assertFrames(self.look(detector, picture(width, height, box)), box)

    def test_a_large_picture_is_made_smaller(self):
        detector = self.detector(self.model("fasterrcnn", size_wh=None, batch=None), working_pixels=40_000)
        result = self.look(detector, picture(1600, 900, (400, 300, 900, 700)))
        self.assertLessEqual(result.working_size_wh[0] * result.working_size_wh[1], 40_400)
        self.assertFrames(result, (400, 300, 900, 700), 8)

    def test_narrow_pictures_and_single_pixels_are_looked_at(self):
        for family, form, build, query in FAMILIES:
            detector = self.detector(self.model(family, form=form, **build), query)
            for shape in ((1, 1, 3), (1, 3000, 3), (2500, 2, 3)):
                with self.subTest(family=family, form=form, shape=shape):
                    self.look(detector, np.full(shape, 200, np.uint8))


class InputTest(ModelTest):
    BOX = (60, 40, 190, 171)

    def test_inputs_of_every_kind(self):
        for options in (
            {"dtype": "float16"},
            {"dtype": "uint8"},
            {"channels_last": True},
            {"channels_last": True, "dtype": "uint8"},
            {"size_wh": None},
            {"size_wh": None, "channels_last": True},
            {"batch": "batch"},
            {"batch": "batch", "size_wh": None, "dtype": "float16"},
            {"size_wh": (416, 256)},
            {"batch": None},
        ):
            with self.subTest(**options):
                detector = self.detector(self.model("yolov8", **options))
                self.assertFrames(self.look(detector, picture(300, 200, self.BOX, "blue")), self.BOX)

    def test_the_size_of_a_varying_input_is_the_families_the_urls_or_the_metadatas(self):
        for query, metadata, size in (
            ("", {}, (640, 427)),
            ("?size=320", {}, (320, 213)),
            ("?size=480,160", {}, (240, 160)),
            ("", {"imgsz": "[160, 480]"}, (240, 160)),  # Ultralytics: height first
            ("", {"imgsz": "320"}, (320, 213)),
            ("", {"input_size": "480,160"}, (240, 160)),
            ("?size=320", {"imgsz": "[160, 480]"}, (320, 213)),
        ):
            with self.subTest(query=query, metadata=metadata):
                detector = self.detector(self.model("yolov8", size_wh=None, metadata=metadata), query)
                result = self.look(detector, picture(300, 200, self.BOX))
                self.assertEqual(result.working_size_wh, size)
                self.assertFrames(result, self.BOX)

    def test_int8_models_of_both_forms(self):
        path = self.model("yolov8")
        shown = [picture(320, 320, (10, 10, 300, 290), colour) for colour in COLOURS]
        tensors = [np.ascontiguousarray(p[..., ::-1].transpose(2, 0, 1)[None], np.float32) / 255 for p in shown]
        for form in ("QDQ", "QOperator"):
            with self.subTest(form):
                target = models.quantised(path, self.folder / f"{form}.onnx", form, tensors)
                import onnx

                kinds = {node.op_type for node in onnx.load(target).graph.node}
                self.assertIn("QuantizeLinear" if form == "QDQ" else "QLinearConv", kinds)
                detector = self.detector(target, "?family=yolov8")
                self.assertFrames(self.look(detector, picture(300, 200, self.BOX, "green")), self.BOX)

    def test_threads_give_the_same(self):
        path = self.model("yolov8")
        image = picture(300, 200, self.BOX)
        results = [
            self.look(detectors.create("it", f"onnx:{path}", working_pixels=10**6, threads=n), image) for n in (1, 2)
        ]
        self.assertEqual(*results)


class SegmentationTest(ModelTest):
    def test_the_mask_has_the_shape_of_the_object(self):
        image = np.full((213, 307, 3), 60, np.uint8)
        cv2.circle(image, (150, 100), 60, COLOURS["green"], -1)
        cv2.circle(image, (150, 100), 20, (60, 60, 60), -1)
        wanted = np.any(image > 128, axis=2)
        for family in ("yolov5", "yolov8", "yolov11"):
            for roi in (None, (70, 20, 200, 180)):
                for size_wh in ((640, 640), (640, 320), None):
                    with self.subTest(family=family, roi=roi, size=size_wh):
                        detector = self.detector(self.model(family, masks=True, size_wh=size_wh))
                        self.assertEqual(detector.task, "segmentation")
                        result = self.look(detector, image, roi=roi)
                        self.assertFrames(result, (90, 40, 211, 161))
                        (found,) = result.detections
                        mask = masks.decode(found.mask)
                        self.assertEqual(mask.shape, wanted.shape)
                        overlap = (mask & wanted).sum() / (mask | wanted).sum()
                        self.assertGreater(overlap, 0.95)
                        self.assertEqual(len(found.mask.polygons), 1)
                        # The hole is in the run lengths and nothing lies outside the box.
                        self.assertFalse(mask[100, 150])
                        x1, y1, x2, y2 = edges(found)
                        self.assertEqual(mask.sum(), mask[y1:y2, x1:x2].sum())

    def test_a_detection_has_no_mask(self):
        detector = self.detector(self.model("yolov8"))
        self.assertEqual(detector.task, "detection")
        self.assertIsNone(self.look(detector, picture(100, 100, (20, 20, 60, 60))).detections[0].mask)


class ClassificationTest(ModelTest):
    def test_each_way_of_preparing_tells_the_colour(self):
        for options in (
            {"size_wh": (224, 224)},
            {"size_wh": None},
            {"size_wh": (224, 224), "softmax": True},
            {"size_wh": (224, 224), "form": "keras", "channels_last": True},
            {"size_wh": (224, 224), "form": "keras", "channels_last": True, "softmax": True},
            {"size_wh": (224, 224), "dtype": "float16", "softmax": True},
            {"size_wh": (192, 160), "dtype": "uint8"},
        ):
            detector = self.detector(self.model("classification", **options))
            self.assertEqual((detector.task, detector.class_names), ("classification", models.NAMES))
            for number, colour in enumerate(COLOURS):
                with self.subTest(colour=colour, **options):
                    result = self.look(detector, picture(301, 199, (0, 0, 301, 199), colour))
                    best = result.classes[0]
                    self.assertEqual((best.class_name, best.class_id), (colour, number))
                    self.assertGreater(best.confidence, 0.99)
                    self.assertAlmostEqual(sum(c.confidence for c in result.classes), 1, places=2)
                    self.assertEqual((result.detections, result.found), ((), 0))

    def test_the_numbers_are_those_that_the_family_is_documented_to_use(self):
        # Mean colour m gives the logits 8 m - 1 in the builder's model, whatever way the picture came in.
        image = np.full((90, 140, 3), (51, 102, 153), np.uint8)
        logits = 8 * np.array([153, 102, 51]) / 255 - 1
        wanted = np.exp(logits) / np.exp(logits).sum()
        for options in ({}, {"softmax": True}, {"form": "keras", "channels_last": True}):
            with self.subTest(**options):
                detector = self.detector(self.model("classification", size_wh=(224, 224), **options))
                result = self.look(detector, image)
                np.testing.assert_allclose([c.confidence for c in result.classes], wanted, atol=1e-3)

    def test_torchvision_sees_the_centre_and_keras_everything(self):
        # The middle square is red, the two sides together are as green as it is red.
        image = picture(600, 200, (200, 0, 400, 200), "red")
        image[:, :200] = image[:, 400:] = COLOURS["green"]
        torch = self.detector(self.model("classification", size_wh=(224, 224)))
        classes = self.look(torch, image).classes
        self.assertGreater(classes[0].confidence, 0.99)
        self.assertEqual(classes[0].class_name, "red")
        keras = self.detector(self.model("classification", size_wh=(224, 224), form="keras", channels_last=True))
        self.assertEqual(self.look(keras, image).classes[0].class_name, "green")

    def test_top_k_names_so_many(self):
        detector = self.detector(self.model("classification", size_wh=(224, 224)), "?top_k=2")
        image = picture(50, 50, (0, 0, 50, 50))
        self.assertEqual(len(self.look(detector, image).classes), 2)
        self.assertEqual(len(self.look(detector, image, top_k=1).classes), 1)
        self.assertEqual(len(self.look(detector, image, top_k=50).classes), 3)


class OptionTest(ModelTest):
    def setUp(self):
        super().setUp()
        self.image = picture(200, 200, (50, 50, 150, 150), "green")

    def test_confidence_overlap_and_classes_decide_what_is_found(self):
        detector = self.detector(self.model("yolov8"))
        self.assertEqual(self.look(detector, self.image, confidence=0.91).found, 0)
        self.assertEqual(self.look(detector, self.image, confidence=0.89).found, 1)
        both = self.look(detector, self.image, iou_threshold=1.0)
        self.assertEqual(both.found, 2)
        np.testing.assert_allclose([d.confidence for d in both.detections], [0.9, 0.72], atol=0.01)
        self.assertEqual(len(self.look(detector, self.image, iou_threshold=1.0, max_detections=1).detections), 1)
        self.assertEqual(self.look(detector, self.image, classes=("green", "red")).found, 1)
        self.assertEqual(self.look(detector, self.image, classes=("blue",)).found, 0)

    def test_the_url_sets_defaults(self):
        path = self.model("yolov8")
        self.assertEqual(self.look(self.detector(path, "?confidence=0.95"), self.image).found, 0)
        detector = self.detector(path, "?iou_threshold=1&confidence=0.5")
        self.assertEqual(self.look(detector, self.image).found, 2)
        self.assertEqual(detector.facts.defaults, {"confidence": 0.5, "iou_threshold": 1.0})
        resolved = detector.resolve(DetectOptions("it"))
        self.assertEqual(resolved, replace(DetectOptions("it"), confidence=0.5, iou_threshold=1.0))
        self.assertEqual(detector.resolve(resolved), resolved)

    def test_what_a_network_has_not_is_refused(self):
        wrong = {
            "scale_factor": 1.1,
            "min_neighbors": 3,
            "min_size": (9, 9),
            "max_size": (99, 99),
            "equalize": False,
            "rotations": (90,),
        }
        found = self.detector(self.model("yolov8"))
        classes = self.detector(self.model("classification", size_wh=(224, 224)))
        merging = self.detector(self.model("ssd"))
        for detector, more in (
            (found, {"top_k": 3}),
            (classes, {"confidence": 0.5, "iou_threshold": 0.5, "classes": ("red",)}),
            (merging, {"top_k": 3, "iou_threshold": 0.5}),
        ):
            with self.subTest(detector.task), self.assertRaises(InvalidRequest) as caught:
                detector.resolve(DetectOptions("it", **wrong, **more))
            fields = {error["field"] for error in caught.exception.members["errors"]}
            self.assertEqual(fields, {*wrong, *more})
        with self.assertRaisesRegex(InvalidRequest, "knows no 'cat'; it knows red, green, blue"):
            found.resolve(DetectOptions("it", classes=("red", "cat")))

    def test_a_region_outside_is_refused_before_the_work(self):
        detector = self.detector(self.model("yolov8"))
        self.assertEqual(detector.cost((100, 100), DetectOptions("it")), 0)
        with self.assertRaisesRegex(InvalidRequest, "100x100"):
            detector.cost((100, 100), DetectOptions("it", roi=(100, 0, 5, 5)))

    def test_the_fingerprint_changes_with_all_that_changes_the_answer(self):
        path = self.model("yolov8", size_wh=None)
        (self.folder / "other.txt").write_text("a\nb\nc")
        labels = f"?labels={self.folder}/other.txt"
        queries = ["", "?confidence=0.3", "?iou_threshold=0.3", "?size=320", "?family=yolov11", labels]
        prints = [self.detector(path, query).fingerprint for query in queries]
        prints.append(self.detector(self.model("yolov8", size_wh=(320, 320)), "").fingerprint)
        self.assertEqual(len(set(prints)), len(prints))

    def test_the_facts_say_what_a_client_may_ask(self):
        detector = self.detector(self.model("yolov8"))
        facts = detector.facts
        self.assertEqual((facts.engine, facts.window_wh), ("onnxruntime", None))
        self.assertRegex(facts.engine_version, r"^\d+\.\d+")
        self.assertEqual(set(facts.parameters["properties"]), {"confidence", "iou_threshold", "classes"})
        self.assertEqual(facts.parameters["properties"]["classes"]["items"]["enum"], ["blue", "green", "red"])


class LabelTest(ModelTest):
    def test_they_come_from_the_url_the_metadata_or_the_family(self):
        path = self.model("yolov8")
        for text in ("rot\ngrün\nblau\n", '["rot", "grün", "blau"]', "{0: 'rot', 1: 'grün', 2: 'blau'}"):
            labels = self.folder / "labels.txt"
            labels.write_text(text, "utf-8")
            self.assertEqual(self.detector(path, f"?labels={labels}").class_names, ("rot", "grün", "blau"))
        pairs = '{"0": ["n1", "rot"], "1": ["n2", "grün"], "2": ["n3", "blau"]}'  # Keras' list of ImageNet
        self.assertEqual(_labels.parse(pairs), ("rot", "grün", "blau"))
        self.assertEqual(self.detector(path).class_names, models.NAMES)
        unnamed = self.model("yolov8", names=None)
        self.assertEqual(self.detector(unnamed).class_names, ("class_0", "class_1", "class_2"))
        told = self.model("yolov8", names=None, metadata={"labels": "a\nb\nc"})
        self.assertEqual(self.detector(told).class_names, ("a", "b", "c"))

    def test_the_lists_of_coco(self):
        self.assertEqual(len(_labels.COCO80), 80)
        self.assertEqual(len(set(_labels.COCO80)), 80)
        wide = _labels.KNOWN["coco91"]
        self.assertEqual(
            (len(wide), wide[1], wide[13], wide[44], wide[90]), (91, "person", "stop sign", "bottle", "toothbrush")
        )
        self.assertEqual((wide[0], wide[12], wide[83]), ("", "", ""))
        self.assertEqual(_labels.KNOWN["coco81"][1:], _labels.COCO80)
        detector = self.detector(self.model("ssd", names=None))
        self.assertEqual(len(detector.class_names), 80)
        found = self.look(detector, picture(200, 200, (50, 50, 150, 150), "green"))
        self.assertEqual(found.detections[0].class_name, "bicycle")

    def test_labels_that_do_not_fit_are_refused(self):
        path = self.model("yolov8")
        labels = self.folder / "labels.txt"
        for text, message in (
            ("a\nb", "has 3 classes, but its labels are 2"),
            ("", "0 class names"),
            ("{'a': __import__('os')}", "neither JSON nor"),
            ("{0: 1, 1: 2, 2: 3}", "no texts"),
            ("{99999999: 'x'}", "no such numbers"),
            ("[" * 5000, "neither JSON nor"),
        ):
            labels.write_text(text)
            with self.subTest(text[:20]), self.assertRaisesRegex(ValueError, message):
                self.detector(path, f"?labels={labels}")
        with self.assertRaisesRegex(ValueError, "cannot be read: .*coco80"):
            self.detector(path, "?labels=/nowhere")


class RefusalTest(ModelTest):
    def refused(self, url, message):
        with self.subTest(url), self.assertRaisesRegex(ValueError, message) as caught:
            detectors.create("it", url, working_pixels=10**6)
        self.assertNotIn("\n", str(caught.exception))

    def test_what_cannot_be_used_is_refused_in_one_line(self):
        path = self.model("yolov8")
        self.refused("onnx:", "needs the path")
        self.refused("onnx:/nowhere.onnx", "cannot be read: No such file")
        self.refused(f"onnx:{path}?family=yolov99", "unknown family 'yolov99'.*yolov5, yolov8")
        self.refused(f"onnx:{path}?colour=red", "unknown parameter colour; known here: family")
        self.refused(f"onnx:{path}?confidence=2", "confidence=2: should be a number from 0 to 1")
        self.refused(f"onnx:{path}?top_k=2", "takes no top_k")
        self.refused(f"onnx:{path}?size=640", "takes pictures of 320x320 only")
        self.refused(f"onnx:{path}?size=x", "size=x should be N or WIDTH,HEIGHT")
        self.refused(f"onnx:{path}?form=zoo", "takes no form")
        self.refused(f"onnx:{path}?transform=torchvision", "takes no transform")
        self.refused(f"onnx:{path}?provider=tpu", "auto .* or cpu")
        nameless = self.model("yolox", metadata={"family": ""})
        self.refused(f"onnx:{nameless}", "does not say of which family.*family=NAME")
        self.refused(f"onnx:{self.model('yolov8', batch=4)}", "fixed batch of 4")
        self.refused(f"onnx:{self.model('yolov8', size_wh=None)}?size=99999", "at most 16777216 pixels")

    def test_what_is_no_model_is_refused(self):
        good = self.model("yolov8").read_bytes()
        rng = np.random.default_rng(0)
        samples = [b"", b"\x00", b"hello, this is no model", bytes(1000), good[: len(good) // 2], b"\xff" * 50]
        samples += [rng.integers(0, 256, 500, dtype=np.uint8).tobytes() for _ in range(50)]
        path = self.folder / "bad.onnx"
        for sample in samples:
            path.write_bytes(sample)
            with self.subTest(sample[:16]), self.assertRaisesRegex(ValueError, r"^model .*bad\.onnx: "):
                _graph.read(path)

    def test_damaged_models_never_break_the_reader(self):
        good = bytearray(self.model("yolov8").read_bytes())
        rng = np.random.default_rng(1)
        path = self.folder / "damaged.onnx"
        for _ in range(300):
            damaged = bytearray(good)
            for place in rng.integers(0, len(good), 3):
                damaged[place] = rng.integers(0, 256)
            path.write_bytes(damaged)
            with suppress(ValueError):
                self.detector(path)

    def test_weights_in_other_files_are_refused(self):
        import onnx

        path = self.model("yolov8")
        model = onnx.load(path)
        outside = self.folder / "outside.onnx"
        onnx.save(model, outside, save_as_external_data=True, location="weights.bin", size_threshold=0)
        self.refused(f"onnx:{outside}", "keeps weights in other files; export it as one file")

    def test_the_reader_agrees_with_the_library(self):
        import onnx

        for family, form, build, _ in FAMILIES:
            path = self.model(family, form=form, **build)
            read, model = _graph.read(path), onnx.load(path)
            self.assertEqual([t.name for t in read.inputs], [i.name for i in model.graph.input])
            self.assertEqual([t.name for t in read.outputs], [o.name for o in model.graph.output])
            shape = [d.dim_value or None for d in model.graph.input[0].type.tensor_type.shape.dim]
            self.assertEqual(list(read.inputs[0].shape), shape)
            self.assertEqual(read.metadata["family"], family)

    def test_a_file_that_changed_is_not_used(self):
        path = self.model("yolov8")
        detector = self.detector(path)
        models.build(path, "yolov8", size_wh=(640, 640))
        with self.assertRaisesRegex(ValueError, "has changed since"):
            self.look(detector, picture(100, 100, (20, 20, 60, 60)))

    def test_an_answer_of_another_form_fails_the_look_and_says_why(self):
        for family, given, message in (
            ("yolox", "yolov8", "boxes, which do not fit an input of 320x320"),
            ("ultraface", "yolov8", "outputs other than scores"),
            ("yunet", "yolov8", "no output 'cls_8'"),
            ("fasterrcnn", "yolov8", "boxes, labels and scores should be"),
        ):
            # The 20 columns of this model pass for 5 numbers and 15 classes.
            path = self.model(given)
            with self.subTest(family):
                detector = self.detector(path, f"?family={family}&labels={self.labels()}")
                with self.assertRaisesRegex(DetectorFailed, message):
                    self.look(detector, picture(100, 100, (20, 20, 60, 60)))

    def labels(self):
        path = self.folder / "many.txt"
        path.write_text("\n".join(f"n{number}" for number in range(15)))
        return path
