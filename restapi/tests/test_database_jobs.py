"""What the rows have to do, on every database: jobs."""

import dataclasses
import unittest
from unittest import mock

from sqlalchemy import exc

from imgdetect import job_rows
from tests.test_database import SECOND, DatabaseContract, InAFile, InMemory, InPostgres, a_job, a_record, at_once


class JobsContract(DatabaseContract):
    """Inherited with unittest.TestCase by the tests of each database."""

    def claimed(self, **changes):
        """A job in its first attempt, under a lease of ten seconds."""
        self.database.jobs.add(a_job(**changes))
        return self.database.jobs.claim("j1", 10)

    def test_a_job_comes_back_as_it_was_to_its_owner(self):
        job = a_job(idempotency_key="key", request_hash="ff", keep_original=False)
        self.assertEqual(self.database.jobs.add(job), job)
        self.assertEqual(self.database.jobs.get("j1", "anna"), job)
        self.assertEqual(self.database.find_idempotent("anna", "key"), job)
        self.assertIsNone(self.database.jobs.get("j1", "bert"))
        self.assertIsNone(self.database.find_idempotent("bert", "key"))
        self.assertEqual(self.database.jobs.cancel("j1", "bert"), [])

    def test_the_same_idempotency_key_gives_the_first_job(self):
        first = a_job(idempotency_key="key")
        self.database.jobs.add(first)
        self.assertEqual(self.database.jobs.add(a_job("j2", idempotency_key="key")), first)
        self.assertIsNone(self.database.jobs.get("j2", "anna"))
        with self.assertRaises(exc.IntegrityError):
            self.database.jobs.add(a_job())

    def test_of_many_that_claim_a_job_at_once_one_gets_it(self):
        self.database.jobs.add(a_job())
        answers = at_once(*[lambda: self.database.jobs.claim("j1", 10)] * 8)
        running = dataclasses.replace(a_job(), state="running", attempts=1, lease_until=self.now + 10 * SECOND)
        self.assertEqual([answer for answer in answers if answer is not None], [running])
        self.assertEqual(self.database.jobs.get("j1", "anna"), running)

    def test_a_job_is_claimed_again_when_its_lease_has_run_out_three_times_in_all(self):
        self.database.jobs.add(a_job())
        for attempt in (1, 2, 3):
            self.assertEqual(self.database.jobs.claim("j1", 10).attempts, attempt)
            self.now += 10 * SECOND
            self.assertIsNone(self.database.jobs.claim("j1", 10))
            self.now += 1
        self.assertIsNone(self.database.jobs.claim("j1", 10))
        self.assertIsNotNone(self.database.jobs.claim("j1", 10, max_attempts=4))

    def test_an_unknown_or_ended_job_cannot_be_claimed(self):
        self.assertIsNone(self.database.jobs.claim("nobody", 10))
        for state in ("done", "failed", "cancelled"):
            self.database.jobs.add(a_job(state, state=state))
            self.assertIsNone(self.database.jobs.claim(state, 10))

    def test_only_the_running_attempt_keeps_its_lease(self):
        job = self.claimed()
        self.now += 9 * SECOND
        self.assertTrue(self.database.jobs.renew("j1", 1, 10))
        self.now += 9 * SECOND
        self.assertIsNone(self.database.jobs.claim("j1", 10))
        self.now += 2 * SECOND
        self.assertEqual(self.database.jobs.claim("j1", 10).attempts, 2)
        for attempt in (job.attempts, 3):
            self.assertFalse(self.database.jobs.renew("j1", attempt, 10))
            self.assertFalse(self.database.jobs.release("j1", attempt))
            self.assertFalse(self.database.jobs.finish("j1", attempt, "done", record=a_record()))
        self.assertEqual(self.database.jobs.get("j1", "anna").state, "running")
        self.assertIsNone(self.database.get_record("r1", "anna"))

    def test_a_job_ends_together_with_its_record(self):
        self.claimed(idempotency_key="key")
        self.now += 5
        self.assertTrue(self.database.jobs.finish("j1", 1, "done", record=a_record(idempotency_key="key")))
        job = self.database.jobs.get("j1", "anna")
        self.assertEqual((job.state, job.record_id, job.finished_at, job.problem), ("done", "r1", self.now, None))
        self.assertEqual((job.original_key, job.lease_until, job.attempts), (None, 0, 1))
        self.assertEqual(self.database.get_record("r1", "anna"), a_record())
        self.assertEqual(self.database.find_idempotent("anna", "key"), job)
        self.assertFalse(self.database.jobs.finish("j1", 1, "done", record=a_record("r2")))
        self.assertFalse(self.database.jobs.renew("j1", 1, 10))

    def test_a_job_does_not_end_when_its_record_cannot_be_stored(self):
        self.database.add_record(a_record())
        job = self.claimed()
        with self.assertRaises(exc.IntegrityError):
            self.database.jobs.finish("j1", 1, "done", record=a_record())
        self.assertEqual(self.database.jobs.get("j1", "anna"), job)

    def test_a_job_fails_with_its_problem(self):
        self.claimed()
        self.assertTrue(self.database.jobs.finish("j1", 1, "failed", problem={"status": 422}))
        job = self.database.jobs.get("j1", "anna")
        self.assertEqual((job.state, job.problem, job.record_id), ("failed", {"status": 422}, None))

    def test_a_released_job_is_queued_and_its_attempt_counts_unless_it_was_cut_short(self):
        self.claimed()
        self.assertTrue(self.database.jobs.release("j1", 1))
        job = self.database.jobs.get("j1", "anna")
        self.assertEqual((job.state, job.attempts, job.lease_until), ("queued", 1, 0))
        self.assertEqual(self.database.jobs.claim("j1", 10).attempts, 2)
        self.assertTrue(self.database.jobs.release("j1", 2, uncounted=True))
        self.assertFalse(self.database.jobs.release("j1", 2))
        self.assertEqual(self.database.jobs.claim("j1", 10).attempts, 2)

    def test_a_job_is_cancelled_once_and_then_left_alone(self):
        running = self.claimed()
        self.database.jobs.add(a_job("j2"))
        for job in (running, a_job("j2")):
            ended = dataclasses.replace(job, state="cancelled", finished_at=self.now, lease_until=0)
            self.assertEqual(self.database.jobs.cancel(job.id, "anna"), [ended])
            self.assertEqual(self.database.jobs.cancel(job.id, "anna"), [])
            stored = self.database.jobs.get(job.id, "anna")
            self.assertEqual(stored, dataclasses.replace(ended, original_key=None))
            self.assertIsNone(self.database.jobs.claim(job.id, 10))
        self.assertFalse(self.database.jobs.finish("j1", 1, "done", record=a_record()))

    def test_a_job_that_is_finished_and_cancelled_at_once_ends_in_one_way(self):
        for number in range(10):
            self.database.jobs.add(a_job(f"j{number}"))
            self.database.jobs.claim(f"j{number}", 10)
            record = a_record(f"r{number}")
            done, cancelled = at_once(
                lambda number=number, record=record: self.database.jobs.finish(f"j{number}", 1, "done", record=record),
                lambda number=number: self.database.jobs.cancel(f"j{number}", "anna"),
            )
            self.assertNotEqual(bool(done), bool(cancelled))
            self.assertEqual(self.database.get_record(record.id, "anna") is not None, done)

    def test_lost_jobs_are_submitted_again_oldest_first(self):
        self.database.jobs.add(a_job("fresh", created_at=self.now))
        self.database.jobs.add(a_job("old", created_at=self.now - 2))
        self.database.jobs.add(a_job("older", created_at=self.now - 3))
        self.database.jobs.add(a_job("left", created_at=self.now - 1))
        self.database.jobs.claim("left", 10)
        self.assertEqual(self.database.jobs.take_lost(1, self.now, 60), ["older"])
        self.assertEqual(self.database.jobs.take_lost(9, self.now, 60), ["old"])
        self.assertEqual(self.database.jobs.take_lost(9, self.now, 60), [])
        self.now += 11 * SECOND
        self.assertEqual(self.database.jobs.take_lost(9, self.now - 11 * SECOND, 60), ["left"])
        self.assertEqual(self.database.jobs.claim("left", 10).attempts, 2)
        self.assertEqual(self.database.jobs.claim("old", 10).attempts, 1)
        self.database.jobs.add(a_job("spent", created_at=0, attempts=3))
        self.now += 50 * SECOND
        self.assertEqual(self.database.jobs.take_lost(9, self.now - 61 * SECOND, 60), ["older", "old", "left"])

    def test_lost_jobs_are_taken_by_one_of_many_at_once(self):
        for number in range(5):
            self.database.jobs.add(a_job(f"j{number}", created_at=self.now - 5 + number))
        answers = at_once(*[lambda: self.database.jobs.take_lost(9, self.now, 60)] * 4)
        self.assertEqual(sorted(job_id for answer in answers for job_id in answer), [f"j{n}" for n in range(5)])

    def test_jobs_without_an_attempt_left_fail_once_and_come_back_with_their_file(self):
        self.database.jobs.add(a_job("j1", state="running", attempts=3, lease_until=self.now - 1))
        self.database.jobs.add(a_job("j2", state="running", attempts=3, lease_until=self.now))
        self.database.jobs.add(a_job("j3", state="running", attempts=2, lease_until=self.now - 1))
        self.database.jobs.add(a_job("j4", attempts=3))
        self.database.jobs.add(a_job("j5", state="done", attempts=3))
        answers = at_once(*[self.database.jobs.fail_exhausted] * 3)
        failed = sorted((job for answer in answers for job in answer), key=lambda job: job.id)
        self.assertEqual([job.id for job in failed], ["j1", "j4"])
        self.assertEqual(failed[0].original_key, "j100.original.jpg")
        self.assertEqual((failed[0].state, failed[0].problem["code"]), ("failed", "worker-lost"))
        stored = self.database.jobs.get("j1", "anna")
        self.assertEqual(stored, dataclasses.replace(failed[0], original_key=None))
        self.assertEqual((stored.finished_at, stored.problem["status"]), (self.now, 422))

    def test_ended_jobs_are_removed_when_they_are_old(self):
        for job_id, finished_at in (("j1", 10), ("j2", 20), ("j3", None)):
            self.database.jobs.add(a_job(job_id, finished_at=finished_at))
        self.assertEqual(self.database.jobs.delete_older_than(20), (1, []))
        self.assertIsNone(self.database.jobs.get("j1", "anna"))
        self.assertEqual(self.database.jobs.delete_older_than(21), (1, []))
        self.assertIsNotNone(self.database.jobs.get("j3", "anna"))

    def test_a_job_is_taken_back_only_while_nobody_has_claimed_it(self):
        self.claimed()
        self.database.jobs.add(a_job("j2"))
        taken = [self.database.jobs.take_back(name) for name in ("j1", "j2", "j2")]
        self.assertEqual(taken, [[], [a_job("j2")], []])
        self.assertIsNotNone(self.database.jobs.get("j1", "anna"))


