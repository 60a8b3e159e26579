"""Workers behind a real broker when parts of that die: every accepted job ends, and with one result only."""

import os
import signal
import subprocess
import sys
import time
import unittest
from contextlib import contextmanager

import requests

from imgdetect.backends import parse
from imgdetect.queues import celery
from tests import rabbitmq_server
from tests.app import astronaut, jpeg
from tests.fault_case import FaultTest
from tests.live_server import free_port
from tests.processes import alive, until
from tests.redis_server import RedisServer
from tests.slow import SLOW, SLOWER, gauge, picture
from tests.worker_process import WorkerProcess, identity

ASYNC = {"Prefer": "respond-async"}
PATIENCE_SECONDS = 90


class WorkerTest(FaultTest):
    """A server with a broker; its workers come and go."""

    @contextmanager
    def serving_with(self, broker, **parameters):
        more = "&".join(f"{name}={value}" for name, value in {"queue": self.id(), **parameters}.items())
        self.queue_url = f"celery+{broker.url}/?{more}"
        with self.serving(QUEUE_URL=self.queue_url) as server:
            yield server

    def accepted(self, server, data, **parameters):
        """The id of a job."""
        answer = self.post(server, data, headers=ASYNC, **parameters)
        self.assertEqual(answer.status_code, 202, answer.text)
        return answer.json()["id"]

    def job(self, server, job_id):
        return requests.get(f"{server.url}/api/v1/jobs/{job_id}", timeout=30).json()

    def readiness(self, server):
        answer = requests.get(f"{server.url}/readyz", timeout=30)
        return answer.status_code, answer.json()["status"], answer.json()["checks"]["queue"]

    def assertRuns(self, server, job_id):
        self.assertTrue(until(lambda: self.job(server, job_id)["state"] == "running", PATIENCE_SECONDS))

    def assertAllDone(self, server, accepted, worker=None):
        """Everything that was accepted is done, each once, and nothing else is there."""
        states = "SELECT state, count(*) FROM jobs GROUP BY state"
        done = until(lambda: self.query(server, states) == [("done", len(accepted))], PATIENCE_SECONDS)
        self.assertTrue(done, (self.query(server, states), worker.log()[-3000:] if worker else ""))
        made = self.query(server, "SELECT id FROM jobs")
        results = self.query(server, "SELECT record_id FROM jobs")
        self.assertEqual({row[0] for row in made}, set(accepted))
        self.assertEqual(sorted(results), sorted(self.query(server, "SELECT id FROM records")))
        self.assertEqual(len(set(results)), len(accepted))
        self.assertRowsAndFilesAgree(server)

    def let_time_pass(self, server):
        """As if a minute had passed: for leases, and for ids that went to the broker."""
        self.query(server, "UPDATE jobs SET lease_until = 1, created_at = 1 WHERE state IN ('queued', 'running')")

    def published(self, *job_ids):
        """Ids put on the queue by hand."""
        url = parse(self.queue_url)
        queue = celery.create(url.target, url.parameters, None)
        self.addCleanup(queue.close)
        for job_id in job_ids:
            queue.submit(job_id)


