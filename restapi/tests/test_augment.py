"""Augmentations: what they do to the pixels, and that the boxes go with them."""

from __future__ import annotations

import unittest
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from imgdetect import augment
from imgdetect.augment import AUGMENTATIONS, Augmented, Image, Transform, augmented

# An ellipse, which no augmentation mistakes for another shape, off the centre of an oblong picture of odd size.
BOX = (60, 50, 80, 40)


def picture(width: int = 301, height: int = 201) -> Image:
    """A white ellipse that just fills BOX, on dark grey, four times too large and scaled down for smooth edges."""
    large = np.full((height * 4, width * 4), 30, np.uint8)
    x, y, w, h = (4 * v for v in BOX)
    rows, columns = np.mgrid[0 : height * 4, 0 : width * 4] + 0.5
    large[((columns - x - w / 2) / (w / 2)) ** 2 + ((rows - y - h / 2) / (h / 2)) ** 2 <= 1] = 255
    small = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(np.asarray(small, np.uint8), cv2.COLOR_GRAY2BGR).astype(np.uint8)


def seen_box(image: Image) -> NDArray[np.float64]:
    """The box around what is bright, x, y, width, height."""
    bright = image[:, :, 1] > 142
    columns, rows = np.flatnonzero(bright.any(axis=0)), np.flatnonzero(bright.any(axis=1))
    return np.array([columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]], float)


def colors(width: int = 41, height: int = 27) -> Image:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)


def mapped(transform: Transform, box: tuple[int, int, int, int] = BOX) -> list[float]:
    return [float(v) for v in transform([box])[0]]


class AugmentationContract:
    """What holds for every augmentation; a subclass names one by `make`."""

    make: Callable[[Image], Augmented]

    def test_it_leaves_the_source_alone(self) -> None:
        image = picture()
        before = image.copy()
        changed, _ = type(self).make(image)
        np.testing.assert_array_equal(before, image)
        self.assertFalse(np.shares_memory(image, changed))

    def test_it_returns_a_contiguous_bgr_picture_of_the_stated_size(self) -> None:
        changed, transform = type(self).make(picture())
        self.assertEqual(np.uint8, changed.dtype)
        self.assertEqual((*transform.size_wh[::-1], 3), changed.shape)
        self.assertTrue(changed.flags.c_contiguous)

    def test_it_gives_the_same_pixels_every_time(self) -> None:
        first, _ = type(self).make(colors())
        second, _ = type(self).make(colors())
        np.testing.assert_array_equal(first, second)

    def test_it_changes_the_picture(self) -> None:
        image = picture()
        changed, _ = type(self).make(image)
        self.assertFalse(changed.shape == image.shape and np.array_equal(changed, image))

    def test_the_box_goes_where_the_object_goes(self) -> None:
        changed, transform = type(self).make(picture())
        np.testing.assert_allclose(mapped(transform), seen_box(changed), atol=1.5)

    def test_it_maps_many_boxes_and_none(self) -> None:
        _, transform = type(self).make(picture())
        boxes = transform([BOX, (0, 0, 10, 10), BOX])
        self.assertEqual((3, 4), boxes.shape)
        np.testing.assert_array_equal(boxes[0], boxes[2])
        self.assertEqual((0, 4), transform([]).shape)

    def test_a_box_never_leaves_the_picture(self) -> None:
        _, transform = type(self).make(picture())
        width, height = transform.size_wh
        for x, y, w, h in transform([(0, 0, 301, 201), (280, 0, 21, 30), (-50, -50, 10, 10), (0, 190, 5, 500)]):
            self.assertTrue(0 <= x <= x + w <= width and 0 <= y <= y + h <= height, (x, y, w, h))

    def test_it_takes_a_picture_of_one_pixel(self) -> None:
        changed, transform = type(self).make(np.full((1, 1, 3), 99, np.uint8))
        self.assertEqual((*transform.size_wh[::-1], 3), changed.shape)


class Rotate(AugmentationContract, unittest.TestCase):
    make = staticmethod(augment.rotate)

    def test_a_quarter_turn_is_clockwise_and_exact(self) -> None:
        image = colors()
        changed, transform = augment.rotate(image, 90)
        np.testing.assert_array_equal(np.rot90(image, -1), changed)
        # The lower left corner of the source comes to the upper left.
        np.testing.assert_allclose([0, 0, 5, 4], mapped(transform, (0, 22, 4, 5)), atol=1e-9)

    def test_a_half_turn_is_exact(self) -> None:
        image = colors()
        changed, transform = augment.rotate(image, 180)
        np.testing.assert_array_equal(image[::-1, ::-1], changed)
        np.testing.assert_allclose([31, 18, 9, 8], mapped(transform, (1, 1, 9, 8)), atol=1e-9)

    def test_no_corner_is_cut_off(self) -> None:
        white = np.full((60, 100, 3), 255, np.uint8)
        for degrees in (-33, 10, 45, 200):
            changed, _ = augment.rotate(white, degrees)
            # The sum of all pixels is the area: all of it is still in view.
            self.assertAlmostEqual(1.0, float(changed.sum()) / float(white.sum()), delta=0.01)

    def test_what_lies_outside_the_source_is_black(self) -> None:
        changed, _ = augment.rotate(np.full((60, 100, 3), 255, np.uint8), 30)
        for corner in (changed[0, 0], changed[0, -1], changed[-1, 0], changed[-1, -1]):
            self.assertEqual([0, 0, 0], corner.tolist())

    def test_a_square_box_keeps_its_size_at_every_angle(self) -> None:
        for degrees in (-10, 17, 45, 123):
            _, transform = augment.rotate(picture(), degrees)
            self.assertAlmostEqual(40, mapped(transform, (100, 80, 40, 40))[2])

    def test_the_box_follows_every_angle(self) -> None:
        for degrees in (-170, -45, 5, 60, 90, 137):
            changed, transform = augment.rotate(picture(), degrees)
            np.testing.assert_allclose(mapped(transform), seen_box(changed), atol=1.5, err_msg=str(degrees))


