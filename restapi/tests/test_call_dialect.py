"""`make get_image`, `make get-image` and the others, against a live server."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import cv2

from imgdetect import config
from tests.app import astronaut
from tests.live_server import ROOT, LiveServerTest

KEY, ENTRY = config.make_api_key("make")


class CallDialectTest(LiveServerTest):
    settings = {"IMGDETECT_API_KEYS": ENTRY}

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="a folder with 'spaces' ")))

    def call(self, *targets, code=0, **variables):
        """Run make; what it prints, one line each."""
        given = {"BASE_URL": self.server.url, "OUTPUT": str(self.folder), "API_KEY": KEY, "PYTHON": sys.executable}
        done = subprocess.run(
            ["make", "--no-print-directory", "-C", str(ROOT), *targets],
            env={k: v for k, v in os.environ.items() if k != "MAKEFLAGS"} | given | variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return (done.stdout + done.stderr).splitlines()

    def size(self, name):
        height, width = cv2.imread(str(self.folder / name)).shape[:2]
        return width, height

    def test_the_calls_with_underscores(self):
        self.assertEqual(self.call("get_image"), [str(self.folder / "astronaut.jpg")])
        self.assertEqual((self.folder / "astronaut.jpg").read_bytes(), astronaut())
        lines = self.call("save_detection_image", "view_detection_json", SCALING_FACTOR="0.5")
        self.assertEqual(self.size("astronaut.processed.jpg"), (256, 256))
        self.assertEqual(self.size("astronaut.predict.png"), (256, 256))
        shown = json.loads("\n".join(line for line in lines if not line.startswith(str(self.folder))))
        self.assertEqual(shown["payload"][0]["class"], "face")
        self.assertRegex(shown["image"], r"^\d+ characters$")

    def test_the_calls_with_dashes(self):
        self.call("get-image", "process-image", WIDTH="100", HEIGHT="60")
        self.assertEqual((self.folder / "astronaut.jpg").read_bytes(), astronaut())
        self.assertEqual(self.size("astronaut.jpg.processed.jpg"), (100, 60))
        lines = self.call("save-detection-image", "view-detection-json")
        self.assertEqual(self.size("astronaut.jpg.detection.png"), (512, 512))
        self.assertIn('      "class": "face",', lines)

    def test_a_refusal_is_told_and_leaves_no_file(self):
        said = "\n".join(self.call("get_image", IMAGE_ID="nothing ' here", code=2))
        self.assertIn('404 {"message": "Item not found"}', said)
        said = "\n".join(self.call("predict", SCALING_FACTOR="7", code=2))
        self.assertIn("422", said)
        self.assertIn("401", "\n".join(self.call("get-image", API_KEY="", code=2)))
        self.assertIn("cannot be reached", "\n".join(self.call("get-image", BASE_URL="http://127.0.0.1:1", code=2)))
        self.assertIn("names without folders", "\n".join(self.call("get-image", FILENAME="../x.jpg", code=2)))
        self.assertEqual(list(self.folder.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
