"""The stop sign's recipe: seeds, boxes, and what a negative must not have."""

from __future__ import annotations

import unittest

import numpy as np
from PIL import Image

from fasthaar.workshop import WorkshopError
from fasthaar.workshop.recipes import load, writing
from fasthaar.workshop.recipes.face import draw_face, octagon
from fasthaar.workshop.recipes.stop_sign import StopSign
from fasthaar.workshop.recipes.street import street
from fasthaar.workshop.recipes.surfaces import SURFACES
from fasthaar.workshop.render import cut, positives
from pictures import photograph


class StopSignTest(unittest.TestCase):
    def test_a_picture_follows_from_its_seed_and_number_alone(self):
        one, other = StopSign(seed=3), StopSign(seed=3)
        other.sample(0)  # whatever was rendered before
        np.testing.assert_array_equal(one.sample(7)[0], other.sample(7)[0])
        np.testing.assert_array_equal(one.scene(2)[0], other.scene(2)[0])
        np.testing.assert_array_equal(one.negative(2), other.negative(2))
        self.assertEqual(one.scene(2)[1], other.scene(2)[1])

    def test_other_seeds_and_numbers_give_other_pictures(self):
        pictures = [StopSign(seed=s).sample(n)[0].tobytes() for s in range(3) for n in range(4)]
        self.assertEqual(len(set(pictures)), 12)

    def test_the_box_of_a_sample_is_in_its_middle_and_half_as_large(self):
        for number in range(20):
            picture, (x, y, width, height) = StopSign().sample(number)
            side = picture.shape[0]
            self.assertLess(abs(x + width / 2 - side / 2), side * 0.06)
            self.assertLess(abs(y + height / 2 - side / 2), side * 0.06)
            self.assertGreater(max(width, height), side * 0.4)
            self.assertLess(max(width, height), side * 0.65)

    def test_samples_look_like_a_face_at_their_box(self):
        """The mean of many samples is the octagon with a bright band of letters; a wrong box would smear it."""
        samples = positives(StopSign(seed=5), range(150), 5, (24, 24), 0.06, 0)
        each = samples.astype(np.float32)
        each = (each - each.mean((1, 2), keepdims=True)) / each.std((1, 2), keepdims=True)
        mean = each.mean(0)
        band, red = mean[9:15, 5:19].mean(), np.vstack([mean[4:7, 8:16], mean[17:20, 8:16]]).mean()
        self.assertGreater(band - red, 0.5)
        face = draw_face(np.random.default_rng(0))
        self.assertEqual(face.alpha[0, 0], 0)
        self.assertEqual(face.alpha[96, 96], 1)

    def test_scenes_have_boxes_inside_of_at_least_20_pixels(self):
        for number in range(6):
            picture, boxes = StopSign(seed=1, scene_wh=(320, 240)).scene(number)
            self.assertEqual((picture.shape, picture.dtype), ((240, 320), np.uint8))
            self.assertTrue(boxes)
            for x, y, width, height in boxes:
                self.assertGreaterEqual(min(x, y), -1)
                self.assertLessEqual(x + width, 321)
                self.assertLessEqual(y + height, 241)
                self.assertGreaterEqual(height, 20)

    def test_photographs_are_used_as_backgrounds(self):
        grey = np.asarray(Image.fromarray(photograph("rocket")).convert("L"))
        plain = [StopSign(seed=2, scene_wh=(200, 150)).negative(n) for n in range(8)]
        mixed = [StopSign(seed=2, scene_wh=(200, 150), photographs=[grey]).negative(n) for n in range(8)]
        self.assertTrue(any((a != b).any() for a, b in zip(plain, mixed, strict=True)))

    def test_surfaces_are_drawn_at_any_size(self):
        for number in range(60):
            rng = np.random.default_rng(number)
            size = int(rng.integers(12, 90)), int(rng.integers(12, 90))
            for surface in (*SURFACES, street):
                drawn = surface(rng, size)
                self.assertEqual(drawn.shape, size[::-1])
                self.assertTrue(np.isfinite(drawn).all())

    def test_the_octagon_is_regular(self):
        corners = octagon()
        sides = np.linalg.norm(corners - np.roll(corners, 1, 0), axis=1)
        np.testing.assert_allclose(sides, sides[0])
        self.assertEqual((corners.min(), corners.max()), (-1, 1))

    def test_an_unknown_recipe_names_those_there_are(self):
        with self.assertRaisesRegex(WorkshopError, "stop-sign"):
            load("zebra", 0, (), (320, 240))


