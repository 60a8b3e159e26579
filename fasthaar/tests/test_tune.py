"""`fasthaar tune`: which settings it tries, and which one it chooses."""

from __future__ import annotations

import json
import tempfile
import unittest
from pathlib import Path

from PIL import Image

from commands import run
from fasthaar.workshop.tune import Setting, pareto
from pictures import PHOTOGRAPHS
from test_evaluate import FACES, LABELS


def setting(milliseconds, f1, **others):
    known = {"scale_factor": 1.1, "min_neighbors": 3, "min_size": (24, 24), "slowest": milliseconds}
    rates = {"precision": f1, "recall": f1, "false_positives_per_image": 0.0}
    return Setting(**{**known, **rates, **others}, milliseconds=milliseconds, f1=f1)


class ParetoTest(unittest.TestCase):
    def test_only_what_nothing_beats_is_left(self):
        settings = [
            setting(9, 0.9),
            setting(1, 0.2),
            setting(3, 0.5),
            setting(4, 0.5),
            setting(3, 0.4),
            setting(12, 0.8),
        ]
        self.assertEqual([(one.milliseconds, one.f1) for one in pareto(settings, "f1")], [(1, 0.2), (3, 0.5), (9, 0.9)])

    def test_a_goal_of_which_nothing_is_known_counts_as_none(self):
        settings = [setting(1, None), setting(2, 0.5)]
        self.assertEqual([one.f1 for one in pareto(settings, "precision")], [None, 0.5])


class TuneTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.labels = self.folder / "labels.txt"
        self.labels.write_text(LABELS)

    def tune(self, *asked):
        return run("tune", FACES, self.labels, "--pictures", PHOTOGRAPHS, "--scale-factors", "1.2,1.4", *asked)

    def test_every_setting_has_what_evaluate_says(self):
        code, said, _ = self.tune("--json", "--min-neighbors", "1,4", "--min-sizes", "24,60")
        report = json.loads(said)
        self.assertEqual((code, len(report["settings"])), (0, 8))
        for one in report["settings"]:
            size = "x".join(map(str, one["min_size"]))
            asked = ("--scale-factor", one["scale_factor"], "--min-neighbors", one["min_neighbors"], "--min-size", size)
            judged = json.loads(run("evaluate", FACES, self.labels, "--pictures", PHOTOGRAPHS, "--json", *asked)[1])
            for name in ("precision", "recall", "f1", "false_positives_per_image"):
                self.assertEqual(one[name], judged[name], asked)

    def test_the_best_is_the_fastest_of_those_with_most_of_the_goal(self):
        report = json.loads(self.tune("--json")[1])
        best, settings = report["best"], report["settings"]
        most = max(one["f1"] for one in settings)
        self.assertEqual(best["f1"], most)
        self.assertEqual(best["milliseconds"], min(one["milliseconds"] for one in settings if one["f1"] == most))
        front = [one for one in settings if one["pareto"]]
        self.assertEqual(max(one["f1"] for one in front), most)

    def test_a_setting_above_the_limit_is_never_chosen(self):
        limit = 100_000
        self.assertLessEqual(json.loads(self.tune("--json", "--limit", limit)[1])["best"]["milliseconds"], limit)
        code, _, error = self.tune("--limit", "0.0001")
        self.assertEqual(code, 2)
        self.assertRegex(error, r"no setting takes 0.0001 ms or less, the fastest \d")

    def test_the_choice_is_drawn_and_said(self):
        path = self.folder / "front.png"
        code, said, _ = self.tune("--plot", path, "--limit", 100_000, "--goal", "recall")
        self.assertEqual(code, 0)
        self.assertRegex(said, r"most recall: scale_factor=1\.[24] min_neighbors=\d+ min_size=\d+,\d+")
        with Image.open(path) as drawn:
            self.assertEqual(drawn.format, "PNG")

    def test_lists_of_numbers_are_checked(self):
        for asked in (
            ("--scale-factors", "1,2"),
            ("--min-neighbors", "a"),
            ("--min-neighbors", "0"),
            ("--min-sizes", ""),
        ):
            code, _, error = self.tune(*asked)
            self.assertEqual(code, 2)
            self.assertIn("should be numbers from", error)


if __name__ == "__main__":
    unittest.main()
