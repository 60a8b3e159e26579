"""The cascade detector as a client sees it: creation, geometry, rotations, near misses, cost.

Each class is inherited, with the engine, by a test of each engine: what they see is the same.
"""

from __future__ import annotations

import json
import tempfile
import threading
import unittest
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import cv2
import numpy as np

from imgdetect import augment
from imgdetect.detection import DetectionResult, DetectOptions
from imgdetect.detectors import Image, _cascades, create
from imgdetect.detectors._engines import MAX_CANDIDATES, NOTHING, FastHaar, OpenCV
from imgdetect.detectors.haar import BUNDLED, HaarDetector
from imgdetect.errors import DetectorFailed, InvalidRequest
from tests import cascades

PIXELS = 2_000_000


def look(made: HaarDetector, image: Image, **options: Any) -> DetectionResult:
    return made.detect(image, made.resolve(DetectOptions("it", **options)))


def face_picture() -> tuple[Image, tuple[int, int, int, int]]:
    """A part of the astronaut, with the box of her face as the upright picture gives it."""
    return np.ascontiguousarray(cascades.picture("astronaut")[20:220, 100:340]), (77, 46, 95, 95)


class EngineCase(unittest.TestCase):
    """Detectors of one engine, and a folder for cascade files of the test's own."""

    engine: type[FastHaar] | type[OpenCV]
    library: ModuleType  # where the engine gets its classifiers

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def detector(self, url: str, working_pixels: int = PIXELS) -> HaarDetector:
        """The detector of a URL, with the engine at hand unless the URL names one."""
        if "engine=" not in url:
            url += f"{'&' if '?' in url else '?'}engine={self.engine.name}"
        made = create("it", url, working_pixels=working_pixels)
        assert isinstance(made, HaarDetector)
        return made

    def file(self, text: str | bytes, name: str = "own.xml") -> Path:
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def url(self, text: str, query: str = "") -> str:
        return f"haar:{self.file(text)}{query}"

    def square_detector(self, window_wh: tuple[int, int] = (24, 24), **arguments: Any) -> HaarDetector:
        """Finds blocks brighter than all around them; its boxes are three times as large as the block."""
        return self.detector(self.url(cascades.lbp_cascade(window_wh, cascades.BRIGHT_CENTER)), **arguments)


