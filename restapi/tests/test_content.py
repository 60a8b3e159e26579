"""What an untrusted upload can contain, and the answer it must get; each file is real and made here."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imgdetect import annotate, images
from imgdetect.detection import Box, Detection
from tests import benign, hostile
from tests.look_at_uploads import LIMITS

TESTS = Path(__file__).parent
MIB_MORE = 20
SECONDS = 1.0


def looked_at(factories: Mapping[str, hostile.Factory], *flags: str) -> tuple[dict[str, Any], str]:
    """What a fresh process makes of the files, and what it wrote to its standard error."""
    with tempfile.TemporaryDirectory() as folder:
        for name, make in factories.items():
            (Path(folder) / name).write_bytes(make())
        plain = {name: value for name, value in os.environ.items() if not name.startswith("IMGDETECT_")}
        done = subprocess.run(
            [sys.executable, "-m", "tests.look_at_uploads", folder, *flags],
            cwd=TESTS.parent,
            env=plain,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    if done.returncode:
        raise AssertionError(f"the process ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout), done.stderr


@cache
def all_hostile() -> tuple[dict[str, Any], str]:
    return looked_at({name: make for name, (make, _) in hostile.HOSTILE.items()})


def decoded(name: str) -> np.ndarray:
    return images.decode(benign.BENIGN[name][0]())


def quarters(image: np.ndarray) -> list[tuple[int, ...]]:
    """RGB in the middle of the four quarters: top left, top right, bottom left, bottom right."""
    height, width = image.shape[:2]
    return [
        tuple(int(v) for v in image[y, x, ::-1])
        for y in (height // 4, height * 3 // 4)
        for x in (width // 4, width * 3 // 4)
    ]


class HostileUploadTest(unittest.TestCase):
    def test_every_hostile_upload_gets_an_allowed_answer(self):
        seen, _ = all_hostile()
        self.assertEqual(set(seen), set(hostile.HOSTILE))
        for name, (_, allowed) in hostile.HOSTILE.items():
            with self.subTest(name):
                self.assertIn(seen[name]["status"], allowed)

    def test_no_library_writes_to_the_log(self):
        self.assertEqual(all_hostile()[1], "")

    def test_chunk_bombs_take_less_than_a_second(self):
        seen, _ = all_hostile()
        for name in hostile.CHUNK_BOMBS:
            with self.subTest(name):
                self.assertLess(seen[name]["cpu_seconds"], SECONDS)

    def test_many_scans_are_refused_before_decoding(self):
        seen, _ = all_hostile()
        self.assertEqual(seen["jpeg_many_scans"]["slug"], "unreadable-image")
        self.assertFalse(seen["jpeg_many_scans"]["decoded"])

    def test_what_is_no_image_is_refused_by_content(self):
        seen, _ = all_hostile()
        for name in hostile.NOT_IMAGES:
            with self.subTest(name):
                self.assertEqual(seen[name]["slug"], "unsupported-image")

    def test_cut_files_of_every_type_are_unreadable_before_decoding(self):
        seen, _ = all_hostile()
        for kind in hostile.VALID:
            with self.subTest(kind):
                self.assertEqual(seen[f"{kind}_truncated"]["slug"], "unreadable-image")
                self.assertFalse(seen[f"{kind}_truncated"]["decoded"])


class PixelBombTest(unittest.TestCase):
    def test_bombs_are_refused_without_decoding_a_pixel(self):
        seen, _ = all_hostile()
        for name in hostile.PIXEL_BOMBS:
            with self.subTest(name):
                self.assertEqual(seen[name]["slug"], "image-too-large")
                self.assertFalse(seen[name]["decoded"])

    def test_the_decoder_itself_refuses_bombs_with_little_memory(self):
        seen, _ = looked_at(hostile.PIXEL_BOMBS, "--decode-only")
        for name in hostile.PIXEL_BOMBS:
            with self.subTest(name):
                self.assertEqual(seen[name]["slug"], "unreadable-image")
                self.assertLess(seen[name]["grown_mib"], MIB_MORE)

    def test_no_hostile_upload_takes_much_memory(self):
        seen, _ = all_hostile()
        for name in hostile.HOSTILE:
            with self.subTest(name):
                self.assertLess(seen[name]["grown_mib"], MIB_MORE)

    def test_25_million_pixels_take_seven_bytes_each_at_most(self):
        seen, _ = looked_at({"photo": lambda: benign.saved(benign.corners((5_000, 5_000)), "JPEG")})
        self.assertEqual(seen["photo"]["status"], 200)
        self.assertLess(seen["photo"]["grown_mib"], 7 * 25_000_000 / 2**20)


class OddUploadTest(unittest.TestCase):
    def test_every_odd_picture_is_read_at_its_upright_size(self):
        for name, (make, size_wh) in benign.BENIGN.items():
            with self.subTest(name):
                data = make()
                upload = images.read_upload(data, "x", **LIMITS)
                self.assertEqual((upload.width, upload.height), size_wh)
                self.assertEqual(images.decode(data).shape, (size_wh[1], size_wh[0], 3))

    def test_orientations_0_to_8_come_out_upright(self):
        flips = Image.Transpose
        turns = (None, None, flips.FLIP_LEFT_RIGHT, flips.ROTATE_180, flips.FLIP_TOP_BOTTOM)
        turns += (flips.TRANSPOSE, flips.ROTATE_270, flips.TRANSVERSE, flips.ROTATE_90)
        for orientation, turn in enumerate(turns):
            upright = benign.corners() if turn is None else benign.corners().transpose(turn)
            expected = quarters(np.asarray(upright)[..., ::-1])
            for kind in ("jpeg", "png", "webp", "tiff"):
                with self.subTest(kind, orientation=orientation):
                    self.assert_colours(quarters(decoded(f"{kind}_orientation_{orientation}")), expected)

    def test_colours_are_right_in_every_form(self):
        plain = [benign.RED, benign.GREEN, benign.BLUE, benign.YELLOW]
        on_white = [tuple(round(v * 128 / 255 + 127) for v in colour) for colour in plain]
        grey = [(76,) * 3, (150,) * 3, (29,) * 3, (226,) * 3]
        grey_on_white = [tuple(round(v * 128 / 255 + 127) for v in colour) for colour in grey]
        expected = dict.fromkeys(set(benign.VALID) - {"tiff_fax"}, plain)
        expected |= dict.fromkeys(("png_alpha", "tiff_alpha", "webp_alpha"), on_white)
        # OpenCV reads no alpha beside one channel of a TIFF: the grey stays as strong as it is stored.
        expected |= {"jpeg_grey": grey, "png_grey_alpha": grey_on_white, "tiff_grey_alpha": grey}
        others = "jpeg_cmyk tiff_cmyk png_16_bit png_16_bit_alpha tiff_16_bit png_palette tiff_palette bmp_palette"
        expected |= dict.fromkeys([*others.split(), "png_interlaced"], plain)
        for name, colours in expected.items():
            with self.subTest(name):
                self.assert_colours(quarters(decoded(name)), colours)

    def test_one_bit_pictures_keep_every_pixel(self):
        expected = np.asarray(benign.corners().convert("1").convert("RGB"))
        for name in ("png_1_bit", "tiff_1_bit", "tiff_fax"):
            with self.subTest(name):
                np.testing.assert_array_equal(decoded(name), expected)

    def test_a_transparent_grey_or_colour_becomes_white(self):
        for mode, clear, palette in (("L", 76, False), ("RGB", benign.RED, False), ("P", 0, True)):
            with self.subTest(mode):
                image = benign.corners().quantize(4) if palette else benign.corners().convert(mode)
                clear_index = image.getpixel((2, 2)) if palette else clear
                image = images.decode(benign.saved(image, "PNG", transparency=clear_index))
                self.assertEqual(quarters(image)[0], (255, 255, 255))
                self.assertNotEqual(quarters(image)[1], (255, 255, 255))

    def test_of_an_animation_the_first_frame_is_seen(self):
        plain = [benign.RED, benign.GREEN, benign.BLUE, benign.YELLOW]
        for name in ("gif_animation", "png_animation", "webp_animation", "tiff_pages"):
            with self.subTest(name):
                self.assert_colours(quarters(decoded(name)), plain)

    def test_what_hides_in_a_polyglot_is_not_in_the_processed_picture(self):
        for name, make in benign.POLYGLOTS.items():
            for media_type in ("image/jpeg", "image/png", "image/webp"):
                with self.subTest(name, media_type=media_type):
                    processed = images.encode(images.decode(make()), media_type)
                    for part in (b"<script", b"alert", b"<?php", b"PK\3\4"):
                        self.assertNotIn(part, processed)

    def test_places_and_other_metadata_are_not_in_the_processed_picture(self):
        exif = Image.Exif()
        exif[0x010F] = "SecretCameraMaker"
        exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
        for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
            data = benign.saved(benign.corners(), kind, exif=exif)
            self.assertIn(b"SecretCameraMaker", data)
            for media_type in ("image/jpeg", "image/png", "image/webp"):
                with self.subTest(kind, media_type=media_type):
                    processed = images.encode(images.decode(data), media_type)
                    self.assertNotIn(b"SecretCameraMaker", processed)
                    with Image.open(io.BytesIO(processed)) as read:
                        self.assertEqual(dict(read.getexif()), {})
                        self.assertFalse({"exif", "icc_profile", "xmp", "comment"} & set(read.info))

    def test_the_smallest_picture_can_be_annotated_and_encoded(self):
        image = decoded("one_pixel")
        found = [Detection("face", "face", Box(0, 0, 1, 1), 1.0, 3)]
        for style in ("boxes", "blur", "pixelate"):
            with self.subTest(style):
                drawn = annotate.draw(image, found, style, True)
                self.assertEqual(images.decode(images.encode(drawn, "image/png")).shape, (1, 1, 3))

    def assert_colours(self, seen: list[tuple[int, ...]], expected: list[tuple[int, ...]]) -> None:
        """Equal but for what lossy packing may change."""
        np.testing.assert_allclose(seen, expected, atol=6)


if __name__ == "__main__":
    unittest.main()
