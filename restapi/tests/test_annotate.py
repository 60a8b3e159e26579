"""Drawing on a copy: boxes with labels, blurred and pixelated regions."""

from __future__ import annotations

import os
import subprocess
import sys
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from imgdetect import annotate, masks
from imgdetect.detection import Box, ClassScore, Detection

STYLES = ("boxes", "blur", "pixelate")
BACKGROUNDS = (0, 128, 255)


def found(*xywh: int, class_name: str = "face", score: float = 1.0) -> Detection:
    return Detection("face", class_name, Box(*xywh), score, 3)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def changed(before: np.ndarray, after: np.ndarray) -> tuple[int, int, int, int]:
    """x, y, width and height of all that differs."""
    ys, xs = np.nonzero(np.any(before != after, axis=2))
    return int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1


def drawn(image: np.ndarray, *detections: Detection, style: Any = "boxes", label: bool = False) -> np.ndarray:
    return annotate.draw(image, detections, style, label)


class DrawTest(unittest.TestCase):
    def test_it_works_on_a_copy(self):
        image = noise(100, 120)
        kept = image.copy()
        for style in STYLES:
            with self.subTest(style):
                result = drawn(image, found(10, 20, 60, 50), style=style, label=True)
                np.testing.assert_array_equal(image, kept)
                self.assertTrue(np.any(result != image))
                self.assertEqual((result.shape, result.dtype), (image.shape, image.dtype))

    def test_without_detections_the_picture_stays(self):
        image = noise(30, 40)
        for style in STYLES:
            result = drawn(image, style=style, label=True)
            np.testing.assert_array_equal(result, image)
            self.assertIsNot(result, image)

    def test_boxes_over_the_border_and_outside_do_not_matter(self):
        boxes = [(-10, -10, 30, 30), (90, 70, 60, 60), (-5, 40, 500, 8), (200, 200, 10, 10), (-50, -50, 20, 20)]
        boxes += [(0, 0, 120, 100), (119, 99, 1, 1), (5, 5, 0, 0), (10**6, -(10**6), 10**7, 10**7)]
        for style in STYLES:
            for xywh in boxes:
                with self.subTest(style, xywh=xywh):
                    self.assertEqual(drawn(noise(100, 120), found(*xywh), style=style, label=True).shape, (100, 120, 3))

    def test_tiny_pictures_are_fine(self):
        for shape in ((1, 1), (1, 300), (300, 1), (2, 2), (17, 5)):
            for style in STYLES:
                with self.subTest(shape, style=style):
                    detection = found(0, 0, shape[1], shape[0])
                    self.assertEqual(drawn(noise(*shape), detection, style=style, label=True).shape, (*shape, 3))


