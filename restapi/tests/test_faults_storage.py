"""What happens when a live server finds no room, may not write, has to wait for its database, or is set up wrongly."""

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import requests

from tests.app import astronaut, jpeg
from tests.contract import check
from tests.disks import SmallDisk, read_only
from tests.fault_case import FaultTest
from tests.live_server import RESTAPI
from tests.processes import until


class DiskTest(FaultTest):
    def failing(self, server):
        """What the server says is not ready, by its address for those who ask."""
        answer = check(requests.get(f"{server.url}/readyz", timeout=30))
        checks = answer.json()["checks"]
        self.assertEqual(answer.status_code, 503 if "failed" in checks.values() else 200)
        return [name for name, state in checks.items() if state == "failed"]

    def assertNotReady(self, server):
        self.assertTrue(until(lambda: self.failing(server) == ["storage"]), self.failing(server))
        self.assertEqual(requests.get(f"{server.url}/healthz", timeout=30).status_code, 200)

    def assertStillUseful(self, server, kept):
        """What needs no room goes on."""
        self.assertEqual(self.post(server, astronaut(), endpoint="detect").status_code, 200)
        self.assertEqual(requests.get(f"{server.api}/image/{kept}/detections", timeout=30).status_code, 200)

    def test_a_storage_that_is_full_or_takes_no_writes_leaves_nothing_and_is_over_by_itself(self):
        with SmallDisk(8) as disk, self.serving(STORAGE_URL=f"file:{disk.folder}/images") as server:
            images = disk.folder / "images"

            def files():
                return sorted(path.name for path in images.rglob("*") if path.is_file())

            kept = self.post(server, jpeg()).json()["image"]["id"]
            before = files()
            disk.fill(server)
            for headers in (None, {"Prefer": "respond-async"}):
                for _ in range(3):
                    answer = self.post(server, astronaut(), headers=headers)
                    self.assertProblem(answer, 507, "storage-full")
                    self.assertGreaterEqual(int(answer.headers["Retry-After"]), 1)
            self.assertEqual((self.rows(server), files()), (before, before))
            self.assertEqual(self.query(server, "SELECT COUNT(*) FROM jobs"), [(0,)])
            self.assertEqual(requests.get(f"{server.api}/image/{kept}", timeout=30).content, jpeg())
            self.assertStillUseful(server, kept)
            disk.clear(server)
            self.assertServes(server)
            with read_only(images):
                for headers in (None, {"Prefer": "respond-async"}):
                    self.assertProblem(self.post(server, astronaut(), headers=headers), 503, "backend-unavailable")
                self.assertNotReady(server)
                self.assertStillUseful(server, kept)
            self.assertServes(server)
            self.assertTrue(until(lambda: not self.failing(server)))
            self.assertEqual(requests.delete(f"{server.api}/image/{kept}", timeout=30).status_code, 200)
            self.assertEqual(self.rows(server), files())

    def test_a_disk_that_holds_no_more_files_is_full_and_is_over_by_itself(self):
        with SmallDisk(64, files=80) as disk, self.serving(STORAGE_URL=f"file:{disk.folder}/images") as server:
            images = disk.folder / "images"

            def files():
                return sorted(path.name for path in images.rglob("*") if path.is_file())

            kept = [self.post(server, jpeg()).json()["image"]["id"] for _ in range(3)]
            if not disk.mounted:
                disk.fill(server)
            failed = []
            while len(failed) < 4:  # a picture may still find room where a folder for it is there
                answer = self.post(server, astronaut(), headers={"Prefer": "respond-async"} if failed else None)
                if not answer.ok:
                    failed.append(answer)
            for answer in failed:
                self.assertProblem(answer, 507, "storage-full")
            self.assertTrue(until(lambda: self.query(server, "SELECT DISTINCT state FROM jobs") != [("running",)]))
            self.assertStillUseful(server, kept[0])
            for record in kept:
                self.assertEqual(requests.delete(f"{server.api}/image/{record}", timeout=30).status_code, 200)
            if not disk.mounted:
                disk.clear(server)
            self.assertServes(server)
            self.assertEqual(self.rows(server), files())

    def test_a_full_disk_under_the_database_leaves_no_file_without_a_row(self):
        with SmallDisk(4) as disk, self.serving(DATABASE_URL=f"sqlite:///{disk.folder}/db.sqlite") as server:
            self.assertEqual(self.post(server, jpeg()).status_code, 200)
            disk.fill(server)
            # What has been written before leaves room for some more rows.
            failed = [answer for answer in (self.post(server, jpeg(seed=n)) for n in range(40)) if not answer.ok]
            self.assertGreater(len(failed), 0)
            for answer in failed:
                self.assertProblem(answer, *((507, "storage-full") if disk.mounted else (503, "backend-unavailable")))
            listed = requests.get(f"{server.api}/image", params={"limit": 100}, timeout=30)
            self.assertEqual(len(self.files(server)), 2 * len(listed.json()["images"]))
            disk.clear(server)
            self.assertServes(server)
            self.assertEqual(len(self.files(server)), 2 * len(listed.json()["images"]) + 2)


