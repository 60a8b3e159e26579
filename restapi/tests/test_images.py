"""Reading uploads, decoding, encoding and scaling down."""

from __future__ import annotations

import hashlib
import io
import os
import random
import tempfile
import threading
import unittest
from unittest import mock

import numpy as np
from PIL import Image

from imgdetect import images
from imgdetect.errors import ImageTooLarge, InvalidRequest, Problem, UnreadableImage, UnsupportedImage, UploadTooLarge
from tests import benign

LIMITS = {"max_bytes": 25_000_000, "max_pixels": 25_000_000, "max_side": 16_384}
TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif", "bmp": "image/bmp"}
BITS_TRIED, CUTS_TRIED = 60, 20


class ReadUploadTest(unittest.TestCase):
    def test_it_tells_type_size_and_hash(self):
        for kind, media_type in (TYPES | {"tiff": "image/tiff"}).items():
            with self.subTest(kind):
                data = benign.VALID[kind]()
                upload = images.read_upload(data, "photo", **LIMITS)
                self.assertEqual((upload.media_type, upload.width, upload.height), (media_type, *benign.SIZE_WH))
                self.assertEqual(upload.sha256, hashlib.sha256(data).hexdigest())
                self.assertIs(upload.data, data)
                self.assertIn(media_type, images.ACCEPTED)

    def test_the_name_is_kept_and_never_believed(self):
        upload = images.read_upload(benign.png(), "../../etc/passwd.jpg", **LIMITS)
        self.assertEqual((upload.filename, upload.media_type), ("../../etc/passwd.jpg", "image/png"))

    def test_it_reads_without_decoding(self):
        with mock.patch.object(images.cv2, "imdecode", side_effect=AssertionError("decoded")):
            for kind, make in benign.VALID.items():
                with self.subTest(kind):
                    images.read_upload(make(), "x", **LIMITS)

    def test_it_refuses_an_empty_file(self):
        with self.assertRaises(InvalidRequest) as caught:
            images.read_upload(b"", "x.jpg", **LIMITS)
        self.assertEqual(caught.exception.members["errors"][0]["field"], "image")

    def test_it_refuses_a_text_file_and_lists_what_it_takes(self):
        with self.assertRaises(UnsupportedImage) as caught:
            images.read_upload(b"just words, whatever the name", "x.jpg", **LIMITS)
        self.assertEqual(caught.exception.members["accepted"], list(images.ACCEPTED))

    def test_it_refuses_more_bytes_than_the_limit_and_takes_exactly_it(self):
        data = benign.png()
        images.read_upload(data, "x", **LIMITS | {"max_bytes": len(data)})
        with self.assertRaises(UploadTooLarge) as caught:
            images.read_upload(data, "x", **LIMITS | {"max_bytes": len(data) - 1})
        self.assertEqual(caught.exception.members["max_bytes"], len(data) - 1)

    def test_it_refuses_more_pixels_than_the_limit_and_takes_exactly_it(self):
        pixels = benign.SIZE_WH[0] * benign.SIZE_WH[1]
        images.read_upload(benign.png(), "x", **LIMITS | {"max_pixels": pixels})
        with self.assertRaises(ImageTooLarge) as caught:
            images.read_upload(benign.png(), "x", **LIMITS | {"max_pixels": pixels - 1})
        members = caught.exception.members
        self.assertEqual((members["max_pixels"], members["width"], members["height"]), (pixels - 1, *benign.SIZE_WH))

    def test_it_refuses_a_longer_side_than_the_limit_and_takes_exactly_it(self):
        images.read_upload(benign.png(), "x", **LIMITS | {"max_side": 64})
        for make in (benign.png, lambda: benign.oriented("PNG", 6)):
            with self.assertRaises(ImageTooLarge):
                images.read_upload(make(), "x", **LIMITS | {"max_side": 63})


