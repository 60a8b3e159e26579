"""An object store that is slow, fails, lies, goes away and comes back."""

import os
import sqlite3
import threading
import unittest
from contextlib import closing
from io import BytesIO
from unittest import mock

import requests

from imgdetect import errors
from imgdetect.breaker import Breaker
from imgdetect.storages import s3
from tests.app import astronaut, jpeg
from tests.contract import check
from tests.fault_case import FaultTest
from tests.processes import until
from tests.s3_server import CREDENTIALS, MotoTest, Proxy, S3rver
from tests.test_storages import KEY

PART = 5 << 20


class WayTest(MotoTest):
    """The storage alone, on a bad way to its store."""

    def setUp(self):
        super().setUp()
        self.proxy = self.enterContext(Proxy(int(self.endpoint.rpartition(":")[2])))
        self.storage = self.open_store(timeout_seconds="20")
        self.direct = s3.create("//pictures/p", {"endpoint_url": self.endpoint, "timeout_seconds": "20"})

    def open_store(self, **parameters):
        return s3.create("//pictures/p", {"endpoint_url": f"http://127.0.0.1:{self.proxy.port}"} | parameters)

    def stored(self):
        return {stored.key: stored.size for stored in self.direct.keys()}

    def assertUnavailable(self, call, *arguments):
        with self.assertRaises(errors.BackendUnavailable) as caught:
            call(*arguments)
        self.assertGreaterEqual(caught.exception.retry_after_seconds, 1)

    def test_two_faults_are_overcome_and_the_third_try_counts(self):
        for mode in ("500", "503", "refuse", "cut"):
            for call in (
                lambda: self.storage.put(KEY, b"0123456789", "image/jpeg"),
                lambda: self.storage.open(KEY).close(),
                lambda: list(self.storage.keys()),
                lambda: self.storage.delete(KEY),
            ):
                self.direct.put(KEY, b"0123456789", "image/jpeg")
                self.proxy.become(mode, bad_left=2)
                call()
                with self.subTest(mode):
                    self.assertGreaterEqual(self.proxy.requests, 3)

    def test_three_faults_are_the_end(self):
        for mode in ("500", "503", "refuse"):
            with self.subTest(mode):
                storage = self.open_store(timeout_seconds="20")
                self.proxy.become(mode)
                self.assertUnavailable(storage.put, KEY, b"x", "image/jpeg")
                self.assertEqual(self.proxy.requests, 3)
                self.assertEqual(self.stored(), {})

    def test_what_the_store_refuses_is_not_asked_again(self):
        for mode, answer in (("403", errors.BackendUnavailable), ("507", errors.StorageFull)):
            self.proxy.become(mode)
            with self.subTest(mode), self.assertRaises(answer):
                self.storage.put(KEY, b"x", "image/jpeg")
            self.assertEqual(self.proxy.requests, 1)

    def test_a_store_that_never_answers_is_given_up(self):
        storage = self.open_store(timeout_seconds="0.3")
        self.proxy.become("silent")
        self.assertUnavailable(storage.put, KEY, b"x", "image/jpeg")
        self.assertEqual(self.proxy.requests, 3)

    def test_a_store_that_is_slow_but_answers_in_time_is_waited_for(self):
        self.proxy.delay_seconds = 1.0
        self.proxy.become("delay")
        self.storage.put(KEY, b"x", "image/jpeg")
        self.assertEqual((self.stored(), self.proxy.requests), ({KEY: 1}, 1))

    def test_a_store_whose_answer_is_lost_has_the_object_once(self):
        self.proxy.cut_after = 40  # behind an interim answer, in the middle of the real one
        self.proxy.become("cut", bad_left=1)
        self.storage.put(KEY, b"0123456789", "image/jpeg")
        self.assertEqual((self.stored(), self.proxy.requests), ({KEY: 10}, 2))

    def test_a_store_that_is_down_is_left_alone_for_a_while_and_then_tried_by_one(self):
        now = [0.0]
        self.storage._breaker = Breaker(2, timer=lambda: now[0])
        self.proxy.become("refuse")
        now[0] = 1.0
        self.assertUnavailable(self.storage.put, KEY, b"x", "image/jpeg")
        self.assertEqual(self.proxy.requests, 3)
        now[0] = 2.9
        for call in (lambda: self.storage.open(KEY), self.storage.check, lambda: self.storage.delete(KEY)):
            self.assertUnavailable(call)
        self.assertEqual(self.proxy.requests, 3)
        self.proxy.become("pass")
        now[0] = 3.1
        self.storage.put(KEY, b"x", "image/jpeg")
        self.assertEqual(self.stored(), {KEY: 1})
        self.storage.check()

    def test_a_store_that_says_no_is_not_down(self):
        for _ in range(2):
            self.proxy.become("500")
            self.assertUnavailable(self.storage.put, KEY, b"x", "image/jpeg")
            self.assertEqual(self.proxy.requests, 3)

    def test_an_upload_in_parts_survives_faults_and_one_that_fails_leaves_nothing(self):
        data = os.urandom(2 * PART + 100)
        with mock.patch.object(s3, "PART_BYTES", PART):
            self.proxy.become("503", bad_left=2)
            self.storage.put(KEY, BytesIO(data), "video/mp4")
            with self.direct.open(KEY) as stream:
                self.assertEqual(stream.read(), data)
            self.direct.delete(KEY)
            proxy = self.proxy

            class Breaking(BytesIO):
                def read(self, size=-1):
                    if self.tell() >= PART * 2:
                        proxy.become("503", bad_left=3)  # the part behind it fails for good, the abort does not
                    return super().read(size)

            self.assertUnavailable(self.storage.put, KEY, Breaking(data), "video/mp4")
        self.assertEqual(self.stored(), {})

    def test_the_check_finds_every_fault(self):
        for mode in ("403", "500", "refuse"):
            self.proxy.become(mode)
            with self.subTest(mode):
                self.assertUnavailable(self.open_store(timeout_seconds="20").check)


