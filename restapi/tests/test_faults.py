"""What happens when processes of a live server die or are told to stop: nobody else notices, nothing is lost."""

import os
import re
import signal
import subprocess
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import requests

from tests.app import jpeg
from tests.fault_case import FaultTest
from tests.processes import PROC, Family, alive, busiest, until
from tests.slow import SLOW, SLOWER, await_busy, gauge, picture

SHARD = "ab"


def descriptors(process):
    """How many files a process has open."""
    return len([*(PROC / str(process.pid) / "fd").iterdir()])


class ChildTest(FaultTest):
    def test_a_child_killed_in_the_middle_fails_its_own_request_only(self):
        with self.serving() as server, ThreadPoolExecutor(2) as threads:
            before = Family.of(server)
            pending = [threads.submit(self.post, server, picture(n), **SLOWER) for n in range(2)]
            await_busy(server, slots=2)
            os.kill(busiest(before.children).pid, signal.SIGKILL)
            answers = sorted((future.result() for future in pending), key=lambda answer: answer.status_code)
            self.assertEqual(answers[0].status_code, 200, answers[0].text)
            self.assertProblem(answers[1], 422, "detector-failed")
            after = Family.of(server)
            self.assertEqual((after.workers, after.nurseries), (before.workers, before.nurseries))
            self.assertEqual(len(set(after.children) & set(before.children)), 1)
            self.assertEqual(len(after.children), 2)
            self.assertEqual(gauge(server, "imgdetect_children_replaced_total"), 1)
            self.assertServes(server)
            self.assertEqual(len(self.rows(server)), 4)
            self.assertRowsAndFilesAgree(server)

    def test_a_look_that_runs_out_of_memory_fails_itself_and_not_the_next_one(self):
        limits = {"MIN_SCALE_FACTOR": "1.002", "MAX_WINDOWS": "100000000000"}
        with self.serving(SLOTS="1", WORKING_PIXELS="25000000", **limits) as server:
            failed = self.post(server, jpeg(2_400, 1_800), detector="slow", scale_factor="1.002")
            self.assertProblem(failed, 422, "detector-failed")
            answer = self.post(server, picture(), detector="slow")
            self.assertEqual(answer.status_code, 200, answer.text)
            self.assertEqual(gauge(server, "imgdetect_children_replaced_total"), 1)
            self.assertRowsAndFilesAgree(server)

    def test_children_that_hang_are_replaced_at_the_deadline(self):
        with self.serving(DEADLINE_SECONDS="2") as server, ThreadPoolExecutor(2) as threads:
            before = Family.of(server)
            for child in before.children:
                os.kill(child.pid, signal.SIGSTOP)
            for future in [threads.submit(self.post, server, jpeg(seed=n)) for n in range(2)]:
                self.assertProblem(future.result(), 422, "detector-too-slow")
            after = Family.of(server)
            self.assertEqual((len(after.children), set(after.children) & set(before.children)), (2, set()))
            self.assertServes(server)
            self.assertRowsAndFilesAgree(server)

    def test_a_nursery_killed_in_the_middle_is_started_again_and_no_descriptor_is_lost(self):
        with self.serving() as server, ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda n: self.post(server, jpeg(seed=n)), range(40)))
            before = Family.of(server)
            opened = descriptors(before.workers[0])
            for _ in range(3):
                for child in Family.of(server).children:
                    os.kill(child.pid, signal.SIGKILL)
                list(threads.map(lambda n: self.post(server, jpeg(seed=n)), range(8)))
            pending = threads.submit(self.post, server, picture(), **SLOW)
            await_busy(server)
            os.kill(before.nurseries[0].pid, signal.SIGKILL)
            self.assertProblem(pending.result(), 422, "detector-failed")
            self.assertServes(server)
            after = Family.of(server)
            self.assertEqual((after.workers, len(after.nurseries), len(after.children)), (before.workers, 1, 2))
            self.assertFalse(any(map(alive, (*before.nurseries, *before.children))))
            self.assertTrue(until(lambda: descriptors(after.workers[0]) <= opened, 10), opened)
            self.assertRowsAndFilesAgree(server)