class LockedTest(FaultTest):
    def test_a_database_locked_by_another_program_is_503_for_writes_while_reads_go_on(self):
        with self.serving() as server, ThreadPoolExecutor(3) as threads:
            kept = self.post(server, jpeg()).json()["image"]["id"]
            with closing(sqlite3.connect(server.data / "imgdetect.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                pending = [
                    threads.submit(self.post, server, jpeg(seed=1)),
                    threads.submit(self.post, server, jpeg(seed=2), headers={"Prefer": "respond-async"}),
                    threads.submit(requests.delete, f"{server.api}/image/{kept}", timeout=60),
                ]
                rounds = 0
                while not all(future.done() for future in pending):
                    for path in ("image", f"image/{kept}", f"image/{kept}/detections", f"image/{kept}/processed"):
                        self.assertEqual(requests.get(f"{server.api}/{path}", timeout=4).status_code, 200)
                    self.assertEqual(requests.get(f"{server.url}/healthz", timeout=4).status_code, 200)
                    rounds += 1
                    time.sleep(0.1)
                self.assertGreater(rounds, 1)
                for future in pending:
                    self.assertProblem(future.result(), 503, "backend-unavailable")
                    self.assertGreaterEqual(int(future.result().headers["Retry-After"]), 1)
                ready = check(requests.get(f"{server.url}/readyz", timeout=30))
                self.assertEqual((ready.status_code, ready.json()["checks"]["database"]), (503, "failed"))
                other.execute("ROLLBACK")
            self.assertTrue(until(lambda: requests.get(f"{server.url}/readyz", timeout=30).status_code == 200))
            self.assertServes(server)
            self.assertEqual(self.query(server, "SELECT COUNT(*) FROM jobs"), [(0,)])
            self.assertEqual(len(self.rows(server)), 4)
            self.assertRowsAndFilesAgree(server)


class RefusedTest(unittest.TestCase):
    def test_bad_settings_end_the_start_with_code_2_and_a_line_for_each(self):
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            (here / "cascades").mkdir()
            (here / "cascades" / "broken.xml").write_text("<opencv_storage><cascade/></opencv_storage>")
            (here / "file").write_text("in the way of a folder")
            (here / "tmp").mkdir()
            ours = ("IMGDETECT_", "PROMETHEUS_", "PYTHONWARN")
            kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
            kept |= {"PYTHONPATH": str(RESTAPI), "TMPDIR": str(here / "tmp"), "IMGDETECT_DATA_DIR": str(here / "data")}
            cases = (
                ({"WORKERS": "many", "SLOTS": "-1", "COLOUR": "red"}, ("WORKERS", "SLOTS", "COLOUR")),
                ({"CASCADES_DIR": str(here / "cascades")}, ("broken.xml",)),
                ({"DATA_DIR": str(here / "file" / "data")}, (str(here / "file"),)),
                ({"QUEUE_URL": "snails:"}, ("snails",)),
            )

            def serve(case):
                environment = kept | {f"IMGDETECT_{name}": value for name, value in case[0].items()}
                command = [sys.executable, "-m", "imgdetect", "serve"]
                return subprocess.run(
                    command, env=environment, capture_output=True, text=True, timeout=120, check=False
                )

            with ThreadPoolExecutor(len(cases)) as threads:
                ended = list(threads.map(serve, cases))
            for (settings, named), done in zip(cases, ended, strict=True):
                with self.subTest(settings):
                    self.assertEqual(done.returncode, 2, done.stderr)
                    for name in named:
                        self.assertIn(name, done.stderr)
                    self.assertNotIn("Traceback", done.stderr)
            self.assertEqual([*(here / "tmp").iterdir()], [])


if __name__ == "__main__":
    unittest.main()
