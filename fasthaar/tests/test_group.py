"""`group_rectangles` beside cv2's and beside detectMultiScale."""

from __future__ import annotations

import unittest
from pathlib import Path

import cv2
import numpy as np

from fasthaar import CascadeClassifier, group_rectangles
from pictures import photograph


class GroupTest(unittest.TestCase):
    def test_it_joins_as_opencv_does(self):
        rng = np.random.default_rng(1)
        for count in (0, 1, 2, 7, 60, 400):
            for _ in range(4):
                corners = rng.integers(-20, 200, (count, 2))
                rects = np.column_stack([corners, rng.integers(10, 60, (count, 1)).repeat(2, 1)])
                for strictness in (1, 2, 3, 8):
                    expected, counts = cv2.groupRectangles(rects.tolist(), strictness, 0.2)
                    found, neighbors, weights = group_rectangles(rects, strictness)
                    np.testing.assert_array_equal(found, np.array(expected, np.int32).reshape(-1, 4))
                    np.testing.assert_array_equal(neighbors, np.array(counts, np.int32).reshape(-1))
                    self.assertIsNone(weights)

    def test_one_detection_serves_every_min_neighbors(self):
        name = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"
        faces, image = CascadeClassifier(name), photograph("astronaut")
        raw, _, weights = faces.detectMultiScale3(image, 1.1, 0, outputRejectLevels=True)
        before = raw.copy()
        for strictness in (0, 1, 3, 6):
            found, neighbors, best = group_rectangles(raw, strictness, weights)
            rects, counts = faces.detectMultiScale2(image, 1.1, strictness)
            _, _, expected = faces.detectMultiScale3(image, 1.1, strictness, outputRejectLevels=True)
            np.testing.assert_array_equal(found, rects)
            np.testing.assert_array_equal(neighbors, counts)
            np.testing.assert_array_equal(best, expected)
        np.testing.assert_array_equal(raw, before)

    def test_the_largest_weight_is_kept(self):
        rects = [(10, 10, 20, 20), (11, 10, 20, 20), (90, 90, 20, 20), (91, 91, 20, 20)]
        _, counts, weights = group_rectangles(rects, 1, [3.0, 5.0, 1.0, 0.5])
        self.assertEqual((counts.tolist(), weights.tolist()), ([2, 2], [5.0, 1.0]))

    def test_what_is_invalid_raises_value_error(self):
        for rects, weights in (
            ([(0.5, 1, 2, 3)], None),
            ([(1, 1, -1, 3)], None),
            ([(2_000_000, 1, 1, 3)], None),
            ([(1 << 40, 1, 1, 3)], None),
            ([(1, 1, 1, 3)], [1.0, 2.0]),
            ([(1, 1, 1)], None),
        ):
            with self.subTest(rects=rects), self.assertRaises(ValueError):
                group_rectangles(rects, 1, weights)


if __name__ == "__main__":
    unittest.main()
