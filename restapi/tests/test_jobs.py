"""Prefer: respond-async, /api/v1/jobs, and what becomes of jobs when a worker is lost."""

import time
import unittest
from contextlib import contextmanager
from unittest import mock

from structlog.testing import capture_logs

from imgdetect import job_rows, jobs
from imgdetect.attempts import LEASE_SECONDS
from imgdetect.errors import BackendUnavailable, Busy, UnreadableImage
from imgdetect.jobs import MAX_ATTEMPTS
from tests.app import API, AppTest, astronaut, jpeg

ASYNC = {"Prefer": "respond-async"}


class JobsTest(AppTest):
    """The queue runs jobs at once, in the request."""

    def setUp(self):
        super().setUp()
        self.jobs = self.app.extensions["imgdetect"].jobs

    def submitted(self, data=None, **parameters):
        answer = self.upload(data, headers=ASYNC | parameters.pop("headers", {}), **parameters)
        self.assertEqual(answer.status_code, 202, answer.text)
        self.assertEqual(answer.headers["Location"], answer.get_json()["links"]["self"])
        self.assertEqual(answer.headers["Preference-Applied"], "respond-async")
        return answer.get_json()

    def lost(self, data=None, **parameters):
        """A job whose worker was lost before it began."""
        with mock.patch.object(self.jobs.queue, "submit"):
            return self.submitted(data, **parameters)

    def job(self, body):
        answer = self.client.get(body["links"]["self"])
        self.assertEqual(answer.status_code, 200)
        return answer.get_json()

    def files(self):
        return {file.key for file in self.service.storage.keys()}

    def test_a_job_ends_with_the_record_that_an_upload_would_have_made(self):
        job = self.job(self.submitted(astronaut(), filename="later.jpg", min_neighbors="5"))
        self.assertEqual((job["state"], job["attempts"], job["problem"]), ("done", 1, None))
        record = self.client.get(f"{job['links']['image']}/detections").get_json()
        self.assertEqual((record["image"]["filename"], record["found"]), ("later.jpg", 1))
        self.assertEqual(self.client.get(job["links"]["image"]).data, astronaut())
        self.assertEqual(self.client.get(record["image"]["links"]["processed"]).status_code, 200)

    def test_a_job_without_its_original_leaves_only_the_processed_picture(self):
        before = self.files()
        self.submitted(jpeg(seed=1), keep_original="false")
        self.assertEqual([key.split(".")[1].split("-")[0] for key in self.files() - before], ["processed"])

    def test_what_is_wrong_with_the_request_is_said_at_once(self):
        self.assertProblem(self.upload(b"text", headers=ASYNC), 415, "unsupported-image")
        self.assertProblem(self.upload(detector="dog", headers=ASYNC), 400, "invalid-request")
        self.assertProblem(self.upload(scale_factor="0", headers=ASYNC), 400, "invalid-request")

    def test_a_picture_that_cannot_be_looked_at_fails_its_job_with_the_reason(self):
        before = self.files()
        with mock.patch.object(self.service.pool, "run", side_effect=UnreadableImage()):
            job = self.job(self.submitted(jpeg(seed=2)))
        self.assertEqual((job["state"], job["problem"]["code"], job["attempts"]), ("failed", "unreadable-image", 1))
        self.assertEqual(self.files(), before)

    def test_the_same_idempotency_key_returns_the_first_job(self):
        headers = {"Idempotency-Key": "job-1"}
        first = self.submitted(jpeg(seed=3), headers=headers)
        self.assertEqual(self.submitted(jpeg(seed=3), headers=headers)["id"], first["id"])

    def test_a_queued_job_is_cancelled_and_leaves_nothing(self):
        before = self.files()
        job = self.lost(jpeg(seed=4))
        self.assertEqual(self.client.delete(job["links"]["self"]).status_code, 200)
        self.assertEqual(self.job(job)["state"], "cancelled")
        self.assertEqual(self.files(), before)
        self.jobs.run(job["id"])
        self.assertEqual(self.job(job)["state"], "cancelled")
        self.assertProblem(self.client.delete(job["links"]["self"]), 409, "conflict")

    def test_a_job_cancelled_while_it_runs_leaves_nothing(self):
        before = self.files()
        job = self.lost(jpeg(seed=5))
        look = self.service.look

        def look_and_cancel(*arguments):
            outcome = look(*arguments)
            self.jobs.cancel(job["id"], "")
            return outcome

        with mock.patch.object(self.service, "look", look_and_cancel):
            self.jobs.run(job["id"])
        self.assertEqual(self.job(job)["state"], "cancelled")
        self.assertEqual(self.files(), before)

    def test_an_unknown_job_is_not_found(self):
        for path in ("/api/v1/jobs/" + "0" * 32, "/api/v1/jobs/x"):
            self.assertProblem(self.client.get(path), 404, "not-found")
            self.assertProblem(self.client.delete(path), 404, "not-found")

    def test_a_full_queue_is_busy_and_keeps_nothing(self):
        before = self.files()
        with mock.patch.object(self.jobs.queue, "submit", side_effect=Busy()):
            answer = self.upload(jpeg(seed=6), headers=ASYNC)
        self.assertProblem(answer, 503, "busy")
        self.assertEqual(answer.headers["Retry-After"], "1")
        self.assertEqual(self.files(), before)

    def test_a_lost_job_is_submitted_again(self):
        job = self.lost(jpeg(seed=7))
        self.jobs.recover()
        self.assertEqual(self.job(job)["state"], "queued")  # its queue may still have it
        with self.later(120):
            self.jobs.recover()
        self.assertEqual(self.job(job)["state"], "done")

    def test_a_job_whose_worker_died_is_tried_three_times_and_then_failed(self):
        before = self.files()
        job = self.lost(jpeg(seed=8))
        seconds = 0.0
        for attempt in range(1, MAX_ATTEMPTS + 1):
            with self.later(seconds):
                claimed = self.service.database.jobs.claim(job["id"], LEASE_SECONDS, MAX_ATTEMPTS)
                self.assertEqual(claimed.attempts, attempt)
                self.assertIsNone(self.service.database.jobs.claim(job["id"], LEASE_SECONDS, MAX_ATTEMPTS))
            seconds += LEASE_SECONDS + 1
        with self.later(seconds):
            self.jobs.recover()
            self.jobs.run(job["id"])
        ended = self.job(job)
        self.assertEqual((ended["state"], ended["attempts"], ended["problem"]["code"]), ("failed", 3, "worker-lost"))
        self.assertEqual(self.files(), before)

    def test_a_fault_of_ours_gives_the_job_back_until_its_attempts_are_used_up(self):
        job = self.lost(jpeg(seed=9))
        states = []
        with mock.patch.object(self.service, "look", side_effect=BackendUnavailable()):
            for _ in range(MAX_ATTEMPTS):
                self.jobs.run(job["id"])
                states.append(self.job(job)["state"])
        self.assertEqual(states, ["queued", "queued", "failed"])
        self.assertEqual(self.job(job)["problem"]["code"], "backend-unavailable")

    def test_a_blunder_of_ours_is_logged_and_its_text_not_shown(self):
        job = self.lost(jpeg(seed=10))
        with mock.patch.object(self.service, "look", side_effect=ZeroDivisionError("inner")), capture_logs() as lines:
            for _ in range(MAX_ATTEMPTS):
                self.jobs.run(job["id"])
        self.assertEqual(self.job(job)["problem"]["code"], "internal-error")
        self.assertNotIn("inner", str(self.job(job)))
        self.assertEqual([line["event"] for line in lines], ["job failed"] * MAX_ATTEMPTS)

    def test_a_redelivered_id_finds_nothing_to_claim(self):
        job = self.submitted(jpeg(seed=11))
        before = self.files()
        self.jobs.run(job["id"])
        self.assertEqual((self.job(job)["attempts"], self.files()), (1, before))

    def test_an_attempt_that_lost_its_lease_leaves_the_result_to_the_other(self):
        job = self.lost(jpeg(seed=12))
        look = self.service.look

        def look_slowly(*arguments):
            outcome = look(*arguments)
            with self.later(LEASE_SECONDS + 1), mock.patch.object(self.service, "look", look):
                self.jobs.run(job["id"])
            return outcome

        with mock.patch.object(self.service, "look", look_slowly):
            self.jobs.run(job["id"])
        ended = self.job(job)
        self.assertEqual((ended["state"], ended["attempts"]), ("done", 2))
        processed = [key for key in self.files() if ".processed" in key]
        records = self.service.database.list_records("", 1000, None)
        self.assertEqual(set(processed), {record.processed_key for record in records})

    @contextmanager
    def later(self, seconds):
        """Let the database's clock go ahead."""
        ahead = int((time.time() + seconds) * 1e6)
        with mock.patch.object(job_rows, "now_us", lambda: ahead), mock.patch.object(jobs, "now_us", lambda: ahead):
            yield


class ThreadedJobsTest(AppTest):
    settings = {"queue_url": "threads:"}

    def test_jobs_are_done_behind_the_back_of_the_request(self):
        made = [self.upload(jpeg(seed=i), headers=ASYNC).get_json() for i in range(5)]
        until = time.monotonic() + 30
        states = set()
        while time.monotonic() < until and states != {"done"}:
            answers = [self.client.get(job["links"]["self"]) for job in made]
            states = {answer.get_json()["state"] for answer in answers}
            for answer in answers:
                self.assertEqual("Retry-After" in answer.headers, answer.get_json()["state"] != "done")
            time.sleep(0.02)
        self.assertEqual(states, {"done"})
        self.assertEqual(len(self.client.get(f"{API}/image").get_json()["images"]), 5)


if __name__ == "__main__":
    unittest.main()
