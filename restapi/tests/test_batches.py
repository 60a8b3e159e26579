"""POST /batch, and the results and archives of batches."""

import io
import json
import tempfile
import time
import unittest
import zipfile
from pathlib import Path
from unittest import mock

from werkzeug.datastructures import FileStorage, MultiDict

from imgdetect import job_rows, jobs
from imgdetect.config import make_api_key
from imgdetect.errors import BackendUnavailable, Busy, UnreadableImage
from imgdetect.jobs import LEASE_SECONDS
from tests.app import API, AppTest, astronaut, jpeg
from tests.archive_files import archive, one, overlapping

BATCH = f"{API}/batch"


class BatchCase(AppTest):
    """Batches are sent, and waited for."""

    def setUp(self):
        super().setUp()
        self.jobs = self.app.extensions["imgdetect"].jobs

    def send(self, *pictures, headers=None, **parameters):
        """Send pictures, or (name, picture) pairs, as a form."""
        form = MultiDict(parameters)
        for number, picture in enumerate(pictures):
            name, data = picture if isinstance(picture, tuple) else (f"{number}.jpg", picture)
            form.add("images", FileStorage(io.BytesIO(data), name, "images"))
        return self.post_form(BATCH, form, headers)

    def send_archive(self, data, headers=None, query=""):
        return self.client.post(BATCH + query, data=data, content_type="application/zip", headers=headers)

    def accepted(self, answer):
        self.assertEqual(answer.status_code, 202, answer.text)
        job = answer.get_json()
        self.assertEqual(answer.headers["Location"], job["links"]["self"])
        self.assertEqual(job["kind"], "batch")
        return job

    def lost(self, *pictures, **parameters):
        """A batch whose queue lost it."""
        with mock.patch.object(self.jobs.queue, "submit"):
            return self.accepted(self.send(*pictures, **parameters))

    def job(self, job):
        return self.client.get(job["links"]["self"]).get_json()

    def results(self, job, **query):
        answer = self.client.get(f"{job['links']['self']}/results", query_string=query)
        self.assertEqual(answer.status_code, 200, answer.text)
        return answer.get_json()

    def all_results(self, job):
        return self.results(job, limit=100)["results"]

    def files(self):
        return {file.key for file in self.service.storage.keys()}

    def archive(self, job):
        with self.client.get(f"{job['links']['self']}/archive") as answer:
            self.assertEqual((answer.status_code, answer.mimetype), (200, "application/zip"), answer.data[:200])
            return zipfile.ZipFile(io.BytesIO(answer.data))


