"""The work on a video in its child, from the file to lines and an annotated video."""

import io
import json
import os
import random
import subprocess
import sys
import tempfile
import textwrap
import unittest
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from imgdetect import boxes, config
from imgdetect.detection import DetectOptions, VideoOptions
from imgdetect.errors import (
    Busy,
    Conflict,
    DetectorTooSlow,
    ImageTooLarge,
    InvalidRequest,
    Problem,
    TooMuchWork,
    UnreadableVideo,
    UploadTooLarge,
    VideoTooLong,
    VideoUnavailable,
)
from imgdetect.service import DetectionService
from imgdetect.video_headers import read_video_header
from imgdetect.videos import Videos
from tests.app import IN_MEMORY
from tests.films import SIZE_WH, blank, face, film, frames_of, picture, times_of, with_duration, with_size
from tests.live_server import RESTAPI

FACE = VideoOptions(DetectOptions("face", min_neighbors=5))


class VideoTest(unittest.TestCase):
    """A test class whose tests share one service."""

    settings = {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.service = DetectionService.open(config.load(IN_MEMORY | cls.settings))
        cls.addClassCleanup(cls.service.close)
        cls.videos = Videos(cls.service)

    def watch(self, data, options=FACE, videos=None, heard=lambda progress: None):
        """The summary, the lines and the annotated video of a video."""
        videos = videos or self.videos
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as lines, tempfile.TemporaryFile() as made:
            source.write(data)
            source.flush()
            admitted = videos.admit(source, options)
            summary = videos.watch(admitted, source, lines, made, heard)
            lines.seek(0)
            made.seek(0)
            return summary, [json.loads(line) for line in lines], made.read()

    def assertFollows(self, lines):
        """One face on every line, where it is, in one track."""
        for line in lines:
            self.assertEqual(len(line["detections"]), 1, line)
            found, true = line["detections"][0]["box"], face(line["frame"])
            seen = np.array([[found["x"], found["y"], found["width"], found["height"]]])
            meant = np.array([[true.x, true.y, true.width, true.height]])
            overlap = boxes.box_iou(boxes.xywh_to_xyxy(seen), boxes.xywh_to_xyxy(meant))[0, 0]
            self.assertGreater(overlap, 0.5, (line, true))
        self.assertEqual({line["detections"][0]["track"] for line in lines}, {1})


class FoundTest(VideoTest):
    def test_a_face_is_followed_over_every_frame_in_one_track(self):
        summary, lines, _ = self.watch(film(40))
        self.assertEqual([line["frame"] for line in lines], [*range(40)])
        self.assertFollows(lines)
        self.assertEqual((summary.frames, summary.looked_at, summary.detections, summary.tracks), (40, 40, 40, 1))
        self.assertEqual((summary.width, summary.height, summary.damaged), (*SIZE_WH, 0))
        self.assertAlmostEqual(summary.seconds, 40 / 30, delta=0.1)
        self.assertEqual(summary.engine, self.service.detectors["face"].facts.engine)

    def test_every_container_and_codec_is_read(self):
        for container, codec in (
            ("mov", "libx264"),
            ("matroska", "libx264"),
            ("webm", "libvpx"),
            ("webm", "libvpx-vp9"),
            ("webm", "libsvtav1"),
            ("avi", "mpeg4"),
            ("avi", "mjpeg"),
        ):
            with self.subTest(container=container, codec=codec):
                summary, lines, made = self.watch(film(8, container=container, codec=codec), replace(FACE, every=2))
                self.assertFollows(lines)
                self.assertEqual((summary.frames, len(lines), len(frames_of(made))), (8, 4, 8))

    def test_every_nth_frame_is_looked_at_and_all_are_in_the_annotated_video(self):
        summary, lines, made = self.watch(film(31), replace(FACE, every=10))
        self.assertEqual([line["frame"] for line in lines], [0, 10, 20, 30])
        self.assertEqual((summary.frames, summary.looked_at), (31, 4))
        self.assertEqual(len(frames_of(made)), 31)

    def test_each_line_has_the_time_of_its_frame(self):
        _, lines, _ = self.watch(film(10, rate=10))
        self.assertEqual([line["time_ms"] for line in lines], [100 * n for n in range(10)])

    def test_a_variable_frame_rate_keeps_its_times(self):
        times = [0, 40, 50, 500, 510, 1700]
        summary, lines, made = self.watch(film(6, times_ms=times, container="matroska"))
        self.assertEqual([line["time_ms"] for line in lines], times)
        for got, expected in zip(times_of(made), times, strict=True):
            self.assertAlmostEqual(got, expected, delta=1)
        self.assertGreaterEqual(summary.seconds, 1.7)

    def test_times_that_are_missing_are_made_from_the_rate(self):
        data = film(10, container="avi", codec="mpeg4", rate=20)
        _, lines, _ = self.watch(data)
        self.assertEqual([round(line["time_ms"]) for line in lines], [50 * n for n in range(10)])

    def test_a_video_without_its_picture_in_the_first_frames_finds_it_later(self):
        def late(number, size_wh):
            return (picture if number >= 10 else blank)(number, size_wh)

        _, lines, _ = self.watch(film(20, paint=late))
        self.assertEqual([line["frame"] for line in lines if line["detections"]], [*range(10, 20)])

    def test_nothing_found_is_lines_without_detections(self):
        summary, lines, made = self.watch(film(5, paint=blank))
        self.assertEqual((summary.detections, summary.tracks), (0, 0))
        self.assertEqual([line["detections"] for line in lines], [[]] * 5)
        self.assertEqual(len(frames_of(made)), 5)

    def test_sound_is_left_out(self):
        summary, _, made = self.watch(film(10, sound=True))
        self.assertEqual(summary.frames, 10)
        self.assertNotIn(b"soun", made)

    def test_frames_are_turned_upright_before_they_are_looked_at(self):
        def turned(quarters):
            return lambda number, size_wh: np.rot90(picture(number), quarters)

        for quarters, rotation in ((1, -90), (2, 180), (3, 90)):
            size_wh = SIZE_WH if quarters == 2 else SIZE_WH[::-1]
            with self.subTest(rotation=rotation):
                data = film(6, paint=turned(quarters), size_wh=size_wh, rotation=rotation)
                summary, lines, made = self.watch(data)
                self.assertEqual((summary.width, summary.height), SIZE_WH)
                self.assertFollows(lines)
                self.assertEqual(frames_of(made)[0].shape, (SIZE_WH[1], SIZE_WH[0], 3))

    def test_progress_is_told_in_frames_of_all_frames(self):
        heard = []
        self.watch(film(40), heard=heard.append)
        self.assertEqual({progress.total for progress in heard}, {40})
        done = [progress.done for progress in heard]
        self.assertEqual(done, sorted(done))


class DrawnTest(VideoTest):
    def test_boxes_are_drawn_where_the_face_is(self):
        drawn = frames_of(self.watch(film(20))[2])
        plain = frames_of(film(20))
        for number in (0, 10, 19):
            true = face(number)
            changed = np.abs(drawn[number].astype(int) - plain[number].astype(int)).max(axis=2) > 60
            rows, columns = np.nonzero(changed)
            self.assertLess(abs(columns.min() - true.x), 20)
            self.assertLess(abs(rows.max() - (true.y + true.height)), 20)

    def test_hidden_faces_do_not_show_on_frames_that_were_not_looked_at(self):
        for style in ("blur", "pixelate"):
            options = VideoOptions(DetectOptions("face", min_neighbors=5, style=style), every=6)
            made = self.watch(film(40), options)[2]
            shown = frames_of(made)
            self.assertEqual(len(shown), 40)
            for number, frame in enumerate(shown):
                self.assertLess(self.likeness(frame, number), 0.35, (style, number))
        for number, frame in enumerate(frames_of(film(40))):
            self.assertGreater(self.likeness(frame, number), 0.9, number)

    def likeness(self, frame, number):
        """How much of the fine detail of the face is in a frame: the correlation of what a blur takes away."""
        true = face(number)
        inner = slice(true.y + 5, true.y + true.height - 5), slice(true.x + 5, true.x + true.width - 5)
        detail = [
            (image.astype(float) - cv2.GaussianBlur(image, (0, 0), 2).astype(float))[inner].ravel()
            for image in (cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.cvtColor(picture(number), cv2.COLOR_BGR2GRAY))
        ]
        return np.corrcoef(*detail)[0, 1]

    def test_without_annotation_there_is_no_video(self):
        summary, lines, made = self.watch(film(10), replace(FACE, annotate=False))
        self.assertEqual((made, summary.annotated, len(lines)), (b"", False, 10))

    def test_the_annotated_video_is_h264_with_its_index_at_the_front(self):
        made = self.watch(film(10))[2]
        self.assertLess(made.index(b"moov"), made.index(b"mdat"))
        header = read_video_header(io.BytesIO(made))
        self.assertEqual((header.media_type, header.codec, header.frames), ("video/mp4", "h264", 10))

    def test_odd_sizes_get_one_more_column_and_row(self):
        data = film(3, size_wh=(161, 121), container="avi", codec="mjpeg", paint=blank)
        summary, _, made = self.watch(data)
        self.assertEqual((summary.width, summary.height), (161, 121))
        self.assertEqual(frames_of(made)[0].shape, (122, 162, 3))


class RefusedTest(VideoTest):
    settings = {"max_video_seconds": 5, "max_pixels": 400 * 400, "max_video_bytes": 2_000_000}

    def test_what_is_too_large_is_refused_before_it_is_decoded(self):
        for data, problem in (
            (b"", InvalidRequest),
            (film(1) + bytes(2_000_000), UploadTooLarge),
            (with_size(film(3), 65_535, 65_535), ImageTooLarge),
            (film(2, size_wh=(640, 480), paint=blank), ImageTooLarge),
            (with_duration(film(3), 36_000), VideoTooLong),
        ):
            with tempfile.TemporaryFile() as source:
                source.write(data)
                with self.assertRaises(problem):
                    self.videos.admit(source, FACE)

    def test_a_video_that_lies_about_its_length_is_stopped_when_that_is_seen(self):
        data = film(20, rate=2, paint=blank)
        lying = with_duration(data, 1)
        with self.assertRaises(VideoTooLong):
            self.watch(lying)

    def test_a_video_that_lies_about_its_size_is_stopped_when_that_is_seen(self):
        with self.assertRaises(Problem) as caught:
            self.watch(with_size(film(2, size_wh=(640, 480), paint=blank), 64, 48))
        self.assertIn(caught.exception.status, (422,))

    def test_a_video_of_unknown_length_is_stopped_at_the_limit(self):
        data = film(20, rate=2, paint=blank, options={"movflags": "frag_keyframe+empty_moov"})
        with self.assertRaises(VideoTooLong):
            self.watch(data)

    def test_without_any_frame_it_is_unreadable(self):
        data = film(3)
        at = data.index(b"mdat")
        broken = bytearray(data)
        end = at + 4 + int.from_bytes(data[at - 4 : at], "big") - 8
        broken[at + 4 : end] = bytes(end - at - 4)
        with self.assertRaises(UnreadableVideo):
            self.watch(bytes(broken))

    def test_one_damaged_packet_is_passed_over_and_counted(self):
        data = bytearray(film(20, container="avi", codec="mjpeg", paint=picture))
        places = [at for at in range(len(data)) if data[at : at + 4] == b"00dc"]
        length = int.from_bytes(data[places[7] + 4 : places[7] + 8], "little")
        data[places[7] + 8 : places[7] + 8 + length] = bytes(length)
        summary = self.watch(bytes(data))[0]
        self.assertEqual((summary.frames, summary.damaged), (19, 1))

    def test_changed_bytes_end_as_a_result_or_as_a_problem_of_the_video(self):
        randomly = random.Random(7)
        for container, codec in (("mp4", "libx264"), ("webm", "libvpx"), ("avi", "mpeg4")):
            data = film(6, container=container, codec=codec)
            for _ in range(8):
                changed = bytearray(data)
                for _ in range(20):
                    changed[randomly.randrange(40, len(changed))] = randomly.randrange(256)
                try:
                    self.watch(bytes(changed), replace(FACE, every=3))
                except Problem as problem:
                    self.assertLess(problem.status, 500, problem)
        self.assertFollows(self.watch(film(5))[1])


class WorkTest(VideoTest):
    def videos_with(self, **settings):
        return Videos(
            DetectionService(
                self.service.settings.model_copy(update=settings),
                self.service.database,
                self.service.storage,
                self.service.results,
                self.service.pool,
            )
        )

    def test_more_work_than_a_video_may_cost_is_refused_at_once_where_the_file_tells(self):
        videos = self.videos_with(max_windows=200_000, max_video_seconds=2)
        with self.assertRaisesRegex(TooMuchWork, "every"):
            self.watch(film(60), videos=videos)
        self.assertEqual(self.watch(film(60), replace(FACE, every=60), videos)[0].looked_at, 1)

    def test_more_work_than_a_video_may_cost_is_stopped_where_the_file_does_not_tell(self):
        videos = self.videos_with(max_windows=200_000, max_video_seconds=2)
        data = film(55, options={"movflags": "frag_keyframe+empty_moov"})
        with self.assertRaisesRegex(VideoTooLong, "every"):
            self.watch(data, videos=videos)

    def test_what_is_made_is_bounded(self):
        videos = self.videos_with(max_video_bytes=100_000)
        videos.limits = replace(videos.limits, max_made_bytes=2_000)
        with self.assertRaisesRegex(VideoTooLong, "annotate=false"):
            self.watch(film(30), videos=videos)

    def test_the_whole_work_has_an_end(self):
        self.videos.work_seconds, before = 0.0, self.videos.work_seconds
        self.addCleanup(setattr, self.videos, "work_seconds", before)
        with self.assertRaisesRegex(DetectorTooSlow, "frame"):
            self.watch(film(5))

    def test_switched_off_it_is_unavailable(self):
        with self.assertRaises(VideoUnavailable):
            self.watch(film(1), videos=self.videos_with(video_slots=0))

    def test_one_is_watched_at_once_and_pictures_are_looked_at_meanwhile(self):
        seen = []

        def meanwhile(progress):
            if not seen:
                with self.assertRaises(Busy):
                    self.watch(film(1))
                seen.append(self.service.pool.run(1, "warm_up", "face"))

        self.watch(film(5), heard=meanwhile)
        self.assertEqual(seen, [None])
        self.assertEqual(self.watch(film(1))[0].frames, 1)

    def test_what_its_caller_raises_ends_the_child(self):
        def cancel(progress):
            raise Conflict("cancelled")

        with self.assertRaises(Conflict):
            self.watch(film(30), heard=cancel)
        self.assertEqual(self.watch(film(1))[0].frames, 1)


class MemoryTest(unittest.TestCase):
    SCRIPT = """
        import sys
        from imgdetect import detectors, detection, images, video
        from imgdetect.video_headers import read_video_header
        images.use_one_thread()
        detector = detectors.create("face", "haar:face", working_pixels=10**6)
        options = detection.VideoOptions(detector.resolve(detection.DetectOptions("face", style="blur")), every=5)
        limits = detection.VideoLimits(10**6, 10**4, 1e3, 10**5, 10**12, 10**9)
        files = [open(name, "r+b") for name in sys.argv[1:]]
        header = read_video_header(files[0])
        for progress in video.watch(detector, header, options, limits, *(file.fileno() for file in files)):
            pass
        # Not ru_maxrss, into which the memory of the parent before exec counts.
        lines = open('/proc/self/status').read().splitlines()
        print(next(line.split()[1] for line in lines if line.startswith('VmHWM')))
    """

    def peak_kib(self, count):
        with tempfile.TemporaryDirectory() as folder:
            names = [Path(folder, name) for name in ("film", "lines", "made")]
            for path, data in zip(names, (film(count), b"", b""), strict=True):
                path.write_bytes(data)
            done = subprocess.run(
                [sys.executable, "-c", textwrap.dedent(self.SCRIPT), *names],
                env=os.environ | {"PYTHONPATH": str(RESTAPI)},
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        self.assertEqual(done.returncode, 0, done.stderr)
        return int(done.stdout)

    def test_memory_does_not_grow_with_the_length(self):
        # The 540 more frames are 124 MB as arrays, and 62 MB as they are decoded.
        self.assertLess(self.peak_kib(600) - self.peak_kib(60), 12 * 1024)