class DecodeTest(unittest.TestCase):
    def test_it_gives_contiguous_bytes_that_may_be_written(self):
        for name in ("jpeg", "png_alpha", "png_16_bit", "png_grey_alpha", "jpeg_orientation_6", "gif", "tiff_1_bit"):
            with self.subTest(name):
                image = images.decode(benign.BENIGN[name][0]())
                self.assertEqual((image.dtype, image.ndim, image.shape[2]), (np.uint8, 3, 3))
                self.assertTrue(image.flags.c_contiguous)
                image[0, 0] = 1

    def test_a_size_other_than_the_header_claims_is_unreadable(self):
        other = mock.patch.object(images.cv2, "imdecode", return_value=np.zeros((5, 5, 3), np.uint8))
        with other, self.assertRaises(UnreadableImage):
            images.decode(benign.png())

    def test_whatever_the_library_throws_is_unreadable(self):
        for trouble in (images.cv2.error("(-215) at /build/loadsave.cpp"), MemoryError()):
            with self.subTest(type(trouble)), mock.patch.object(images.cv2, "imdecode", side_effect=trouble):
                with self.assertRaises(UnreadableImage) as caught:
                    images.decode(benign.png())
                self.assertNotIn("cpp", str(caught.exception.document()))

    def test_floating_point_pixels_are_unreadable(self):
        data = benign.saved(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF")
        with self.assertRaises(UnreadableImage):
            images.decode(data)

    def test_straight_and_premultiplied_alpha_of_a_tiff_look_the_same(self):
        straight = benign.saved(benign.half_clear(), "TIFF")
        premultiplied = bytearray(benign.saved(self.weakened(), "TIFF"))
        at = premultiplied.index(b"\x52\x01\x03\x00\x01\x00\x00\x00\x02\x00")  # ExtraSamples: 2, straight
        premultiplied[at + 8] = 1
        np.testing.assert_allclose(images.decode(straight), images.decode(bytes(premultiplied)), atol=2)

    def weakened(self) -> Image.Image:
        rgba = np.array(benign.half_clear())
        rgba[..., :3] = rgba[..., :3].astype(np.uint16) * 128 // 255
        return Image.fromarray(rgba)

    def test_only_problems_come_out_of_damaged_files(self):
        for kind, make in benign.VALID.items():
            data, choice = make(), random.Random(kind)
            damaged = [data[: choice.randrange(len(data))] for _ in range(CUTS_TRIED)]
            for _ in range(BITS_TRIED):
                changed = bytearray(data)
                # Half of the changes go where headers are.
                where = len(data) if choice.random() < 0.5 else min(len(data), 200)
                for _ in range(choice.choice((1, 1, 3, 20))):
                    changed[choice.randrange(where)] ^= 1 << choice.randrange(8)
                damaged.append(bytes(changed))
            read = sum(self.survives(one) for one in damaged)
            with self.subTest(kind):
                self.assertLess(read, len(damaged))

    def survives(self, data: bytes) -> bool:
        try:
            upload = images.read_upload(data, "x", **LIMITS)
            self.assertEqual(images.decode(data).shape, (upload.height, upload.width, 3))
        except Problem as problem:
            self.assertIn(problem.status, (400, 415, 422))
            return False
        return True


class SilenceTest(unittest.TestCase):
    """libjpeg and libpng write to descriptor 2 whatever Python thinks of it."""

    def setUp(self):
        self.log = self.enterContext(tempfile.TemporaryFile())
        kept = os.dup(2)
        self.addCleanup(os.close, kept)
        self.addCleanup(os.dup2, kept, 2)
        os.dup2(self.log.fileno(), 2)

    def written(self) -> bytes:
        self.log.seek(0)
        return self.log.read()

    def test_broken_files_write_nothing(self):
        broken_png = bytearray(benign.png())
        broken_png[-20] ^= 255
        with self.assertRaises(UnreadableImage):
            images.decode(bytes(broken_png))
        images.decode(benign.jpeg()[:-2] + bytes(500) + b"\xff\xd9")
        self.assertEqual(self.written(), b"")

    def test_without_it_they_would(self):
        images.cv2.imdecode(np.frombuffer(benign.jpeg()[:-2] + bytes(500) + b"\xff\xd9", np.uint8), 1)
        self.assertIn(b"Corrupt JPEG", self.written())

    def test_afterwards_errors_are_heard_again_from_many_threads(self):
        threads = [threading.Thread(target=lambda: [images.decode(benign.jpeg()) for _ in range(20)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os.write(2, b"heard")
        self.assertEqual(self.written(), b"heard")


class EncodeTest(unittest.TestCase):
    def setUp(self):
        self.image = images.decode(benign.png())

    def test_each_format_is_what_it_says(self):
        for media_type, kind in (("image/jpeg", "JPEG"), ("image/png", "PNG"), ("image/webp", "WEBP")):
            with self.subTest(media_type):
                with Image.open(io.BytesIO(images.encode(self.image, media_type))) as read:
                    self.assertEqual((read.format, read.size), (kind, benign.SIZE_WH))
                    rgb = np.asarray(read.convert("RGB")).astype(int)
                # The middle of the quarters; lossy formats blend the colours where they meet.
                for y, x in ((12, 16), (12, 48), (36, 16), (36, 48)):
                    np.testing.assert_allclose(rgb[y, x], self.image[y, x, ::-1], atol=6)

    def test_png_loses_nothing(self):
        np.testing.assert_array_equal(images.decode(images.encode(self.image, "image/png")), self.image)

    def test_a_part_of_a_picture_can_be_encoded(self):
        part = self.image[3:20, 5:50]
        np.testing.assert_array_equal(images.decode(images.encode(part, "image/png")), part)

    def test_another_type_is_an_error(self):
        with self.assertRaisesRegex(ValueError, "image/gif"):
            images.encode(self.image, "image/gif")

    def test_a_picture_too_long_for_the_format_is_an_error_without_a_library_text(self):
        with self.assertRaisesRegex(ValueError, "^the picture cannot be stored as image/webp$"):
            images.encode(np.zeros((1, 16_384, 3), np.uint8), "image/webp")


class DownscaleTest(unittest.TestCase):
    def test_a_small_picture_stays_the_same_object(self):
        image = np.zeros((40, 50, 3), np.uint8)
        same, factor = images.downscale(image, 2_000)
        self.assertIs(same, image)
        self.assertEqual(factor, 1.0)

    def test_a_large_one_fits_and_keeps_its_shape(self):
        image = np.zeros((1_000, 2_000, 3), np.uint8)
        small, factor = images.downscale(image, 500_000)
        self.assertEqual(small.shape, (500, 1_000, 3))
        self.assertEqual(factor, 0.5)

    def test_thin_pictures_keep_at_least_a_pixel(self):
        for shape in ((1, 16_384, 3), (16_384, 1, 3)):
            with self.subTest(shape):
                small, factor = images.downscale(np.zeros(shape, np.uint8), 10)
                self.assertGreaterEqual(min(small.shape), 1)
                self.assertLess(factor, 1)

    def test_it_takes_the_mean_of_what_it_covers(self):
        checks = np.indices((100, 100)).sum(axis=0) % 2 * 200
        small, _ = images.downscale(np.repeat(checks[..., None], 3, axis=2).astype(np.uint8), 2_500)
        np.testing.assert_array_equal(small, np.full((50, 50, 3), 100))


if __name__ == "__main__":
    unittest.main()
