"""Masks in COCO's forms."""

import unittest

import numpy as np

from imgdetect import masks
from imgdetect.detection import Mask


def runs(bits):
    """Run lengths down the columns, counted one pixel after the other."""
    lengths, value, length = [], False, 0
    for pixel in bits.T.reshape(-1).tolist():
        if pixel != value:
            lengths.append(length)
            value, length = pixel, 0
        length += 1
    return [*lengths, length]


def text(lengths):
    """The compressed form as maskApi.c of pycocotools describes it, one group of five bits at a time."""
    written = ""
    for place, value in enumerate(lengths):
        left = value - lengths[place - 2] if place > 2 else value
        more = True
        while more:
            group, left = left & 0x1F, left >> 5
            more = left != -1 if group & 0x10 else left != 0
            written += chr((group | 0x20 if more else group) + 48)
    return written


class MaskTest(unittest.TestCase):
    def test_it_is_written_and_read_as_pycocotools_does(self):
        rng = np.random.default_rng(0)
        for _ in range(300):
            height, width = rng.integers(1, 40, 2)
            top, left = rng.integers(0, height), rng.integers(0, width)
            part = rng.random((rng.integers(top, height) + 1 - top, rng.integers(left, width) + 1 - left))
            bits = part < rng.choice([0, 0.5, 0.9, 1])
            whole = np.zeros((height, width), bool)
            whole[top : top + part.shape[0], left : left + part.shape[1]] = bits
            mask = masks.encode(bits, (int(left), int(top)), (int(width), int(height)))
            self.assertEqual(mask.counts, text(runs(whole)))
            np.testing.assert_array_equal(masks.decode(mask), whole)
            right = left + part.shape[1]
            np.testing.assert_array_equal(masks.decode(mask, int(left), int(right)), whole[:, left:right])
            self.assertEqual(masks.area(mask), whole.sum())

    def test_known_texts_are_those_of_pycocotools(self):
        # What pycocotools.mask.encode gives for a 6 x 5 picture whose pixels 1..3 of the columns 1 and 2 are set.
        bits = np.zeros((5, 6), bool)
        bits[1:4, 1:3] = True
        self.assertEqual(masks.encode(bits, (0, 0), (6, 5)).counts, "6320>")
        self.assertEqual(masks.encode(np.ones((2, 2), bool), (0, 0), (2, 2)).counts, "04")

    def test_a_mask_in_a_large_picture_is_made_of_its_box_alone(self):
        mask = masks.encode(np.ones((10, 20), bool), (9000, 5000), (10_000, 10_000))
        self.assertEqual(masks.area(mask), 200)
        self.assertTrue(masks.decode(mask, 9000, 9020)[5000:5010].all())
        self.assertEqual(masks.decode(mask, 9000, 9020).sum(), 200)

    def test_polygons_are_the_outlines_in_the_whole_picture(self):
        bits = np.zeros((20, 30), bool)
        bits[2:12, 3:9] = True
        bits[5, 5] = False  # a hole belongs to the run lengths only
        bits[15:19, 20:28] = True
        mask = masks.encode(bits, (100, 50), (200, 100))
        corners = sorted({tuple(polygon[i : i + 2]) for polygon in mask.polygons for i in range(0, len(polygon), 2)})
        first = [(103.0, 52.0), (103.0, 61.0), (108.0, 52.0), (108.0, 61.0)]
        second = [(120.0, 65.0), (120.0, 68.0), (127.0, 65.0), (127.0, 68.0)]
        self.assertEqual(corners, first + second)
        self.assertEqual(len(mask.polygons), 2)

    def test_what_is_no_mask_is_refused(self):
        for counts in ("", "P", "ppppppppp0", "\x1f", "é", "05", "1000"):
            with self.subTest(counts=counts), self.assertRaises(ValueError):
                masks.decode(Mask(2, 2, counts))
