"""The class beyond its answers: what it refuses, what it returns for nothing, its budget, its threads, its memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Any

import cv2
import cv2.data
import numpy as np

import fasthaar
from cases import METHODS, Case, difference, source
from fasthaar import Budget, BudgetExceeded, CascadeClassifier
from pictures import Picture, photograph, resized
from targets import NAMES, engines

FACES = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"
BLANK = np.zeros((100, 100), np.uint8)
PORTRAIT = np.ascontiguousarray(resized(photograph("astronaut"), (400, 400))[..., 1])  # of one face

# One stage that every window with any contrast passes.
ACCEPTS_ALL = b"""<?xml version="1.0"?>
<opencv_storage><cascade>
<stageType>BOOST</stageType><featureType>HAAR</featureType><height>20</height><width>20</width>
<stageParams><maxWeakCount>1</maxWeakCount></stageParams><featureParams><maxCatCount>0</maxCatCount></featureParams>
<stageNum>1</stageNum>
<stages><_><maxWeakCount>1</maxWeakCount><stageThreshold>-1.</stageThreshold><weakClassifiers>
<_><internalNodes>0 -1 0 0.</internalNodes><leafValues>1. 1.</leafValues></_></weakClassifiers></_></stages>
<features><_><rects><_>0 0 20 20 -1.</_><_>0 0 10 20 2.</_></rects></_></features>
</cascade></opencv_storage>
"""


class TestLoading(unittest.TestCase):
    def test_a_file_is_named_by_text_or_path_or_given_as_bytes(self) -> None:
        for form in (str(FACES), FACES, FACES.read_bytes()):
            with self.subTest(type(form)):
                classifier = CascadeClassifier(form)
                self.assertFalse(classifier.empty())
                self.assertEqual(len(classifier.detectMultiScale(PORTRAIT)), 1)
                self.assertTrue(CascadeClassifier().load(form))

    def test_it_says_what_it_has_loaded(self) -> None:
        classifier = CascadeClassifier(FACES)
        self.assertEqual(classifier.getOriginalWindowSize(), (24, 24))
        self.assertEqual(classifier.getFeatureType(), 0)
        self.assertIs(classifier.isOldFormatCascade(), False)
        self.assertEqual(CascadeClassifier(source(("lbp", 0))).getFeatureType(), 1)
        self.assertIs(CascadeClassifier(source(("old", 0))).isOldFormatCascade(), False)

    def test_without_a_cascade_it_is_empty_and_detects_nothing_but_an_error(self) -> None:
        classifier = CascadeClassifier()
        self.assertTrue(classifier.empty())
        calls = (classifier.getOriginalWindowSize, classifier.getFeatureType, classifier.isOldFormatCascade)
        for call in (*calls, lambda: classifier.detectMultiScale(BLANK), lambda: classifier.detectMultiScale3(BLANK)):
            with self.assertRaisesRegex(ValueError, "no cascade is loaded"):
                call()

    def test_a_file_that_cannot_be_read_gives_an_empty_classifier(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name in (Path(folder) / "missing.xml", Path(folder), str(FACES) + "\0"):
                with self.subTest(name=name):
                    self.assertTrue(CascadeClassifier(name).empty())
                    classifier = CascadeClassifier(FACES)
                    self.assertIs(classifier.load(name), False)
                    self.assertTrue(classifier.empty())

    def test_a_file_that_is_no_cascade_is_refused_and_changes_nothing(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for number, content in enumerate((b"", b"no XML", b"<?xml version='1.0'?><a/>", FACES.read_bytes()[:-100])):
                path = Path(folder) / f"{number}.xml"
                path.write_bytes(content)
                for form in (path, content) if content else (path,):
                    with self.subTest(form=form), self.assertRaises(ValueError):
                        CascadeClassifier(form)
                classifier = CascadeClassifier(FACES)
                with self.assertRaises(ValueError):
                    classifier.load(path)
                self.assertEqual(len(classifier.detectMultiScale(PORTRAIT)), 1)

    def test_the_canonical_form_detects_the_same(self) -> None:
        for kind in ("trees", "tilted", "lbp", "old"):
            with self.subTest(kind):
                xml = source((kind, 3))
                assert isinstance(xml, bytes)
                case = Case((kind, 3), Picture("crop", (60, 60)), METHODS[3], min_neighbors=0)
                before, after = CascadeClassifier(xml), CascadeClassifier(fasthaar.canonical(xml))
                self.assertEqual(difference(case.ask(before), case.ask(after)), "")


class TestArguments(unittest.TestCase):
    def setUp(self) -> None:
        self.classifier = CascadeClassifier(FACES)

    def refuses(self, message: str, *arguments: Any, **named: Any) -> None:
        """Every method says the same about wrong arguments."""
        for method in ("detectMultiScale", "detectMultiScale2", "detectMultiScale3"):
            with self.subTest(method), self.assertRaisesRegex(ValueError, message):
                getattr(self.classifier, method)(*arguments, **named)

    def test_an_image_is_an_array_of_bytes_with_one_three_or_four_channels(self) -> None:
        image: Any
        for image in (None, "image", [[1, 2]], BLANK.tolist(), BLANK.astype(np.float32), BLANK.astype(bool)):
            self.refuses("should be a uint8 array", image)
        shape: tuple[int, ...]
        for shape in ((100,), (100, 100, 0), (100, 100, 2), (100, 100, 5), (1, 100, 100, 3), ()):
            self.refuses("image has shape", np.zeros(shape, np.uint8))
        for shape in ((0, 0), (0, 5), (5, 0), (40_000, 1), (1, 40_000)):
            self.refuses("sides should be from 1 to", np.zeros(shape, np.uint8))

    def test_a_scale_factor_is_above_one(self) -> None:
        factor: Any
        for factor in (1, 1.0, 0.5, 0, -2, float("nan"), float("inf"), float("-inf"), 1 + 1e-9, "fast", None):
            self.refuses("scaleFactor", BLANK, factor)

    def test_numbers_of_neighbours_and_sizes_are_whole_numbers_of_32_bits(self) -> None:
        wrong: Any
        for wrong in ("three", None, 1 << 31, -(1 << 40), 2.5):
            self.refuses("minNeighbors", BLANK, 1.1, wrong)
        for wrong in (5, (5,), (5, 5, 5), ("a", "b"), (1 << 31, 5), (5.5, 5)):
            self.refuses("minSize", BLANK, minSize=wrong)
            self.refuses("maxSize", BLANK, maxSize=wrong)

    def test_numpy_numbers_and_sequences_do_as_well(self) -> None:
        classifier: Any = self.classifier
        found = classifier.detectMultiScale(
            PORTRAIT, np.float32(1.25), np.int64(1), 0, [30, 30], np.array([200, 200]), num_threads=np.int32(2)
        )
        right = self.classifier.detectMultiScale(PORTRAIT, 1.25, 1, 0, (30, 30), (200, 200))
        self.assertEqual(np.array(found).tolist(), np.array(right).tolist())

    def test_negative_neighbours_and_sizes_are_as_zero(self) -> None:
        negative = self.classifier.detectMultiScale(PORTRAIT, 1.1, -1, 0, (-5, -5))
        self.assertEqual(
            np.array(negative).tolist(), np.array(self.classifier.detectMultiScale(PORTRAIT, 1.1, 0)).tolist()
        )

    def test_threads_are_one_to_sixty_four(self) -> None:
        number: Any
        for number in (0, -1, 65, 10**10, 1.5, "two", None):
            self.refuses("num_threads", BLANK, num_threads=number)

    def test_a_region_lies_in_the_image(self) -> None:
        for roi in ((-1, 0, 5, 5), (0, -1, 5, 5), (0, 0, 101, 5), (0, 0, 5, 101), (99, 99, 2, 2), (0, 0, 0, 5)):
            self.refuses("roi", BLANK, roi=roi)
        wrong: Any
        for wrong in (5, (1, 2, 3), "abcd", (0, 0, 5.5, 5)):
            self.refuses("roi", BLANK, roi=wrong)

    def test_limits_of_a_budget_are_not_negative(self) -> None:
        for budget in (Budget(candidates=-1), Budget(seconds=-0.1), Budget(seconds=float("nan"))):
            self.refuses("limits should be 0 or more", BLANK, budget=budget)

    def test_the_image_is_not_changed_and_may_be_read_only(self) -> None:
        image = Picture("whole", (200, 200), layout="BGR").image()
        image.setflags(write=False)
        before = image.copy()
        self.classifier.detectMultiScale(image)
        self.assertTrue((image == before).all())


class TestNothingFound(unittest.TestCase):
    def test_it_returns_what_cv2_returns(self) -> None:
        ours, theirs = CascadeClassifier(FACES), cv2.CascadeClassifier(str(FACES))
        for image in (BLANK, BLANK[:1, :1], BLANK[..., None]):
            self.assertEqual(ours.detectMultiScale(image), theirs.detectMultiScale(image))
            self.assertEqual(ours.detectMultiScale2(image), theirs.detectMultiScale2(image))
            for levels in (False, True):
                right: Any = theirs.detectMultiScale3(image, outputRejectLevels=levels)
                self.assertEqual(ours.detectMultiScale3(image, outputRejectLevels=levels), right)


class TestBudget(unittest.TestCase):
    """None of these would end within minutes if the budget were not kept: grouping takes quadratic time."""

    def setUp(self) -> None:
        self.classifier = CascadeClassifier(ACCEPTS_ALL)
        self.large = Picture("whole", (2000, 1500)).image()

    def test_it_gives_up_when_there_are_too_many_candidates(self) -> None:
        for threads in (1, 3):
            with self.assertRaisesRegex(BudgetExceeded, "more than 1000 candidates"):
                self.classifier.detectMultiScale(self.large, 1.01, budget=Budget(candidates=1000), num_threads=threads)

    def test_it_gives_up_when_time_is_over(self) -> None:
        for threads in (1, 3):
            with self.assertRaisesRegex(BudgetExceeded, r"more than 0.2 seconds"):
                self.classifier.detectMultiScale(self.large, 1.01, budget=Budget(seconds=0.2), num_threads=threads)

    def test_it_gives_up_in_the_middle_of_a_slow_cascade(self) -> None:
        classifier = CascadeClassifier(FACES)
        with self.assertRaises(BudgetExceeded):
            classifier.detectMultiScale(self.large, 1.001, budget=Budget(seconds=0.05))

    def test_no_candidates_at_all_may_be_asked_for(self) -> None:
        nothing = Budget(candidates=0, seconds=100)
        self.assertEqual(self.classifier.detectMultiScale(BLANK[:19, :19], budget=nothing), ())
        with self.assertRaises(BudgetExceeded):
            self.classifier.detectMultiScale(PORTRAIT[:20, :20], budget=nothing)

    def test_candidates_are_counted_exactly(self) -> None:
        classifier = CascadeClassifier(FACES)
        count = len(classifier.detectMultiScale(PORTRAIT, minNeighbors=0))
        for threads in (1, 2):
            enough = Budget(candidates=count)
            self.assertEqual(len(classifier.detectMultiScale(PORTRAIT, budget=enough, num_threads=threads)), 1)
            with self.assertRaises(BudgetExceeded):
                classifier.detectMultiScale(PORTRAIT, budget=Budget(candidates=count - 1), num_threads=threads)

    def test_the_classifier_works_on_afterwards(self) -> None:
        classifier = CascadeClassifier(FACES)
        with self.assertRaises(BudgetExceeded):
            classifier.detectMultiScale(PORTRAIT, budget=Budget(seconds=0))
        self.assertEqual(len(classifier.detectMultiScale(PORTRAIT)), 1)


class TestThreads(unittest.TestCase):
    def test_other_threads_of_python_run_during_a_detection(self) -> None:
        classifier, large = CascadeClassifier(ACCEPTS_ALL), Picture("whole", (1000, 1000)).image()
        ticks, done = [], threading.Event()

        def tick() -> None:
            while not done.wait(0.002):
                ticks.append(time.monotonic())

        clock = threading.Thread(target=tick)
        clock.start()
        began = time.monotonic()
        with self.assertRaises(BudgetExceeded):
            classifier.detectMultiScale(large, 1.01, budget=Budget(seconds=0.5))
        ended = time.monotonic()
        done.set()
        clock.join()
        # With the GIL held there would be one at most.
        self.assertGreater(sum(began < at < ended for at in ticks), 10)


class TestTargets(unittest.TestCase):
    def imported(self, target: str) -> subprocess.CompletedProcess[str]:
        """What happens when fasthaar is imported with FASTHAAR_TARGET set."""
        script = "import fasthaar; print(fasthaar.target())"
        environment = os.environ | {"FASTHAAR_TARGET": target, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
        )

    def test_a_target_that_is_unknown_or_impossible_is_refused_with_a_list(self) -> None:
        possible = [engine.target for engine in engines()]
        self.assertIn("scalar", possible)
        for target in ("mmx", "AVX2", *(name for name in NAMES if name not in possible)):
            with self.subTest(target):
                error = self.imported(target).stderr.splitlines()[-1]
                self.assertEqual(
                    error, f"ImportError: FASTHAAR_TARGET={target}: this machine can run {', '.join(possible)}"
                )

    def test_without_a_wish_the_best_one_is_taken(self) -> None:
        best = os.environ.get("FASTHAAR_TARGET") or engines()[0].target
        self.assertEqual(fasthaar.target(), best)
        self.assertEqual(self.imported("").stdout.strip(), engines()[0].target)


@unittest.skipUnless(sys.platform == "linux", "reads the peak of its memory from /proc")
class TestMemory(unittest.TestCase):
    """Peak of a detection in a process of its own, in bytes for each pixel of a picture of 4 megapixels."""

    SCRIPT = """
