"""Boxes as arrays: their forms, turning, overlap, and grouping that equals OpenCV's."""

from __future__ import annotations

import tracemalloc
import unittest
from typing import Any

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from imgdetect import boxes

ANGLES = st.integers(-180, 360)
SIZES = st.tuples(st.integers(1, 400), st.integers(1, 400))
# Coordinates lie close together, so that many boxes are similar and many lie inside others.
CROWDS = hnp.arrays(np.int64, st.tuples(st.integers(1, 40), st.just(4)), elements=st.integers(1, 40))
bounded = settings(max_examples=150, deadline=None)


def crowd(count: int, span: int, sides: tuple[int, int], seed: int = 1) -> NDArray[np.int64]:
    """Random boxes xywh whose left and top lie below `span`."""
    random = np.random.default_rng(seed)
    return np.hstack([random.integers(0, span, (count, 2)), random.integers(*sides, (count, 2))])


def opencv(xywh: NDArray[Any], threshold: int) -> tuple[list[list[int]], list[int]]:
    found, weights = cv2.groupRectangles(xywh.tolist(), threshold, 0.2)
    return np.array(found).reshape(-1, 4).tolist(), np.array(weights).ravel().tolist()


class FormsTest(unittest.TestCase):
    def test_it_turns_one_form_into_the_other(self) -> None:
        xywh = np.array([[3, 4, 10, 20], [0, 0, 1, 1]])
        np.testing.assert_array_equal([[3, 4, 13, 24], [0, 0, 1, 1]], boxes.xywh_to_xyxy(xywh))
        np.testing.assert_array_equal(xywh, boxes.xyxy_to_xywh(boxes.xywh_to_xyxy(xywh)))

    def test_it_keeps_the_dtype_and_takes_no_boxes(self) -> None:
        for dtype in (np.int32, np.float64):
            self.assertEqual(dtype, boxes.xywh_to_xyxy(np.zeros((0, 4), dtype)).dtype)
            self.assertEqual((0, 4), boxes.xyxy_to_xywh(np.zeros((0, 4), dtype)).shape)

    def test_it_clips_at_every_edge_and_leaves_nothing_of_a_box_outside(self) -> None:
        xyxy = np.array([[-5, -6, 200, 100], [10, 10, 20, 20], [120, 10, 130, 20]])
        clipped = boxes.clip_boxes(xyxy, (100, 50))
        np.testing.assert_array_equal([[0, 0, 100, 50], [10, 10, 20, 20], [100, 10, 100, 20]], clipped)
        np.testing.assert_array_equal([-5, -6, 200, 100], xyxy[0])

    def test_it_scales_both_directions_on_their_own(self) -> None:
        np.testing.assert_array_equal([[2, 12, 6, 16]], boxes.scale_boxes(np.array([[1, 3, 3, 4]]), (2.0, 4.0)))


