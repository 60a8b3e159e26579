"""What a file says of itself: type, size, orientation, alpha; and what is taken away before it is decoded."""

from __future__ import annotations

import struct
import unittest

import numpy as np
from PIL import Image

from imgdetect import headers, images
from imgdetect.errors import UnreadableImage, UnsupportedImage
from tests import benign, hostile


def exif(orientation: int) -> bytes:
    return b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 274, 3, 1, orientation, 0) + bytes(4)


def jpeg_exif(orientation: int) -> bytes:
    return benign.jpeg_segment(0xE1, b"Exif\0\0" + exif(orientation))


class SniffTest(unittest.TestCase):
    def test_the_first_bytes_decide(self):
        for start, media_type in (
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"\x89PNG\r\n\x1a\n", "image/png"),
            (b"GIF87a", "image/gif"),
            (b"GIF89a", "image/gif"),
            (b"II*\0", "image/tiff"),
            (b"MM\0*", "image/tiff"),
            (b"II+\0", "image/tiff"),
            (b"RIFF\0\0\0\0WEBP", "image/webp"),
            (b"BM" + bytes(12) + b"\x28\0\0\0", "image/bmp"),
        ):
            with self.subTest(start):
                self.assertEqual(headers.sniff(start + bytes(20)), media_type)

    def test_it_says_what_to_do_with_a_phone_picture(self):
        for brand, name in ((b"heic", "HEIC"), (b"mif1", "HEIC"), (b"avif", "AVIF")):
            with self.subTest(brand), self.assertRaises(UnsupportedImage) as caught:
                headers.sniff(b"\0\0\0\x18ftyp" + brand + bytes(40))
            self.assertTrue(caught.exception.detail.startswith(name))
            self.assertIn("JPEG", caught.exception.detail)

    def test_an_avif_with_a_general_brand_first_is_named_avif(self):
        with self.assertRaises(UnsupportedImage) as caught:
            headers.sniff(b"\0\0\0\x20ftypmif1\0\0\0\0mif1avif" + bytes(20))
        self.assertTrue(caught.exception.detail.startswith("AVIF"))

    def test_it_names_jpeg_2000(self):
        for make in (hostile.NOT_IMAGES["jpeg_2000"], hostile.NOT_IMAGES["jpeg_2000_stream"]):
            with self.assertRaises(UnsupportedImage) as caught:
                headers.sniff(make())
            self.assertTrue(caught.exception.detail.startswith("JPEG 2000"))

    def test_the_start_of_a_signature_is_a_cut_file_not_another_type(self):
        for start in (b"\xff", b"\xff\xd8", b"\x89PNG\r", b"GIF8", b"II*", b"RIFF\0\0", b"BM\0\0\0"):
            with self.subTest(start), self.assertRaises(UnreadableImage):
                headers.sniff(start)