import sys
import fasthaar
from cases import source
from memory import peak_growth
from pictures import Picture, photograph, resized
cascade, layout, threads, side = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
classifier = fasthaar.CascadeClassifier(source(cascade))
image = Picture("whole", (2400, 1700), layout=layout).image()
classifier.detectMultiScale(image[:100, :100])
growth = peak_growth(lambda: classifier.detectMultiScale(image, minSize=(side, side), num_threads=threads))
print(growth / (2400 * 1700))
"""

    def bytes_per_pixel(self, cascade: str, layout: str = "grey", threads: int = 1, side: int = 0) -> float:
        """Memory that a detection takes at most beside the picture, by its number of pixels."""
        done = subprocess.run(
            [sys.executable, "-c", self.SCRIPT, cascade, layout, str(threads), str(side)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        return float(done.stdout)

    def test_a_detection_takes_at_most_16_bytes_for_each_pixel(self) -> None:
        for options in ({}, {"layout": "BGR"}, {"threads": 4}, {"side": 200}):
            with self.subTest(options):
                self.assertLessEqual(self.bytes_per_pixel("haarcascade_frontalface_default.xml", **options), 16)

    def test_tilted_features_may_take_20(self) -> None:
        self.assertLessEqual(self.bytes_per_pixel("haarcascade_frontalcatface_extended.xml"), 20)


def tearDownModule() -> None:
    for engine in engines():
        engine.close()
    engines.cache_clear()