class BrokerTest(WorkerTest):
    def test_jobs_are_accepted_without_a_broker_and_done_when_it_is_back(self):
        with RedisServer() as broker, self.serving_with(broker) as server:
            broker.kill()
            accepted = [self.accepted(server, jpeg(seed=n)) for n in range(3)]
            self.assertTrue(until(lambda: self.readiness(server) == (200, "degraded", "failed")))
            with WorkerProcess(server) as worker:
                self.assertEqual([self.job(server, one)["state"] for one in accepted], ["queued"] * 3)
                broker.start()
                self.let_time_pass(server)
                self.assertAllDone(server, accepted, worker)
                self.assertEqual(worker.stop(), 0)

    def test_the_server_does_no_job_itself_and_the_worker_counts_those_that_it_did(self):
        with RedisServer() as broker, self.serving_with(broker) as server:
            accepted = [self.accepted(server, astronaut())]
            self.published(*accepted * 4)  # delivered twice and more
            self.assertEqual(self.job(server, accepted[0])["state"], "queued")
            with WorkerProcess(server) as worker:
                self.assertAllDone(server, accepted, worker)
                accepted.append(self.accepted(server, jpeg()))
                self.assertAllDone(server, accepted, worker)
                self.assertEqual(self.query(server, "SELECT DISTINCT attempts FROM jobs"), [(1,)])
                self.assertEqual(gauge(worker, "imgdetect_jobs_total"), 2)
                self.assertEqual(gauge(server, "imgdetect_jobs_total"), 0)
                self.assertEqual(requests.get(f"{worker.url}/healthz", timeout=30).json(), {"status": "OK"})
                self.assertEqual(requests.get(f"{worker.url}/nothing", timeout=30).status_code, 404)
                self.assertEqual(worker.stop(), 0)

    def test_the_id_of_a_job_that_is_gone_or_cancelled_costs_nothing(self):
        with RedisServer() as broker, self.serving_with(broker) as server:
            cancelled = self.accepted(server, jpeg())
            self.assertEqual(requests.delete(f"{server.url}/api/v1/jobs/{cancelled}", timeout=30).status_code, 200)
            self.published("0" * 32)
            with WorkerProcess(server) as worker:
                done = self.accepted(server, jpeg(seed=1))
                self.assertTrue(until(lambda: self.job(server, done)["state"] == "done", PATIENCE_SECONDS))
                self.assertEqual(self.job(server, cancelled)["state"], "cancelled")
                self.assertEqual(worker.stop(), 0)
            self.assertRowsAndFilesAgree(server)

    def test_a_broker_that_loses_everything_under_load_loses_no_job(self):
        for broker in (RedisServer(), rabbitmq_server.shared()):
            with self.subTest(type(broker).__name__):
                self.lose_everything(broker)

    def lose_everything(self, broker):
        if isinstance(broker, RedisServer):
            self.enterContext(broker)
        with self.serving_with(broker) as server, WorkerProcess(server, concurrency=2) as worker:
            accepted = [self.accepted(server, picture(n), **SLOW) for n in range(6)]
            self.assertRuns(server, accepted[0])
            broker.kill()
            accepted += [self.accepted(server, jpeg(seed=n)) for n in range(3)]
            if hasattr(broker, "lose"):
                broker.lose()
            broker.start()
            accepted.append(self.accepted(server, jpeg(seed=9)))
            self.assertTrue(until(lambda: self.job(server, accepted[-1])["state"] == "done", PATIENCE_SECONDS))
            self.query(server, "UPDATE jobs SET created_at = 1 WHERE state = 'queued'")
            self.assertAllDone(server, accepted, worker)
            self.assertEqual(worker.stop(), 0)