class JpegTest(unittest.TestCase):
    def test_as_many_scans_as_the_limit_are_taken(self):
        plain = benign.VALID["jpeg_progressive"]()
        last = plain[plain.rindex(b"\xff\xda") : -2]
        spare = headers.MAX_JPEG_SCANS - plain.count(b"\xff\xda")
        headers.read_header(plain[:-2] + last * spare + plain[-2:])
        with self.assertRaisesRegex(UnreadableImage, "scans"):
            headers.read_header(plain[:-2] + last * (spare + 1) + plain[-2:])

    def test_as_many_segments_as_the_limit_are_taken(self):
        plain = benign.jpeg()
        used = sum(1 for _ in headers._jpeg_segments(plain))
        comment = benign.jpeg_segment(0xFE, b"")
        spare = headers.MAX_JPEG_SEGMENTS - used
        self.assertEqual(headers.read_header(benign.jpeg_with(*[comment] * spare)).size_wh, benign.SIZE_WH)
        with self.assertRaisesRegex(UnreadableImage, "segments"):
            headers.read_header(benign.jpeg_with(*[comment] * (spare + 1)))

    def test_a_thumbnail_inside_a_segment_is_not_the_picture(self):
        thumbnail = benign.saved(benign.corners((16, 8)), "JPEG")
        data = benign.jpeg_with(benign.jpeg_segment(0xED, thumbnail))
        self.assertEqual(headers.read_header(data).size_wh, benign.SIZE_WH)
        with self.assertRaises(UnreadableImage):
            headers.read_header(data[:-40])

    def test_the_first_exif_block_counts(self):
        data = benign.jpeg_with(jpeg_exif(6), jpeg_exif(3))
        self.assertEqual(headers.read_header(data).orientation, 6)
        self.assertEqual(headers.read_header(benign.jpeg_with(jpeg_exif(1), jpeg_exif(3))).orientation, 1)

    def test_a_marker_far_behind_is_found(self):
        # The search changes its way after 4 kB and works in blocks of 1 MiB.
        for size in (0, 1, 4_094, 4_095, 4_096, 4_097, 1 << 20, (1 << 20) + 4_094, (1 << 20) + 4_095, 3_000_000):
            for filling in (b"a", b"\xff"):
                with self.subTest(size, filling=filling):
                    data = b"\xff\xd8" + filling * size + b"\xff\xd9" + b"tail"
                    start, body = headers._next_marker(data, 2)
                    self.assertEqual((data[body - 2 : body], body), (b"\xff\xd9", size + 4))
                    self.assertEqual(start, size + 2)

    def test_stuffed_bytes_and_restarts_are_no_markers(self):
        for inside in (b"\xff\0" * 5_000, b"\xff\xd0\xff\xd7" * 3_000):
            data = b"\xff\xd8" + inside + b"\xff\xd9"
            self.assertEqual(headers._next_marker(data, 2), (len(data) - 2, len(data)))

    def test_filling_between_segments_is_skipped(self):
        data = benign.jpeg_with(b"\xff\xff\xff")
        self.assertEqual(headers.read_header(data).size_wh, benign.SIZE_WH)

    def test_a_picture_that_packs_well_is_not_taken_for_empty(self):
        flat = Image.new("L", (3_000, 3_000), 128)
        for options in ({}, {"progressive": True}, {"optimize": True, "quality": 10}):
            with self.subTest(options):
                self.assertEqual(headers.read_header(benign.saved(flat, "JPEG", **options)).size_wh, (3_000, 3_000))

    def test_without_a_frame_or_scan_it_is_unreadable(self):
        plain = benign.jpeg()
        frame, scan = plain.index(b"\xff\xc0"), plain.index(b"\xff\xda")
        (length,) = struct.unpack_from(">H", plain, frame + 2)
        for data in (plain[:frame] + plain[frame + 2 + length :], plain[:scan] + b"\xff\xd9"):
            with self.assertRaises(UnreadableImage):
                headers.read_header(data)


class PngTest(unittest.TestCase):
    def test_as_many_chunks_as_the_limit_are_taken(self):
        used = sum(1 for _ in headers._png_chunks(benign.png()))
        chunk, spare = benign.png_chunk(b"prVt", b""), headers.MAX_PNG_CHUNKS - used
        headers.read_header(benign.png_with(chunk * spare))
        with self.assertRaisesRegex(UnreadableImage, "chunks"):
            headers.read_header(benign.png_with(chunk * (spare + 1)))

    def test_an_orientation_behind_the_pixels_counts(self):
        data = benign.png_with(benign.png_chunk(b"eXIf", exif(8)), after=True)
        self.assertEqual(headers.read_header(data).size_wh, benign.SIZE_WH[::-1])

    def test_a_transparent_grey_is_given_in_eight_bits(self):
        for depth, stored, level in ((1, 1, 255), (2, 1, 85), (4, 15, 255), (8, 76, 76), (16, 0x4C4C, 0x4C)):
            with self.subTest(depth):
                data = benign.png_header(8, 8, depth, 0) + benign.png_chunk(b"tRNS", struct.pack(">H", stored))
                self.assertEqual(headers.read_header(data + benign.png_end(b"")).transparent_grey, level)

    def test_without_its_header_first_it_is_unreadable(self):
        with self.assertRaises(UnreadableImage):
            headers.read_header(b"\x89PNG\r\n\x1a\n" + benign.png_end(b"x" * 40))


