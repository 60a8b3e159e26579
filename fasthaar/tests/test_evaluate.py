"""`fasthaar evaluate`, and what is counted as right and wrong."""

from __future__ import annotations

import json
import tempfile
import unittest
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from commands import run
from fasthaar.workshop.judging import (
    Candidates,
    Picture,
    Rules,
    Verdict,
    average_precision,
    curve,
    find_candidates,
    joined,
    judge,
    load_cascade,
    scores,
)
from pictures import PHOTOGRAPHS
from small import HAAR

FACES = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"
LABELS = "astronaut.jpg 1 177 62 92 112\nchelsea.jpg 0\nrocket.jpg 0\n"


def picture(*boxes, ignored=()):
    flags = np.array([place in ignored for place in range(len(boxes))], bool)
    return Picture("a", np.zeros((100, 100), np.uint8), np.array(boxes, float).reshape(-1, 4), flags)


def candidates(*rects):
    """Each rectangle (x, y, width, height, neighbours, weight) as that many candidates."""
    each = [rect[:4] for rect in rects for _ in range(rect[4])]
    weights = [rect[5] for rect in rects for _ in range(rect[4])]
    return Candidates(np.array(each, np.int32).reshape(-1, 4), np.array(weights, float), 0.0)


class JudgeTest(unittest.TestCase):
    def test_an_object_is_given_to_the_strongest_rectangle_and_the_others_are_false(self):
        found = candidates((14, 20, 20, 20, 5, 1.0), (22, 20, 20, 20, 9, 1.0), (70, 70, 20, 20, 3, 1.0))
        verdict = judge(picture((20, 20, 20, 20)), found, 1, Rules(0.4))
        self.assertEqual(verdict.neighbors.tolist(), [9, 5, 3])
        self.assertEqual(verdict.hits.tolist(), [True, False, False])
        self.assertEqual(verdict.found.tolist(), [True])

    def test_equal_neighbours_are_ranked_by_weight(self):
        found = candidates((20, 20, 20, 20, 3, 1.0), (70, 70, 20, 20, 3, 2.0))
        verdict = judge(picture((20, 20, 20, 20)), found, 1, Rules())
        self.assertEqual((verdict.weights.tolist(), verdict.hits.tolist()), ([2.0, 1.0], [False, True]))

    def test_each_rectangle_takes_the_object_that_it_overlaps_most(self):
        found = candidates((22, 20, 20, 20, 5, 1.0), (10, 20, 20, 20, 4, 1.0))
        verdict = judge(picture((12, 20, 20, 20), (22, 20, 20, 20)), found, 1, Rules(0.3))
        self.assertEqual((verdict.hits.tolist(), verdict.found.tolist()), ([True, True], [True, True]))

    def test_min_neighbors_and_iou_are_bounds(self):
        found = candidates((20, 20, 20, 20, 4, 1.0))
        self.assertEqual(len(judge(picture(), found, 4, Rules()).hits), 0)
        self.assertEqual(len(judge(picture(), found, 3, Rules()).hits), 1)
        shifted = picture((30, 20, 20, 20))  # a third of the union is shared
        self.assertTrue(judge(shifted, found, 3, Rules(0.33)).hits[0])
        self.assertFalse(judge(shifted, found, 3, Rules(0.34)).hits[0])

    def test_the_margin_of_the_window_is_taken_off(self):
        found = candidates((10, 10, 40, 40, 4, 1.0))
        inner = picture((20, 20, 20, 20))
        self.assertFalse(judge(inner, found, 1, Rules(0.9)).hits[0])
        self.assertTrue(judge(inner, found, 1, Rules(0.9, margin=0.5)).hits[0])

    def test_ignored_and_small_objects_are_neither_missed_nor_false(self):
        found = candidates((20, 20, 20, 20, 4, 1.0), (60, 60, 10, 10, 4, 1.0), (80, 10, 12, 12, 4, 1.0))
        shown = picture((20, 20, 20, 20), (60, 60, 10, 10), ignored=(0,))
        verdict = judge(shown, found, 1, Rules(least_px=11))
        self.assertEqual((len(verdict.found), verdict.hits.tolist()), (0, [False]))
        verdict = judge(shown, found, 1, Rules(least_px=13))
        self.assertEqual(len(verdict.hits), 0)

    def test_scores_by_size_count_each_object_once(self):
        found = candidates((20, 20, 20, 20, 4, 1.0), (60, 60, 30, 30, 4, 1.0), (5, 60, 10, 10, 4, 1.0))
        verdict = judge(picture((20, 20, 20, 20), (60, 60, 30, 30), (80, 5, 10, 10)), found, 1, Rules())
        self.assertEqual((scores(verdict).precision, scores(verdict).recall), (2 / 3, 2 / 3))
        parts = [scores(verdict, low, high) for low, high in ((0, 15), (15, 25), (25, np.inf))]
        self.assertEqual(
            [(part.objects, part.true_positives, part.false_positives) for part in parts],
            [(1, 0, 1), (1, 1, 0), (1, 1, 0)],
        )
        self.assertIsNone(scores(verdict, 50).precision)

    def test_average_precision_is_the_area_below_the_best_precision(self):
        hits = np.array([True, False, True, True, False])
        verdict = Verdict(hits, np.arange(9, 4, -1, np.int32), np.ones(5), np.ones(5), np.ones(4, bool), np.ones(4))
        recall, precision = curve(verdict)
        np.testing.assert_allclose(recall, [0.25, 0.25, 0.5, 0.75, 0.75])
        np.testing.assert_allclose(precision, [1, 0.5, 2 / 3, 0.75, 0.6])
        self.assertAlmostEqual(average_precision(verdict), 0.25 * 1 + 0.25 * 0.75 + 0.25 * 0.75)
        twice = joined([verdict, verdict])
        self.assertEqual(len(twice.found), 8)
        self.assertAlmostEqual(curve(twice)[1][1], 1)  # both first ones come first

    def test_a_cascade_of_one_stage_has_no_candidates_without_contrast(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "one.xml"
            path.write_text(HAAR)
            classifier = load_cascade(path)
            image = np.zeros((60, 60), np.uint8)
            image[30:, 30:] = np.random.default_rng(0).integers(0, 256, (30, 30))
            found = find_candidates(classifier, image, 1.2, (0, 0))
            np.testing.assert_array_equal(found.rects, classifier.detectMultiScale(image, 1.2, 0))
            self.assertEqual(len(found.weights), len(found.rects))


class EvaluateTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.labels = self.folder / "labels.txt"
        self.labels.write_text(LABELS)

    def evaluate(self, *asked):
        return run("evaluate", FACES, self.labels, "--pictures", PHOTOGRAPHS, "--threads", 1, *asked)

    def test_a_face_is_found_and_the_report_is_whole(self):
        code, said, _ = self.evaluate("--json")
        report = json.loads(said)
        self.assertEqual((code, report["pictures"], report["objects"], report["true_positives"]), (0, 3, 1, 1))
        self.assertEqual(report["average_precision"], 1)
        self.assertEqual(report["by_size"]["large"]["recall"], 1)
        self.assertIsNone(report["by_size"]["small"]["recall"])
        self.assertEqual(len(report["each"]), 3)
        self.assertEqual(len(report["curve"]["recall"]), len(report["curve"]["precision"]))

    def test_the_report_for_people_has_the_same_numbers(self):
        code, said, _ = self.evaluate("--sizes", "10,2000")
        self.assertEqual(code, 0)
        self.assertRegex(said, r"medium +1 +1 +\d")
        self.assertIn("average precision 1.000", said)

    def test_fewer_neighbours_give_more_false_positives(self):
        strict, loose = (json.loads(self.evaluate("--json", "--min-neighbors", n)[1]) for n in (6, 1))
        self.assertGreater(loose["false_positives"], strict["false_positives"])
        self.assertEqual(loose["false_positives_per_image"], loose["false_positives"] / 3)
        self.assertEqual(loose["average_precision"], strict["average_precision"])

    def test_pictures_are_scaled_with_their_boxes(self):
        report = json.loads(self.evaluate("--json", "--long-side", 1000, "--iou", 0.4)[1])
        self.assertEqual(report["true_positives"], 1)
        small = json.loads(self.evaluate("--json", "--long-side", 60)[1])
        self.assertEqual(small["true_positives"], 0)
        self.assertEqual(small["by_size"]["small"]["objects"], 1)

    def test_the_curve_is_a_picture(self):
        path = self.folder / "curve.png"
        self.assertEqual(self.evaluate("--curve", path)[0], 0)
        with Image.open(path) as drawn:
            self.assertEqual(drawn.format, "PNG")

    def test_what_is_wrong_is_said(self):
        empty = self.folder / "empty.txt"
        empty.write_text("chelsea.jpg 0\n")
        broken = self.folder / "broken.xml"
        broken.write_text(HAAR.replace("BOOST", "BEAST"))
        for cascade, labels, expected in (
            (self.folder / "no.xml", self.labels, "no such file"),
            (broken, self.labels, "stageType is 'BEAST'"),
            (FACES, self.folder / "no.txt", "no such file or folder"),
            (FACES, empty, "no objects in it to be found"),
        ):
            code, _, error = run("evaluate", cascade, labels, "--pictures", PHOTOGRAPHS)
            self.assertEqual(code, 2)
            self.assertIn(expected, error)
        for asked in ("--iou 0", "--iou nan", "--margin nan", "--sizes 9,3", "--min-size 20", "--min-neighbors 0"):
            self.assertEqual(self.evaluate(*asked.split())[0], 2)


if __name__ == "__main__":
    unittest.main()