class WorkerTest(FaultTest):
    def start_job(self, server, data):
        """The address of a job that is being done."""
        accepted = self.post(server, data, headers={"Prefer": "respond-async"}, **SLOW)
        self.assertEqual(accepted.status_code, 202, accepted.text)
        url = f"{server.url}{accepted.headers['Location']}"
        self.assertTrue(until(lambda: self.job(url)["state"] == "running"), self.job(url))
        return url

    def job(self, url):
        return requests.get(url, timeout=30).json()

    def let_leases_run_out(self, server):
        """As if half a minute had passed since the last sign of life."""
        self.query(server, "UPDATE jobs SET lease_until = 1 WHERE state = 'running'")
        self.query(server, "UPDATE leases SET held_until = 1")

    def assertDone(self, url):
        self.assertTrue(until(lambda: self.job(url)["state"] == "done", 60), self.job(url))
        self.assertEqual(self.job(url)["attempts"], 2)

    def test_a_worker_killed_in_the_middle_is_replaced_and_its_job_done_by_the_next(self):
        with self.serving() as server, ThreadPoolExecutor(1) as threads:
            before = Family.of(server)
            url = self.start_job(server, picture())
            pending = threads.submit(self.post, server, picture(1), **SLOWER)
            await_busy(server, slots=2)
            self.let_leases_run_out(server)
            os.kill(before.workers[0].pid, signal.SIGKILL)
            with self.assertRaises(requests.ConnectionError):
                pending.result()
            self.assertDone(url)
            after = Family.of(server)
            self.assertEqual(after.master, before.master)
            self.assertEqual((len(after.workers), len(after.nurseries), len(after.children)), (1, 1, 2))
            self.assertFalse(any(map(alive, (*before.workers, *before.nurseries, *before.children))))
            self.assertServes(server)
            # No row without its file; the file of the request that was cut off has no row, and the sweep removes it.
            self.assertLessEqual(set(self.rows(server)), set(self.files(server)))
            self.assertLessEqual(len(self.files(server)), len(self.rows(server)) + 1)

    def test_one_of_two_workers_killed_does_not_disturb_the_other(self):
        with self.serving(WORKERS="2") as server, ThreadPoolExecutor(1) as threads:
            before = Family.of(server)
            pending = threads.submit(self.post, server, picture(), **SLOW)
            await_busy(server)
            # The one that waits for the answer has the connection to the client.
            idle = min(before.workers, key=descriptors)
            os.kill(idle.pid, signal.SIGKILL)
            self.assertEqual(pending.result().status_code, 200)
            self.assertTrue(until(lambda: len(Family.of(server).workers) == 2))
            after = Family.of(server)
            self.assertEqual((after.nurseries, after.children), (before.nurseries, before.children))
            self.assertServes(server)

    def test_after_a_power_cut_everything_acknowledged_is_there_and_the_rest_is_put_right(self):
        acknowledged = {}

        def upload(number):
            with suppress(requests.ConnectionError):
                for turn in range(1_000):
                    data = jpeg(seed=1_000 * number + turn)
                    acknowledged[self.post(server, data).json()["image"]["id"]] = data

        with self.serving() as server:
            url = self.start_job(server, picture())
            with ThreadPoolExecutor(4) as threads:
                for number in range(4):
                    threads.submit(upload, number)
                self.assertTrue(until(lambda: len(acknowledged) >= 20, 60))
                self.let_leases_run_out(server)
                for process in Family.of(server).everybody:
                    with suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
            server.process.wait()
            folder = server.data / "images" / SHARD
            folder.mkdir(exist_ok=True)
            long_ago = time.time() - 7_200
            orphans = [folder / f"{SHARD}{'0' * 30}.original.jpg", folder / f"tmp-{SHARD}-0123456789abcdef"]
            for orphan in orphans:
                orphan.write_bytes(b"left behind")
                os.utime(orphan, (long_ago, long_ago))
            # What a killed master had in the machine's temporary folder is gone with the machine.
            for left in Path(server.environment["TMPDIR"]).iterdir():
                subprocess.run(["rm", "-r", str(left)], check=True)
            server.start()
            for record, data in acknowledged.items():
                self.assertEqual(requests.get(f"{server.api}/image/{record}", timeout=30).content, data)
                processed = requests.get(f"{server.api}/image/{record}/processed", timeout=30)
                self.assertEqual(len(processed.content), int(processed.headers["Content-Length"]))
                self.assertEqual(processed.content[-2:], b"\xff\xd9")
            self.assertLessEqual(set(self.rows(server)), set(self.files(server)))
            self.assertDone(url)
            self.assertTrue(until(lambda: not any(orphan.exists() for orphan in orphans)))
            self.assertServes(server)

    def test_a_killed_master_takes_everything_along_and_the_next_starts_at_once(self):
        with self.serving(WORKERS="2") as server:
            before = Family.of(server)
            kept = self.post(server, jpeg()).json()["image"]["id"]
            server.process.kill()
            server.process.wait()
            server.start()  # its orphaned workers may still hold the port for a moment
            self.assertTrue(until(lambda: not any(map(alive, before.everybody))))
            self.assertTrue(until(lambda: len(Family.of(server).workers) == 2))
            self.assertEqual(requests.get(f"{server.api}/image/{kept}", timeout=30).content, jpeg())
            self.assertServes(server)