class BoxesTest(unittest.TestCase):
    def test_a_box_has_its_own_width_and_height(self):
        for background in BACKGROUNDS:
            with self.subTest(background):
                image = np.full((200, 300, 3), background, np.uint8)
                self.assertEqual(changed(image, drawn(image, found(40, 60, 120, 30))), (40, 60, 120, 30))

    def test_what_is_inside_stays(self):
        image = noise(400, 400)
        result = drawn(image, found(100, 100, 200, 200))
        np.testing.assert_array_equal(result[110:290, 110:290], image[110:290, 110:290])

    def test_the_line_is_wider_on_a_larger_picture(self):
        widths = []
        for side in (200, 1_000, 4_000):
            image = np.full((side, side, 3), 255, np.uint8)
            result = drawn(image, found(side // 4, side // 4, side // 2, side // 2))
            widths.append(int(np.any(result[side // 2, : side // 2] != 255, axis=1).sum()))
        self.assertEqual(widths, sorted(set(widths)))

    def test_a_small_box_stays_visible_inside_a_large_one(self):
        image = np.full((300, 300, 3), 255, np.uint8)
        small, large = found(100, 100, 20, 20, class_name="eye"), found(100, 50, 150, 150)
        for order in ((small, large), (large, small)):
            result = drawn(image, *order)
            np.testing.assert_array_equal(result[110, 100], annotate.colour_of("eye"))

    def test_a_class_has_one_colour_in_every_process(self):
        code = "from imgdetect.annotate import colour_of; print(*colour_of('stop sign'))"
        folder = Path(annotate.__file__).parents[1]
        environment = {**os.environ, "PYTHONHASHSEED": "77"}
        output = subprocess.check_output([sys.executable, "-c", code], cwd=folder, env=environment, text=True)
        self.assertEqual(tuple(map(int, output.split())), annotate.colour_of("stop sign"))
        self.assertNotEqual(annotate.colour_of("face"), annotate.colour_of("stop sign"))


class LabelTest(unittest.TestCase):
    def test_it_names_the_class_and_the_rounded_score(self):
        self.assertEqual(annotate.label_of(found(0, 0, 9, 9, class_name="stop sign", score=12.3456)), "stop sign 12.3")

    def test_it_writes_no_question_marks_for_other_letters(self):
        for name, label in (
            ("visage de chat été", "visage de chat ete 1.0"),
            ("Straße", "Strasse 1.0"),
            ("Łódź", "Lodz 1.0"),
            ("车牌", "1.0"),
            ("a\nb\x00", "ab 1.0"),
        ):
            with self.subTest(name):
                self.assertEqual(annotate.label_of(found(0, 0, 9, 9, class_name=name)), label)

    def test_it_is_drawn_only_when_asked_for(self):
        image = noise(300, 400)
        without = drawn(image, found(100, 100, 80, 80))
        labelled = drawn(image, found(100, 100, 80, 80), label=True)
        self.assertEqual(changed(image, without), (100, 100, 80, 80))
        self.assertLess(changed(image, labelled)[1], 100)

    def test_it_stands_on_a_filled_strip_of_the_class_colour(self):
        for background in BACKGROUNDS:
            with self.subTest(background):
                image = np.full((300, 400, 3), background, np.uint8)
                strip = drawn(image, found(100, 100, 80, 80), label=True)[90:100, 101:140]
                self.assertGreater(np.all(strip == annotate.colour_of("face"), axis=2).mean(), 0.4)

    def test_ink_and_strip_differ_in_brightness(self):
        luma = np.array((0.114, 0.587, 0.299))
        for n in range(300):
            colour = annotate.colour_of(f"class {n}")
            ink = annotate._ink_on(colour)
            self.assertGreater(abs(float(luma @ np.subtract(ink, colour))), 100, colour)

    def test_it_is_kept_whole_inside_the_picture(self):
        none = np.zeros((0, 4), np.int64)
        for x in range(-60, 461, 20):
            for y in range(-60, 361, 20):
                for side in (1, 30, 500):
                    left, top = annotate._place(Box(x, y, side, side), (80, 20), (400, 300), none)
                    self.assertTrue(left in range(321) and top in range(281), (x, y, side, left, top))

    def test_labels_of_neighbours_do_not_cover_each_other(self):
        strip_wh, size_wh = (80, 20), (400, 300)
        first = annotate._place(Box(100, 100, 40, 40), strip_wh, size_wh, np.zeros((0, 4), np.int64))
        taken = np.array([[*first, first[0] + 80, first[1] + 20]])
        second = annotate._place(Box(150, 100, 40, 40), strip_wh, size_wh, taken)
        far = annotate._place(Box(300, 100, 40, 40), strip_wh, size_wh, taken)
        self.assertEqual((first, second, far), ((100, 80), (150, 140), (300, 80)))

    def test_a_label_that_would_hide_much_of_the_picture_is_left_out(self):
        image = np.full((60, 400, 3), 255, np.uint8)
        np.testing.assert_array_equal(
            drawn(image, found(10, 10, 20, 20), label=True), drawn(image, found(10, 10, 20, 20), label=False)
        )

    def test_a_thousand_labels_are_drawn(self):
        many = [found(x * 30, y * 20, 25, 15) for x in range(40) for y in range(25)]
        self.assertEqual(drawn(noise(551, 979), *many, label=True).shape, (551, 979, 3))


class HidingTest(unittest.TestCase):
    def test_the_whole_box_and_nothing_else_changes(self):
        image = noise(200, 300)
        for style in ("blur", "pixelate"):
            for xywh in ((50, 60, 101, 37), (20, 30, 9, 90)):
                with self.subTest(style, xywh=xywh):
                    result = drawn(image, found(*xywh), style=style, label=True)
                    self.assertEqual(changed(image, result), xywh)

    def test_only_a_few_values_of_a_region_are_left(self):
        for side in (8, 20, 64, 300):
            with self.subTest(side):
                hidden = drawn(noise(side, side), found(0, 0, side, side), style="pixelate")
                self.assertLessEqual(len(np.unique(hidden.reshape(-1, 3), axis=0)), min(64, side * side // 4))

    def test_a_blurred_stripe_pattern_cannot_be_read(self):
        stripes = np.zeros((120, 120, 3), np.uint8)
        stripes[:, ::8] = stripes[:, 1::8] = stripes[:, 2::8] = stripes[:, 3::8] = 255
        for style in ("blur", "pixelate"):
            with self.subTest(style):
                self.assertLess(float(drawn(stripes, found(0, 0, 120, 120), style=style).std()), 20)

    def test_two_pictures_that_differ_in_detail_look_alike_when_blurred(self):
        image = np.full((160, 160, 3), 128, np.uint8)
        detailed = (image.astype(int) + np.indices((160, 160)).sum(axis=0)[..., None] % 2 * 200 - 100).astype(np.uint8)
        a, b = (drawn(i, found(0, 0, 160, 160), style="blur").astype(int) for i in (image, detailed))
        self.assertLess(int(np.abs(a - b).max()), 4)

    def test_blur_is_smooth_and_pixelate_is_flat(self):
        image = noise(160, 160)
        blurred = drawn(image, found(0, 0, 160, 160), style="blur").astype(int)
        flat = drawn(image, found(0, 0, 160, 160), style="pixelate")
        self.assertLess(int(np.abs(np.diff(blurred, axis=1)).max()), 12)
        np.testing.assert_array_equal(flat[:20, :20], np.broadcast_to(flat[0, 0], (20, 20, 3)))

    def test_a_region_over_the_border_is_hidden_up_to_it(self):
        image = noise(100, 100)
        for style in ("blur", "pixelate"):
            with self.subTest(style):
                result = drawn(image, found(-20, 70, 60, 60), style=style)
                self.assertEqual(changed(image, result), (0, 70, 40, 30))


class NetworkTest(unittest.TestCase):
    """What networks find: masks, confidences, and a class for the whole picture."""

    def test_a_mask_is_tinted_inside_its_object_only(self):
        bits = np.zeros((40, 60), bool)
        bits[:, :20] = True
        mask = masks.encode(bits, (30, 20), (120, 100))
        detection = replace(found(30, 20, 60, 40), mask=mask)
        image = np.full((100, 120, 3), 200, np.uint8)
        plain, tinted = drawn(image, replace(detection, mask=None)), drawn(image, detection)
        self.assertEqual(changed(plain, tinted), (31, 21, 19, 38))  # the rest of it lies under the outline
        inside = tinted[40, 40].astype(int)
        self.assertTrue(np.all(inside >= 0.5 * 200), "the picture has to be seen through it")
        colour = np.array(annotate.colour_of("face"))
        np.testing.assert_allclose(inside, 200 * 0.55 + colour * 0.45, atol=1)

    def test_a_mask_of_another_picture_is_left_out(self):
        mask = masks.encode(np.ones((5, 5), bool), (0, 0), (10, 10))
        image = noise(50, 50)
        with_it = drawn(image, replace(found(0, 0, 20, 20), mask=mask))
        np.testing.assert_array_equal(with_it, drawn(image, found(0, 0, 20, 20)))

    def test_a_label_shows_the_confidence_where_there_is_one(self):
        self.assertEqual(annotate.label_of(replace(found(0, 0, 1, 1, score=0.87), confidence=0.87)), "face 87%")
        self.assertEqual(annotate.label_of(found(0, 0, 1, 1, score=5.83)), "face 5.8")

    def test_the_surest_class_stands_in_the_corner(self):
        image = np.zeros((200, 300, 3), np.uint8)
        classes = (ClassScore("tabby cat", 281, 0.7), ClassScore("sofa", 831, 0.2))
        titled = annotate.draw(image, (), "boxes", True, classes)
        x, y, width, height = changed(image, titled)
        self.assertEqual((x, y), (0, 0))
        self.assertLess(height, 60)
        self.assertLess(width, 300)
        np.testing.assert_array_equal(titled, annotate.draw(image, (), "boxes", True, classes[:1]))
        np.testing.assert_array_equal(image, annotate.draw(image, (), "boxes", False, classes))

    def test_a_long_class_name_fits_or_is_left_out(self):
        classes = (ClassScore("a very long name " * 5, 1, 0.5),)
        for size in ((400, 600), (60, 80), (1, 1)):
            image = np.zeros((*size, 3), np.uint8)
            self.assertEqual(annotate.draw(image, (), "boxes", True, classes).shape, image.shape)


if __name__ == "__main__":
    unittest.main()
