"""Directories of TIFF files and EXIF blocks, in both byte orders and both sizes."""

from __future__ import annotations

import struct
import unittest

import numpy as np

from imgdetect import headers, images, tiff
from imgdetect.errors import UnreadableImage
from tests import benign, hostile


def grey_tiff(order: str, big: bool, orientation: int = 1) -> bytes:
    """An uncompressed grey picture whose pixels count up, 8 wide and 4 high."""
    pixels = bytes(range(32))
    start = 16 if big else 8
    tags = {256: 8, 257: 4, 258: 8, 259: 1, 262: 1, 273: start, 274: orientation, 277: 1, 278: 4, 279: 32}
    mark = b"II" if order == "<" else b"MM"
    if big:
        head = mark + struct.pack(order + "HHHQ", 43, 8, 0, start + 32)
        entries = b"".join(struct.pack(order + "HHQQ", tag, 16, 1, value) for tag, value in tags.items())
        return head + pixels + struct.pack(order + "Q", len(tags)) + entries + bytes(8)
    head = mark + struct.pack(order + "HI", 42, start + 32)
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags.items())
    return head + pixels + struct.pack(order + "H", len(tags)) + entries + bytes(4)


class TiffTest(unittest.TestCase):
    def test_both_byte_orders_and_both_sizes_are_read(self):
        expected = np.arange(32, dtype=np.uint8).reshape(4, 8)
        for order in "<>":
            for big in (False, True):
                with self.subTest(order, big=big):
                    data = grey_tiff(order, big)
                    self.assertEqual(headers.read_header(data).size_wh, (8, 4))
                    np.testing.assert_array_equal(images.decode(data)[..., 0], expected)
                    turned = grey_tiff(order, big, orientation=6)
                    np.testing.assert_array_equal(images.decode(turned)[..., 1], np.rot90(expected, -1))

    def test_short_numbers_are_read_in_both_byte_orders(self):
        for order, mark in (("<", b"II"), (">", b"MM")):
            entry = struct.pack(order + "HHIHH", 274, 3, 1, 7, 0)
            block = mark + struct.pack(order + "HIH", 42, 8, 1) + entry + bytes(4)
            self.assertEqual(tiff.exif_orientation(block), 7)
            self.assertEqual(tiff.exif_orientation(b"Exif\0\0" + block), 7)

    def test_a_value_that_lies_elsewhere_is_found(self):
        # Three channels of 8 bits: the three numbers do not fit into the entry.
        data = benign.VALID["tiff"]()
        self.assertEqual(tiff.read_directory(data).number(data, tiff.BITS, 0), 8)

    def test_a_value_that_lies_nowhere_counts_as_absent(self):
        data = hostile.tiff_of({258: (3, 3, 4_000_000_000)}, b"")
        self.assertEqual(tiff.read_directory(data).number(data, tiff.BITS, 5), 5)

    def test_a_text_in_a_numbers_place_counts_as_absent(self):
        data = hostile.tiff_of({274: (2, 1, 6), 277: (4, 0, 9)}, b"")
        directory = tiff.read_directory(data)
        self.assertEqual(directory.orientation(data), 1)
        self.assertEqual(directory.number(data, tiff.SAMPLES, 1), 1)

    def test_of_a_tag_given_twice_the_first_counts(self):
        entries = [struct.pack("<HHII", 274, 4, 1, value) for value in (6, 3)]
        block = b"II*\0\x08\0\0\0\x02\0" + b"".join(entries) + bytes(4)
        self.assertEqual(tiff.exif_orientation(block), 6)

    def test_too_many_tags_are_refused(self):
        for count, fine in ((tiff.MAX_TAGS, True), (tiff.MAX_TAGS + 1, False)):
            data = hostile.tiff_of({tag: (4, 1, 0) for tag in range(300, 300 + count)}, b"")
            with self.subTest(count):
                if fine:
                    self.assertEqual(len(tiff.read_directory(data).entries), count)
                else:
                    self.assertRaisesRegex(UnreadableImage, "tags", tiff.read_directory, data)

    def test_too_many_values_are_refused(self):
        data = hostile.tiff_of({273: (4, tiff.MAX_VALUES + 1, 8)}, b"")
        with self.assertRaisesRegex(UnreadableImage, "values"):
            tiff.pixels_only(data)

    def test_only_the_tags_of_pixels_stay(self):
        data = hostile.tiff_strip(4, 4, bytes(16), compression=1, t274=(3, 1, 6), t40000=(1, 4_000_000, 8))
        lean = tiff.pixels_only(data)
        kept = tiff.read_directory(lean).entries
        self.assertEqual(sorted(kept), [256, 257, 258, 259, 262, 273, 277, 278, 279])
        self.assertEqual(lean[-8:], bytes(8), "a page seems to follow")

    def test_a_broken_exif_block_means_upright(self):
        for block in (
            b"",
            b"II",
            b"II*\0",
            b"XX*\0\x08\0\0\0",
            b"II*\0\xff\xff\xff\xff",
            b"MM\0*\0\0\0\x08\0\x05",
            b"\0" * 50,
        ):
            with self.subTest(block):
                self.assertEqual(tiff.exif_orientation(block), 1)


if __name__ == "__main__":
    unittest.main()
