"""What training asks of the core: features in samples as the detector sees them, and the best split by one of them."""

from __future__ import annotations

import unittest

import cv2
import numpy as np
import numpy.typing as npt

import drawn
from fasthaar._xml import parse, write
from fasthaar.workshop.boost import Stage, Tree
from fasthaar.workshop.features import KINDS, Kind, feature_set
from fasthaar.workshop.train_core import ABSOLUTES, SQUARES, Samples, Split, resize
from fasthaar.workshop.train_mine import passing
from fasthaar.workshop.train_store import cascade_of
from pictures import Picture

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

SIDE = drawn.SIDE


def some_samples(count: int, seed: int = 0) -> Pixels:
    """Objects first, then as many windows of a picture without one."""
    rng = np.random.default_rng(seed)
    picture = drawn.ground(300, 300, seed)
    corners = rng.integers(0, 300 - SIDE, (count, 2)).tolist()
    windows = [picture[y : y + SIDE, x : x + SIDE] for x, y in corners]
    return np.concatenate([drawn.samples(count, seed), np.stack(windows)])


def stump(split: Split) -> Stage:
    """A stage that passes what goes left."""
    return Stage((Tree((0,), (-1,), (split,), (1.0, -1.0)),), 0.5, 1, 1)


def worth(criterion: int, weight: Floats, target: Floats) -> Floats:
    return abs(target) if criterion == ABSOLUTES else target**2 / weight


def best_gain(values: Floats, lbp: bool, criterion: int, weights: Floats, targets: Floats) -> float:
    """The best split by one feature, found by trying all of them."""
    keys = np.unique(values)
    w = np.array([weights[values == key].sum() for key in keys])
    t = np.array([targets[values == key].sum() for key in keys])
    if lbp:
        order = np.argsort(t / w, kind="stable")
        w, t = w[order], t[order]
    if len(keys) < 2:
        return 0.0
    left_w, left_t = np.cumsum(w)[:-1], np.cumsum(t)[:-1]
    both = worth(criterion, left_w, left_t) + worth(criterion, w.sum() - left_w, t.sum() - left_t)
    return float(np.max(both - worth(criterion, w.sum(), t.sum())))


class FeatureSets(unittest.TestCase):
    def test_they_are_as_large_as_those_of_opencv_traincascade(self) -> None:
        known: dict[tuple[Kind, int], int] = {
            ("BASIC", 24): 162336,
            ("BASIC", 20): 78460,
            ("ALL", 20): 125199,
            ("LBP", 24): 8464,
        }
        for (kind, side), count in known.items():
            self.assertEqual(len(feature_set(kind, (side, side)).rects), count, kind)

    def test_every_feature_may_stand_in_a_cascade_and_stands_there_once(self) -> None:
        for kind in KINDS:
            features = feature_set(kind, (12, 9))
            trees = [
                Tree((0,), (-1,), (Split(number, 0.0, (0,) * 8, 0.0),), (1.0, -1.0))
                for number in range(len(features.rects))
            ]
            cascade = parse(write(cascade_of([Stage(tuple(trees), 0.0, 1, 1)], features)))
            rows = np.concatenate([cascade.rects.reshape(len(trees), -1), cascade.tilted[:, None]], axis=1)
            self.assertEqual(len(np.unique(rows, axis=0)), len(trees))

    def test_larger_kinds_hold_the_smaller_ones(self) -> None:
        def names(kind: Kind) -> set[bytes]:
            features = feature_set(kind, (9, 10))
            parts = zip(features.rects, features.weights, features.tilted, strict=True)
            return {rects.tobytes() + weights.tobytes() + bytes([tilted]) for rects, weights, tilted in parts}

        self.assertLess(names("BASIC"), names("CORE"))
        self.assertLess(names("CORE"), names("ALL"))

    def test_all_has_tilted_ones_and_the_others_none(self) -> None:
        self.assertEqual(
            [bool(feature_set(kind, (12, 12)).tilted.any()) for kind in KINDS], [False, False, True, False]
        )

    def test_some_of_them_are_those_of_their_numbers(self) -> None:
        features = feature_set("ALL", (12, 12))
        numbers = np.array([3, 700, 4000], np.int32)
        pixels = some_samples(10)
        some, everything = Samples(pixels, features.take(numbers)), Samples(pixels, features)
        for place, number in enumerate(numbers.tolist()):
            np.testing.assert_array_equal(some.values(place), everything.values(number))


