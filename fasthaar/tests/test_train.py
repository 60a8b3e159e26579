"""`fasthaar train`: every booster, feature set and depth gives a cascade that finds what it was trained on, here and in
OpenCV; trainings go on where they ended; and what is wrong is said in one line."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np

import drawn
from fasthaar import CascadeClassifier
from fasthaar._xml import parse
from fasthaar.workshop import WorkshopError, main
from fasthaar.workshop.boost import BOOSTERS, StageRules
from fasthaar.workshop.features import Kind
from fasthaar.workshop.train_input import list_negatives, load_samples
from fasthaar.workshop.train_mine import passing
from fasthaar.workshop.train_run import Plan, run

QUICK = Plan(
    features="BASIC", rules=StageRules(features_per_stage=400, max_false_alarm=0.3), stages=3, negatives=150, threads=2
)


class TrainingTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.samples, self.negatives = drawn.prepare(self.folder, count=300)
        self.said = self.enterContext(contextlib.redirect_stdout(io.StringIO()))

    def train(self, plan: Plan, out: str = "out", held_out: Path | None = None) -> bytes:
        return run(
            plan,
            load_samples(self.samples, None),
            list_negatives(self.negatives),
            self.folder / out,
            None if held_out is None else load_samples(held_out, None),
        )

    def fasthaar(self, *arguments: str | Path) -> tuple[int, str]:
        """The exit code of the command line, and what it said on standard error."""
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            code = main([str(argument) for argument in arguments])
        return code, errors.getvalue()

    def command(self, out: Path | str = "out", *more: str | Path) -> list[str | Path]:
        options = (
            "--features",
            "basic",
            "--features-per-stage",
            "400",
            "--stages",
            "3",
            "--negatives-per-stage",
            "150",
        )
        return ["train", self.samples, self.negatives, "--out", self.folder / out, *options, *more]


class Cascades(TrainingTest):
    def test_every_booster_feature_set_and_depth_finds_the_object_as_opencv_finds_it(self) -> None:
        scenes = [drawn.scene(seed) for seed in range(3)]
        self.addCleanup(cv2.setNumThreads, cv2.getNumThreads())
        cv2.setNumThreads(1)  # with more, OpenCV's order of rectangles changes from call to call
        kinds: tuple[tuple[Kind, int], ...] = (("BASIC", 1), ("CORE", 2), ("ALL", 4), ("LBP", 1), ("LBP", 3))
        for booster, (kind, depth) in product(BOOSTERS, kinds):
            with self.subTest(booster=booster, kind=kind, depth=depth):
                rules = replace(QUICK.rules, booster=booster, max_depth=depth)
                xml = self.train(replace(QUICK, features=kind, rules=rules), f"{booster} {kind} {depth}")
                cascade = parse(xml)
                self.assertEqual(cascade.feature_type, "LBP" if kind == "LBP" else "HAAR")
                self.assertEqual(int(cascade.tree_nodes.max()) > 1, depth > 1)
                self.assertLess(cascade.tree_nodes.max(), 2**depth)
                self.compare(xml, scenes)

    def compare(self, xml: bytes, scenes: list[tuple[np.ndarray, list[tuple[int, int, int]]]]) -> None:
        path = self.folder / "cascade.xml"
        path.write_bytes(xml)
        ours, opencv = CascadeClassifier(str(path)), cv2.CascadeClassifier(str(path))
        hits = 0
        for image, places in scenes:
            for neighbors in (0, 3):
                found = ours.detectMultiScale(image, 1.05, neighbors)
                np.testing.assert_array_equal(found, opencv.detectMultiScale(image, 1.05, neighbors))
            centers = [(x + w / 2, y + h / 2, w) for x, y, w, h in found]
            hits += sum(
                any(abs(cx - x - side / 2) + abs(cy - y - side / 2) < side / 2 < w for cx, cy, w in centers)
                for x, y, side in places
            )
        self.assertGreaterEqual(hits, 7)  # of nine

    def test_it_finds_hardly_anything_where_there_is_nothing(self) -> None:
        xml = self.train(replace(QUICK, stages=8))
        found = CascadeClassifier(xml).detectMultiScale(drawn.ground(300, 300, 77), 1.1, 0)
        before = CascadeClassifier(self.train(replace(QUICK, stages=1), "one")).detectMultiScale(
            drawn.ground(300, 300, 77), 1.1, 0
        )
        self.assertLess(len(found), 0.01 * len(before))

    def test_hit_and_false_alarm_rates_are_those_that_were_asked_for(self) -> None:
        rules = replace(QUICK.rules, min_hit_rate=0.97, max_false_alarm=0.1, features_per_stage=100)
        self.train(replace(QUICK, rules=rules))
        log = [json.loads(line) for line in (self.folder / "out" / "log.jsonl").read_text().splitlines()]
        self.assertEqual([entry["stage"] for entry in log], [1, 2, 3])
        lost = 1.0
        for number, entry in enumerate(log, 1):
            # What one stage does not lose, a later one may.
            lost *= entry["hit_rate"]
            self.assertGreaterEqual(lost, 0.97**number - 1e-9)
            self.assertLessEqual(entry["false_alarm"], 0.1)
            self.assertEqual(entry["negatives"], 150)

    def test_held_out_samples_set_the_thresholds(self) -> None:
        # What is held out is harder to see than what is learned from.
        noise = np.random.default_rng(0).normal(0, 40, (60, drawn.SIDE, drawn.SIDE))
        dim = np.clip(drawn.samples(60, 2) + noise, 0, 255).astype(np.uint8)
        np.savez(self.samples, samples=np.concatenate([drawn.samples(180, 1), dim]))
        shares = []
        for hold_out in (0.25, 0.0):
            rules = replace(QUICK.rules, min_hit_rate=0.95, hold_out=hold_out)
            xml = self.train(replace(QUICK, stages=1, rules=rules), f"{hold_out}")
            shares.append(float(passing(xml, dim, 1).mean()))
        self.assertGreaterEqual(shares[0], 0.95)
        self.assertLess(shares[1], 0.95)

    def test_it_ends_where_no_stage_reaches_the_hit_rate(self) -> None:
        pixels = load_samples(self.samples, None)
        picture = cv2.imread(str(self.negatives / "0.png"), cv2.IMREAD_GRAYSCALE)
        pixels[-20:] = [picture[y : y + 12, 40:52] for y in range(20)]  # windows that are no objects at all
        np.savez(self.samples, samples=pixels)
        with self.assertRaisesRegex(WorkshopError, "no stage could be trained: stage 1 would let .* more samples help"):
            self.train(replace(QUICK, rules=replace(QUICK.rules, min_hit_rate=1.0, max_weak=1)))

    def test_a_stage_has_no_more_trees_than_it_may(self) -> None:
        rules = replace(QUICK.rules, max_weak=2, max_false_alarm=0.001, features_per_round=5, features_per_stage=None)
        self.assertEqual(parse(self.train(replace(QUICK, rules=rules, stages=2))).stage_trees.tolist(), [2, 2])


class GoingOn(TrainingTest):
    def test_the_cascade_depends_on_neither_threads_nor_memory(self) -> None:
        xml = self.train(QUICK)
        self.assertEqual(self.train(replace(QUICK, threads=1, memory_mb=1), "other"), xml)
        self.assertEqual(self.train(replace(QUICK, threads=5), "third"), xml)
        self.assertNotEqual(self.train(replace(QUICK, seed=1), "fourth"), xml)

    def test_more_stages_can_be_added_and_are_what_they_would_have_been(self) -> None:
        xml = self.train(replace(QUICK, stages=4), "whole")
        first = self.train(replace(QUICK, stages=2))
        self.assertEqual(len(parse(first).stage_trees), 2)
        self.assertEqual(self.train(replace(QUICK, stages=4)), xml)
        self.assertEqual((self.folder / "out" / "cascade.xml").read_bytes(), xml)

    def test_a_killed_training_goes_on_behind_its_last_stage(self) -> None:
        xml = self.train(replace(QUICK, stages=5), "whole")
        code = "from fasthaar.workshop import main; import sys; sys.exit(main(sys.argv[1:]))"
        arguments = [
            *self.command(),
            *("--stages", "5", "--max-false-alarm", "0.3", "--threads", "2"),
        ]
        with subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            while "stage 2:" not in process.stdout.readline():
                self.assertIsNone(process.poll())
            process.send_signal(signal.SIGKILL)
        self.assertEqual(self.train(replace(QUICK, stages=5)), xml)
        self.assertIn("going on behind stage", self.said.getvalue())

    def test_a_full_disk_loses_no_finished_stage(self) -> None:
        first = self.train(replace(QUICK, stages=2))
        size = max(path.stat().st_size for path in (self.folder / "out").glob("stage*"))
        limited = (
            "import resource as r, sys; from fasthaar.workshop import main\n"
            f"r.setrlimit(r.RLIMIT_FSIZE, ({size // 2}, r.RLIM_INFINITY))\n"
            "try:\n"
            "    sys.exit(main(sys.argv[1:]))\n"
            "finally:\n"  # what measures coverage writes a file of its own at the end
            "    r.setrlimit(r.RLIMIT_FSIZE, (r.RLIM_INFINITY, r.RLIM_INFINITY))\n"
        )
        arguments = [*self.command(), "--max-false-alarm", "0.3"]
        done = subprocess.run(
            [sys.executable, "-c", limited, *map(str, arguments)], capture_output=True, text=True, check=False
        )
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertRegex(done.stderr, r"\Afasthaar: .*stage-03.json: File too large\n\Z")
        self.assertEqual((self.folder / "out" / "cascade.xml").read_bytes(), first)
        self.assertEqual(len(list((self.folder / "out").glob(".stage*"))), 0)
        self.assertEqual(self.train(QUICK), self.train(QUICK, "whole"))

    def test_other_parameters_samples_or_pictures_are_refused(self) -> None:
        self.train(replace(QUICK, stages=1))
        with self.assertRaisesRegex(WorkshopError, "holds a training with max_depth 1, not 2; go on with"):
            self.train(replace(QUICK, rules=replace(QUICK.rules, max_depth=2)))
        with self.assertRaisesRegex(WorkshopError, "holds a training with features BASIC, not LBP"):
            self.train(replace(QUICK, features="LBP"))
        cv2.imwrite(str(self.negatives / "another.png"), drawn.ground(50, 50, 9))
        with self.assertRaisesRegex(WorkshopError, "holds a training with pictures .*, not "):
            self.train(QUICK)
        (self.negatives / "another.png").unlink()
        np.savez(self.samples, samples=drawn.samples(50, 9))
        with self.assertRaisesRegex(WorkshopError, "holds a training with samples .*, not "):
            self.train(QUICK)

    def test_stages_of_another_training_and_damaged_ones_are_refused(self) -> None:
        self.train(replace(QUICK, stages=1))
        self.train(replace(QUICK, stages=2, seed=1), "other")
        shutil.copy(self.folder / "other" / "stage-02.json", self.folder / "out")
        with self.assertRaisesRegex(WorkshopError, r"stage-02.json: this stage belongs to another training"):
            self.train(QUICK)
        for damage in (b"", b"{", b"[]", b"{}", (self.folder / "out" / "stage-01.json").read_bytes()[:-100]):
            (self.folder / "out" / "stage-01.json").write_bytes(damage)
            with self.assertRaisesRegex(WorkshopError, r"stage-01.json: this .* is damaged"):
                self.train(QUICK)

    def test_two_processes_do_not_train_in_one_folder(self) -> None:
        self.train(replace(QUICK, stages=1))
        import fcntl

        with (self.folder / "out" / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with self.assertRaisesRegex(WorkshopError, "another process is training in this folder"):
                self.train(QUICK)


class Results(TrainingTest):
    def test_the_log_and_the_plot_tell_about_every_stage(self) -> None:
        np.savez(self.folder / "held_out.npz", samples=drawn.samples(60, 2))
        self.train(QUICK, held_out=self.folder / "held_out.npz")
        log = [json.loads(line) for line in (self.folder / "out" / "log.jsonl").read_text().splitlines()]
        self.assertEqual(len(log), 3)
        for entry in log:
            self.assertGreater(entry["held_out_hit_rate"], 0.8)
            self.assertGreater(entry["windows"], 150)
        self.assertGreater(log[0]["rate_before"], log[1]["rate_before"])
        self.assertGreater(log[1]["rate_before"], log[2]["rate_before"])
        image = cv2.imread(str(self.folder / "out" / "training.png"))
        self.assertEqual(image.shape, (400, 1200, 3))
        self.assertEqual(self.said.getvalue().count("validation samples pass"), 3)

    def test_it_ends_when_the_cascade_is_as_good_as_was_asked_for(self) -> None:
        self.train(replace(QUICK, stages=10, target=0.01))
        self.assertRegex(
            self.said.getvalue(), r"done after stage \d+: the cascade passes \S+ of all windows, less than"
        )
        log = [json.loads(line) for line in (self.folder / "out" / "log.jsonl").read_text().splitlines()]
        self.assertLess(log[-1]["rate_before"] * log[-1]["false_alarm"], 0.02)
        self.assertLess(len(log), 10)

    def test_it_ends_with_what_there_is_when_the_pictures_are_used_up(self) -> None:
        for path in sorted(self.negatives.iterdir())[1:]:
            path.unlink()
        cv2.imwrite(str(self.negatives / "0.png"), drawn.ground(40, 40, 0))
        self.train(replace(QUICK, stages=30, negatives=5000, target=1e-9))
        self.assertRegex(
            self.said.getvalue(),
            r"pictures are used up: of 5000 windows that pass all stages, \d+ were found among [\d,]+; add pictures",
        )
        self.assertTrue(parse((self.folder / "out" / "cascade.xml").read_bytes()).stage_trees.tolist())

    def test_the_command_says_where_the_cascade_is(self) -> None:
        code, errors = self.fasthaar(*self.command())
        self.assertEqual((code, errors), (0, ""))
        self.assertEqual(self.said.getvalue().splitlines()[-1], str(self.folder / "out" / "cascade.xml"))


class Refusals(TrainingTest):
    def assert_refused(self, arguments: list[str | Path], expected: str) -> None:
        code, errors = self.fasthaar(*arguments)
        self.assertEqual(code, 2, errors)
        self.assertRegex(errors, rf"\Afasthaar: [^\n]*{expected}[^\n]*\n\Z")

    def refuse_samples(self, samples: np.ndarray, expected: str, *more: str) -> None:
        np.savez(self.samples, samples=samples)
        self.assert_refused([*self.command(), *more], expected)

    def test_samples_that_do_not_do(self) -> None:
        good = drawn.samples(30, 1)
        self.refuse_samples(good[:0], "there are no samples in it")
        self.refuse_samples(good.astype(float), r"samples is float64 \(30, 12, 12\); should be uint8")
        self.refuse_samples(good[:, :7], "samples are 12x7 pixels; sides should be 8 to 128")
        window = ("--width", "24", "--height", "24")
        self.refuse_samples(good, "samples are 12x12 pixels, but the window is 24x24", *window)
        self.refuse_samples(good, "--width and --height belong together", "--width", "12")
        self.refuse_samples(np.full((9, 12, 12), 8, np.uint8), "no sample has enough contrast")
        self.samples.write_bytes(b"nothing")
        self.assert_refused(self.command(), "this is no .npz file")
        np.savez(self.samples, other=good)
        self.assert_refused(self.command(), "there is no array called samples in it")
        np.savez(self.samples, samples=np.array([good[0], good[1, :9]], object))
        self.assert_refused(self.command(), "this is no .npz file|should be uint8")
        self.samples.unlink()
        self.assert_refused(self.command(), "samples.npz: there is no such file")

    def test_negatives_that_do_not_do(self) -> None:
        for path in self.negatives.iterdir():
            path.unlink()
        self.assert_refused(self.command(), "there are no pictures in it")
        cv2.imwrite(str(self.negatives / "small.png"), drawn.ground(11, 40, 0))
        self.assert_refused(self.command(), "all 1 negative pictures are smaller than the window, 12x12")
        shutil.rmtree(self.folder / "out")
        (self.negatives / "broken.png").write_bytes(b"\x89PNG nothing")
        self.assert_refused(self.command(), "broken.png: this is no picture that can be read")
        (self.folder / "list").write_text("negatives/small.png\n\nnegatives/gone.png\n")
        self.negatives = self.folder / "list"
        self.assert_refused(self.command(), "there is no picture .*gone.png")
        self.negatives = self.folder / "nowhere"
        self.assert_refused(self.command(), "there is no such folder or list of pictures")

    def test_folders_that_do_not_do(self) -> None:
        self.assert_refused(self.command(self.negatives), "the folder is not empty and holds no training")
        self.assert_refused(self.command(self.samples / "out"), "Not a directory")
        self.assert_refused(self.command(self.samples), "File exists")
        self.assert_refused(self.command("/proc/out"), "No such file or directory")

    def test_options_that_do_not_do(self) -> None:
        for option, value in (
            ("--features", "some"),
            ("--boost", "none"),
            ("--max-depth", "5"),
            ("--min-hit-rate", "0"),
            ("--min-hit-rate", "nan"),
            ("--max-false-alarm", "1"),
            ("--stages", "65"),
            ("--width", "7"),
            ("--threads", "0"),
        ):
            self.assert_refused([*self.command(), option, value], f"{option}")
        self.assert_refused(["train", self.samples], "NEGATIVES")

    def test_what_samples_do_not_tell_apart_is_said(self) -> None:
        picture = drawn.ground(12, 12, 3)
        for path in self.negatives.iterdir():
            path.unlink()
        cv2.imwrite(str(self.negatives / "same.png"), picture)
        np.savez(self.samples, samples=np.stack([picture] * 30))
        self.assert_refused(self.command(), "no stage could be trained")


class VecFiles(TrainingTest):
    def vec(self, order: str) -> bytes:
        pixels = drawn.samples(5, 0)
        header = np.array([5, 144], f"{order}i4").tobytes() + bytes(4)
        return header + b"".join(b"\0" + sample.astype(f"{order}i2").tobytes() for sample in pixels)

    def test_they_are_read_in_either_order_of_bytes(self) -> None:
        path = self.folder / "samples.vec"
        for order in "<>":
            path.write_bytes(self.vec(order))
            np.testing.assert_array_equal(load_samples(path, (12, 12)), drawn.samples(5, 0))
            self.assertEqual(load_samples(path, (18, 8)).shape, (5, 8, 18))

    def test_incomplete_ones_and_other_sizes_are_refused(self) -> None:
        path = self.folder / "samples.vec"
        for length in (0, 3, 12, 100, len(self.vec("<")) - 1):
            path.write_bytes(self.vec("<")[:length])
            with self.assertRaisesRegex(WorkshopError, "no complete .vec file"):
                load_samples(path, (12, 12))
        path.write_bytes(self.vec("<"))
        with self.assertRaisesRegex(WorkshopError, "samples have 144 pixels, but a window of 24x24 has 576"):
            load_samples(path, None)


class CommandLine(unittest.TestCase):
    def run_python(self, code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    def test_without_its_libraries_it_says_what_to_install(self) -> None:
        for library in ("click", "matplotlib", "PIL", "tqdm"):
            code = f"import sys; sys.modules[{library!r}] = None\nfrom fasthaar.workshop import main\n"
            done = self.run_python(f"{code}sys.exit(main(['train', '--help']))")
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertRegex(done.stderr, r"\Afasthaar: .* needs pip install 'fasthaar\[workshop\]'\n\Z")

    def test_detection_imports_none_of_it(self) -> None:
        done = self.run_python("import sys, fasthaar; print(sorted({n.partition('.')[0] for n in sys.modules}))")
        for library in ("click", "matplotlib", "PIL", "tqdm"):
            self.assertNotIn(repr(library), done.stdout)

    def test_help_imports_no_command(self) -> None:
        done = self.run_python(
            "import sys\nfrom fasthaar.workshop import main\nmain(['--help'])\n"
            "print([name for name in sys.modules if 'workshop.' in name])"
        )
        self.assertIn("Train a cascade", done.stdout)
        self.assertTrue(done.stdout.endswith("['fasthaar.workshop.cli']\n"), done.stdout)


if __name__ == "__main__":
    unittest.main()
