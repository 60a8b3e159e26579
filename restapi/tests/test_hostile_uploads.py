"""Uploads that mean harm, and odd ones that do not, sent to a live server: the answer, and what is left behind."""

import io
import json
import re
import sqlite3
import tempfile
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import requests
from PIL import Image, ImageOps

from tests.app import astronaut
from tests.benign import POLYGLOTS
from tests.contract import check
from tests.hostile import BENIGN, HOSTILE, PIXEL_BOMBS
from tests.live_server import LiveServerTest
from tests.processes import Family, forget_peak, memory_kib

SLOTS = 2
FACE_XYWH = (181, 80, 90, 99)
# What no client needs to know: places on this machine, our code, the libraries that did the work.
TELLTALE = re.compile(
    r"Traceback|File \"|/(work|tmp|home|usr|app|data|srv)/|\.py\b|line \d+|0x[0-9a-f]{6}|"
    r"opencv|cv2|numpy|pillow|\bPIL\b|libpng|libjpeg|libtiff|libwebp|werkzeug|flask|sqlalchemy|sqlite|Errno|Exception",
    re.IGNORECASE,
)
# GPS, an owner and a serial number, as a camera writes them.
SECRET = "Secret Owner 4711"
# What Pillow tells of a file that holds nothing but pixels.
TECHNICAL = {"jfif", "jfif_version", "jfif_unit", "jfif_density", "loop", "background"}
# All processes of the server together, with two slots and eight large photographs. Measured: 1,040, of which the
# children have 370 each (OpenCV at 25 million pixels) and the process that holds eight uploads 240; pages that
# several of them share are counted for each.
PEAK_MIB = 1_280


def box_of(detection):
    return tuple(detection["box"][name] for name in ("x", "y", "width", "height"))