class Values(unittest.TestCase):
    def test_samples_are_divided_as_the_detector_and_opencv_divide_windows(self) -> None:
        pixels = some_samples(60)
        pixels = pixels[Samples(pixels, feature_set("BASIC", (SIDE, SIDE))).have_contrast()]
        rng = np.random.default_rng(5)
        for kind in KINDS:
            features = feature_set(kind, (SIDE, SIDE))
            samples = Samples(pixels, features)
            numbers = rng.choice(len(features.rects), 40, replace=False).tolist()
            if kind == "ALL":
                numbers += rng.choice(np.flatnonzero(features.tilted), 40, replace=False).tolist()
            for number in numbers:
                split = samples.best_split(
                    SQUARES,
                    np.arange(len(pixels), dtype=np.int32),
                    np.ones(len(pixels)),
                    rng.normal(0, 1, len(pixels)),
                    np.array([number], np.int32),
                )
                if split is None:
                    continue
                xml = write(cascade_of([stump(split)], features))
                left = samples.goes_left(split)
                self.assertTrue(left.any() and not left.all())
                np.testing.assert_array_equal(passing(xml, pixels, 1), left, f"{kind} {number}")
                if number % 8 == 0:
                    storage = cv2.FileStorage(xml.decode(), cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
                    opencv = cv2.CascadeClassifier()
                    self.assertTrue(opencv.read(storage.getFirstTopLevelNode()))
                    found = [len(opencv.detectMultiScale(sample, 2.0, 0)) > 0 for sample in pixels]
                    np.testing.assert_array_equal(found, left)

    def test_samples_without_contrast_are_those_that_the_detector_passes_over(self) -> None:
        pixels = np.stack([np.full((SIDE, SIDE), 90, np.uint8), *drawn.samples(2, 0)])
        pixels[1, 1:-1, 1:-1] = 7  # contrast on the border only
        samples = Samples(pixels, feature_set("BASIC", (SIDE, SIDE)))
        self.assertEqual(samples.have_contrast().tolist(), [False, False, True])
        lbp = Samples(pixels, feature_set("LBP", (SIDE, SIDE)))
        self.assertEqual(lbp.have_contrast().tolist(), [True, True, True])

    def test_samples_of_another_size_are_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, r"should be uint8 of \(12, 12\)"):
            Samples(np.zeros((3, 12, 13), np.uint8), feature_set("BASIC", (12, 12)))
        with self.assertRaisesRegex(ValueError, "0 samples; should be 1 to 1000000"):
            Samples(np.zeros((0, 12, 12), np.uint8), feature_set("BASIC", (12, 12)))


