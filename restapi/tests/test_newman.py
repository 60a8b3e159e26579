"""The Postman collection, run by newman against a live server."""

import os
import subprocess
import unittest

from imgdetect import config
from tests.live_server import ROOT, LiveServer


class NewmanTest(unittest.TestCase):
    def test_every_request_of_the_collection_passes(self):
        self.run_collection()

    def test_every_request_passes_with_a_key_too(self):
        key, entry = config.make_api_key("newman")
        said = self.run_collection(key, IMGDETECT_API_KEYS=entry)
        self.assertRegex(said, r"POST \S+/detectors \[201 ")
        self.assertRegex(said, r"DELETE \S+/detectors/bright_block \[200 ")

    def run_collection(self, key="", **settings):
        """What newman prints."""
        with LiveServer(**settings) as server:
            done = subprocess.run(
                [str(ROOT / "scripts" / "run_newman.sh"), server.url],
                env=os.environ | {"API_KEY": key},
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr[-2000:])
        self.assertIn("assertions", done.stdout)
        return done.stdout


if __name__ == "__main__":
    unittest.main()