class CreationContract(EngineCase):
    def refused(self, url: str) -> str:
        with self.assertRaises(ValueError) as caught:
            self.detector(url)
        message = str(caught.exception)
        self.assertNotIn("\n", message)
        return message

    def test_every_cascade_of_opencv_has_a_name(self) -> None:
        files = {path.name for path in cascades.BUNDLED_FOLDER.glob("*.xml")}
        self.assertEqual(17, len(files))
        self.assertEqual(files, {bundled.file for name, bundled in BUNDLED.items() if name != "stop_sign"})

    def test_the_window_read_from_every_file_is_the_one_that_opencv_loads(self) -> None:
        for name, bundled in BUNDLED.items():
            loaded = cv2.CascadeClassifier(str(cascades.BUNDLED_FOLDER / bundled.file))
            facts = self.detector(f"haar:{name}").facts
            with self.subTest(cascade=name):
                self.assertEqual(loaded.getOriginalWindowSize(), facts.window_wh)
                self.assertEqual((self.engine.name, self.engine.version), (facts.engine, facts.engine_version))

    def test_six_bundled_cascades_are_not_square(self) -> None:
        windows = [self.detector(f"haar:{name}").facts.window_wh for name in BUNDLED]
        self.assertEqual(6, sum(window is not None and window[0] != window[1] for window in windows))

    def test_defaults_are_opencvs_unless_the_cascade_has_better_ones(self) -> None:
        common = {"scale_factor": 1.1, "min_neighbors": 3, "max_size": None, "equalize": False}
        self.assertEqual(common | {"min_size": (20, 20)}, self.detector("haar:face").facts.defaults)
        self.assertEqual(common | {"min_size": (60, 20)}, self.detector("haar:licence_plate").facts.defaults)
        self.assertEqual(20, self.detector("haar:smile").facts.defaults["min_neighbors"])

    def test_parameters_of_the_url_are_defaults(self) -> None:
        query = "?scale_factor=1.2&min_neighbors=7&min_size=30&max_size=80,90&equalize=true&class_name=sign"
        made = self.detector("haar:face" + query)
        expected = {"scale_factor": 1.2, "min_neighbors": 7, "min_size": (30, 30), "max_size": (80, 90)}
        self.assertEqual(expected | {"equalize": True}, made.facts.defaults)
        self.assertEqual(("sign",), made.class_names)
        self.assertEqual("it", made.name)
        resolved = asdict(made.resolve(DetectOptions("it", min_neighbors=2)))
        self.assertEqual(resolved, resolved | expected | {"min_neighbors": 2})

    def test_an_own_file_finds_what_its_detector_is_called(self) -> None:
        self.assertEqual(("it",), self.square_detector().class_names)

    def test_facts_and_their_schema_are_json(self) -> None:
        facts = self.detector("haar:full_body?max_size=90").facts
        parameters = json.loads(json.dumps(asdict(facts)))["parameters"]["properties"]
        self.assertEqual(set(facts.defaults), set(parameters))
        self.assertEqual([90, 90], parameters["max_size"]["default"])
        self.assertEqual([14, 28], parameters["min_size"]["default"])

    def test_creating_loads_nothing(self) -> None:
        with mock.patch.object(self.library, "CascadeClassifier", side_effect=AssertionError("loaded")):
            self.detector("haar:face").cost((640, 480), DetectOptions("it"))

    def test_it_refuses_bad_parameters(self) -> None:
        for query, word in {
            "scale_factor=1": "scale_factor=1:",
            "scale_factor=nan": "scale_factor=nan:",
            "scale_factor=big": "scale_factor=big:",
            "min_neighbors=-1": "min_neighbors=-1:",
            "min_neighbors=1.5": "min_neighbors=1.5:",
            "min_size=0": "min_size=0:",
            "min_size=1,2,3": "min_size=1,2,3:",
            "max_size=x": "max_size=x:",
            "equalize=1": "equalize=1:",
            "engine=fast": "fast",
            "minNeighbors=3": "minNeighbors",
        }.items():
            with self.subTest(query=query):
                self.assertIn(word, self.refused(f"haar:face?{query}"))

    def test_it_refuses_what_is_no_cascade(self) -> None:
        good = cascades.lbp_cascade((24, 24), cascades.BRIGHT_CENTER)
        for text, word in {
            "": "not XML",
            "{}": "not XML",
            good[:-40]: "not XML",
            "<html/>": "not a cascade",
            good.replace("BOOST", "FOREST"): "boosted",
            good.replace("LBP", "HOG"): "boosted",
            good.replace("features>", "feature>"): "boosted",
            good.replace("stages>", "steps>"): "stages",
            good.replace("<width>24", "<width>4"): "window",
            good.replace("<width>24", "<width>wide"): "window",
            good.replace("<opencv_storage>", "<!DOCTYPE a [<!ENTITY b 'c'>]><opencv_storage>"): "document type",
            cascades.old_haar_cascade((20, 30)).replace("20 30</size>", "20</size>"): "window",
        }.items():
            with self.subTest(text=text[:60], word=word):
                self.assertIn(word, self.refused(self.url(text)))

    def test_it_refuses_a_file_that_is_missing_or_a_folder_or_too_large(self) -> None:
        self.assertIn("No such file", self.refused(f"haar:{self.folder}/none.xml"))
        self.assertIn("directory", self.refused(f"haar:{self.folder}"))
        self.assertIn("larger", self.refused(self.url(" " * (_cascades.MAX_BYTES + 1))))

    def test_it_names_the_known_cascades_for_an_unknown_one(self) -> None:
        self.assertIn("profile_face", self.refused("haar:elephant"))
        self.assertIn("name", self.refused("haar:"))

    def test_the_fingerprint_changes_with_all_that_changes_boxes(self) -> None:
        text = cascades.lbp_cascade((24, 24), cascades.BRIGHT_CENTER)
        made = [
            self.detector(self.url(text)),
            self.detector(self.url(text, "?min_neighbors=4")),
            self.detector(self.url(text, "?class_name=sign")),
            self.detector(self.url(text), working_pixels=PIXELS + 1),
            self.detector(self.url(text.replace("0.75", "0.76"))),
        ]
        with mock.patch.object(self.engine, "version", "4.99"):
            made.append(self.detector(self.url(text)))
        self.assertEqual(len(made), len({one.fingerprint for one in made}))
        self.assertEqual(made[0].fingerprint, self.detector(self.url(text)).fingerprint)


