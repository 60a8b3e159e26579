"""Many requests at once, against a live gunicorn: none disturbs another, none is lost."""

import hashlib
import io
import itertools
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor

import requests
from PIL import Image

from tests.app import astronaut, jpeg
from tests.contract import check
from tests.http_case import HttpTest
from tests.processes import until
from tests.slow import SLOW, await_busy, gauge, picture


class AtOnceTest(HttpTest):
    settings = {"IMGDETECT_SLOTS": "2", "IMGDETECT_WORKERS": "2"}

    def at_once(self, count, call):
        """Call a function so often at the same moment; returns what each returned."""
        barrier = threading.Barrier(count)

        def ready(number):
            barrier.wait()
            return call(number)

        with ThreadPoolExecutor(count) as threads:
            return list(threads.map(ready, range(count)))

    def post(self, path, data=None, headers=None, **parameters):
        files = {"image": ("same.jpg", data)} if data else None
        url = f"{self.server.api}/{path}"
        return requests.post(url, files=files, data=parameters, headers=headers, timeout=120)

    def test_fifty_uploads_of_the_same_file_are_fifty_images_and_leave_nothing_when_deleted(self):
        data = jpeg(seed=50)
        before = sorted(self.files())
        answers = self.at_once(50, lambda _: self.post("image", data))
        self.assertEqual([answer.status_code for answer in answers], [200] * 50)
        ids = {answer.json()["image"]["id"] for answer in answers}
        self.assertEqual(len(ids), 50)
        self.assertEqual(len(self.files()), len(before) + 100)
        self.assertRowsAndFilesAgree()
        gone = self.at_once(50, lambda n: requests.delete(f"{self.server.api}/image/{sorted(ids)[n]}", timeout=120))
        self.assertEqual([answer.status_code for answer in gone], [200] * 50)
        self.assertEqual(sorted(self.files()), before)
        self.assertRowsAndFilesAgree()

    def test_an_idempotency_key_used_by_eight_requests_at_once_makes_one_record(self):
        data = jpeg(seed=51)
        for name, headers, status in (("sync", {}, 200), ("job", {"Prefer": "respond-async"}, 202)):
            with self.subTest(name):
                headers |= {"Idempotency-Key": f"once-{name}"}
                answers = self.at_once(8, lambda _, h=headers: self.post("image", data, h))
                self.assertEqual([answer.status_code for answer in answers], [status] * 8)
                self.assertEqual(len({answer.headers["Location"] for answer in answers}), 1)
        kept = "SELECT COUNT(*) FROM records WHERE filename = 'same.jpg' AND sha256 = '{}'"
        self.assertTrue(until(lambda: self.rows(kept.format(hashlib.sha256(data).hexdigest())) == [2]))
        self.assertTrue(until(lambda: sorted(self.rows()) == sorted(self.files())))
        again = self.post("image", jpeg(seed=52), {"Idempotency-Key": "once-sync"})
        self.assertProblem(again, 409, "conflict")
        self.assertRowsAndFilesAgree()

    def test_deleting_while_processing_leaves_nothing(self):
        record = self.uploaded(picture(1))
        with ThreadPoolExecutor(1) as threads:
            processing = threads.submit(self.post, f"image/{record}/processed", **SLOW)
            await_busy(self.server)
            self.assertEqual(self.session.delete(f"{self.server.api}/image/{record}", timeout=30).status_code, 200)
            self.assertProblem(processing.result(), 404, "not-found")
        self.assertRowsAndFilesAgree()

    def test_cancelling_a_job_while_it_runs_leaves_nothing(self):
        before = sorted(self.files())
        accepted = self.post("image", picture(), {"Prefer": "respond-async"}, **SLOW)
        self.assertEqual(accepted.status_code, 202, accepted.text)
        await_busy(self.server)
        job = f"{self.server.url}{accepted.headers['Location']}"
        self.assertEqual(self.session.delete(job, timeout=30).status_code, 200)
        self.assertTrue(until(lambda: gauge(self.server, "imgdetect_slots_busy") == 0))
        self.assertEqual(self.session.get(job, timeout=30).json()["state"], "cancelled")
        self.assertTrue(until(lambda: sorted(self.files()) == before))
        self.assertRowsAndFilesAgree()

    def test_downloads_while_the_picture_is_rewritten_are_whole(self):
        record = self.uploaded(astronaut())
        url = f"{self.server.api}/image/{record}/processed"
        done = threading.Event()

        def download(number):
            seen = {}
            with requests.Session() as session:
                while not done.is_set():
                    answer = session.get(url, params={"format": "jpeg"} if number else None, timeout=30)
                    self.assertEqual(answer.status_code, 200, answer.text)
                    self.assertEqual(len(answer.content), int(answer.headers["Content-Length"]))
                    # Another picture under the same ETag would be half of one and half of the other.
                    digest = hashlib.sha256(answer.content).digest()
                    self.assertEqual(seen.setdefault(answer.headers["ETag"], digest), digest)
                    Image.open(io.BytesIO(answer.content)).load()
            return seen

        def rewrite():
            try:
                for style, label in itertools.product(("boxes", "blur", "pixelate") * 7, ("true", "false")):
                    answer = self.post(f"image/{record}/processed", style=style, label=label)
                    self.assertEqual(answer.status_code, 200, answer.text)
            finally:
                done.set()

        with ThreadPoolExecutor(4) as threads:
            readers = [threads.submit(download, number) for number in range(3)]
            threads.submit(rewrite).result()
            seen = {}
            for reader in readers:
                for etag, digest in reader.result().items():
                    self.assertEqual(seen.setdefault(etag, digest), digest)
        self.assertGreater(len(seen), 5)
        self.assertRowsAndFilesAgree()


class OverloadTest(HttpTest):
    TAKEN = 3
    settings = {
        "IMGDETECT_SLOTS": "1",
        "IMGDETECT_WAITING_LINE": str(TAKEN - 1),
        "IMGDETECT_DEADLINE_SECONDS": "120",
    }

    def test_more_than_the_line_takes_is_sent_away_at_once_and_nothing_is_lost(self):
        count = 20
        pictures = [picture(number) for number in range(count)]
        finished = []

        def upload(data):
            files = {"image": ("slow.jpg", data)}
            answer = requests.post(f"{self.server.api}/image", files=files, data=SLOW, timeout=200)
            finished.append(answer.status_code)
            return answer

        with ThreadPoolExecutor(count) as threads:
            pending = [threads.submit(upload, data) for data in pictures]
            # Everybody else is sent away before the first is done; while it is looked at, the server answers.
            self.assertTrue(until(lambda: len(finished) >= count - self.TAKEN))
            self.assertEqual(self.session.get(f"{self.server.url}/healthz", timeout=10).status_code, 200)
            self.assertEqual(finished, [503] * (count - self.TAKEN))
            answers = [future.result() for future in pending]
        self.assertEqual(finished, [503] * (count - self.TAKEN) + [200] * self.TAKEN)
        for answer in answers:
            check(answer)
            if answer.status_code == 503:
                self.assertProblem(answer, 503, "busy")
                self.assertGreaterEqual(int(answer.headers["Retry-After"]), 1)
        listed = self.session.get(f"{self.server.api}/image", timeout=30).json()["images"]
        self.assertEqual(
            sorted(image["image"]["id"] for image in listed),
            sorted(answer.json()["image"]["id"] for answer in answers if answer.ok),
        )
        self.assertEqual(len(self.files()), 2 * self.TAKEN)
        self.assertRowsAndFilesAgree()


if __name__ == "__main__":
    unittest.main()