class SignalTest(FaultTest):
    def test_requests_in_flight_are_answered_when_the_server_is_told_to_stop(self):
        """Every process gets the signal, as from a service manager that knows nothing of their order."""
        with self.serving(DEADLINE_SECONDS="60") as server, ThreadPoolExecutor(4) as threads:
            pending = [threads.submit(self.post, server, picture(n), **SLOW) for n in range(4)]
            await_busy(server, slots=2, waiting=2)
            for process in Family.of(server).everybody:
                os.kill(process.pid, signal.SIGTERM)
            self.assertEqual([future.result().status_code for future in pending], [200] * 4)
            self.assertEqual(server.process.wait(60), 0)
            server.process = None
            with self.assertRaises(requests.ConnectionError):
                requests.get(f"{server.url}/healthz", timeout=5)
            self.assertEqual(len(self.rows(server)), 8)
            self.assertRowsAndFilesAgree(server)

    def test_a_job_that_runs_when_the_server_is_told_to_stop_is_finished_and_the_next_is_kept(self):
        with self.serving(QUEUE_URL="threads:?workers=1") as server:
            for data in (picture(), jpeg()):
                accepted = self.post(server, data, headers={"Prefer": "respond-async"}, **SLOWER)
                self.assertEqual(accepted.status_code, 202, accepted.text)
            await_busy(server)
            self.assertEqual(server.stop(), 0, server.log()[-2000:])
            states = self.query(server, "SELECT state FROM jobs ORDER BY created_at")
            self.assertEqual(states, [("done",), ("queued",)])
            self.query(server, "UPDATE jobs SET created_at = 1 WHERE state = 'queued'")  # as if a minute had passed
            server.start()
            self.assertTrue(until(lambda: self.query(server, "SELECT DISTINCT state FROM jobs") == [("done",)], 60))
            self.assertRowsAndFilesAgree(server)

    def test_no_request_fails_while_the_server_is_reloaded_under_load(self):
        done = threading.Event()

        def ask(keep_alive):
            statuses = []
            with requests.Session() as session:
                while not done.is_set():
                    client = session if keep_alive else requests
                    files = {"image": ("a.jpg", jpeg(seed=len(statuses)))}
                    answer = client.post(f"{server.api}/detect", files=files, timeout=60)
                    statuses.append(answer.status_code)
            return statuses

        with self.serving() as server, ThreadPoolExecutor(4) as threads:
            asking = [threads.submit(ask, keep_alive) for keep_alive in (True, False, True, False)]
            try:
                for _ in range(2):
                    before = Family.of(server)
                    os.kill(before.master.pid, signal.SIGHUP)
                    self.assertTrue(until(lambda old=before: self.renewed(server, old), 60), server.log()[-2000:])
                    self.assertFalse(any(map(alive, (*before.nurseries, *before.children))))
            finally:
                done.set()
            for future in asking:
                statuses = future.result()
                self.assertEqual(set(statuses), {200})
            # The counters go on where they were.
            asked = sum(len(future.result()) for future in asking)
            page = requests.get(f"{server.url}/metrics", timeout=30).text
            counted = re.search(r'http_requests_total{endpoint="/api/v1/objectdetection/detect".* (\d+)', page)
            self.assertEqual(int(counted[1]), asked)

    def renewed(self, server, before):
        now = Family.of(server)
        return now.workers and not set(now.workers) & set(before.workers) and len(now.children) == 2

    def test_ctrl_c_ends_everything_at_once_and_leaves_nothing(self):
        with self.serving() as server, ThreadPoolExecutor(1) as threads:
            pending = threads.submit(self.post, server, picture(), **SLOW)
            await_busy(server)
            server.process.send_signal(signal.SIGINT)
            self.assertEqual(server.process.wait(20), 0)
            server.process = None
            with suppress(requests.ConnectionError):
                self.assertEqual(pending.result().status_code, 503)
            self.assertRowsAndFilesAgree(server)


if __name__ == "__main__":
    unittest.main()
