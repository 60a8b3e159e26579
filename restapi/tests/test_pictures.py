"""The detectors over every picture of test_images/input: exactly the expected boxes, written to test_images/output."""

from __future__ import annotations

import importlib.util
import json
import re
import unittest
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from imgdetect import annotate, detectors, images
from imgdetect.augment import AUGMENTATIONS, Image, augmented
from imgdetect.boxes import box_iou, xywh_to_xyxy
from imgdetect.detection import Detection, DetectOptions
from imgdetect.detectors import Detector
from imgdetect.detectors.haar import BUNDLED
from imgdetect.parameters import DetectParameters, validated

PICTURES = Path(__file__).parents[2] / "test_images"
INPUT, OUTPUT = PICTURES / "input", PICTURES / "output"
SOURCES = ("astronaut", "chelsea", "street", "field", "dusk")
# Marked by hand in the source pictures: visible skin from fringe to chin; the cat's face from cheek to cheek. Of those
# that are drawn or rendered it is known where the sign's octagon lies.
MARKED = {
    "astronaut": (181, 80, 90, 99),
    "chelsea": (35, 0, 327, 290),
    "street": (489, 109, 86, 86),
    "field": (264, 199, 53, 60),
    "dusk": (353, 151, 111, 120),
}
WORKING_PIXELS = 2_000_000


def entries() -> list[dict[str, Any]]:
    """The entries of expected.json."""
    loaded: list[dict[str, Any]] = json.loads((PICTURES / "expected.json").read_text(encoding="utf-8"))
    return loaded


def read(name: str) -> Image:
    return images.decode((INPUT / name).read_bytes())


def options_of(entry: dict[str, Any]) -> DetectOptions:
    """The entry's parameters, read as the server reads them."""
    pairs = parse_qsl(entry["query"], strict_parsing=True, keep_blank_values=True)
    return validated(DetectParameters, dict(pairs)).options("face", 1.05)


@cache
def detector_named(name: str) -> Detector:
    return detectors.create(name, f"haar:{name}", working_pixels=WORKING_PIXELS)


@cache
def street_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_street", PICTURES / "draw_street.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ThePictures(unittest.TestCase):
    """Each picture is looked at with the parameters of its entry; the results stay in test_images/output."""

    def look(self, entry: dict[str, Any]) -> tuple[Detection, ...]:
        options = options_of(entry)
        detector = detector_named(options.detector)
        options = detector.resolve(options)
        image = read(entry["file"])
        result = detector.detect(image, options)
        annotated = annotate.draw(image, result.detections, options.style, options.label)
        OUTPUT.mkdir(exist_ok=True)
        (OUTPUT / entry["file"]).write_bytes(images.encode(annotated, "image/jpeg"))
        if result.detections:
            self.assertFalse(np.array_equal(image, annotated), "nothing was drawn")
        else:
            self.assertIsNotNone(result.near_misses)
        return result.detections

    def assert_as_expected(self, entry: dict[str, Any]) -> None:
        detections = self.look(entry)
        found = np.array([[d.box.x, d.box.y, d.box.width, d.box.height] for d in detections], float).reshape(-1, 4)
        expected = np.array(entry["boxes"], float).reshape(-1, 4)
        self.assertEqual(len(expected), len(found), f"found {found.tolist()}")
        if len(expected):
            overlaps = box_iou(xywh_to_xyxy(expected), xywh_to_xyxy(found))
            # No picture has more than one object, so the best partner is nobody else's.
            self.assertGreaterEqual(float(overlaps.max(axis=1).min()), entry["min_iou"], f"found {found.tolist()}")

    def test_every_picture_shows_exactly_the_expected_objects(self) -> None:
        for entry in entries():
            with self.subTest(file=entry["file"], query=entry["query"]):
                self.assert_as_expected(entry)

    def test_the_results_have_the_names_and_sizes_of_the_inputs(self) -> None:
        for name in ("astronaut_rotate.jpg", "street.jpg"):
            self.look(next(entry for entry in entries() if entry["file"] == name))
            written = images.decode((OUTPUT / name).read_bytes())
            self.assertEqual(read(name).shape, written.shape)

    def test_the_upright_cat_is_not_seen_and_the_turned_one_is(self) -> None:
        by_file = {entry["file"]: entry for entry in entries()}
        upright, turned = by_file["chelsea.jpg"], by_file["chelsea_noise.jpg"]
        self.assertEqual((0,), options_of(upright).rotations)
        self.assertEqual((-10,), options_of(turned).rotations)
        self.assertEqual([], upright["boxes"])
        self.assertEqual([-10], [d.rotation for d in self.look(turned)])