def overlap(one, other):
    """Intersection over union of two boxes (x, y, width, height)."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0, width) * max(0, height)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int16)


class UploadTest(LiveServerTest):
    """Requests to a server whose temporary files and kept files can be counted."""

    @classmethod
    def setUpClass(cls):
        cls.temporary = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="imgdetect-test-tmp-"))
        cls.settings = {
            "IMGDETECT_SLOTS": str(SLOTS),
            "IMGDETECT_CACHE_URL": "none:",
            "TMPDIR": cls.temporary,
        } | cls.settings
        super().setUpClass()
        cls.session = cls.enterClassContext(requests.Session())
        cls.temporary_at_start = cls.temporary_files()

    @classmethod
    def temporary_files(cls):
        found = (str(path.relative_to(cls.temporary)) for path in Path(cls.temporary).rglob("*"))
        return sorted(name for name in found if not name.endswith(".db"))  # metrics, one for each process

    def post(self, endpoint, data, filename="photo.jpg", **parameters):
        url = f"{self.server.api}/{endpoint}"
        return self.session.post(url, files={"image": (filename, data)}, data=parameters, timeout=60)

    def get(self, path, **headers):
        return self.session.get(f"{self.server.api}/{path}", headers=headers, timeout=60)

    def kept(self):
        """The keys that rows name, and the files that there are."""
        with closing(sqlite3.connect(self.server.data / "imgdetect.db")) as database:
            rows = database.execute("SELECT original_key, processed_key FROM records").fetchall()
        files = sorted(path.name for path in (self.server.data / "images").rglob("*") if path.is_file())
        return sorted(key for row in rows for key in row if key), files

    def assertNothingLeftBehind(self):
        rows, files = self.kept()
        self.assertEqual(rows, files)
        self.assertEqual(self.temporary_files(), self.temporary_at_start)

    def assertServes(self):
        answer = self.post("detect", astronaut())
        self.assertEqual(answer.status_code, 200, answer.text)
        found = [box_of(detection) for detection in answer.json()["detections"]]
        self.assertGreater(max(overlap(box, FACE_XYWH) for box in found), 0.5, found)
        self.assertEqual(len(self.family().children), SLOTS)

    def family(self):
        return Family.of(self.server)


class HostileTest(UploadTest):
    def setUp(self):
        self.health = []
        self.done = threading.Event()
        self.prober = threading.Thread(target=self.probe)
        self.prober.start()

    def tearDown(self):
        self.done.set()
        self.prober.join()

    def probe(self):
        with requests.Session() as session:
            while not self.done.wait(0.05):
                try:
                    self.health.append(session.get(f"{self.server.url}/healthz", timeout=5).status_code)
                except requests.RequestException as error:
                    self.health.append(repr(error))

    def assertAnswered(self, answer, allowed):
        check(answer)
        self.assertIn(answer.status_code, allowed, answer.text[:300])
        self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
        if answer.status_code != 200:
            problem = answer.json()
            self.assertEqual(problem["request_id"], answer.headers["X-Request-ID"])
            self.assertNotRegex(json.dumps(problem | {"instance": ""}), TELLTALE)

    def assertAllHealthy(self):
        self.done.set()
        self.prober.join()
        self.assertEqual(set(self.health), {200})

    def test_every_hostile_upload_gets_its_answer_and_leaves_nothing_behind(self):
        workers = self.family().workers
        rows_before = len(self.kept()[0])
        stored = 0
        for name, (make, allowed) in HOSTILE.items():
            data = make()
            for endpoint in ("image", "detect"):
                with self.subTest(name, endpoint=endpoint):
                    answer = self.post(endpoint, data)
                    self.assertAnswered(answer, allowed)
                    stored += endpoint == "image" and answer.status_code == 200
        self.assertEqual(len(self.kept()[0]), rows_before + 2 * stored)
        self.assertNothingLeftBehind()
        self.assertEqual(self.family().workers, workers)
        self.assertServes()
        self.assertAllHealthy()

    def test_every_odd_upload_is_read_with_its_upright_size(self):
        for name, (make, size_wh) in BENIGN.items():
            data = make()
            for endpoint in ("image", "detect"):
                with self.subTest(name, endpoint=endpoint):
                    answer = self.post(endpoint, data)
                    self.assertAnswered(answer, {200})
                    image = answer.json()["image"]
                    self.assertEqual((image["width"], image["height"]), size_wh)
        self.assertNothingLeftBehind()
        self.assertAllHealthy()

    def test_pixel_bombs_do_not_cost_the_server_memory(self):
        bombs = [make() for make in PIXEL_BOMBS.values()]
        family = self.family()
        for data in bombs:  # once, so that what is loaded for a first refusal does not count
            self.post("detect", data)
        for process in family.everybody:
            forget_peak(process.pid)
        before = {process: memory_kib(process.pid, "VmRSS") for process in family.everybody}
        for data in bombs:
            self.assertEqual(self.post("detect", data).status_code, 422)
        for process in family.everybody:
            self.assertLess(memory_kib(process.pid, "VmHWM") - before[process], 20 << 10)
        self.assertEqual(self.family(), family)

    def test_a_body_sent_raw_meets_the_same_answers(self):
        for name in ("png_bomb", "jpeg_many_scans", "html", "empty", "png_truncated", "heic", "png_200000_chunks"):
            make, allowed = HOSTILE[name]
            with self.subTest(name):
                headers = {"Content-Type": "image/jpeg"}
                answer = self.session.post(f"{self.server.api}/image", data=make(), headers=headers, timeout=60)
                self.assertAnswered(answer, allowed)
        self.assertNothingLeftBehind()

    # What a picture carries besides its pixels

    def with_exif(self, kind):
        exif = Image.Exif()
        exif[0x013B] = exif[0x8298] = SECRET
        exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
        buffer = io.BytesIO()
        comment = {"comment": SECRET.encode()} if kind == "JPEG" else {}
        Image.open(io.BytesIO(astronaut())).save(buffer, kind, exif=exif, quality=92, **comment)
        return buffer.getvalue()

    def test_nothing_of_the_exif_data_is_in_what_is_made_of_the_picture(self):
        for kind in ("JPEG", "PNG", "WEBP"):
            data = self.with_exif(kind)
            self.assertIn(SECRET.encode(), data)
            record = self.post("image", data).json()["image"]["id"]
            for path in ("processed", "crops/0"):
                for extension in ("jpeg", "png", "webp"):
                    with self.subTest(kind, path=path, format=extension):
                        answer = self.get(f"image/{record}/{path}?format={extension}")
                        self.assertEqual(answer.headers["Content-Type"], f"image/{extension}")
                        self.assertNotIn(b"Secret", answer.content)
                        image = Image.open(io.BytesIO(answer.content))
                        self.assertEqual(dict(image.getexif()), {})
                        self.assertLessEqual(set(image.info), TECHNICAL)

    def test_polyglots_are_served_as_pictures_that_cannot_run(self):
        types = {"jpeg": "image/jpeg", "gif": "image/gif", "png": "image/png"}
        for name, make in POLYGLOTS.items():
            data, media_type = make(), types[name.partition("_")[0]]
            record = self.post("image", data, filename="evil.html").json()["image"]["id"]
            for path, expected in ((f"image/{record}", media_type), (f"image/{record}/processed", "image/jpeg")):
                with self.subTest(name, path=path):
                    answer = check(self.get(path, Accept="text/html,*/*;q=0.8"))
                    self.assertEqual(answer.headers["Content-Type"], expected)
                    self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
                    policy = answer.headers["Content-Security-Policy"].split("; ")
                    self.assertLessEqual({"default-src 'none'", "sandbox"}, set(policy))
                    self.assertTrue(answer.headers["Content-Disposition"].startswith("inline; filename="))
            self.assertEqual(self.get(f"image/{record}").content, data)
            processed = self.get(f"image/{record}/processed").content
            self.assertNotRegex(processed, rb"<script|<\?php|alert\(|PK\x03\x04")

    def test_the_orientation_of_a_camera_is_undone(self):
        upright = Image.open(io.BytesIO(astronaut())).crop((0, 0, 500, 400))
        expected = None
        for orientation in range(1, 9):
            with self.subTest(orientation):
                answer = self.post("image", self.turned(upright, orientation), min_neighbors=5).json()
                self.assertEqual((answer["image"]["width"], answer["image"]["height"]), (500, 400))
                (box,) = (box_of(detection) for detection in answer["detections"])
                self.assertGreater(overlap(box, FACE_XYWH), 0.6)
                processed = pixels(self.get(f"image/{answer['image']['id']}/processed").content)
                self.assertEqual(processed.shape, (400, 500, 3))
                inside = (slice(box[1] + 9, box[1] + box[3] - 9), slice(box[0] + 9, box[0] + box[2] - 9))
                expected = processed[inside] if expected is None else expected
                there = np.asarray(upright, np.int16)[inside]
                self.assertLess(np.abs(processed[inside] - there).mean(), 6)

    @staticmethod
    def turned(upright, orientation):
        """The picture as a camera held in some way stores it, losslessly and with the tag that says so."""
        exif = Image.Exif()
        exif[0x0112] = orientation
        # Undoing the inverse orientation stores the picture so that the orientation brings it back.
        inverse = Image.Exif()
        inverse[0x0112] = {6: 8, 8: 6}.get(orientation, orientation)
        buffer = io.BytesIO()
        upright.save(buffer, "PNG", exif=inverse)
        stored = ImageOps.exif_transpose(Image.open(buffer))
        buffer = io.BytesIO()
        stored.save(buffer, "JPEG", quality=97, subsampling=0, exif=exif)
        return buffer.getvalue()


class LargeTest(UploadTest):
    settings = {"IMGDETECT_DEADLINE_SECONDS": "120"}

    def photograph(self, width, height):
        """A JPEG of that size with the astronaut's face in it, and where the face is."""
        image = Image.open(io.BytesIO(astronaut()))
        x, y, w, h = FACE_XYWH
        face = (x * width / image.width, y * height / image.height, w * width / image.width, h * height / image.height)
        photograph = np.array(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
        # Grain, without which the file would be far smaller than a camera's.
        grain = np.random.default_rng(0).integers(0, 20, (500, 500, 1), np.uint8)
        photograph //= 2
        photograph += 50 + np.tile(grain, (height // 500 + 1, width // 500 + 1, 1))[:height, :width]
        buffer = io.BytesIO()
        Image.fromarray(photograph).save(buffer, "JPEG", quality=93)
        return buffer.getvalue(), face

    def test_eight_large_photographs_at_once_are_all_done_within_the_memory_stated(self):
        photographs = [self.photograph(3500, 3430), self.photograph(5000, 5000)] * 4
        for process in self.family().everybody:
            forget_peak(process.pid)

        def upload(photograph):
            files = {"image": ("photo.jpg", photograph[0])}
            return requests.post(f"{self.server.api}/image", files=files, data={"min_neighbors": 8}, timeout=200)

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(upload, photographs))
        self.assertEqual([answer.status_code for answer in answers], [200] * 8)
        for answer, (_, face) in zip(answers, photographs, strict=True):
            check(answer)
            found = [box_of(detection) for detection in answer.json()["detections"]]
            self.assertGreater(max(overlap(box, face) for box in found), 0.5, found)
        peak = sum(memory_kib(process.pid, "VmHWM") for process in self.family().everybody) >> 10
        self.assertLess(peak, PEAK_MIB)
        self.assertNothingLeftBehind()


if __name__ == "__main__":
    unittest.main()
