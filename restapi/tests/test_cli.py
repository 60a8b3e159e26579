"""The command line."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import requests

from imgdetect import images
from imgdetect.detectors import haar
from tests.app import INPUT
from tests.films import film, frames_of
from tests.live_server import RESTAPI, LiveServer


def run(*arguments, **settings):
    """Run the command in a folder of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("IMGDETECT_", "PROMETHEUS_", "PYTHONWARN"))}
    environment = kept | {"PYTHONPATH": str(RESTAPI)} | settings
    command = [sys.executable, "-m", "imgdetect", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


class CommandTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_detect_prints_what_it_found_and_writes_pictures(self):
        files = INPUT / "astronaut.jpg", INPUT / "chelsea.jpg"
        done = run("detect", *files, "--min-neighbors", 5, "--output", self.folder)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("astronaut.jpg: 1 found", done.stdout)
        self.assertIn("face at x=", done.stdout)
        self.assertIn("chelsea.jpg: nothing found", done.stdout)
        picture = images.decode((self.folder / "astronaut.jpg").read_bytes())
        self.assertEqual(picture.shape, (512, 512, 3))

    def test_detect_as_json_is_one_document_a_line(self):
        bad = self.folder / "bad.jpg"
        bad.write_text("no picture")
        done = run("detect", "--json", INPUT / "astronaut.jpg", bad, "--min-neighbors", "5")
        self.assertEqual(done.returncode, 1)
        good, failed = (json.loads(line) for line in done.stdout.splitlines())
        self.assertEqual((good["found"], good["detections"][0]["class_name"]), (1, "face"))
        self.assertIn("not an image", failed["error"])

    def test_detect_refuses_wrong_parameters_and_detectors(self):
        for arguments, part in ((("--scale-factor", "1"), "scale_factor"), (("--detector", "dog"), "cat_face")):
            done = run("detect", INPUT / "chelsea.jpg", *arguments)
            self.assertEqual(done.returncode, 2)
            self.assertIn(part, done.stderr)
            self.assertNotIn("Traceback", done.stderr)

    def test_video_writes_lines_and_an_annotated_video(self):
        film_path = self.folder / "face.mov"
        film_path.write_bytes(film(12, container="mov"))
        out = self.folder / "out"
        done = run("video", film_path, "--output", out, "--every", 4, "--style", "blur", "--min-neighbors", 5)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, f"{film_path}: 3 found on 3 of 12 frames, 1 tracks\n")
        self.assertEqual(sorted(path.name for path in out.iterdir()), ["face.jsonl", "face.mp4"])
        lines = [json.loads(line) for line in (out / "face.jsonl").read_text().splitlines()]
        self.assertEqual([(line["frame"], len(line["detections"])) for line in lines], [(0, 1), (4, 1), (8, 1)])
        self.assertEqual(len(frames_of((out / "face.mp4").read_bytes())), 12)

    def test_video_says_what_is_wrong_and_leaves_nothing(self):
        bad = self.folder / "bad.mp4"
        bad.write_text("no video")
        out = self.folder / "out"
        for arguments, part in (
            ((bad,), "neither MP4"),
            ((bad, "--every", "0"), "every"),
            ((bad, "--roi", "x"), "roi"),
        ):
            done = run("video", *arguments, "--output", out)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertIn(part, done.stderr)
            self.assertNotIn("Traceback", done.stderr)
        own = self.folder / "own.mp4"
        own.write_bytes(film(2))
        done = run("video", own, "--output", self.folder)
        self.assertIn("would be overwritten", done.stderr)
        self.assertEqual([*out.iterdir()], [])

    def test_detect_leaves_no_data_behind(self):
        run("detect", INPUT / "chelsea.jpg", IMGDETECT_DATA_DIR=str(self.folder / "data"))
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_augment_writes_a_picture_for_each_kind(self):
        done = run("augment", INPUT / "chelsea.jpg", "--output", self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        names = {path.name for path in self.folder.iterdir()}
        self.assertLessEqual({f"chelsea_{kind}.jpg" for kind in ("rotate", "flip", "blur", "noise", "zoom")}, names)

    def test_check_proves_every_part(self):
        done = run("check", IMGDETECT_DATA_DIR=str(self.folder))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count("detector  OK"), len(haar.BUNDLED))
        for part in ("database  OK", "storage   OK", "cache     OK"):
            self.assertIn(part, done.stdout)

    def test_wrong_settings_end_with_code_2_and_one_line_each(self):
        for command in ("check", "serve", "prune", "config"):
            done = run(command, IMGDETECT_MAX_PIXELS="many", IMGDETECT_SLOTS="few", IMGDETECT_COLOR="red")
            self.assertEqual(done.returncode, 2, command)
            self.assertIn("IMGDETECT_MAX_PIXELS", done.stderr)
            self.assertIn("IMGDETECT_SLOTS", done.stderr)
            self.assertIn("IMGDETECT_COLOR", done.stderr)
            self.assertNotIn("Traceback", done.stderr)

    def test_a_missing_or_broken_cascade_ends_with_code_2(self):
        broken = self.folder / "broken.xml"
        broken.write_text("<html/>")
        for url, part in (
            (f"haar:{self.folder}/none.xml", "none.xml"),
            (f"haar:{broken}", "broken.xml"),
            ("yolo:x", "yolo"),
        ):
            done = run("serve", IMGDETECT_DETECTORS=f"a={url}", IMGDETECT_DATA_DIR=str(self.folder))
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(part, done.stderr)
            self.assertNotIn("Traceback", done.stderr)

    def test_config_lists_every_setting_and_hides_secrets(self):
        made = run("keys", "add", "alice").stdout
        entry = made.split()[-1]
        done = run("config", IMGDETECT_API_KEYS=entry)
        self.assertIn("IMGDETECT_DATA_DIR=data", done.stdout)
        self.assertIn("IMGDETECT_WORKERS", done.stdout)
        self.assertNotIn(entry, done.stdout)

    def test_a_new_key_opens_the_server_for_its_owner(self):
        made = run("keys", "add", "alice").stdout.split()
        key, entry = made[made.index("now:") + 1], made[-1]
        self.assertEqual(entry, f"alice:{hashlib.sha256(key.encode()).hexdigest()}")
        self.assertEqual(run("keys", "add", "bad name").returncode, 2)

    def test_prune_removes_what_has_no_row(self):
        with LiveServer(IMGDETECT_DATA_DIR=str(self.folder)) as server, (INPUT / "chelsea.jpg").open("rb") as file:
            requests.post(f"{server.api}/image", files={"image": file}, timeout=30).raise_for_status()
        orphan = self.folder / "images" / "ab" / ("ab" * 16 + ".original.jpg")
        orphan.parent.mkdir(exist_ok=True)
        orphan.write_bytes(b"x")
        os.utime(orphan, (1, 1))
        done = run("prune", IMGDETECT_DATA_DIR=str(self.folder))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("removed 0 records, 1 files", done.stdout)
        self.assertFalse(orphan.exists())


if __name__ == "__main__":
    unittest.main()