class TheExpectations(unittest.TestCase):
    """expected.json itself: well formed for Python, sh and awk, complete, and marked by hand."""

    def test_every_line_between_the_brackets_is_one_entry(self) -> None:
        first, *lines, last = (PICTURES / "expected.json").read_text(encoding="ascii").splitlines()
        self.assertEqual(("[", "]"), (first, last))
        self.assertTrue(all(line.endswith(",") for line in lines[:-1]))
        self.assertEqual(entries(), [json.loads(line.removesuffix(",")) for line in lines])

    def test_every_entry_has_the_agreed_members(self) -> None:
        for entry in entries():
            with self.subTest(entry=entry):
                self.assertEqual(["file", "query", "min_iou", "boxes", "note"], list(entry))
                self.assertTrue(0.4 <= entry["min_iou"] <= 0.9)
                self.assertRegex(entry["query"], r"^[a-z_]+=[^&]+(&[a-z_]+=[^&]+)*$")
                self.assertIn(options_of(entry).detector, BUNDLED)
                self.assertTrue(all(len(box) == 4 and min(box[2:]) > 0 for box in entry["boxes"]))
                # What plain text tools cannot read without decoding does not occur.
                self.assertIsNone(re.search(r"[\\\"]", entry["file"] + entry["query"]))

    def test_every_picture_has_one_entry_and_every_entry_its_picture(self) -> None:
        self.assertEqual(sorted(p.name for p in INPUT.iterdir()), sorted(entry["file"] for entry in entries()))

    def test_the_boxes_are_the_marked_ones_carried_through_the_augmentations(self) -> None:
        """A cat that the parameters of its entry cannot find is expected not to be found; all else is as marked."""
        for source in SOURCES:
            image = read(f"{source}.jpg")
            marked = [MARKED[source]]
            right = {f"{source}.jpg": np.array(marked, float).reshape(-1, 4)}
            right |= {f"{source}_{name}.jpg": transform(marked) for name, _, transform in augmented(image)}
            for entry in (e for e in entries() if e["file"] in right):
                with self.subTest(file=entry["file"]):
                    if source == "chelsea" and not entry["boxes"]:
                        self.assertIn("not found", entry["note"])
                    else:
                        self.assertEqual(np.rint(right[entry["file"]]).tolist(), entry["boxes"])


class TheInputs(unittest.TestCase):
    """The files of input/ can be made again from the three sources."""

    def assert_nearly_equal(self, made: Image, stored: Image) -> None:
        """JPEG decoders and processors round differently; a wrong picture is off by far more."""
        self.assertEqual(made.shape, stored.shape)
        difference = np.abs(made.astype(int) - stored)
        self.assertLess(float(difference.mean()), 0.5)
        self.assertLess(float(np.percentile(difference, 99.9)), 8)

    def test_the_augmentations_are_those_of_the_sources(self) -> None:
        for source in SOURCES:
            for name, image, _ in augmented(read(f"{source}.jpg")):
                with self.subTest(source=source, augmentation=name):
                    made = images.decode(images.encode(image, "image/jpeg"))
                    self.assert_nearly_equal(made, read(f"{source}_{name}.jpg"))

    def test_the_street_is_what_its_script_draws(self) -> None:
        made = images.decode(images.encode(street_script().street(), "image/jpeg"))
        self.assert_nearly_equal(made, read("street.jpg"))

    def test_there_is_nothing_else_and_it_stays_small(self) -> None:
        names = {source + suffix for source in SOURCES for suffix in ("", *(f"_{name}" for name in AUGMENTATIONS))}
        files = list(INPUT.iterdir())
        self.assertEqual({f"{name}.jpg" for name in names}, {file.name for file in files})
        self.assertLess(sum(file.stat().st_size for file in files), 2_000_000)

    def test_every_source_is_credited(self) -> None:
        credits = (PICTURES / "CREDITS.md").read_text(encoding="utf-8")
        for source in SOURCES:
            self.assertIn(f"`input/{source}.jpg`", credits)
