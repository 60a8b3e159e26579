"""Engines and uploaded cascades on live servers: what is said at start, several processes, hostile files."""

import os
import subprocess
import sys
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import cv2
import requests

import fasthaar
from imgdetect import config
from tests import cascades
from tests.app import astronaut
from tests.contract import check
from tests.http_case import HttpTest
from tests.live_server import RESTAPI, LiveServer
from tests.processes import until

NO_TARGET = "no-such-target"  # which fasthaar refuses to be imported with


class StartTest(unittest.TestCase):
    def engine_line(self, **settings):
        """What a server says of its engine, and the one that looks with the default detector."""
        with LiveServer(**settings) as server:
            answer = requests.get(f"{server.api}/detectors/face", timeout=30).json()
            found = requests.post(f"{server.api}/detect", files={"image": astronaut()}, timeout=30).json()
            lines = [line.strip() for line in server.log().splitlines() if line.strip().startswith("engine ")]
        self.assertEqual((len(lines), found["engine"], found["found"]), (1, answer["engine"], 1))
        return lines[0], answer["engine"]

    def test_it_says_which_engine_serves(self):
        line, engine = self.engine_line()
        self.assertEqual(line, f"engine  fasthaar {fasthaar.__version__}+{fasthaar.target()}")
        self.assertEqual(engine, "fasthaar")

    def test_where_fasthaar_cannot_be_loaded_opencv_serves_and_the_line_says_why(self):
        line, engine = self.engine_line(FASTHAAR_TARGET=NO_TARGET)
        self.assertRegex(line, rf"^engine  opencv {cv2.__version__}, because fasthaar cannot be loaded: .*{NO_TARGET}")
        self.assertEqual(engine, "opencv")

    def test_an_engine_that_is_forced_and_not_there_keeps_it_from_starting(self):
        for url, variables, word in (
            ("haar:face?engine=fasthaar", {"FASTHAAR_TARGET": NO_TARGET}, NO_TARGET),
            ("haar:face?engine=steam", {}, "known here: fasthaar, opencv"),
        ):
            with self.subTest(url=url), tempfile.TemporaryDirectory() as folder:
                variables |= {"IMGDETECT_DETECTORS": f"a={url}", "IMGDETECT_DATA_DIR": folder}
                done = subprocess.run(
                    [sys.executable, "-m", "imgdetect", "serve"],
                    env=os.environ | variables | {"IMGDETECT_BIND": "127.0.0.1:1", "PYTHONPATH": str(RESTAPI)},
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertIn(word, done.stderr)


class UploadedTest(HttpTest):
    """Two web processes, two children, and a worker for jobs in each process."""

    key, entry = config.make_api_key("anna")
    settings = {"IMGDETECT_API_KEYS": entry, "IMGDETECT_WORKERS": "2", "IMGDETECT_SLOTS": "2"}

    def request(self, method, path, **options):
        """On a connection of its own, so that any process may answer."""
        headers = {"x-api-key": self.key, "Connection": "close"} | options.pop("headers", {})
        return check(requests.request(method, f"{self.server.url}{path}", headers=headers, timeout=60, **options))

    def make(self, xml, name="square"):
        path = "/api/v1/objectdetection/detectors"
        return self.request("POST", path, files={"cascade": xml}, data={"name": name})

    def look(self, picture, **options):
        path = "/api/v1/objectdetection/image"
        return self.request("POST", path, files={"image": picture}, data={"detector": "square"}, **options)

    def delete(self, name="square"):
        return self.request("DELETE", f"/api/v1/objectdetection/detectors/{name}")

    def windows(self):
        """The window of the detector as many requests see it."""
        path = "/api/v1/objectdetection/detectors/square"
        return {self.request("GET", path).json().get("window", {}).get("width") for _ in range(10)}

    def test_every_process_and_job_knows_at_once_what_there_is(self):
        pictures = [cascades.encoded(cascades.bright_square((100 + n, 100), (40, 40, 10, 10))) for n in range(10)]
        for side in (24, 30):
            made = self.make(cascades.lbp_cascade((side, side), cascades.BRIGHT_CENTER))
            self.assertEqual(made.status_code, 201, made.text)
            self.assertEqual(self.windows(), {side})
            with ThreadPoolExecutor(4) as threads:
                answers = list(threads.map(self.look, pictures))
            self.assertEqual({answer.status_code for answer in answers}, {200})
            sizes = [found["box"]["width"] for a in answers for found in a.json()["detections"]]
            self.assertGreaterEqual(min(sizes), side)
            accepted = [self.look(picture, headers={"Prefer": "respond-async"}).json() for picture in pictures[:4]]
            for job in accepted:
                self.assertTrue(until(lambda job=job: self.job(job)["state"] == "done"), self.job(job))
            self.assertEqual(self.delete().status_code, 200)
            self.assertEqual(self.windows(), {None})
            self.assertEqual({self.look(picture).status_code for picture in pictures}, {400})
        self.assertRowsAndFilesAgree()

    def job(self, job):
        return self.request("GET", job["links"]["self"]).json()

    def test_hostile_files_cost_nobody_else_anything(self):
        hostile = {
            "slow": cascades.slow_cascade(),
            "everything": cascades.lbp_cascade((24, 24), cascades.EVERY_CODE),
            "deep": "<opencv_storage>" + "<a>" * 500_000,
            "large": "<opencv_storage>" + " " * (4 << 20),
            "entities": "<!DOCTYPE a [<!ENTITY b '" + "c" * 10_000 + "'>]><opencv_storage>" + "&b;" * 10_000,
        }
        with ThreadPoolExecutor(1) as threads:
            pending = threads.submit(lambda: [self.make(xml, f"own-{name}") for name, xml in hostile.items()])
            while not pending.done():
                self.assertEqual(requests.get(f"{self.server.url}/healthz", timeout=5).status_code, 200)
                time.sleep(0.05)
        answers = dict(zip(hostile, pending.result(), strict=True))
        codes = {name: (answer.status_code, answer.json()["code"]) for name, answer in answers.items()}
        unusable = (422, "unusable-cascade")
        expected = {"slow": (422, "detector-too-slow"), "everything": unusable, "deep": unusable}
        self.assertEqual(codes, expected | {"large": (413, "upload-too-large"), "entities": unusable})
        listed = self.request("GET", "/api/v1/objectdetection/detectors").json()["detectors"]
        self.assertEqual([detector["name"] for detector in listed if detector["uploaded_at"]], [])
        self.assertRowsAndFilesAgree()
        self.assertNotIn("Traceback", self.server.log())


if __name__ == "__main__":
    unittest.main()
