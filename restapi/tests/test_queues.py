"""What every queue of jobs has to do, and how threads share the work."""

import os
import subprocess
import sys
import threading
import time
import unittest

from structlog.testing import capture_logs

from imgdetect import errors
from imgdetect.queues import inline, threads

PATIENCE_SECONDS = 20


class Jobs:
    """Notes which jobs ran; a job whose id begins with `slow` runs until `go_on` is set."""

    def __init__(self):
        self.started, self.ended = [], []
        self.go_on = threading.Event()
        self.changed = threading.Condition()

    def run(self, job_id):
        self._note(self.started, job_id)
        if job_id.startswith("slow"):
            self.go_on.wait(PATIENCE_SECONDS)
        self._note(self.ended, job_id)
        if job_id.startswith("bad"):
            raise ZeroDivisionError

    def wait_for(self, number, what="ended"):
        """Wait until so many jobs have started or ended."""
        with self.changed:
            return self.changed.wait_for(lambda: len(getattr(self, what)) >= number, PATIENCE_SECONDS)

    def _note(self, where, job_id):
        with self.changed:
            where.append(job_id)
            self.changed.notify_all()


class QueueContract:
    """Inherited with unittest.TestCase by the tests of each queue."""

    def create(self, run):
        raise NotImplementedError

    def setUp(self):
        super().setUp()
        self.jobs = Jobs()
        self.queue = self.create(self.jobs.run)
        self.addCleanup(self.queue.close)
        self.addCleanup(self.jobs.go_on.set)

    def in_background(self, job_id):
        """Submit from another thread, for the queues that run jobs in the thread that submits them."""
        thread = threading.Thread(target=self.queue.submit, args=(job_id,))
        thread.start()
        self.addCleanup(thread.join)

    def test_every_job_that_is_submitted_runs(self):
        self.queue.work()
        for number in range(20):
            self.queue.submit(f"job-{number}")
        self.assertTrue(self.jobs.wait_for(20))
        self.assertEqual(set(self.jobs.ended), {f"job-{number}" for number in range(20)})

    def test_a_job_that_has_ended_may_come_again(self):
        self.queue.work()
        for number in (1, 2):
            until = time.monotonic() + PATIENCE_SECONDS
            while len(self.jobs.ended) < number and time.monotonic() < until:
                self.queue.submit("job")
        self.assertGreaterEqual(len(self.jobs.ended), 2)

    def test_nothing_is_taken_after_the_close(self):
        self.queue.work()
        self.queue.close()
        self.queue.close()
        with self.assertRaises(errors.Busy):
            self.queue.submit("job")
        self.assertEqual(self.jobs.started, [])


class OnceAtATimeContract(QueueContract):
    """What the queues do besides that know all their jobs; others may run one twice."""

    def test_no_job_runs_twice(self):
        self.queue.work()
        for number in range(20):
            self.queue.submit(f"job-{number}")
        self.assertTrue(self.jobs.wait_for(20))
        self.queue.close()
        self.assertEqual(len(self.jobs.started), 20)

    def test_a_job_that_runs_is_not_doubled(self):
        self.queue.work()
        self.in_background("slow")
        self.assertTrue(self.jobs.wait_for(1, "started"))
        self.queue.submit("slow")
        self.jobs.go_on.set()
        self.assertTrue(self.jobs.wait_for(1))
        self.queue.close()
        self.assertEqual(self.jobs.started, ["slow"])


class InlineQueueTest(OnceAtATimeContract, unittest.TestCase):
    def create(self, run):
        return inline.create("", {}, run)

    def test_the_job_is_done_when_submit_returns(self):
        self.queue.submit("job")
        self.assertEqual(self.jobs.ended, ["job"])

    def test_a_job_that_raises_may_come_again(self):
        for _ in range(2):
            self.assertRaises(ZeroDivisionError, self.queue.submit, "bad")

    def test_it_refuses_wrong_settings(self):
        for target, parameters in (("x", {}), ("", {"workers": "1"})):
            with self.subTest(target=target, parameters=parameters), self.assertRaises(ValueError):
                inline.create(target, parameters, self.jobs.run)