class OtherTypesTest(unittest.TestCase):
    def test_webp_of_all_three_kinds(self):
        small = benign.corners((33, 17))
        for options, alpha in (({}, False), ({"lossless": True}, False), ({"exif": b"Exif\0\0" + exif(6)}, False)):
            with self.subTest(options):
                header = headers.read_header(benign.saved(small, "WEBP", **options))
                self.assertEqual((header.width, header.height, header.alpha), (33, 17, alpha))
        for options in ({}, {"lossless": True}):
            header = headers.read_header(benign.saved(benign.half_clear(), "WEBP", **options))
            self.assertTrue(header.alpha)

    def test_webp_without_a_picture_is_unreadable(self):
        with self.assertRaises(UnreadableImage):
            headers.read_header(b"RIFF\x0c\0\0\0WEBPjunk\0\0\0\0")

    def test_bmp_old_and_top_down(self):
        rows = np.asarray(benign.corners())[..., ::-1]
        old = b"BM" + struct.pack("<IHHIIHHHH", 0, 0, 0, 26, 12, *benign.SIZE_WH, 1, 24) + rows[::-1].tobytes()
        downwards = struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 64, -48, 1, 24, 0, 0, 0, 0, 0, 0)
        for data in (old, b"BM" + downwards + rows.tobytes()):
            self.assertEqual(headers.read_header(data).size_wh, benign.SIZE_WH)
            np.testing.assert_array_equal(images.decode(data), rows)

    def test_gif_without_a_frame_is_unreadable(self):
        with self.assertRaises(UnreadableImage):
            headers.read_header(b"GIF89a" + struct.pack("<HHBBB", 5, 5, 0, 0, 0) + b";" + bytes(20))

    def test_a_gif_frame_smaller_than_its_screen_lies_where_it_belongs(self):
        data = bytearray(benign.saved(Image.new("RGB", (10, 10), benign.RED), "GIF"))
        frame = data.index(struct.pack("<BHHHH", 0x2C, 0, 0, 10, 10))
        struct.pack_into("<HH", data, 6, 40, 30)
        struct.pack_into("<HH", data, frame + 1, 20, 5)
        image = images.decode(bytes(data))
        self.assertEqual(image.shape, (30, 40, 3))
        self.assertEqual(tuple(image[10, 25, ::-1]), benign.RED)

    def test_a_size_of_zero_is_unreadable(self):
        gif = bytearray(benign.VALID["gif"]())
        gif[6:8] = b"\0\0"
        for data in (bytes(gif), benign.png_header(5, 0) + benign.png_end(b"")):
            with self.assertRaises(UnreadableImage):
                headers.read_header(data)


class WithoutExtrasTest(unittest.TestCase):
    def test_the_pixels_stay_as_they_were(self):
        for name, (make, _) in benign.BENIGN.items():
            if "orientation" in name:
                continue
            data = make()
            with self.subTest(name):
                np.testing.assert_array_equal(images.decode(headers.without_extras(data)), images.decode(data))

    def test_what_makes_no_pixels_is_gone(self):
        text = benign.png_chunk(b"tEXt", b"Comment\0secret")
        self.assertEqual(headers.without_extras(benign.png_with(text)), benign.png())
        note = benign.jpeg_segment(0xFE, b"secret")
        self.assertEqual(headers.without_extras(benign.jpeg_with(note, jpeg_exif(6))), benign.jpeg())
        self.assertEqual(headers.without_extras(benign.VALID["gif"]() + b"secret"), benign.VALID["gif"]())

    def test_nothing_is_copied_when_nothing_has_to_go(self):
        for name in ("jpeg", "webp", "bmp"):
            data = benign.VALID[name]()
            self.assertIs(headers.without_extras(data), data)

    def test_adobes_word_on_colours_stays(self):
        data = benign.saved(benign.corners().convert("CMYK"), "JPEG")
        self.assertIn(b"Adobe", headers.without_extras(data))

    def test_no_orientation_is_left(self):
        for kind in ("JPEG", "PNG", "TIFF"):
            with self.subTest(kind):
                lean = headers.without_extras(benign.oriented(kind, 6))
                self.assertEqual(headers.read_header(lean).orientation, 1)


if __name__ == "__main__":
    unittest.main()