class LiveTest(FaultTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.enterClassContext(mock.patch.dict(os.environ, CREDENTIALS))
        cls.store = cls.enterClassContext(S3rver())

    def url(self, port):
        return f"s3://pictures/p?endpoint_url=http://127.0.0.1:{port}"

    def ready(self, server):
        answer = check(requests.get(f"{server.url}/readyz", timeout=60))
        return answer.status_code, answer.json()["checks"]["storage"]

    def assertEveryRowHasItsObjects(self, server):
        with closing(sqlite3.connect(server.data / "imgdetect.db", timeout=20)) as database:
            rows = database.execute("SELECT original_key, processed_key FROM records").fetchall()
        wanted = {key for row in rows for key in row if key}
        self.assertLessEqual(wanted, set(self.store.keys()))
        return rows

    def test_a_store_that_is_killed_and_started_under_uploads_loses_none_that_was_acknowledged(self):
        with self.serving(STORAGE_URL=self.url(self.store.port)) as server:
            acknowledged, refused, strange, stop = {}, [], [], threading.Event()

            def upload(worker):
                number = worker
                while not stop.is_set():
                    number += 10
                    answer = self.post(server, jpeg(seed=number))
                    if answer.status_code == 200:
                        acknowledged[check(answer).json()["image"]["id"]] = number
                    elif answer.status_code == 503:
                        refused.append(answer)
                    else:
                        strange.append(answer.text)

            threads = [threading.Thread(target=upload, args=(worker,)) for worker in range(3)]
            for thread in threads:
                thread.start()
            try:
                for _ in range(2):
                    before = len(acknowledged)
                    self.assertTrue(until(lambda before=before: len(acknowledged) >= before + 5))
                    self.store.kill()
                    before = len(refused)
                    self.assertTrue(until(lambda before=before: len(refused) >= before + 3))
                    self.assertEqual(requests.get(f"{server.url}/healthz", timeout=30).status_code, 200)
                    self.assertTrue(until(lambda: self.ready(server) == (503, "failed")))
                    self.store.start()
                    self.assertTrue(until(lambda: self.ready(server) == (200, "OK")))
                before = len(acknowledged)
                self.assertTrue(until(lambda: len(acknowledged) >= before + 5))
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
            self.assertEqual(strange, [])
            for answer in refused:
                self.assertProblem(answer, 503, "backend-unavailable")
                self.assertGreaterEqual(int(answer.headers["Retry-After"]), 1)
            rows = self.assertEveryRowHasItsObjects(server)
            self.assertEqual(len(rows), len(acknowledged))
            for record, number in acknowledged.items():
                kept = requests.get(f"{server.api}/image/{record}", timeout=60)
                self.assertEqual((kept.status_code, kept.content), (200, jpeg(seed=number)))

    def test_a_store_that_is_silent_fails_refuses_or_cuts_is_503_and_leaves_no_row(self):
        with (
            Proxy(self.store.port) as proxy,
            self.serving(STORAGE_URL=f"{self.url(proxy.port)}&timeout_seconds=0.5") as server,
        ):
            kept = self.post(server, jpeg()).json()["image"]["id"]
            for mode in ("silent", "500", "403", "refuse"):
                proxy.become(mode)
                for headers in (None, {"Prefer": "respond-async"}):
                    with self.subTest(mode=mode, headers=headers):
                        answer = self.post(server, astronaut(), headers=headers)
                        self.assertProblem(answer, 503, "backend-unavailable")
                        self.assertIn("Retry-After", answer.headers)
                download = requests.get(f"{server.api}/image/{kept}", timeout=60)
                self.assertProblem(download, 503, "backend-unavailable")
                # What needs no store goes on.
                self.assertEqual(self.post(server, astronaut(), endpoint="detect").status_code, 200)
                self.assertEqual(requests.get(f"{server.api}/image/{kept}/detections", timeout=60).status_code, 200)
            self.assertEqual(len(self.assertEveryRowHasItsObjects(server)), 1)
            self.assertEqual(self.query(server, "SELECT COUNT(*) FROM jobs"), [(0,)])
            proxy.become("pass")
            self.assertTrue(until(lambda: self.post(server, jpeg(seed=1)).status_code == 200))
            self.assertServes(server)
            self.assertEqual(requests.get(f"{server.api}/image/{kept}", timeout=60).content, jpeg())
            self.assertCutDownloadsAreNeverTakenForWhole(server, proxy)

    def assertCutDownloadsAreNeverTakenForWhole(self, server, proxy):
        data = jpeg(width=2000, height=1500)
        kept = check(self.post(server, data)).json()["image"]["id"]
        proxy.cut_after = len(data) // 2
        proxy.become("cut", bad_left=1)
        self.assertEqual(requests.get(f"{server.api}/image/{kept}", timeout=60).content, data)
        proxy.become("cut", bad_left=1, then="refuse")
        with self.assertRaises(requests.exceptions.ChunkedEncodingError):
            _ = requests.get(f"{server.api}/image/{kept}", timeout=60).content

    def test_a_store_that_lists_no_unfinished_uploads_is_swept_all_the_same(self):
        storage = s3.create("//pictures/q", {"endpoint_url": f"http://127.0.0.1:{self.store.port}"})
        storage.put(KEY, b"x", "image/jpeg")
        self.assertEqual([stored.key for stored in storage.keys()], [KEY])


if __name__ == "__main__":
    unittest.main()