class BatchesContract(DatabaseContract):
    """Inherited with unittest.TestCase by the tests of each database."""

    def batch(self, states=("queued",) * 3, **changes):
        """A batch b with a child c0, c1 ... for each state."""
        failed = states.count("failed")
        parent = a_job("b", kind="batch", original_key=None, total=len(states), done=0, failed=failed, **changes)
        children = [
            a_job(f"c{n}", state=state, parent_id="b", position=n, original_key=f"c{n}00.original.jpg")
            for n, state in enumerate(states)
        ]
        self.assertEqual(self.database.jobs.add(parent, children), parent)
        return parent, children

    def parent(self):
        """State, done and failed of the batch."""
        row = self.database.jobs.get("b", "anna")
        return row.state, row.done, row.failed

    def end(self, number, state="done"):
        job = self.database.jobs.claim(f"c{number}", 10)
        return self.database.jobs.finish(job.id, job.attempts, state)

    def test_the_last_picture_that_ends_ends_the_batch(self):
        self.batch()
        self.assertIsNone(self.database.jobs.claim("b", 10))
        self.assertEqual(self.parent(), ("queued", 0, 0))
        self.database.jobs.claim("c1", 10)
        self.assertEqual(self.parent(), ("running", 0, 0))
        self.assertTrue(self.database.jobs.finish("c1", 1, "done", record=a_record()))
        self.assertTrue(self.end(0, "failed"))
        self.assertEqual(self.parent(), ("running", 1, 1))
        self.now += 7
        self.assertTrue(self.end(2))
        self.assertEqual(self.parent(), ("done", 2, 1))
        self.assertEqual(self.database.jobs.get("b", "anna").finished_at, self.now)
        self.assertFalse(self.database.jobs.finish("c2", 1, "done"))
        self.assertEqual(self.parent(), ("done", 2, 1))

    def test_pictures_that_end_at_once_are_all_counted_and_the_batch_ends_once(self):
        self.batch(("queued",) * 12, callback_url="https://a.example/")
        at_once(*[lambda n=n: [self.end(n), self.end(n + 6, "failed")] for n in range(6)])
        self.assertEqual(self.parent(), ("done", 6, 6))
        self.assertEqual(self.database.jobs.get("b", "anna").callback_state, "pending")

    def test_pictures_come_in_their_order_and_are_no_jobs_of_their_own(self):
        _, children = self.batch(("queued", "failed", "queued"))
        self.assertEqual(self.database.jobs.children("b", 9), children)
        self.assertEqual(self.database.jobs.children("b", 1, after=0), children[1:2])
        self.assertIsNone(self.database.jobs.get("c0", "anna"))
        self.assertEqual(self.database.jobs.cancel("c0", "anna"), [])

    def test_cancelling_ends_what_was_not_begun(self):
        self.batch()
        self.database.jobs.claim("c1", 10)
        self.assertEqual(self.database.jobs.cancel("b", "bert"), [])
        ended = self.database.jobs.cancel("b", "anna")
        self.assertEqual([job.id for job in ended], ["b", "c0", "c2"])
        self.assertEqual([job.original_key for job in ended], [None, "c000.original.jpg", "c200.original.jpg"])
        self.assertEqual(self.database.jobs.cancel("b", "anna"), [])
        self.assertIsNone(self.database.jobs.claim("c0", 10))
        self.assertTrue(self.database.jobs.finish("c1", 1, "done", record=a_record()))
        self.assertEqual(self.parent(), ("cancelled", 1, 0))
        self.assertEqual([job.state for job in self.database.jobs.children("b", 9)], ["cancelled", "done", "cancelled"])

    def test_cancelling_and_claiming_at_once_never_block_each_other(self):
        self.batch(("queued",) * 8)
        answers = at_once(
            lambda: self.database.jobs.cancel("b", "anna"),
            *[lambda n=n: self.database.jobs.claim(f"c{n}", 10) for n in range(8)],
            lambda: self.database.jobs.cancel("b", "anna"),
        )
        self.assertEqual([answer for answer in answers if isinstance(answer, Exception)], [])
        states = [job.state for job in self.database.jobs.children("b", 9)]
        self.assertEqual({*states} - {"cancelled", "running"}, set())
        self.assertEqual(states.count("running"), sum(job is not None for job in answers[1:-1]))

    def test_a_picture_without_an_attempt_left_is_counted_as_failed(self):
        self.batch(("queued", "done"))
        for _ in range(3):
            self.database.jobs.claim("c0", 10)
            self.now += 11 * SECOND
        self.assertEqual([job.id for job in self.database.jobs.fail_exhausted()], ["c0"])
        self.assertEqual(self.parent()[2], 1)

    def test_each_lane_has_one_picture_at_a_time(self):
        self.batch(("failed", *["queued"] * 40))
        lanes = job_rows.LANES
        heads = self.database.jobs.heads("b")
        self.assertEqual(set(heads), {f"c{n}" for n in range(1, lanes + 1)})
        child = self.database.jobs.claim("c3", 10)
        self.assertEqual(self.database.jobs.next_in_lane(child), f"c{3 + lanes}")
        self.end(3 + lanes)
        self.assertEqual(self.database.jobs.next_in_lane(child), f"c{3 + 2 * lanes}")
        self.end(3 + 2 * lanes)
        self.assertIsNone(self.database.jobs.next_in_lane(child))

    def test_a_batch_at_which_nobody_works_is_found_and_its_pictures_are_not(self):
        self.batch(created_at=self.now - 9)
        self.assertEqual(self.database.jobs.take_lost(9, self.now, 60), [])
        self.assertEqual(self.database.jobs.take_idle_batches(9, self.now - 9, 60), [])
        self.assertEqual(self.database.jobs.take_idle_batches(9, self.now, 1), ["b"])
        self.assertEqual(self.database.jobs.take_idle_batches(9, self.now, 1), [])
        self.database.jobs.claim("c0", 10)
        self.now += 2 * SECOND
        self.assertEqual(self.database.jobs.take_idle_batches(9, self.now, 60), [])
        self.now += int(job_rows.BATCH_LEASE_SECONDS) * SECOND
        self.assertEqual(self.database.jobs.take_idle_batches(9, self.now, 60), ["b"])
        self.assertEqual(self.database.jobs.take_lost(9, self.now, 60), ["c0"])

    def test_a_batch_is_taken_back_whole_or_not_at_all(self):
        parent, children = self.batch(("queued", "failed"))
        self.assertCountEqual(self.database.jobs.take_back("b"), [parent, *children])
        self.batch()
        self.database.jobs.claim("c1", 10)
        self.assertEqual(self.database.jobs.take_back("b"), [])
        self.assertEqual(len(self.database.jobs.children("b", 9)), 3)

    def test_a_batch_is_removed_with_its_pictures_and_not_before(self):
        self.batch(("queued", "queued"))
        self.end(0)
        self.now += SECOND
        self.assertEqual(self.database.jobs.delete_older_than(self.now), (0, []))
        self.end(1)
        self.assertEqual(self.database.jobs.delete_older_than(self.now + 1), (1, []))
        self.assertEqual(self.database.jobs.children("b", 9), [])

    def test_more_old_jobs_than_one_transaction_removes_go_all_the_same(self):
        old = {"state": "done", "finished_at": 1}
        for name in "stuvw":
            self.database.jobs.add(a_job(name, **old))
            self.database.jobs.add(
                a_job(f"b{name}", kind="batch", **old),
                [a_job(f"{name}{n}", parent_id=f"b{name}", position=n, **old) for n in range(5)],
            )
        self.database.jobs.add(a_job("young"))
        with mock.patch.object(job_rows, "_ROWS_AT_ONCE", 2):
            self.assertEqual(self.database.jobs.delete_older_than(2), (10, []))
        self.assertEqual(self.database.jobs.children("bs", 9), [])
        self.assertIsNotNone(self.database.jobs.get("young", "anna"))

    def test_an_attempt_says_how_far_it_is_until_it_is_not_the_running_one(self):
        self.database.jobs.add(a_job("v", kind="video", total=100, done=0, failed=0))
        self.database.jobs.claim("v", 10)
        self.assertTrue(self.database.jobs.renew("v", 1, 10, {"done": 7}))
        self.assertEqual(self.database.jobs.get("v", "anna").done, 7)
        self.database.jobs.cancel("v", "anna")
        self.assertFalse(self.database.jobs.renew("v", 1, 10, {"done": 8}))
        self.assertEqual(self.database.jobs.get("v", "anna").done, 7)

    def test_the_files_of_a_job_are_known_and_are_named_when_it_is_removed(self):
        self.database.jobs.add(a_job("v1", kind="video"))
        self.database.jobs.add(a_job("v2", kind="video"))
        self.database.jobs.claim("v1", 10)
        asked = ["v1.video-00.mp4", "v1.video-11.mp4", "v2.video-00.mp4", "v3.video-00.mp4"]
        self.assertEqual(self.database.known_keys(asked), set(asked[:3]))
        artifacts = {"video": {"key": "v1.video-00.mp4", "media_type": "video/mp4", "size_bytes": 1, "filename": "a"}}
        self.assertTrue(self.database.jobs.finish("v1", 1, "done", artifacts=artifacts))
        self.assertEqual(self.database.jobs.get("v1", "anna").artifacts, artifacts)
        self.assertEqual(self.database.known_keys(asked), {asked[0], asked[2]})
        self.assertEqual(self.database.jobs.delete_older_than(self.now + 1), (1, ["v1.video-00.mp4"]))


class MemoryBatchesTest(InMemory, BatchesContract, unittest.TestCase):
    pass


class FileBatchesTest(InAFile, BatchesContract, unittest.TestCase):
    pass


class PostgresBatchesTest(InPostgres, BatchesContract, unittest.TestCase):
    pass


class MemoryJobsTest(InMemory, JobsContract, unittest.TestCase):
    pass


class FileJobsTest(InAFile, JobsContract, unittest.TestCase):
    pass


class PostgresJobsTest(InPostgres, JobsContract, unittest.TestCase):
    pass


if __name__ == "__main__":
    unittest.main()