class LoadingContract(EngineCase):
    loads: int  # of one detector that two threads look with

    def test_a_cascade_is_loaded_no_more_often_than_the_engine_needs(self) -> None:
        made, image = self.square_detector(), cascades.bright_square((160, 120), (70, 50, 10, 10))
        with mock.patch.object(self.library, "CascadeClassifier", wraps=self.library.CascadeClassifier) as loads:
            results = [look(made, image), look(made, image)]
            thread = threading.Thread(target=lambda: results.extend([look(made, image), look(made, image)]))
            thread.start()
            thread.join()
        self.assertEqual(self.loads, loads.call_count)
        self.assertEqual(4, results.count(results[0]))

    def test_a_file_that_changed_after_the_start_is_not_used(self) -> None:
        made = self.square_detector()
        path = self.file(cascades.lbp_cascade((24, 24), cascades.EVERY_CODE))
        with self.assertRaisesRegex(DetectorFailed, "changed"):
            look(made, cascades.noise(40, 40))
        path.unlink()
        with self.assertRaisesRegex(DetectorFailed, "can no longer be read"):
            look(made, cascades.noise(40, 40))

    def test_a_cascade_that_accepts_everything_is_given_up(self) -> None:
        made = self.detector(self.url(cascades.lbp_cascade((24, 24), cascades.EVERY_CODE)))
        self.assertGreater(made.cost((300, 300), DetectOptions("it")), MAX_CANDIDATES)
        with self.assertRaisesRegex(DetectorFailed, str(MAX_CANDIDATES)):
            look(made, cascades.noise(300, 300))


