"""A request fails at every moment at which it changes what is stored: nothing acknowledged is lost, no half is left."""

import itertools
import os
import subprocess
import sys
import time
import unittest
from pathlib import Path

import requests

from tests.app import jpeg
from tests.fault_case import FaultTest
from tests.live_server import RESTAPI
from tests.processes import Family, until

JOB = {"Prefer": "respond-async"}
NOTHING = "EIO 100000"  # a fault that never comes, to see the steps


class MomentsTest(FaultTest):
    options = ("-c", str(Path(__file__).with_name("fault_points_gunicorn.conf.py")))

    def known(self, server):
        """Every key that a row points at; the originals of jobs are among them."""
        waiting = self.query(server, "SELECT original_key FROM jobs WHERE state IN ('queued', 'running')")
        return {*self.rows(server), *(row[0] for row in waiting)}

    def assertNoRowWithoutItsFile(self, server):
        # Jobs end meanwhile: a row that was read before the files may have let go of its original.
        self.assertTrue(until(lambda: self.known(server) <= set(self.files(server))), self.known(server))

    def steps(self, ask):
        """What a request changes, in order."""
        answer = ask({"X-Fault": NOTHING})
        self.assertIn(answer.status_code, (200, 202), answer.text)
        return answer.headers["X-Fault-Steps"].split()

    def killed_at_every_moment(self, server, action, ask):
        """Ask with each moment as the last one of the process; returns how many there were.

        Args:
            ask: a function of headers and of the number of the moment.
        """
        for number in itertools.count(1):
            try:
                answer = ask({"X-Fault": f"{action} {number}"}, number)
            except requests.ConnectionError:
                self.assertIsNone(server.process.poll(), server.log()[-2000:])
                self.assertNoRowWithoutItsFile(server)
                ask({}, number)
            else:
                self.assertLess(answer.status_code, 300, answer.text)
                return number - 1

    def sweep(self, server):
        """As if two days had passed."""
        long_ago = time.time() - 172_800
        for path in (server.data / "images").rglob("*"):
            os.utime(path, (long_ago, long_ago))
        command = [sys.executable, "-m", "imgdetect", "prune"]
        subprocess.run(command, env=server.environment, cwd=RESTAPI, check=True, capture_output=True, timeout=120)

    def test_whatever_the_moment_of_a_kill_or_a_power_cut_nothing_acknowledged_is_lost_and_the_rest_is_swept(self):
        acknowledged = {}
        jobs = set()

        def uploading(action, headers):
            def upload(fault, number):
                data = jpeg(seed=number)
                once = {"Idempotency-Key": f"{action}-{len(headers)}-{number}"}
                answer = self.post(server, data, headers=once | headers | fault)
                self.assertTrue(answer.ok, answer.text)
                if headers:
                    jobs.add(answer.json()["id"])
                else:
                    acknowledged[answer.json()["image"]["id"]] = data
                return answer

            return upload

        with self.serving(WORKERS="3") as server:
            steps = self.steps(lambda fault: self.post(server, jpeg(), headers=fault))
            self.assertEqual(steps.count("fsync"), 6, steps)  # two files, their folders, and the folder of those
            self.assertEqual(steps[-4:], ["fsync", "BEGIN", "INSERT", "COMMIT"])
            first = {row[0] for row in self.query(server, "SELECT id FROM records")}
            for action in ("kill", "power"):
                for headers in ({}, JOB):
                    killed = self.killed_at_every_moment(server, action, uploading(action, headers))
                    self.assertGreaterEqual(killed, 9)
            # One that was killed before its job reached the queue: as if a minute had passed.
            self.query(server, "UPDATE jobs SET created_at = 1 WHERE state = 'queued'")
            self.query(server, "UPDATE jobs SET lease_until = 1 WHERE state = 'running'")
            finished = "SELECT COUNT(*) FROM jobs WHERE state = 'done'"
            self.assertTrue(until(lambda: self.query(server, finished) == [(len(jobs),)], 90))
            made = {row[0] for row in self.query(server, "SELECT record_id FROM jobs")}
            stored = {row[0] for row in self.query(server, "SELECT id FROM records")}
            # A client that repeats itself with its key has one record, also when only the answer was lost.
            self.assertEqual(stored - first - made, set(acknowledged))
            for record, data in acknowledged.items():
                self.assertEqual(requests.get(f"{server.api}/image/{record}", timeout=30).content, data)
            self.assertGreater(len(self.files(server)), len(self.rows(server)))
            self.sweep(server)
            self.assertRowsAndFilesAgree(server)
            self.assertTrue(until(lambda: len(Family.of(server).workers) == 3))
            self.assertServes(server)

    def test_whatever_the_moment_of_a_kill_looking_again_and_deleting_leave_whole_records(self):
        with self.serving(WORKERS="3") as server:
            kept = self.post(server, jpeg()).json()["image"]["id"]
            deleted = {}

            def look_again(fault, _number):
                url = f"{server.api}/image/{kept}/processed"
                answer = requests.post(url, headers={"Connection": "close"} | fault, timeout=60)
                self.assertEqual(answer.status_code, 200, answer.text)
                picture = requests.get(url, timeout=60)
                self.assertEqual(picture.content[-2:], b"\xff\xd9")
                return answer

            def delete(fault, number):
                if number not in deleted:
                    deleted[number] = self.post(server, jpeg(seed=number)).json()["image"]["id"]
                url = f"{server.api}/image/{deleted[number]}"
                answer = requests.delete(url, headers={"Connection": "close"} | fault, timeout=60)
                self.assertIn(answer.status_code, (200, 404), answer.text)
                return answer

            for action in ("kill", "power"):
                self.assertGreaterEqual(self.killed_at_every_moment(server, action, look_again), 8)
                self.assertGreaterEqual(self.killed_at_every_moment(server, action, delete), 5)
                deleted.clear()
            self.assertEqual(self.query(server, "SELECT id FROM records"), [(kept,)])
            self.sweep(server)
            self.assertRowsAndFilesAgree(server)
            self.assertEqual(len(self.files(server)), 2)

    def test_an_error_of_the_disk_at_any_moment_is_said_and_leaves_nothing(self):
        problems = {"ENOSPC": (507, "storage-full"), "EIO": (503, "backend-unavailable")}
        with self.serving() as server:
            self.assertServes(server)
            failed = []
            for headers, kind in itertools.product(({}, JOB), problems):
                for number in range(1, 20):  # how many there are differs: each folder is made once
                    before = self.files(server)
                    answer = self.post(server, jpeg(), headers=headers | {"X-Fault": f"{kind} {number}"})
                    if answer.ok:
                        self.assertTrue(until(lambda: self.known(server) == set(self.rows(server))))
                        continue
                    failed.append(answer.headers["X-Fault-Steps"].split()[number - 1])
                    with self.subTest(headers=headers, number=number, kind=kind, steps=answer.headers["X-Fault-Steps"]):
                        self.assertProblem(answer, *problems[kind])
                        self.assertEqual(self.files(server), before)
            self.assertLessEqual({"mkdir", "open", "write", "fsync", "rename"}, set(failed))
            self.assertRowsAndFilesAgree(server)
            self.assertServes(server)

    def test_a_disk_that_fails_from_some_moment_on_keeps_what_was_acknowledged(self):
        with self.serving() as server:
            kept = self.post(server, jpeg()).json()["image"]["id"]
            url = f"{server.api}/image/{kept}"
            asks = {
                "upload": lambda fault: self.post(server, jpeg(), headers=fault),
                "job": lambda fault: self.post(server, jpeg(), headers=JOB | fault),
                "again": lambda fault: requests.post(f"{url}/processed", headers=fault, timeout=60),
            }
            for name, ask in asks.items():
                for number in range(1, 30):
                    answer = ask({"X-Fault": f"EROFS+ {number}"})
                    if answer.ok:
                        break
                    with self.subTest(name, number=number):
                        self.assertProblem(answer, 503, "backend-unavailable")
                        self.assertNoRowWithoutItsFile(server)
                self.assertTrue(answer.ok)
                self.assertGreater(number, 4)
                self.assertEqual(requests.get(url, timeout=30).content, jpeg())
                self.assertEqual(requests.get(f"{url}/processed", timeout=30).content[-2:], b"\xff\xd9")
            # One that is deleted is gone for its owner at once, and its files when they can be removed.
            answer = requests.delete(url, headers={"X-Fault": "EROFS+ 1"}, timeout=60)
            self.assertEqual(answer.status_code, 200, answer.text)
            self.assertEqual(requests.get(url, timeout=30).status_code, 404)
            finished = "SELECT COUNT(*) FROM jobs WHERE state <> 'done'"
            self.assertTrue(until(lambda: self.query(server, finished) == [(0,)], 60))
            self.sweep(server)
            self.assertRowsAndFilesAgree(server)


if __name__ == "__main__":
    unittest.main()