class ThreadQueueTest(OnceAtATimeContract, unittest.TestCase):
    def create(self, run, **parameters):
        return threads.create("", {"workers": "1"} | parameters, run)

    def make(self, **parameters):
        """Another queue than the contract's."""
        queue = self.create(self.jobs.run, **parameters)
        self.addCleanup(queue.close)
        self.addCleanup(self.jobs.go_on.set)
        return queue

    def test_submit_does_not_wait_for_the_job(self):
        self.queue.work()
        self.queue.submit("slow")
        self.assertTrue(self.jobs.wait_for(1, "started"))
        self.assertEqual(self.jobs.ended, [])

    def test_jobs_wait_until_work_begins_and_run_in_order(self):
        for number in range(5):
            self.queue.submit(f"job-{number}")
        self.assertEqual(self.jobs.started, [])
        self.queue.work()
        self.assertTrue(self.jobs.wait_for(5))
        self.assertEqual(self.jobs.started, [f"job-{number}" for number in range(5)])

    def test_a_job_that_waits_is_not_doubled(self):
        for _ in range(3):
            self.queue.submit("job")
        self.queue.submit("last")
        self.queue.work()
        self.assertTrue(self.jobs.wait_for(2))
        self.queue.close()
        self.assertEqual(self.jobs.started, ["job", "last"])

    def test_it_is_busy_when_the_line_is_full_and_takes_more_when_it_is_not(self):
        queue = self.make(max_waiting="2")
        queue.work()
        queue.submit("slow")
        self.assertTrue(self.jobs.wait_for(1, "started"))
        queue.submit("second")
        queue.submit("third")
        with self.assertRaises(errors.Busy):
            queue.submit("fourth")
        queue.submit("third")  # waits already: no room needed
        self.jobs.go_on.set()
        self.assertTrue(self.jobs.wait_for(3))
        queue.submit("fourth")
        self.assertTrue(self.jobs.wait_for(4))
        self.assertEqual(self.jobs.ended, ["slow", "second", "third", "fourth"])

    def test_as_many_jobs_run_at_once_as_there_are_workers(self):
        queue = self.make(workers="3")
        queue.work()
        queue.work()
        for number in range(5):
            queue.submit(f"slow-{number}")
        self.assertTrue(self.jobs.wait_for(3, "started"))
        self.assertEqual(len([t for t in threading.enumerate() if t.name.startswith("job-")]), 3)
        self.assertEqual(len(self.jobs.started), 3)
        self.jobs.go_on.set()
        self.assertTrue(self.jobs.wait_for(5))

    def test_closing_finishes_the_running_job_and_drops_the_waiting_ones(self):
        self.queue.work()
        self.queue.submit("slow")
        self.assertTrue(self.jobs.wait_for(1, "started"))
        self.queue.submit("waiting")
        closing = threading.Thread(target=self.queue.close)
        closing.start()
        closing.join(0.05)
        self.assertTrue(closing.is_alive())
        self.jobs.go_on.set()
        closing.join(PATIENCE_SECONDS)
        self.assertFalse(closing.is_alive())
        self.assertEqual((self.jobs.ended, self.jobs.started), (["slow"], ["slow"]))
        self.assertEqual([t for t in threading.enumerate() if t.name.startswith("job-")], [])

    def test_closing_does_not_wait_for_ever(self):
        queue = self.make(close_seconds="0.05")
        queue.work()
        queue.submit("slow")
        self.assertTrue(self.jobs.wait_for(1, "started"))
        queue.close()
        self.assertEqual(self.jobs.ended, [])
        self.jobs.go_on.set()
        self.assertTrue(self.jobs.wait_for(1))

    def test_a_program_that_forgets_to_close_ends_after_its_jobs(self):
        code = """
import time
from imgdetect.queues import threads
queue = threads.create("", {"workers": "2"}, lambda job: (time.sleep(0.3), print(job, flush=True)))
queue.work()
queue.submit("job")
"""
        path = os.pathsep.join(sys.path)
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        self.assertEqual(done.stdout, "job\n")

    def test_a_job_may_close_its_own_queue(self):
        ended = threading.Event()
        queue = threads.create("", {}, lambda _: (queue.close(), ended.set()))
        queue.work()
        queue.submit("job")
        self.assertTrue(ended.wait(PATIENCE_SECONDS))

    def test_a_job_that_raises_does_not_cost_the_thread(self):
        self.queue.work()
        with capture_logs() as lines:
            self.queue.submit("bad")
            self.queue.submit("good")
            self.assertTrue(self.jobs.wait_for(2))
            self.queue.close()
        self.assertEqual([line["job_id"] for line in lines], ["bad"])

    def test_it_refuses_wrong_settings(self):
        for target, parameters in (
            ("x", {}),
            ("", {"size": "1"}),
            ("", {"workers": "0"}),
            ("", {"workers": "65"}),
            ("", {"workers": "two"}),
            ("", {"max_waiting": "0"}),
            ("", {"close_seconds": "0"}),
            ("", {"close_seconds": "inf"}),
        ):
            with self.subTest(target=target, parameters=parameters), self.assertRaises(ValueError):
                threads.create(target, parameters, self.jobs.run)


if __name__ == "__main__":
    unittest.main()
