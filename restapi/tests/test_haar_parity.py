"""The cascade detector, on each of its engines, against OpenCV's own detectMultiScale, for every bundled cascade."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgdetect import boxes
from imgdetect.detection import DetectOptions
from imgdetect.detectors import Image
from imgdetect.detectors._cascades import read
from imgdetect.detectors._engines import Engine, FastHaar, OpenCV
from imgdetect.detectors.haar import BUNDLED, create
from tests import cascades

THRESHOLDS = (0, 1, 3, 6)


def setUpModule() -> None:
    """Keep OpenCV to one thread: several put their candidates into the order in which they end."""
    cv2.setNumThreads(1)


def half(image: Image) -> Image:
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def rows(found: Any) -> list[list[int]]:
    """OpenCV gives an empty tuple where it found nothing."""
    return np.asarray(found, np.int64).reshape(-1, 4).tolist()


def best_weights(weights: NDArray[np.float64], labels: NDArray[np.int64]) -> list[float]:
    best: dict[int, float] = {}
    for label, weight in zip(labels.tolist(), weights.tolist(), strict=True):
        best[label] = max(weight, best.get(label, weight))
    return [best[label] for label in sorted(best) if label >= 0]


class ParityContract:
    """Everything OpenCV finds with a file is found, in its order, with its level weights.

    A subclass gives the engine, the pictures and the scale factors; the file varies within each test.
    """

    engine: type[FastHaar] | type[OpenCV]
    pictures: tuple[Image, ...]
    scale_factors: tuple[float, ...]
    least_boxes: int  # fewer would mean that the pictures prove nothing

    def test_it_gives_the_boxes_and_level_weights_of_detect_multi_scale(self: Any) -> None:
        compared = 0
        for path in self.files():
            engine, reference = self.engine(read(path)), cv2.CascadeClassifier(str(path))
            for number, image in enumerate(self.pictures):
                for factor in self.scale_factors:
                    with self.subTest(cascade=path.name, picture=number, scale_factor=factor):
                        compared += self._compare(engine, reference, cascades.grey(image), factor)
        self.assertGreaterEqual(compared, self.least_boxes)

    def _compare(self: Any, engine: Engine, reference: cv2.CascadeClassifier, grey: Any, factor: float) -> int:
        compared = 0
        raw, weights = engine.look(grey, factor, (1, 1), None)
        for threshold in THRESHOLDS:
            found, _, labels = boxes.group_rectangles(raw, threshold)
            expected = rows(reference.detectMultiScale(grey, scaleFactor=factor, minNeighbors=threshold))
            self.assertEqual(expected, found.tolist())
            scores = best_weights(weights, labels)
            leveled, _, theirs = reference.detectMultiScale3(
                grey, scaleFactor=factor, minNeighbors=threshold, outputRejectLevels=True
            )
            pairs = set(zip(map(tuple, rows(leveled)), np.ravel(theirs).tolist(), strict=True))
            self.assertEqual(set(), set(zip(map(tuple, expected), scores, strict=True)) - pairs)
            compared += len(expected)
        return compared


class BundledParity(ParityContract):
    scale_factors = (1.1,)
    least_boxes = 300

    @classmethod
    def setUpClass(cls: Any) -> None:
        cls.pictures = (half(cascades.picture("astronaut")),)

    def files(self) -> list[Path]:
        return [cascades.BUNDLED_FOLDER / bundled.file for bundled in BUNDLED.values()]


class SmallPictureParity(BundledParity):
    scale_factors = (1.05, 1.3, 2.0)
    least_boxes = 150

    @classmethod
    def setUpClass(cls: Any) -> None:
        cls.pictures = (half(half(cascades.picture("chelsea"))), cascades.noise(97, 71))


class OwnFileParity(ParityContract):
    scale_factors = (1.1, 1.25)
    least_boxes = 1000

    @classmethod
    def setUpClass(cls: Any) -> None:
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.pictures = (
            cascades.bright_square((80, 60), (30, 20, 18, 12)),
            cascades.noise(44, 40),
        )

    def files(self: Any) -> list[Path]:
        texts = {
            "lbp_wide": cascades.lbp_cascade((36, 24), cascades.BRIGHT_CENTER),
            "lbp_many": cascades.lbp_cascade((12, 18), range(100, 256)),
            "haar": cascades.haar_cascade((20, 30)),
            "old": cascades.old_haar_cascade((20, 30)),
        }
        paths = [self.folder / f"{name}.xml" for name in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text)
        return paths

    def test_a_cascade_of_one_stage_accepts_no_window_without_contrast(self: Any) -> None:
        path = self.folder / "one_stage.xml"
        path.write_text(cascades.haar_cascade((20, 30), stages=1))
        grey = cascades.grey(self.pictures[0])
        raw, weights = self.engine(read(path)).look(grey, 1.1, (1, 1), None)
        expected = rows(cv2.CascadeClassifier(str(path)).detectMultiScale(grey, scaleFactor=1.1, minNeighbors=0))
        self.assertEqual(expected, raw.tolist())
        self.assertEqual({0.75}, set(weights.tolist()))

    def test_the_old_and_the_new_format_of_a_cascade_find_the_same(self: Any) -> None:
        _, _, new, old = (self.engine(read(path)) for path in self.files())
        for image in self.pictures:
            ours, theirs = (engine.look(cascades.grey(image), 1.1, (1, 1), None) for engine in (new, old))
            self.assertGreater(len(ours.xywh), 0)
            np.testing.assert_array_equal(theirs.xywh, ours.xywh)
            np.testing.assert_array_equal(theirs.weights, ours.weights)


class OpenCVBundledParityTest(BundledParity, unittest.TestCase):
    engine = OpenCV


class FastHaarBundledParityTest(BundledParity, unittest.TestCase):
    engine = FastHaar


class OpenCVSmallPictureParityTest(SmallPictureParity, unittest.TestCase):
    engine = OpenCV


class FastHaarSmallPictureParityTest(SmallPictureParity, unittest.TestCase):
    engine = FastHaar


class OpenCVOwnFileParityTest(OwnFileParity, unittest.TestCase):
    engine = OpenCV


class FastHaarOwnFileParityTest(OwnFileParity, unittest.TestCase):
    engine = FastHaar


class DetectParity:
    """What a client gets: the same boxes, the strongest first."""

    engine: type[FastHaar] | type[OpenCV]

    def test_every_detector_finds_what_opencv_finds_with_the_same_parameters(self: Any) -> None:
        image = half(cascades.picture("astronaut"))
        found = 0
        for name, bundled in BUNDLED.items():
            detector = create(name, name, {"engine": self.engine.name}, working_pixels=10**6)
            reference = cv2.CascadeClassifier(str(cascades.BUNDLED_FOLDER / bundled.file))
            options = detector.resolve(DetectOptions(name))
            expected, counts = reference.detectMultiScale2(
                cascades.grey(image),
                scaleFactor=options.scale_factor,
                minNeighbors=options.min_neighbors,
                minSize=options.min_size,
            )
            result = detector.detect(image, options)
            with self.subTest(detector=name):
                neighbors = [detection.neighbors for detection in result.detections]
                self.assertEqual(sorted(np.ravel(counts).tolist(), reverse=True), neighbors)
                self.assertEqual(sorted(map(tuple, rows(expected))), sorted(cascades.found_xywh(result)))
                self.assertEqual(result.found, len(result.detections))
            found += result.found
        self.assertGreater(found, 8)

    def test_sizes_and_equalizing_mean_what_they_mean_to_opencv(self: Any) -> None:
        image = half(cascades.picture("astronaut"))
        reference = cv2.CascadeClassifier(str(cascades.BUNDLED_FOLDER / BUNDLED["face"].file))
        detector = create("face", "face", {"engine": self.engine.name}, working_pixels=10**6)
        for min_size, max_size in (((1, 1), None), ((40, 40), None), ((24, 24), (30, 60)), ((48, 48), (48, 48))):
            for equalize in (False, True):
                grey = cascades.grey(image)
                grey = np.asarray(cv2.equalizeHist(grey), np.uint8) if equalize else grey
                expected = rows(
                    reference.detectMultiScale(
                        grey, scaleFactor=1.1, minNeighbors=0, minSize=min_size, maxSize=max_size or (0, 0)
                    )
                )
                options = DetectOptions(
                    "face", min_neighbors=0, min_size=min_size, max_size=max_size, equalize=equalize
                )
                result = detector.detect(image, options)
                with self.subTest(min_size=min_size, max_size=max_size, equalize=equalize):
                    self.assertEqual(sorted(map(tuple, expected)), sorted(cascades.found_xywh(result)))


class OpenCVDetectParityTest(DetectParity, unittest.TestCase):
    engine = OpenCV


class FastHaarDetectParityTest(DetectParity, unittest.TestCase):
    engine = FastHaar


if __name__ == "__main__":
    unittest.main()
