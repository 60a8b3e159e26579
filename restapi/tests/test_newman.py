"""The Postman collection, run by newman against a live server."""

import subprocess
import unittest

from tests.live_server import ROOT, LiveServer


class NewmanTest(unittest.TestCase):
    def test_every_request_of_the_collection_passes(self):
        with LiveServer() as server:
            done = subprocess.run(
                [str(ROOT / "scripts" / "run_newman.sh"), server.url],
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr[-2000:])
        self.assertIn("assertions", done.stdout)


if __name__ == "__main__":
    unittest.main()