class BatchesTest(BatchCase):
    def test_every_picture_becomes_a_record_that_an_upload_would_have_made(self):
        job = self.job(self.accepted(self.send(("a.jpg", astronaut()), ("b.jpg", jpeg(seed=1)), min_neighbors="5")))
        self.assertEqual((job["state"], job["progress"]), ("done", {"total": 2, "done": 2, "failed": 0}))
        first, second = self.all_results(job)
        self.assertEqual([r["position"] for r in (first, second)], [0, 1])
        self.assertEqual([r["filename"] for r in (first, second)], ["a.jpg", "b.jpg"])
        self.assertEqual((first["state"], first["result"]["found"], second["result"]["found"]), ("done", 1, 0))
        self.assertEqual(first["result"]["parameters"]["min_neighbors"], 5)
        self.assertEqual(self.client.get(f"{API}/image/{first['image_id']}").data, astronaut())

    def test_an_archive_is_a_batch_as_well_in_a_field_or_as_the_body(self):
        data = archive(("in/a.jpg", astronaut()), ("__MACOSX/._a.jpg", b"x"), ("b.png", jpeg(seed=2)))
        by_body = self.job(self.accepted(self.send_archive(data, query="?style=blur")))
        form = {"archive": FileStorage(io.BytesIO(data), "a.zip", "archive"), "style": "blur"}
        by_form = self.job(self.accepted(self.post_form(BATCH, form)))
        for job in (by_body, by_form):
            self.assertEqual(job["progress"], {"total": 2, "done": 2, "failed": 0})
            found = self.all_results(job)
            self.assertEqual([r["filename"] for r in found], ["a.jpg", "b.png"])
            self.assertEqual(found[0]["result"]["parameters"]["style"], "blur")

    def test_a_broken_picture_fails_alone_with_its_problem(self):
        sent = [("a.jpg", jpeg(seed=3)), ("b.txt", b"text"), ("c.jpg", jpeg(seed=4)[:300]), ("d.jpg", b"")]
        with mock.patch.object(self.service.pool, "run", side_effect=self.fail_for(jpeg(seed=5))):
            job = self.job(self.accepted(self.send(*sent, ("e.jpg", jpeg(seed=5)))))
        self.assertEqual((job["state"], job["progress"]), ("done", {"total": 5, "done": 1, "failed": 4}))
        found = self.all_results(job)
        self.assertEqual([r["state"] for r in found], ["done"] + ["failed"] * 4)
        codes = [r["problem"] and r["problem"]["code"] for r in found]
        self.assertEqual(codes[:2] + codes[3:], [None, "unsupported-image", "invalid-request", "unreadable-image"])
        self.assertIn(codes[2], ("unreadable-image", "unsupported-image"))

    def fail_for(self, bad):
        run = self.service.pool.run

        def look(pixels, method, data, *rest, **more):
            if data == bad:
                raise UnreadableImage
            return run(pixels, method, data, *rest, **more)

        return look

    def test_a_batch_of_nothing_but_broken_pictures_has_ended_when_it_is_answered(self):
        before = self.files()
        job = self.accepted(self.send(jpeg(seed=6)[:100], b"text"))
        self.assertEqual((job["state"], job["progress"]), ("done", {"total": 2, "done": 0, "failed": 2}))
        self.assertEqual(self.files(), before)

    def test_a_batch_without_any_picture_is_refused(self):
        for answer in (self.send(b"text", b"more text"), self.send_archive(archive(("a.txt", b"text")))):
            body = self.assertProblem(answer, 415, "unsupported-image")
            self.assertIn("None of the files", body["detail"])
            self.assertIn("image/jpeg", body["accepted"])

    def test_what_is_wrong_with_the_request_is_said_at_once(self):
        for answer, field in (
            (self.send(), "images"),
            (self.post_form(BATCH, {"style": "blur"}), "images"),
            (self.client.post(BATCH, data=b"x", content_type="image/jpeg"), "images"),
            (self.send(jpeg(), style="red"), "style"),
            (self.send(jpeg(), detector="dog"), "detector"),
            (self.send(jpeg(), scale_factor="1.001"), "scale_factor"),
            (self.send(jpeg(), callback_url="https://a.example/"), "callback_url"),
            (self.post_form(BATCH, {"image": FileStorage(io.BytesIO(jpeg()), "a.jpg", "image")}), "image"),
            (
                self.post_form(
                    BATCH,
                    {
                        "images": FileStorage(io.BytesIO(jpeg()), "a.jpg", "images"),
                        "archive": FileStorage(io.BytesIO(archive(("a", b"b"))), "a.zip", "archive"),
                    },
                ),
                "archive",
            ),
        ):
            body = self.assertProblem(answer, 400, "invalid-request")
            self.assertEqual(body["errors"][0]["field"], field)
        answer = self.send(jpeg(), headers={"Accept": "image/png"})
        self.assertProblem(answer, 406, "not-acceptable")

    def test_hostile_archives_are_refused_and_leave_nothing(self):
        before = self.files()
        for data in (b"", b"text", overlapping(9, jpeg()), one(bytes(2_000_000)), archive()):
            body = self.assertProblem(self.send_archive(data), 422, "unusable-archive")
            self.assertTrue(body["detail"].endswith("."))
        self.assertEqual(self.files(), before)

    def test_an_entry_that_lies_fails_alone(self):
        job = self.job(self.accepted(self.send_archive(one(jpeg(), size=10))))
        self.assertEqual(job["progress"], {"total": 1, "done": 0, "failed": 1})
        self.assertEqual(self.all_results(job)[0]["problem"]["code"], "unusable-archive")

    def test_the_same_idempotency_key_returns_the_first_batch(self):
        headers = {"Idempotency-Key": "batch-1"}
        first = self.accepted(self.send(jpeg(seed=7), jpeg(seed=8), headers=headers))
        before = self.files()
        again = self.accepted(self.send(jpeg(seed=7), jpeg(seed=8), headers=headers))
        self.assertEqual((again["id"], self.files()), (first["id"], before))
        for other in (
            self.send(jpeg(seed=8), jpeg(seed=7), headers=headers),
            self.send(jpeg(seed=7), jpeg(seed=8), style="blur", headers=headers),
            self.send_archive(archive(("a.jpg", jpeg(seed=7))), headers=headers),
            self.upload(jpeg(seed=7), headers=headers),
        ):
            self.assertProblem(other, 409, "conflict")
        # The same files at the same moment: the row decides.
        with mock.patch.object(self.service.records, "earlier", return_value=None):
            raced = self.accepted(self.send(jpeg(seed=7), jpeg(seed=8), headers=headers))
        self.assertEqual((raced["id"], self.files()), (first["id"], before))

    def test_a_small_batch_is_waited_for_when_the_client_asks(self):
        for prefer in ("wait", "wait=5", "respond-async, wait=20", "foo; bar, wait"):
            answer = self.send(("a.jpg", astronaut()), b"text", headers={"Prefer": prefer})
            self.assertEqual((answer.status_code, answer.headers["Preference-Applied"]), (200, "wait"))
            body = answer.get_json()
            self.assertEqual(answer.headers["Location"], body["job"]["links"]["self"])
            self.assertEqual([r["state"] for r in body["results"]], ["done", "failed"])
            self.assertEqual((body["results"][0]["result"]["found"], body["next"]), (1, None))
        self.accepted(self.send(*[jpeg(seed=n) for n in range(11)], headers={"Prefer": "wait"}))
        self.accepted(self.send(jpeg(), headers={"Prefer": "waiting=1"}))
        with mock.patch.object(self.jobs.queue, "submit"):
            self.accepted(self.send(jpeg(), headers={"Prefer": "wait=0"}))

    def test_results_come_page_by_page(self):
        job = self.lost(*[jpeg(seed=n) for n in range(5)])
        first = self.results(job, limit=2)
        self.assertEqual([r["state"] for r in first["results"]], ["queued"] * 2)
        second = self.client.get(first["next"]).get_json()
        third = self.client.get(second["next"]).get_json()
        pages = (first, second, third)
        self.assertEqual([r["position"] for page in pages for r in page["results"]], [0, 1, 2, 3, 4])
        self.assertIsNone(third["next"])
        for query in ({"cursor": "x"}, {"cursor": "-1"}, {"cursor": "1" * 7}, {"limit": "0"}, {"offset": "1"}):
            answer = self.client.get(f"{job['links']['self']}/results", query_string=query)
            self.assertProblem(answer, 400, "invalid-request")

    def test_a_result_outlives_its_record(self):
        job = self.job(self.accepted(self.send(jpeg(seed=9))))
        found = self.all_results(job)[0]
        self.client.delete(f"{API}/image/{found['image_id']}")
        found = self.all_results(job)[0]
        self.assertEqual((found["state"], "result" in found), ("done", False))
        self.assertEqual(self.archive(job).namelist(), ["results.jsonl"])

    def test_the_archive_has_every_processed_picture_under_a_name_of_its_own(self):
        names = ["a.jpg", "a.jpg", "../x/ä ö.png", "CON", "a:b?.jpg", "." * 20, "x" * 200 + ".jpg", "none"]
        sent = [(name, jpeg(seed=number)) for number, name in enumerate(names[:-1])]
        job = self.job(self.accepted(self.send(*sent, ("none", b"text"))))
        made = self.archive(job)
        self.assertIsNone(made.testzip())
        expected = ["1-a.jpg", "2-a.jpg", "3-ä ö.jpg", "4-CON.jpg", "5-a_b_.jpg", "6-image.jpg", f"7-{'x' * 100}.jpg"]
        self.assertEqual(made.namelist(), [*expected, "results.jsonl"])
        for result in self.all_results(job)[:7]:
            processed = self.client.get(result["result"]["image"]["links"]["processed"]).data
            self.assertEqual(made.read(expected[result["position"]]), processed)
        lines = [json.loads(line) for line in made.read("results.jsonl").splitlines()]
        self.assertEqual(lines, self.all_results(job))

    def test_the_archive_can_be_had_when_the_batch_has_ended(self):
        job = self.lost(jpeg(seed=10))
        self.assertIsNone(job["links"]["archive"])
        answer = self.client.get(f"{job['links']['self']}/archive")
        self.assertIn("queued", self.assertProblem(answer, 409, "conflict")["detail"])
        self.client.delete(job["links"]["self"])
        self.assertEqual(self.archive(job).namelist(), ["results.jsonl"])

    def test_so_many_archives_at_once_and_no_more(self):
        job = self.job(self.accepted(self.send(jpeg(seed=11))))
        downloads = self.app.extensions["imgdetect"].downloads
        for _ in range(6):  # what was sent, and what was refused, gives its place back
            self.archive(job)
            self.client.get(f"/api/v1/jobs/{'0' * 32}/archive")
        taken = 0
        while downloads.acquire(blocking=False):
            taken += 1
        self.addCleanup(downloads.release, taken)
        self.assertEqual(taken, 4)
        self.assertProblem(self.client.get(f"{job['links']['self']}/archive"), 503, "busy")

    def test_only_batches_have_results_and_archives(self):
        job = self.upload(headers={"Prefer": "respond-async"}).get_json()
        self.assertEqual((job["kind"], job["progress"], job["links"]["results"]), ("image", None, None))
        for path in (f"{job['links']['self']}/results", f"{job['links']['self']}/archive", "/api/v1/jobs/x/results"):
            self.assertProblem(self.client.get(path), 404, "not-found")

    def test_cancelling_keeps_what_is_done_and_leaves_nothing_of_the_rest(self):
        before = self.files()
        job = self.lost(*[jpeg(seed=n) for n in range(3)])
        rows = self.service.database.jobs.children(job["id"], 9)
        with mock.patch.object(self.jobs.queue, "submit"):
            self.jobs.run(rows[1].id)
        self.assertEqual(self.client.delete(job["links"]["self"]).status_code, 200)
        self.assertEqual([r["state"] for r in self.all_results(job)], ["cancelled", "done", "cancelled"])
        self.assertEqual(self.job(job)["progress"], {"total": 3, "done": 1, "failed": 0})
        self.assertEqual(len(self.files() - before), 2)
        for row in rows:
            self.jobs.run(row.id)
        self.assertEqual(self.job(job)["progress"], {"total": 3, "done": 1, "failed": 0})
        self.assertProblem(self.client.delete(job["links"]["self"]), 409, "conflict")

    def test_without_their_originals_only_processed_pictures_are_kept(self):
        before = self.files()
        self.accepted(self.send(jpeg(seed=12), jpeg(seed=13), keep_original="false"))
        self.assertEqual([".processed" in key for key in self.files() - before], [True, True])

    def test_a_full_queue_is_busy_and_keeps_nothing(self):
        before = self.files()
        with mock.patch.object(self.jobs.queue, "submit", side_effect=Busy()):
            self.assertProblem(self.send(jpeg(seed=14), b"text"), 503, "busy")
        self.assertEqual(self.files(), before)

    def test_a_storage_that_fails_in_the_middle_keeps_nothing(self):
        before = self.files()
        put = self.service.storage.put
        answers = [put, put, BackendUnavailable(), BackendUnavailable()]

        def fail_at_the_third(*arguments):
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer(*arguments)

        with mock.patch.object(self.service.storage, "put", fail_at_the_third):
            self.assertProblem(self.send(*[jpeg(seed=n) for n in range(4)]), 503, "backend-unavailable")
        self.assertEqual(self.files(), before)

    def test_a_lost_batch_is_found_and_finished(self):
        job = self.lost(*[jpeg(seed=n) for n in range(40)])
        self.jobs.recover()
        self.assertEqual(self.job(job)["state"], "queued")
        ahead = int((time.time() + 120) * 1e6)
        with mock.patch.object(jobs, "now_us", lambda: ahead):
            self.jobs.recover()
        self.assertEqual(self.job(job)["progress"], {"total": 40, "done": 40, "failed": 0})

    def test_a_worker_lost_in_the_middle_costs_its_picture_another_attempt(self):
        job = self.lost(*[jpeg(seed=n) for n in range(3)])
        rows = self.service.database.jobs.children(job["id"], 9)
        self.service.database.jobs.claim(rows[1].id, LEASE_SECONDS)
        ahead = int((time.time() + 120) * 1e6)
        with mock.patch.object(jobs, "now_us", lambda: ahead), mock.patch.object(job_rows, "now_us", lambda: ahead):
            self.jobs.recover()
        self.assertEqual(self.job(job)["progress"], {"total": 3, "done": 3, "failed": 0})
        self.assertEqual([c.attempts for c in self.service.database.jobs.children(job["id"], 9)], [1, 2, 1])