class DeathTest(WorkerTest):
    def test_a_worker_killed_under_its_jobs_is_replaced_and_each_has_one_result(self):
        with RedisServer() as broker, self.serving_with(broker) as server, WorkerProcess(server, 2) as other:
            with WorkerProcess(server, 2) as worker:
                accepted = [self.accepted(server, picture(n), **SLOW) for n in range(8)]
                self.assertRuns(server, accepted[3])
                worker.kill()
            self.let_time_pass(server)
            self.assertAllDone(server, accepted, other)
            self.assertEqual(other.stop(), 0)

    def test_a_process_killed_under_its_job_is_replaced_three_times_and_then_the_job_fails(self):
        with RedisServer() as broker, self.serving_with(broker) as server, WorkerProcess(server) as worker:
            poison = self.accepted(server, picture(), **SLOWER)
            running = "SELECT attempts FROM jobs WHERE state = 'running'"
            for attempt in (1, 2, 3):
                self.assertTrue(until(lambda n=attempt: self.query(server, running) == [(n,)], PATIENCE_SECONDS))
                os.kill(worker.children()[0], signal.SIGKILL)
                self.let_time_pass(server)
                self.published(poison)
            self.assertTrue(until(lambda: self.job(server, poison)["state"] == "failed", PATIENCE_SECONDS))
            ended = self.job(server, poison)
            self.assertEqual((ended["attempts"], ended["problem"]["code"]), (3, "worker-lost"))
            good = self.accepted(server, jpeg())
            self.assertTrue(until(lambda: self.job(server, good)["state"] == "done", PATIENCE_SECONDS))
            self.assertEqual(worker.stop(), 0)
            self.assertRowsAndFilesAgree(server)

    def test_a_consumer_that_is_killed_is_started_again_and_leaves_no_process_behind(self):
        with RedisServer() as broker, self.serving_with(broker) as server, WorkerProcess(server, 2) as worker:
            before = [identity(pid) for pid in (worker.consumer(), *worker.children())]
            os.kill(worker.consumer(), signal.SIGKILL)
            accepted = [self.accepted(server, jpeg())]
            self.assertAllDone(server, accepted, worker)
            self.assertTrue(until(lambda: not any(alive(process) for process in before)))
            self.assertEqual(worker.stop(), 0)

    def test_what_a_killed_worker_started_finishes_its_job_and_goes(self):
        with RedisServer() as broker, self.serving_with(broker) as server, WorkerProcess(server) as worker:
            accepted = [self.accepted(server, picture(), **SLOW)]
            self.assertRuns(server, accepted[0])
            rest = [identity(pid) for pid in worker.everybody()]
            worker.process.kill()
            worker.process.wait()
            worker.process = None
            self.assertAllDone(server, accepted, worker)
            self.assertTrue(until(lambda: not any(alive(process) for process in rest), PATIENCE_SECONDS))

    def test_a_worker_that_is_stopped_finishes_the_job_at_hand(self):
        with RedisServer() as broker, self.serving_with(broker) as server:
            with WorkerProcess(server) as worker:
                first, second = (self.accepted(server, picture(n), **SLOWER) for n in range(2))
                self.assertRuns(server, first)
                self.assertEqual(worker.stop(), 0)
            self.assertEqual(self.job(server, first)["state"], "done")
            self.assertEqual((self.job(server, second)["state"], self.job(server, second)["attempts"]), ("queued", 0))
            self.let_time_pass(server)
            with WorkerProcess(server) as worker:
                self.assertAllDone(server, [first, second], worker)
                self.assertEqual(worker.stop(), 0)

    def test_a_job_that_takes_too_long_for_a_stop_is_given_back_and_its_attempt_does_not_count(self):
        with RedisServer() as broker, self.serving_with(broker, close_seconds="0.1") as server:
            with WorkerProcess(server) as worker:
                job_id = self.accepted(server, picture(), **SLOWER)
                self.assertRuns(server, job_id)
                os.kill(worker.children()[0], signal.SIGSTOP)  # so that it cannot have ended by then
                worker.process.terminate()
                time.sleep(0.5)
                os.kill(worker.children()[0], signal.SIGCONT)
                self.assertEqual(worker.process.wait(PATIENCE_SECONDS), 0)
                worker.process = None
            found = self.job(server, job_id)
            self.assertEqual((found["state"], found["attempts"]), ("queued", 0), worker.log())


class StartTest(FaultTest):
    def test_a_worker_says_at_once_what_is_wrong_with_its_settings(self):
        good = f"celery+redis://:s3cret@127.0.0.1:{free_port()}"
        with self.serving() as server:
            for settings, arguments, part in (
                ({"IMGDETECT_QUEUE_URL": "threads:"}, [], "need a broker"),
                ({"IMGDETECT_QUEUE_URL": "celery+redis://h?x=1"}, [], "unknown parameter x"),
                ({"IMGDETECT_QUEUE_URL": good}, ["--bind", "nowhere"], "cannot listen on 'nowhere'"),
                ({"IMGDETECT_QUEUE_URL": good, "IMGDETECT_DEADLINE_SECONDS": "0"}, [], "IMGDETECT_DEADLINE_SECONDS"),
            ):
                with self.subTest(part):
                    done = subprocess.run(
                        [sys.executable, "-m", "imgdetect", "worker", *arguments],
                        env=server.environment | settings,
                        capture_output=True,
                        text=True,
                        timeout=120,
                        check=False,
                    )
                    self.assertEqual(done.returncode, 2, done.stderr)
                    self.assertIn(part, done.stderr)
                    self.assertNotIn("s3cret", done.stderr)
                    self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
    unittest.main()
