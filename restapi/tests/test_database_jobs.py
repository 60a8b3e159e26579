"""What the rows have to do, on every database: jobs."""

import dataclasses
import unittest

from sqlalchemy import exc

from tests.test_database import SECOND, DatabaseContract, InAFile, InMemory, InPostgres, a_job, a_record, at_once


class JobsContract(DatabaseContract):
    """Inherited with unittest.TestCase by the tests of each database."""

    def claimed(self, **changes):
        """A job in its first attempt, under a lease of ten seconds."""
        self.database.add_job(a_job(**changes))
        return self.database.claim_job("j1", 10)

    def test_a_job_comes_back_as_it_was_to_its_owner(self):
        job = a_job(idempotency_key="key", request_hash="ff", keep_original=False)
        self.assertEqual(self.database.add_job(job), job)
        self.assertEqual(self.database.get_job("j1", "anna"), job)
        self.assertEqual(self.database.find_idempotent("anna", "key"), job)
        self.assertIsNone(self.database.get_job("j1", "bert"))
        self.assertIsNone(self.database.find_idempotent("bert", "key"))
        self.assertIsNone(self.database.cancel_job("j1", "bert"))

    def test_the_same_idempotency_key_gives_the_first_job(self):
        first = a_job(idempotency_key="key")
        self.database.add_job(first)
        self.assertEqual(self.database.add_job(a_job("j2", idempotency_key="key")), first)
        self.assertIsNone(self.database.get_job("j2", "anna"))
        with self.assertRaises(exc.IntegrityError):
            self.database.add_job(a_job())

    def test_of_many_that_claim_a_job_at_once_one_gets_it(self):
        self.database.add_job(a_job())
        answers = at_once(*[lambda: self.database.claim_job("j1", 10)] * 8)
        running = dataclasses.replace(a_job(), state="running", attempts=1, lease_until=self.now + 10 * SECOND)
        self.assertEqual([answer for answer in answers if answer is not None], [running])
        self.assertEqual(self.database.get_job("j1", "anna"), running)

    def test_a_job_is_claimed_again_when_its_lease_has_run_out_three_times_in_all(self):
        self.database.add_job(a_job())
        for attempt in (1, 2, 3):
            self.assertEqual(self.database.claim_job("j1", 10).attempts, attempt)
            self.now += 10 * SECOND
            self.assertIsNone(self.database.claim_job("j1", 10))
            self.now += 1
        self.assertIsNone(self.database.claim_job("j1", 10))
        self.assertIsNotNone(self.database.claim_job("j1", 10, max_attempts=4))

    def test_an_unknown_or_ended_job_cannot_be_claimed(self):
        self.assertIsNone(self.database.claim_job("nobody", 10))
        for state in ("done", "failed", "cancelled"):
            self.database.add_job(a_job(state, state=state))
            self.assertIsNone(self.database.claim_job(state, 10))

    def test_only_the_running_attempt_keeps_its_lease(self):
        job = self.claimed()
        self.now += 9 * SECOND
        self.assertTrue(self.database.renew_lease("j1", 1, 10))
        self.now += 9 * SECOND
        self.assertIsNone(self.database.claim_job("j1", 10))
        self.now += 2 * SECOND
        self.assertEqual(self.database.claim_job("j1", 10).attempts, 2)
        for attempt in (job.attempts, 3):
            self.assertFalse(self.database.renew_lease("j1", attempt, 10))
            self.assertFalse(self.database.release_job("j1", attempt))
            self.assertFalse(self.database.finish_job("j1", attempt, "done", record=a_record()))
        self.assertEqual(self.database.get_job("j1", "anna").state, "running")
        self.assertIsNone(self.database.get_record("r1", "anna"))

    def test_a_job_ends_together_with_its_record(self):
        self.claimed(idempotency_key="key")
        self.now += 5
        self.assertTrue(self.database.finish_job("j1", 1, "done", record=a_record(idempotency_key="key")))
        job = self.database.get_job("j1", "anna")
        self.assertEqual((job.state, job.record_id, job.finished_at, job.problem), ("done", "r1", self.now, None))
        self.assertEqual((job.original_key, job.lease_until, job.attempts), (None, 0, 1))
        self.assertEqual(self.database.get_record("r1", "anna"), a_record())
        self.assertEqual(self.database.find_idempotent("anna", "key"), job)
        self.assertFalse(self.database.finish_job("j1", 1, "done", record=a_record("r2")))
        self.assertFalse(self.database.renew_lease("j1", 1, 10))

    def test_a_job_does_not_end_when_its_record_cannot_be_stored(self):
        self.database.add_record(a_record())
        job = self.claimed()
        with self.assertRaises(exc.IntegrityError):
            self.database.finish_job("j1", 1, "done", record=a_record())
        self.assertEqual(self.database.get_job("j1", "anna"), job)

    def test_a_job_fails_with_its_problem(self):
        self.claimed()
        self.assertTrue(self.database.finish_job("j1", 1, "failed", problem={"status": 422}))
        job = self.database.get_job("j1", "anna")
        self.assertEqual((job.state, job.problem, job.record_id), ("failed", {"status": 422}, None))

    def test_a_released_job_is_queued_and_its_attempt_counts_unless_it_was_cut_short(self):
        self.claimed()
        self.assertTrue(self.database.release_job("j1", 1))
        job = self.database.get_job("j1", "anna")
        self.assertEqual((job.state, job.attempts, job.lease_until), ("queued", 1, 0))
        self.assertEqual(self.database.claim_job("j1", 10).attempts, 2)
        self.assertTrue(self.database.release_job("j1", 2, uncounted=True))
        self.assertFalse(self.database.release_job("j1", 2))
        self.assertEqual(self.database.claim_job("j1", 10).attempts, 2)

    def test_a_job_is_cancelled_once_and_then_left_alone(self):
        running = self.claimed()
        self.database.add_job(a_job("j2"))
        for job in (running, a_job("j2")):
            ended = dataclasses.replace(job, state="cancelled", finished_at=self.now, lease_until=0)
            self.assertEqual(self.database.cancel_job(job.id, "anna"), ended)
            self.assertIsNone(self.database.cancel_job(job.id, "anna"))
            stored = self.database.get_job(job.id, "anna")
            self.assertEqual(stored, dataclasses.replace(ended, original_key=None))
            self.assertIsNone(self.database.claim_job(job.id, 10))
        self.assertFalse(self.database.finish_job("j1", 1, "done", record=a_record()))

    def test_a_job_that_is_finished_and_cancelled_at_once_ends_in_one_way(self):
        for number in range(10):
            self.database.add_job(a_job(f"j{number}"))
            self.database.claim_job(f"j{number}", 10)
            record = a_record(f"r{number}")
            done, cancelled = at_once(
                lambda number=number, record=record: self.database.finish_job(f"j{number}", 1, "done", record=record),
                lambda number=number: self.database.cancel_job(f"j{number}", "anna"),
            )
            self.assertNotEqual(bool(done), bool(cancelled))
            self.assertEqual(self.database.get_record(record.id, "anna") is not None, done)

    def test_lost_jobs_are_submitted_again_oldest_first(self):
        self.database.add_job(a_job("fresh", created_at=self.now))
        self.database.add_job(a_job("old", created_at=self.now - 2))
        self.database.add_job(a_job("older", created_at=self.now - 3))
        self.database.add_job(a_job("left", created_at=self.now - 1))
        self.database.claim_job("left", 10)
        self.assertEqual(self.database.resubmittable(9, self.now), ["older", "old"])
        self.assertEqual(self.database.resubmittable(1, self.now), ["older"])
        self.now += 11 * SECOND
        self.assertEqual(self.database.resubmittable(9, self.now - 11 * SECOND), ["older", "old", "left"])
        self.database.add_job(a_job("spent", created_at=0, attempts=3))
        self.assertNotIn("spent", self.database.resubmittable(9, self.now))

    def test_jobs_without_an_attempt_left_fail_once_and_come_back_with_their_file(self):
        self.database.add_job(a_job("j1", state="running", attempts=3, lease_until=self.now - 1))
        self.database.add_job(a_job("j2", state="running", attempts=3, lease_until=self.now))
        self.database.add_job(a_job("j3", state="running", attempts=2, lease_until=self.now - 1))
        self.database.add_job(a_job("j4", attempts=3))
        self.database.add_job(a_job("j5", state="done", attempts=3))
        answers = at_once(*[self.database.fail_exhausted] * 3)
        failed = sorted((job for answer in answers for job in answer), key=lambda job: job.id)
        self.assertEqual([job.id for job in failed], ["j1", "j4"])
        self.assertEqual(failed[0].original_key, "j100.original.jpg")
        self.assertEqual((failed[0].state, failed[0].problem["code"]), ("failed", "worker-lost"))
        stored = self.database.get_job("j1", "anna")
        self.assertEqual(stored, dataclasses.replace(failed[0], original_key=None))
        self.assertEqual((stored.finished_at, stored.problem["status"]), (self.now, 422))

    def test_ended_jobs_are_removed_when_they_are_old(self):
        for job_id, finished_at in (("j1", 10), ("j2", 20), ("j3", None)):
            self.database.add_job(a_job(job_id, finished_at=finished_at))
        self.assertEqual(self.database.delete_jobs_older_than(20), 1)
        self.assertIsNone(self.database.get_job("j1", "anna"))
        self.assertEqual(self.database.delete_jobs_older_than(21), 1)
        self.assertIsNotNone(self.database.get_job("j3", "anna"))

    def test_a_job_is_taken_back_only_while_nobody_has_claimed_it(self):
        self.claimed()
        self.database.add_job(a_job("j2"))
        self.assertEqual([self.database.delete_job(name) for name in ("j1", "j2", "j2")], [False, True, False])
        self.assertIsNotNone(self.database.get_job("j1", "anna"))


class MemoryJobsTest(InMemory, JobsContract, unittest.TestCase):
    pass


class FileJobsTest(InAFile, JobsContract, unittest.TestCase):
    pass


class PostgresJobsTest(InPostgres, JobsContract, unittest.TestCase):
    pass


if __name__ == "__main__":
    unittest.main()