class LimitsTest(BatchCase):
    @classmethod
    def setUpClass(cls):
        cls.spool = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="imgdetect-test-spool-")))
        cls.settings = {
            "max_batch_images": 3,
            "max_batch_bytes": 200_000,
            "max_upload_bytes": 50_000,
            "spool_dir": cls.spool,
        }
        super().setUpClass()

    def test_too_many_pictures(self):
        for answer in (
            self.send(*[jpeg(seed=n) for n in range(4)]),
            self.send(*[b"x"] * 60),
            self.send_archive(archive(*[(f"{n}.jpg", jpeg(seed=n)) for n in range(4)])),
            self.send_archive(archive(*[(f"{n}.jpg", b"") for n in range(200)])),
        ):
            body = self.assertProblem(answer, 413, "upload-too-large")
            self.assertEqual((body["max_images"], body["max_bytes"]), (3, 200_000))
            self.assertIn("3", body["detail"])

    def test_too_many_bytes(self):
        large = jpeg(400, 300) * 5
        for answer in (self.send(*[large] * 3), self.send_archive(large * 5)):
            self.assertProblem(answer, 413, "upload-too-large")

    def test_one_that_is_too_large_fails_alone(self):
        large = jpeg(400, 300)
        self.assertGreater(len(large), 50_000)
        for answer in (self.send(large, jpeg()), self.send_archive(archive(("a", large), ("b", jpeg())))):
            job = self.job(self.accepted(answer))
            found = self.all_results(job)
            self.assertEqual([r["state"] for r in found], ["failed", "done"])
            self.assertEqual(
                (found[0]["problem"]["code"], found[0]["problem"]["max_bytes"]), ("upload-too-large", 50_000)
            )

    def test_nothing_stays_in_the_spool_folder(self):
        self.send(jpeg(), jpeg())
        self.send_archive(b"x" * 300_000)
        self.assertEqual(list(self.spool.iterdir()), [])