class DetectionContract(EngineCase):
    def test_it_frames_an_object_and_says_what_it_saw(self) -> None:
        image, face = face_picture()
        result = look(self.detector("haar:face"), image)
        self.assertGreater(cascades.best_iou(result, face), 0.9)
        best = result.detections[0]
        self.assertEqual(("it", "face", None, 0), (best.detector, best.class_name, best.confidence, best.rotation))
        self.assertGreater(best.neighbors, 20)
        self.assertGreater(best.score, 0)
        self.assertEqual((240, 200), result.working_size_wh)
        self.assertIsNone(result.near_misses)
        json.dumps(asdict(result))

    def test_boxes_keep_their_own_width_and_height(self) -> None:
        image = cascades.bright_square((200, 160), (90, 70, 20, 10))
        result = look(self.square_detector((48, 24)), image, min_size=(54, 27), max_size=(66, 33))
        self.assertGreater(cascades.best_iou(result, (70, 60, 60, 30)), 0.75)
        self.assertTrue(all(abs(width - 2 * height) <= 1 for _, _, width, height in cascades.found_xywh(result)))

    def test_the_best_comes_first_and_the_rest_is_counted(self) -> None:
        image = cascades.picture("astronaut")[:300, 100:400]
        made = self.detector("haar:eye")
        every = look(made, image, min_neighbors=1)
        order = [(found.neighbors, found.score) for found in every.detections]
        self.assertEqual(sorted(order, reverse=True), order)
        self.assertGreater(every.found, 2)
        cut = look(made, image, min_neighbors=1, max_detections=2)
        self.assertEqual(every.detections[:2], cut.detections)
        self.assertEqual((every.found, None), (cut.found, cut.near_misses))

    def test_the_picture_is_not_changed(self) -> None:
        image, _ = face_picture()
        before = image.copy()
        look(self.detector("haar:face"), image, equalize=True, rotations=(0, 7, 90), roi=(10, 10, 150, 150))
        np.testing.assert_array_equal(before, image)

    def test_a_picture_smaller_than_the_window_holds_nothing(self) -> None:
        made = self.detector("haar:face")
        for width, height in ((1, 1), (23, 23), (24, 23), (1, 500), (500, 3)):
            with self.subTest(size=(width, height)):
                result = look(made, cascades.noise(width, height), rotations=(0, 90, 33))
                self.assertEqual(0, result.found)
                assert result.near_misses is not None
                self.assertIn("smaller than the smallest object", result.near_misses["hint"])

    def test_sizes_are_pixels_of_the_picture(self) -> None:
        image, face = face_picture()
        large = cv2.resize(image, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
        made = self.detector("haar:face", working_pixels=image.shape[0] * image.shape[1])
        expected = [4 * side for side in face]
        self.assertGreater(
            cascades.best_iou(look(made, large, min_size=(300, 300), max_size=(460, 460)), expected), 0.8
        )
        self.assertEqual(0.0, cascades.best_iou(look(made, large, max_size=(240, 240)), expected))
        self.assertEqual(0, look(made, large, min_size=(600, 600)).found)

    def test_equalizing_finds_a_face_in_the_dark(self) -> None:
        image, face = face_picture()
        dark = (image * 0.03).astype(np.uint8)
        made = self.detector("haar:face")
        self.assertLess(cascades.best_iou(look(made, dark), face), 0.5)
        self.assertGreater(cascades.best_iou(look(made, dark, equalize=True), face), 0.8)

    def test_a_large_picture_is_looked_at_in_the_working_size(self) -> None:
        image, face = face_picture()
        large = cv2.resize(image, (961, 797), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
        result = look(self.detector("haar:face", working_pixels=48_000), large)
        width, height = result.working_size_wh
        self.assertLessEqual(width * height, 48_000)
        self.assertGreater(width * height, 47_000)
        self.assertAlmostEqual(961 / 797, width / height, delta=0.01)
        self.assertGreater(cascades.best_iou(result, [4 * side for side in face]), 0.8)


class RegionContract(EngineCase):
    def setUp(self) -> None:
        super().setUp()
        self.made = self.square_detector()
        self.image = cascades.bright_square((200, 150), (120, 80, 10, 10))
        self.image[20:30, 30:40] = 250
        self.expected = {(110, 70, 30, 30), (20, 10, 30, 30)}

    def framed(self, **options: Any) -> set[tuple[int, ...]]:
        result = look(self.made, self.image, min_size=(27, 27), max_size=(33, 33), **options)
        return {box for box in self.expected if cascades.best_iou(result, box) > 0.7}

    def test_only_objects_in_the_region_are_found_and_their_boxes_count_from_the_pictures_corner(self) -> None:
        self.assertEqual(self.expected, self.framed())
        self.assertEqual({(110, 70, 30, 30)}, self.framed(roi=(100, 60, 60, 60)))
        self.assertEqual({(20, 10, 30, 30)}, self.framed(roi=(0, 0, 70, 60), rotations=(90,)))

    def test_a_region_is_cut_at_the_pictures_edge(self) -> None:
        self.assertEqual({(110, 70, 30, 30)}, self.framed(roi=(90, 50, 9999, 9999)))
        self.assertEqual({(20, 10, 30, 30)}, self.framed(roi=(-50, -50, 120, 110)))
        result = look(self.made, self.image, roi=(90, 50, 9999, 9999))
        self.assertEqual((110, 100), result.working_size_wh)

    def test_a_region_outside_is_refused_with_the_size_of_the_picture(self) -> None:
        for roi in ((200, 0, 10, 10), (0, 150, 10, 10), (-10, 0, 10, 10), (5, 5, 0, 9)):
            for ask in (
                lambda roi=roi: look(self.made, self.image, roi=roi),
                lambda roi=roi: self.made.cost((200, 150), DetectOptions("it", roi=roi)),
            ):
                with self.subTest(roi=roi), self.assertRaises(InvalidRequest) as caught:
                    ask()
                (error,) = caught.exception.members["errors"]
                self.assertEqual("roi", error["field"])
                self.assertIn("200x150", error["message"])


class RotationContract(EngineCase):
    def test_a_face_turned_by_quarters_is_found_and_mapped_back(self) -> None:
        image, (x, y, width, height) = face_picture()
        rows, columns = image.shape[:2]
        made = self.detector("haar:face")
        turned = {
            90: (cv2.ROTATE_90_CLOCKWISE, (rows - y - height, x, height, width)),
            180: (cv2.ROTATE_180, (columns - x - width, rows - y - height, width, height)),
            270: (cv2.ROTATE_90_COUNTERCLOCKWISE, (y, columns - x - width, height, width)),
        }
        for degrees, (code, expected) in turned.items():
            picture = np.asarray(cv2.rotate(image, code), np.uint8)
            for back in (360 - degrees, -degrees):
                with self.subTest(degrees=degrees, back=back):
                    result = look(made, picture, rotations=(back,))
                    self.assertGreater(cascades.best_iou(result, expected), 0.9)
                    self.assertEqual(back, result.detections[0].rotation)
            self.assertLess(cascades.best_iou(look(made, picture), expected), 0.6)

    def test_quarter_turns_are_exact(self) -> None:
        image, _ = face_picture()
        made = self.detector("haar:face")
        upright = look(made, image)
        for degrees, code in ((90, cv2.ROTATE_90_COUNTERCLOCKWISE), (180, cv2.ROTATE_180)):
            turned = look(made, np.asarray(cv2.rotate(image, code), np.uint8), rotations=(degrees,))
            self.assertEqual([d.score for d in upright.detections], [d.score for d in turned.detections])

    def test_sizes_are_those_of_the_upright_picture_at_quarter_turns(self) -> None:
        wide = cascades.bright_square((200, 160), (90, 60, 10, 20))  # a tall one, so that it is wide once turned
        made = self.square_detector((48, 24))
        fitting = look(made, wide, rotations=(90,), min_neighbors=1, min_size=(24, 48), max_size=(33, 66))
        self.assertGreater(cascades.best_iou(fitting, (80, 40, 30, 60)), 0.7)
        self.assertTrue(all(abs(height - 2 * width) <= 1 for _, _, width, height in cascades.found_xywh(fitting)))

    def test_a_tilted_face_is_found_and_mapped_back(self) -> None:
        image, face = face_picture()
        made = self.detector("haar:face")
        for degrees in (10, -10, 35, -50, 130):
            picture, transform = augment.rotate(image, degrees)
            result = look(made, picture, rotations=(-degrees,))
            with self.subTest(degrees=degrees):
                self.assertGreater(cascades.best_iou(result, transform([face])[0].tolist()), 0.8)

    def test_the_cat_whose_head_is_tilted_is_framed_once_the_picture_is_turned(self) -> None:
        image, face = cascades.picture("chelsea"), (95, 0, 300, 300)
        for name in ("cat_face", "cat_face_extended"):
            made = self.detector(f"haar:{name}")
            with self.subTest(detector=name):
                self.assertLess(cascades.best_iou(look(made, image, min_neighbors=1), face), 0.3)
                turned = look(made, image, min_neighbors=1, rotations=(-10,))
                self.assertGreater(cascades.best_iou(turned, face), 0.8)

    def test_the_same_object_seen_at_several_rotations_is_one(self) -> None:
        image, face = face_picture()
        made = self.detector("haar:face")
        angles = (-10, 0, 10)
        alone = [look(made, image, rotations=(angle,)) for angle in angles]
        self.assertTrue(all(cascades.best_iou(result, face) > 0.6 for result in alone))
        together = look(made, image, rotations=angles)
        near = [box for box in cascades.found_xywh(together) if cascades.best_iou(together, box) and box[2] > 60]
        self.assertEqual(1, len(near))
        self.assertEqual(max(r.detections[0].neighbors for r in alone), together.detections[0].neighbors)

    def test_boxes_stay_inside_the_picture(self) -> None:
        image = cascades.noise(150, 110)
        made = self.detector("haar:smile")
        results = [look(made, image, min_neighbors=0, rotations=(angle,)) for angle in (0, 30, 45, 90, 135, 300)]
        self.assertTrue(any(result.found for result in results[1:3]))
        for result in results:
            for x, y, width, height in cascades.found_xywh(result):
                self.assertTrue(x >= 0 <= y and width > 0 < height and x + width <= 150 and y + height <= 110)

    def test_what_is_seen_in_the_margin_of_a_turned_picture_is_dropped(self) -> None:
        path = self.file(cascades.lbp_cascade((24, 24), cascades.EVERY_CODE))
        options = {"min_size": (24, 24), "max_size": (24, 24), "min_neighbors": 0}
        result = look(self.detector(f"haar:{path}"), cascades.noise(100, 60), rotations=(45,), **options)
        canvas = np.zeros((114, 114), np.uint8)  # the picture's diagonal extent: 160 / sqrt(2)
        raw = self.engine(_cascades.read(path)).look(canvas, 1.1, (24, 24), (24, 24)).xywh
        across, down = (raw[:, :2] + 12 - 57).T / np.sqrt(2)
        inside = (abs(across + down) <= 50) & (abs(down - across) <= 30)
        self.assertEqual(inside.sum(), result.found)
        self.assertLess(result.found, len(raw))

    def test_a_long_picture_is_not_turned_onto_a_canvas_larger_than_the_working_size(self) -> None:
        made = self.detector("haar:face", working_pixels=60_000)
        image = np.full((40, 1500, 3), 90, np.uint8)
        self.assertEqual((1500, 40), look(made, image, rotations=(0, 90, 180)).working_size_wh)
        seen = []
        with mock.patch.object(self.engine, "look", lambda _, grey, *rest: seen.append(grey.size) or NOTHING):
            look(made, image, rotations=(0, 45, 90))
        self.assertEqual(3, len(seen))
        self.assertLessEqual(max(seen), 60_000)
        self.assertGreater(max(seen), 57_000)


class NearMissContract(EngineCase):
    def misses(self, made: HaarDetector, image: Image, **options: Any) -> dict[str, Any]:
        result = look(made, image, **options)
        self.assertEqual((0, ()), (result.found, result.detections))
        assert result.near_misses is not None
        json.dumps(result.near_misses)
        return result.near_misses

    def test_it_counts_what_each_lower_strictness_finds(self) -> None:
        image, _ = face_picture()
        made = self.detector("haar:face")
        neighbors = look(made, image).detections[0].neighbors
        for rotations in ((0,), (0, 10)):
            misses = self.misses(made, image, min_neighbors=100, rotations=rotations)
            self.assertEqual(10, len(misses["lower_min_neighbors"]))
            for lower in misses["lower_min_neighbors"]:
                again = look(made, image, min_neighbors=lower["min_neighbors"], rotations=rotations)
                self.assertEqual(again.found, lower["detections"])
            highest = misses["lower_min_neighbors"][0]["min_neighbors"]
            self.assertEqual(0, look(made, image, min_neighbors=highest + 1, rotations=rotations).found)
            self.assertIn(f"Lower min_neighbors to {highest}", misses["hint"])
        self.assertGreaterEqual(highest, neighbors - 1)

    def test_no_strictness_at_all_is_listed_but_not_recommended(self) -> None:
        made = self.detector("haar:cat_face")
        misses = self.misses(made, cascades.picture("astronaut"), min_neighbors=1)
        self.assertEqual([0], [lower["min_neighbors"] for lower in misses["lower_min_neighbors"]])
        self.assertNotIn("min_neighbors", misses["hint"])
        self.assertIn("rotations", misses["hint"])

    def test_it_tells_the_sizes_and_the_brightness(self) -> None:
        image = np.full((120, 160, 3), 90, np.uint8)
        image[:60] = 110
        misses = self.misses(self.detector("haar:licence_plate", working_pixels=4800), image)
        self.assertEqual({"width": 160, "height": 120}, misses["image_size"])
        self.assertEqual({"width": 80, "height": 60}, misses["working_size"])
        self.assertEqual({"width": 60, "height": 20}, misses["window"])
        self.assertAlmostEqual(100, misses["brightness"], delta=0.1)
        self.assertEqual([], misses["lower_min_neighbors"])

    def test_the_hint_names_what_is_in_the_way(self) -> None:
        made = self.detector("haar:face")
        for value, word in ((5, "very dark"), (250, "very bright"), (120, "rotations")):
            misses = self.misses(made, np.full((90, 90, 3), value, np.uint8))
            self.assertIn(word, misses["hint"])
        turned = self.misses(made, np.full((90, 90, 3), 120, np.uint8), rotations=(0, 90))
        self.assertIn("looks like a face", turned["hint"])
        region = self.misses(made, np.full((90, 90, 3), 120, np.uint8), roi=(0, 0, 20, 90))
        self.assertIn("part of the image", region["hint"])

    def test_a_picture_whose_turned_form_holds_the_window_is_not_called_too_small(self) -> None:
        made = self.detector("haar:licence_plate_16")
        tall = np.full((90, 40, 3), 120, np.uint8)
        self.assertIn("smaller", self.misses(made, tall)["hint"])
        self.assertNotIn("smaller", self.misses(made, tall, rotations=(90,))["hint"])


class CostContract(EngineCase):
    def counted(self, image: Image, **options: Any) -> tuple[int, int]:
        """The estimate, and the windows that a cascade which accepts everything really accepts."""
        path = self.file(cascades.lbp_cascade((24, 30), cascades.EVERY_CODE))
        made = self.detector(f"haar:{path}", working_pixels=12_000)
        made._engine._max_candidates = 10**6  # all of them are to be counted
        seen = []
        really = self.engine.look

        def count(*arguments: Any) -> Any:
            seen.append(len(really(*arguments).xywh))
            return NOTHING

        with mock.patch.object(self.engine, "look", count):
            look(made, image, **options)
        return made.cost((image.shape[1], image.shape[0]), DetectOptions("it", **options)), sum(seen)

    def test_it_is_the_number_of_windows_that_opencv_looks_at(self) -> None:
        for size in ((100, 80), (24, 30), (23, 90), (61, 77), (400, 300)):
            for options in (
                {},
                {"scale_factor": 1.01},
                {"scale_factor": 1.37},
                {"scale_factor": 3.0},
                {"min_size": (40, 40)},
                {"max_size": (50, 60)},
                {"min_size": (41, 41), "max_size": (41, 41)},
                {"max_size": (5, 5)},
                {"min_size": (900, 900)},
                {"roi": (10, 5, 60, 70)},
                {"rotations": (0, 90, 180, 270)},
                {"rotations": (0, 30, -45)},
            ):
                with self.subTest(size=size, options=options):
                    estimate, really = self.counted(cascades.noise(*size), **options)
                    self.assertEqual(really, estimate)

    def test_silly_values_have_a_cost_too(self) -> None:
        made = self.detector("haar:face")
        fine = made.cost((4000, 3000), DetectOptions("it", scale_factor=1.01))
        finer = made.cost((4000, 3000), DetectOptions("it", scale_factor=1.001))
        self.assertAlmostEqual(10, finer / fine, delta=0.3)
        for factor in (1 + 1e-12, 1.0, 0.5, -1.0, float("nan")):
            self.assertGreater(made.cost((4000, 3000), DetectOptions("it", scale_factor=factor)), 10**12)
        for factor in (1e300, float("inf")):
            self.assertGreater(made.cost((4000, 3000), DetectOptions("it", scale_factor=factor)), 0)
        huge = DetectOptions("it", min_size=(10**12, 10**12), max_size=(10**12, 10**12))
        self.assertGreater(made.cost((4000, 3000), huge), 0)
        self.assertEqual(0, made.cost((1, 1), DetectOptions("it")))

    def test_the_working_size_bounds_it(self) -> None:
        made = self.detector("haar:face", working_pixels=300_000)
        small, large = (made.cost(size, DetectOptions("it")) for size in ((640, 480), (16_000, 12_000)))
        self.assertLess(large, 1.1 * small)