class BestSplit(unittest.TestCase):
    def setUp(self) -> None:
        self.pixels = some_samples(80)
        self.rng = np.random.default_rng(3)
        self.indices = np.sort(self.rng.choice(160, 150, replace=False)).astype(np.int32)
        self.weights = self.rng.uniform(0.1, 1, 150)
        self.targets = self.weights * np.where(self.indices < 80, 1.0, -1.0)

    def test_it_is_the_best_of_all_splits_by_all_candidates(self) -> None:
        for kind in KINDS:
            features = feature_set(kind, (SIDE, SIDE))
            samples = Samples(self.pixels, features)
            for criterion in (SQUARES, ABSOLUTES):
                candidates = np.sort(self.rng.choice(len(features.rects), 30, replace=False)).astype(np.int32)
                found = samples.best_split(criterion, self.indices, self.weights, self.targets, candidates)
                gains = [
                    best_gain(
                        samples.values(int(number))[self.indices],
                        kind == "LBP",
                        criterion,
                        self.weights,
                        self.targets,
                    )
                    for number in candidates
                ]
                assert found is not None
                self.assertAlmostEqual(found.gain, max(gains), places=9)
                self.assertAlmostEqual(gains[candidates.tolist().index(found.feature)], max(gains), places=9)
                left = samples.goes_left(found)[self.indices]
                sides = [worth(criterion, self.weights[side].sum(), self.targets[side].sum()) for side in (left, ~left)]
                whole = worth(criterion, self.weights.sum(), self.targets.sum())
                self.assertAlmostEqual(float(sum(sides) - whole), found.gain, places=9)

    def test_among_many_features_the_best_one_is_hardly_ever_missed(self) -> None:
        features = feature_set("BASIC", (SIDE, SIDE))
        samples = Samples(self.pixels, features)
        candidates = np.arange(0, len(features.rects), 9, dtype=np.int32)
        found = samples.best_split(SQUARES, self.indices, self.weights, self.targets, candidates)
        assert found is not None
        values = (samples.values(number)[self.indices] for number in candidates.tolist())
        best = max(best_gain(value, False, SQUARES, self.weights, self.targets) for value in values)
        self.assertGreater(found.gain, 0.98 * best)

    def test_neither_threads_nor_memory_change_it(self) -> None:
        for kind in ("ALL", "LBP"):
            features = feature_set(kind, (SIDE, SIDE))
            found = [
                Samples(self.pixels, features, threads=threads, cache_bytes=cache).best_split(
                    SQUARES, self.indices, self.weights, self.targets
                )
                for threads, cache in ((1, 1 << 30), (2, 1 << 30), (7, 100_000), (3, 0))
            ]
            self.assertEqual(found, found[:1] * 4)

    def test_there_is_none_where_nothing_differs(self) -> None:
        same = np.repeat(self.pixels[:1], 10, axis=0)
        weights, indices = np.ones(10), np.arange(10, dtype=np.int32)
        for kind in ("BASIC", "LBP"):
            samples = Samples(same, feature_set(kind, (SIDE, SIDE)))
            self.assertIsNone(samples.best_split(SQUARES, indices, weights, weights * ([1, -1] * 5)))
            self.assertIsNone(samples.best_split(ABSOLUTES, indices, weights, weights))

    def test_lbp_codes_that_no_sample_has_go_where_targets_are_lower(self) -> None:
        features = feature_set("LBP", (SIDE, SIDE))
        samples = Samples(self.pixels, features)
        split = samples.best_split(SQUARES, self.indices, self.weights, self.targets)
        assert split is not None
        here = set(samples.values(split.feature)[self.indices].astype(int).tolist())
        left = {code for code in range(256) if split.subset[code >> 5] >> (code & 31) & 1}
        self.assertLessEqual(set(range(256)) - here, left)

    def test_what_breaks_a_rule_is_refused(self) -> None:
        samples = Samples(self.pixels, feature_set("LBP", (SIDE, SIDE)))
        weights = np.ones(2)
        for indices in ([1, 1], [3, 2], [-1, 4], [0, 160]):
            with self.assertRaises(ValueError):
                samples.best_split(SQUARES, np.array(indices, np.int32), weights, weights)
        with self.assertRaises(ValueError):
            samples.best_split(SQUARES, np.array([0, 1], np.int32), 0 * weights, weights)
        with self.assertRaises(ValueError):
            samples.values(len(samples.features.rects))


class Resize(unittest.TestCase):
    def test_it_is_opencvs(self) -> None:
        image = Picture("crop", (97, 61), 4).image()
        for size in ((40, 25), (96, 61), (12, 60), (1, 1)):
            expected = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR_EXACT)
            np.testing.assert_array_equal(resize(image, size), expected)
            np.testing.assert_array_equal(
                resize(image[5:, 7:], size),
                cv2.resize(np.ascontiguousarray(image[5:, 7:]), size, interpolation=cv2.INTER_LINEAR_EXACT),
            )

    def test_sides_out_of_range_are_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "sides should be 1 to 32767"):
            resize(np.zeros((4, 4), np.uint8), (0, 4))


if __name__ == "__main__":
    unittest.main()