class SignsFromBehind(unittest.TestCase):
    def test_they_stand_out_from_what_is_around_their_box(self):
        renderer = load("stop-sign-back", 4, [], (800, 600))
        differences = []
        for number in range(30):
            window = cut(*renderer.sample(number), (6, 6), 0.1).astype(float)
            corners = window[[0, 0, -1, -1], [0, -1, 0, -1]]
            differences.append(np.abs(corners - window[2:4, [1, 4]].mean()).max())
        self.assertGreater(min(differences), 15)

    def test_they_have_no_lettering_but_a_pole_from_top_to_bottom(self):
        across = []
        for recipe in ("stop-sign", "stop-sign-back"):
            samples = positives(load(recipe, 4, [], (800, 600)), range(60), 4, (24, 24), 0.06, 0).astype(float)
            # How much neighbouring columns differ beside the middle, where letters have their strokes.
            across.append(float(np.abs(np.diff(samples[:, 9:15, 4:10], axis=2)).mean()))
        self.assertGreater(across[0], 1.5 * across[1])


class WritingTest(unittest.TestCase):
    def test_it_never_says_stop(self):
        class Stop:
            def choice(self, letters, count, p):
                return list("stop")

            def integers(self, low, high):
                return 4

        self.assertEqual(writing._word(Stop(), 0), "SHOP")

    def test_most_lines_reach_over_the_width_of_their_box_and_none_out_of_it(self):
        wide = []
        for seed in range(24):
            mask = Image.new("L", (200, 60))
            writing.write(mask, np.random.default_rng(seed), (20, 15, 160, 30))
            inked = np.asarray(mask) > 0
            self.assertFalse(inked[:, :19].any() or inked[:, 181:].any() or inked[:14].any() or inked[46:].any())
            columns = np.flatnonzero(inked.any(0))
            wide.append(np.ptp(columns) if len(columns) else 0)  # one of the typefaces has no letters
        self.assertGreater(np.quantile(wide, 0.3), 110)


class CutTest(unittest.TestCase):
    def test_the_window_is_the_box_with_its_margin(self):
        picture = np.zeros((100, 100), np.uint8)
        picture[40:60, 30:50] = 200
        np.testing.assert_array_equal(cut(picture, (30, 40, 20, 20), (10, 10), 0), 200)
        with_margin = cut(picture, (30, 40, 20, 20), (12, 12), 0.1)
        self.assertEqual(with_margin[0].max(), 0)
        self.assertEqual(with_margin[1:11, 1:11].min(), 200)

    def test_a_box_is_widened_to_the_aspect_of_the_window(self):
        picture = np.zeros((100, 100), np.uint8)
        picture[40:60, 30:40] = 200
        window = cut(picture, (30, 40, 10, 20), (20, 20), 0)
        self.assertEqual(window[:, 5:15].min(), 200)
        self.assertEqual(window[:, :5].max(), 0)

    def test_the_edge_is_repeated_outside_of_the_picture(self):
        picture = np.full((50, 60), 9, np.uint8)
        picture[:, 50:] = 77
        for box in ((50, 10, 20, 20), (-15, -15, 20, 20), (50, 40, 30, 30)):
            window = cut(picture, box, (10, 10), 0.2)
            self.assertEqual(window.shape, (10, 10))
            self.assertLessEqual(set(np.unique(window)[[0, -1]].tolist()), {9, 77})
        np.testing.assert_array_equal(cut(picture, (52, 10, 20, 20), (10, 10), 0), 77)


if __name__ == "__main__":
    unittest.main()