class Flip(AugmentationContract, unittest.TestCase):
    make = staticmethod(augment.flip)

    def test_left_and_right_change_places(self) -> None:
        image = colors()
        changed, transform = augment.flip(image)
        np.testing.assert_array_equal(image[:, ::-1], changed)
        self.assertEqual([41 - 3 - 5, 2, 5, 7], mapped(transform, (3, 2, 5, 7)))


class Blur(AugmentationContract, unittest.TestCase):
    make = staticmethod(augment.blur)

    def test_more_blur_leaves_less_detail(self) -> None:
        detail = [float(augment.blur(colors(), sigma)[0].std()) for sigma in (0.5, 1.5, 4)]
        self.assertEqual(sorted(detail, reverse=True), detail)
        self.assertLess(detail[-1], colors().std() / 4)

    def test_it_refuses_no_blur(self) -> None:
        for sigma in (0, -1):
            with self.assertRaises(ValueError):
                augment.blur(colors(), sigma)


class Noise(AugmentationContract, unittest.TestCase):
    make = staticmethod(augment.noise)

    def test_it_has_the_stated_deviation_and_no_bias(self) -> None:
        grey = np.full((200, 200, 3), 128, np.uint8)
        difference = augment.noise(grey, sigma=10)[0].astype(float) - 128
        self.assertAlmostEqual(10, float(difference.std()), delta=0.2)
        self.assertAlmostEqual(0, float(difference.mean()), delta=0.2)

    def test_dark_and_light_do_not_wrap_around(self) -> None:
        self.assertLess(augment.noise(np.zeros((50, 50, 3), np.uint8))[0].max(), 100)
        self.assertGreater(augment.noise(np.full((50, 50, 3), 255, np.uint8))[0].min(), 155)

    def test_another_seed_gives_other_noise(self) -> None:
        self.assertFalse(np.array_equal(augment.noise(colors(), seed=1)[0], augment.noise(colors(), seed=2)[0]))

    def test_it_refuses_a_negative_deviation(self) -> None:
        with self.assertRaises(ValueError):
            augment.noise(colors(), sigma=-1)


class Translate(AugmentationContract, unittest.TestCase):
    make = staticmethod(augment.translate)

    def test_it_moves_by_whole_pixels_and_leaves_black(self) -> None:
        image = colors(40, 20)
        changed, transform = augment.translate(image, right=0.25, down=0.1)
        np.testing.assert_array_equal(image[:-2, :-10], changed[2:, 10:])
        self.assertEqual(0, changed[:2].max())
        self.assertEqual(0, changed[:, :10].max())
        self.assertEqual([13, 4, 5, 7], mapped(transform, (3, 2, 5, 7)))

    def test_a_box_moved_out_of_view_has_no_area(self) -> None:
        _, transform = augment.translate(colors(40, 20), right=-0.5, down=0)
        x, _, width, _ = mapped(transform, (3, 2, 5, 7))
        self.assertEqual((0, 0), (x, width))

    def test_a_box_half_out_of_view_is_cut(self) -> None:
        _, transform = augment.translate(colors(40, 20), right=-0.25, down=0)
        self.assertEqual([0, 2, 4, 7], mapped(transform, (8, 2, 6, 7)))


class Zoom(AugmentationContract, unittest.TestCase):
    make = staticmethod(augment.zoom)

    def test_it_grows_about_the_centre(self) -> None:
        _, transform = augment.zoom(colors(40, 20), 2)
        self.assertEqual([12, 6, 16, 8], mapped(transform, (16, 8, 8, 4)))

    def test_below_one_it_shrinks_and_leaves_black(self) -> None:
        changed, transform = augment.zoom(picture(), 0.5)
        np.testing.assert_allclose(mapped(transform), seen_box(changed), atol=1.5)
        self.assertEqual(0, changed[:40].max())

    def test_it_refuses_a_factor_that_leaves_nothing(self) -> None:
        for factor in (0, -2):
            with self.assertRaises(ValueError):
                augment.zoom(colors(), factor)


class TheTable(unittest.TestCase):
    def test_it_names_every_augmentation(self) -> None:
        self.assertEqual(["rotate", "flip", "blur", "noise", "translate", "zoom"], list(AUGMENTATIONS))

    def test_augmented_goes_through_the_table_in_its_order(self) -> None:
        image = picture()
        results = list(augmented(image))
        self.assertEqual(list(AUGMENTATIONS), [name for name, _, _ in results])
        for name, changed, transform in results:
            np.testing.assert_array_equal(AUGMENTATIONS[name](image)[0], changed)
            np.testing.assert_allclose(mapped(transform), seen_box(changed), atol=1.5)