class TurningTest(unittest.TestCase):
    def test_a_quarter_turn_clockwise_takes_the_top_left_corner_to_the_top_right(self) -> None:
        turned = boxes.rotate_boxes(np.array([[0, 0, 10, 20]]), 90, (100, 50))
        self.assertEqual((50, 100), boxes.turned_size((100, 50), 90))
        np.testing.assert_array_equal([[30, 0, 50, 10]], turned)

    def test_quarter_turns_move_boxes_as_the_pixels_move(self) -> None:
        codes = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
        image = np.zeros((31, 47), np.uint8)
        image[5:16, 8:15] = 255
        for degrees, code in codes.items():
            for same in (degrees, degrees - 360):
                rows, columns = np.nonzero(cv2.rotate(image, code))
                seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                np.testing.assert_array_equal([seen], boxes.rotate_boxes(np.array([[8, 5, 15, 16]]), same, (47, 31)))

    def test_off_quarter_turns_a_box_keeps_its_size_around_its_turned_centre(self) -> None:
        turned = boxes.rotate_boxes(np.array([[40, 10, 60, 20]]), 30, (100, 100))
        np.testing.assert_allclose([[20, 10]], turned[:, 2:] - turned[:, :2])
        canvas = 100 * (np.cos(np.pi / 6) + np.sin(np.pi / 6))
        middle = np.ceil(canvas) / 2
        # The centre lies 35 pixels above the picture's, and goes clockwise: to the right.
        expected = [middle + 35 * np.sin(np.pi / 6), middle - 35 * np.cos(np.pi / 6)]
        np.testing.assert_allclose([expected], (turned[:, :2] + turned[:, 2:]) / 2)

    @bounded
    @given(CROWDS, ANGLES, SIZES)
    def test_turning_back_gives_the_same_boxes(
        self, xywh: NDArray[np.int64], degrees: int, size_wh: tuple[int, int]
    ) -> None:
        xyxy = boxes.xywh_to_xyxy(xywh)
        back = boxes.unrotate_boxes(boxes.rotate_boxes(xyxy, degrees, size_wh), degrees, size_wh)
        if degrees % 90 == 0:
            np.testing.assert_array_equal(xyxy, back)
        else:
            np.testing.assert_allclose(xyxy, back, atol=1e-9)

    @bounded
    @given(ANGLES, SIZES)
    def test_the_canvas_holds_every_corner_of_the_turned_picture(self, degrees: int, size_wh: tuple[int, int]) -> None:
        width, height = size_wh
        corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
        matrix = boxes.turn_matrix(size_wh, degrees)
        moved = corners @ matrix[:, :2].T + matrix[:, 2]
        canvas = boxes.turned_size(size_wh, degrees)
        self.assertGreaterEqual(moved.min(), -1e-5)
        self.assertTrue((moved <= np.array(canvas) + 1e-5).all())
        self.assertLess(np.max(np.array(canvas) - np.ptp(moved, axis=0)), 1 + 1e-5)


class OverlapTest(unittest.TestCase):
    def test_it_measures_the_overlap_of_every_pair(self) -> None:
        a = np.array([[0, 0, 10, 10], [0, 0, 0, 0]])
        b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 7]])
        np.testing.assert_allclose([[1, 1 / 3, 0, 0.1], [0, 0, 0, 0]], boxes.box_iou(a, b))

    def test_empty_boxes_overlap_nothing(self) -> None:
        empty = np.array([[5, 5, 5, 5]])
        self.assertEqual(0, boxes.box_iou(empty, empty)[0, 0])
        self.assertEqual((2, 0), boxes.box_iou(np.ones((2, 4)), np.zeros((0, 4))).shape)

    @bounded
    @given(CROWDS, CROWDS)
    def test_it_is_symmetric_and_counts_pixels(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
        a, b = boxes.xywh_to_xyxy(a), boxes.xywh_to_xyxy(b)
        iou = boxes.box_iou(a, b)
        np.testing.assert_array_equal(iou, boxes.box_iou(b, a).T)
        canvas = np.zeros((2, 80, 80), bool)
        for plane, (left, top, right, bottom) in zip(canvas, (a[0], b[0]), strict=True):
            plane[top:bottom, left:right] = True
        self.assertAlmostEqual(canvas.all(0).sum() / canvas.any(0).sum(), iou[0, 0])

    def test_a_better_box_drops_those_that_overlap_it_from_the_threshold_on(self) -> None:
        xyxy = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [0, 0, 10, 10]])
        np.testing.assert_array_equal([0, 2], boxes.non_max_suppression(xyxy, 1 / 3))
        np.testing.assert_array_equal([0, 1, 2], boxes.non_max_suppression(xyxy, 0.34))

    def test_a_dropped_box_drops_nothing(self) -> None:
        xyxy = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
        np.testing.assert_array_equal([0, 2], boxes.non_max_suppression(xyxy, 0.4))

    def test_with_groups_only_boxes_of_different_groups_drop_each_other(self) -> None:
        xyxy = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 1, 10, 11]])
        np.testing.assert_array_equal([0, 1], boxes.non_max_suppression(xyxy, 0.3, np.array([0, 0, 90])))

    def test_it_takes_no_boxes(self) -> None:
        self.assertEqual(0, len(boxes.non_max_suppression(np.zeros((0, 4)), 0.5)))