class OwnersTest(BatchCase):
    @classmethod
    def setUpClass(cls):
        made = {name: make_api_key(name) for name in ("anna", "bert")}
        cls.keys = {name: {"X-API-Key": key} for name, (key, _) in made.items()}
        cls.settings = {"api_keys": " ".join(entry for _, entry in made.values())}
        super().setUpClass()

    def test_a_batch_is_its_owners(self):
        self.assertProblem(self.send(jpeg()), 401, "unauthorized")
        job = self.accepted(self.send(jpeg(), headers=self.keys["anna"]))
        path = job["links"]["self"]
        for suffix in ("", "/results", "/archive"):
            with self.client.get(path + suffix, headers=self.keys["anna"]) as answer:
                self.assertEqual(answer.status_code, 200)
            self.assertProblem(self.client.get(path + suffix, headers=self.keys["bert"]), 404, "not-found")
            self.assertProblem(self.client.get(path + suffix), 401, "unauthorized")
        self.assertProblem(self.client.delete(path, headers=self.keys["bert"]), 404, "not-found")
        headers = self.keys["anna"] | {"Idempotency-Key": "same"}
        first = self.accepted(self.send(jpeg(seed=1), headers=headers))
        other = self.accepted(self.send(jpeg(seed=1), headers=self.keys["bert"] | {"Idempotency-Key": "same"}))
        self.assertNotEqual(first["id"], other["id"])


class ThreadedBatchesTest(BatchCase):
    settings = {"queue_url": "threads:?workers=3&max_waiting=20"}

    def test_batches_are_done_behind_the_back_of_the_request_and_never_fill_the_queue(self):
        sent = [self.accepted(self.send(*[jpeg(seed=n) for n in range(45)])) for _ in range(1)]
        single = self.upload(jpeg(seed=99), headers={"Prefer": "respond-async"})
        self.assertEqual(single.status_code, 202, single.text)
        until = time.monotonic() + 60
        while (states := {self.job(job)["state"] for job in sent}) != {"done"} and time.monotonic() < until:
            time.sleep(0.05)
        self.assertEqual(states, {"done"})
        self.assertEqual(self.job(sent[0])["progress"], {"total": 45, "done": 45, "failed": 0})


if __name__ == "__main__":
    unittest.main()
