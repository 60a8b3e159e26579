"""What a video says of itself, read without decoding."""

import io
import random
import struct
import tempfile
import unittest
from contextlib import suppress
from fractions import Fraction

from imgdetect.errors import Problem, UnreadableVideo, UnsupportedVideo
from imgdetect.video_files import Writer
from imgdetect.video_headers import ACCEPTED, read_video_header
from tests.app import astronaut
from tests.films import SIZE_WH, film, picture, with_duration, with_size

KINDS = {
    "video/mp4": [("mp4", "libx264", "h264"), ("mp4", "mpeg4", "mpeg4")],
    "video/quicktime": [("mov", "libx264", "h264"), ("mov", "mjpeg", "mjpeg")],
    "video/webm": [("webm", "libvpx", "vp8"), ("webm", "libvpx-vp9", "vp9"), ("webm", "libsvtav1", "av1")],
    "video/x-matroska": [("matroska", "libx264", "h264"), ("matroska", "libvpx", "vp8")],
    "video/x-msvideo": [("avi", "mpeg4", "mpeg4"), ("avi", "mjpeg", "mjpeg"), ("avi", "libx264", "h264")],
}


def read(data):
    return read_video_header(io.BytesIO(data))


class HeaderTest(unittest.TestCase):
    def test_every_accepted_kind_is_told_with_its_size_and_length(self):
        self.assertEqual(set(KINDS), set(ACCEPTED))
        for media_type, made in KINDS.items():
            for container, codec, name in made:
                with self.subTest(container=container, codec=codec):
                    header = read(film(10, container=container, codec=codec, rate=10))
                    self.assertEqual((header.media_type, header.codec), (media_type, name))
                    self.assertEqual((header.width, header.height), SIZE_WH)
                    self.assertAlmostEqual(header.seconds, 1, delta=0.21)
                    if container != "webm":
                        self.assertAlmostEqual(header.frames or 10, 10, delta=2)

    def test_a_video_with_sound_before_or_after_its_picture_is_told_by_its_picture(self):
        for container in ("mp4", "matroska", "mov"):
            header = read(film(10, container=container, sound=True))
            self.assertEqual((header.codec, header.width), ("h264", SIZE_WH[0]))

    def test_fragmented_and_unfinished_recordings_have_no_length(self):
        data = film(10, options={"movflags": "frag_keyframe+empty_moov"})
        self.assertEqual((read(data).seconds, read(data).frames), (None, None))

    def test_an_index_at_the_front_is_read_as_well(self):
        with tempfile.TemporaryFile() as file:
            with Writer(file.fileno(), SIZE_WH, Fraction(10)) as writer:
                for number in range(10):
                    writer.write(picture(number), number * 100)
            data = file.read()
        self.assertLess(data.index(b"moov"), data.index(b"mdat"))
        self.assertAlmostEqual(read(data).seconds, 1, delta=0.21)

    def test_claims_are_told_as_they_are(self):
        self.assertAlmostEqual(read(with_duration(film(3), 36_000)).seconds, 36_000, delta=1)
        header = read(with_size(film(3), 65_535, 65_535))
        self.assertEqual((header.width, header.height), (65_535, 65_535))

    def test_what_is_no_video_is_refused_with_the_list_of_what_is(self):
        for data in (
            b"",
            b"x",
            b"some text, named film.mp4 " * 100,
            astronaut(),
            b"#EXTM3U\n",
            b"RIFF\0\0\0\0WEBPVP8 ",
        ):
            with self.assertRaises(UnsupportedVideo) as caught:
                read(data)
            self.assertEqual(caught.exception.members["accepted"], [*ACCEPTED])

    def test_another_codec_is_refused_by_its_name(self):
        with self.assertRaisesRegex(UnsupportedVideo, "'FLV1'.*h264"):
            read(film(3, container="avi", codec="flv"))

    def test_a_video_that_ends_in_the_middle_is_unreadable(self):
        for container, codec in (("mp4", "libx264"), ("mov", "libx264"), ("matroska", "libx264"), ("avi", "mpeg4")):
            data = film(10, container=container, codec=codec)
            for length in (len(data) // 3, len(data) // 2, len(data) - 100):
                with self.subTest(container=container, length=length), self.assertRaises(UnreadableVideo):
                    read(data[:length])

    def test_without_a_picture_it_is_unreadable(self):
        data = film(3, sound=True).replace(b"vide", b"soun")
        with self.assertRaisesRegex(UnreadableVideo, "no picture"):
            read(data)

    def test_boxes_that_never_end_or_are_too_many_are_refused(self):
        for box in (struct.pack(">I4s", 8, b"free"), struct.pack(">I4sQ", 1, b"free", 16)):
            with self.assertRaisesRegex(UnreadableVideo, "parts"):
                read(film(1)[:32] + box * 30_000)
        for length in (0, 2, 7):
            with self.assertRaises(UnreadableVideo):
                read(struct.pack(">I4s", 24, b"ftyp") + b"isom" + bytes(12) + struct.pack(">I4s", length, b"moov"))

    def test_changed_bytes_give_a_header_or_a_problem_and_nothing_else(self):
        randomly = random.Random(20)
        for container, codec in (("mp4", "libx264"), ("webm", "libvpx"), ("avi", "mpeg4")):
            data = film(3, container=container, codec=codec)
            for _ in range(300):
                changed = bytearray(data)
                for _ in range(randomly.randrange(1, 12)):
                    changed[randomly.randrange(4, len(changed))] = randomly.randrange(256)
                with suppress(Problem):
                    read(bytes(changed[: randomly.randrange(20, len(changed))]))

    def test_noise_behind_a_signature_gives_a_problem(self):
        randomly = random.Random(21)
        for start in (b"\0\0\0\x18ftypisom", b"\x1aE\xdf\xa3", b"RIFF\xff\xff\0\0AVI "):
            for _ in range(100):
                with self.assertRaises(Problem):
                    read(start + randomly.randbytes(500))