class GroupingTest(unittest.TestCase):
    def assert_equals_opencv(self, xywh: NDArray[Any], threshold: int) -> int:
        """Returns how many boxes were compared."""
        found, neighbors, labels = boxes.group_rectangles(xywh, threshold)
        self.assertEqual(opencv(xywh, threshold), (found.tolist(), neighbors.tolist()))
        if threshold > 0:
            np.testing.assert_array_equal(np.bincount(labels[labels >= 0], minlength=len(found)), neighbors)
        return len(found)

    @bounded
    @given(CROWDS, st.integers(0, 8))
    def test_it_equals_opencv(self, xywh: NDArray[np.int64], threshold: int) -> None:
        self.assert_equals_opencv(xywh, threshold)

    def test_it_equals_opencv_in_crowds_of_every_density(self) -> None:
        compared = 0
        for seed in range(25):
            for count, span, sides in ((90, 30, (10, 14)), (60, 12, (20, 60)), (120, 200, (20, 90)), (12, 400, (5, 9))):
                xywh = crowd(count, span, sides, seed)
                compared += sum(self.assert_equals_opencv(xywh, threshold) for threshold in (0, 1, 2, 3, 6, 20))
        self.assertGreater(compared, 2000)

    def test_averages_round_halves_to_even_as_opencv_does(self) -> None:
        for first in range(4):
            self.assert_equals_opencv(np.array([[first, 9, 40, 40], [first + 1, 8, 41, 40]]), 1)
        found, _, _ = boxes.group_rectangles(np.array([[2, 3, 40, 40], [3, 4, 40, 40]]), 1)
        self.assertEqual([[2, 4, 40, 40]], found.tolist())

    def test_boxes_belong_together_through_others_in_between(self) -> None:
        chain = np.array([[x, 0, 50, 50] for x in range(0, 100, 10)])
        found, neighbors, labels = boxes.group_rectangles(chain[::-1], 3)
        self.assertEqual([[45, 0, 50, 50]], found.tolist())
        self.assertEqual([10], neighbors.tolist())
        self.assertEqual({0}, set(labels.tolist()))

    def test_a_weak_group_inside_a_strong_one_is_dropped_with_its_candidates(self) -> None:
        outer, inner = [[10, 10, 80, 80]] * 5, [[30, 30, 20, 20]] * 2
        found, neighbors, labels = boxes.group_rectangles(np.array(inner + outer), 1)
        self.assertEqual(([[10, 10, 80, 80]], [5]), (found.tolist(), neighbors.tolist()))
        self.assertEqual([-1, -1, 0, 0, 0, 0, 0], labels.tolist())

    def test_without_a_threshold_the_candidates_come_back_as_they_are(self) -> None:
        xywh = crowd(7, 5, (20, 22))
        found, neighbors, labels = boxes.group_rectangles(xywh, 0)
        np.testing.assert_array_equal(xywh, found)
        self.assertEqual([1] * 7, neighbors.tolist())
        self.assertEqual(list(range(7)), labels.tolist())

    def test_it_takes_no_candidates(self) -> None:
        for threshold in (0, 3):
            found, neighbors, labels = boxes.group_rectangles(np.zeros((0, 4), int), threshold)
            self.assertEqual([(0, 4), (0,), (0,)], [found.shape, neighbors.shape, labels.shape])

    def test_it_equals_opencv_where_candidates_are_compared_in_many_blocks(self) -> None:
        for span, sides in ((10, (24, 26)), (1_000, (20, 60))):
            self.assertGreater(self.assert_equals_opencv(crowd(5_000, span, sides), 1), 0)

    def test_twenty_thousand_candidates_are_grouped_in_little_memory(self) -> None:
        # One crowd is a single group, the other has nearly as many groups as candidates: the two worst cases.
        for span, sides in ((10, (24, 26)), (16_000, (20, 21))):
            tracemalloc.start()
            _, _, labels = boxes.group_rectangles(crowd(20_000, span, sides), 1)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            self.assertEqual(20_000, len(labels))
            self.assertLess(peak, 32 * 2**20)


if __name__ == "__main__":
    unittest.main()
