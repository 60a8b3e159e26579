"""Job ids through real brokers: who gets them, how long they may take, and what becomes of them when parts die."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import kombu
from structlog.testing import capture_logs

from imgdetect import errors
from imgdetect.backends import parse
from imgdetect.queues import celery
from tests import rabbitmq_server
from tests.live_server import free_port
from tests.processes import PROC, until
from tests.redis_server import RedisServer
from tests.test_queues import QueueContract

PATIENCE_SECONDS = 60

WORKER = """
import os, sys, time
from pathlib import Path
from imgdetect import errors
from imgdetect.queues import celery

folder, target, parameters, limit_seconds = Path(sys.argv[1]), sys.argv[2], eval(sys.argv[3]), float(sys.argv[4])
celery._HARD_AFTER_SECONDS = 1.0

def note(what, job_id):
    with (folder / what).open("a") as file:
        file.write(job_id + "\\n")

def run(job_id):
    note("started", job_id)
    try:
        while job_id.startswith(("slow", "deaf")) and not (folder / "go_on").exists():
            try:
                time.sleep(0.02)
            except errors.Problem:
                if job_id.startswith("slow"):
                    raise
    except errors.Problem as problem:
        note("interrupted", f"{job_id} {problem.slug}")
    else:
        note("ended", job_id)
    if job_id.startswith("bad"):
        raise ZeroDivisionError

sys.exit(celery.serve(target, parameters, lambda: run, concurrency=1, limit_seconds=limit_seconds))
"""


class Notes:
    """What the jobs of a worker have noted in a folder; a job whose id begins with `slow` or `deaf` waits for go_on."""

    def __init__(self, folder):
        self.folder = folder
        self.go_on = self

    def set(self):
        (self.folder / "go_on").touch()

    def of(self, what):
        file = self.folder / what
        return file.read_text().split("\n")[:-1] if file.exists() else []

    started = property(lambda self: self.of("started"))
    ended = property(lambda self: self.of("ended"))
    interrupted = property(lambda self: self.of("interrupted"))

    def wait_for(self, number, what="ended"):
        return until(lambda: len(self.of(what)) >= number, PATIENCE_SECONDS)


class QueueWithWorker:
    """A queue and the process that works for it."""

    def __init__(self, folder, url, limit_seconds=60):
        self.url = parse(url)
        self._queue = celery.create(self.url.target, self.url.parameters, None)
        self.submit, self.check = self._queue.submit, self._queue.check
        self._arguments = [str(folder), self.url.target, repr(self.url.parameters), str(limit_seconds)]
        self._log = folder / "worker.log"
        self.process = None

    def work(self):
        with self._log.open("a") as log:
            command = [sys.executable, "-W", "error", "-c", WORKER, *self._arguments]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def children(self):
        """The processes that do the jobs."""
        pid = self.process.pid
        return [int(child) for child in (PROC / str(pid) / "task" / str(pid) / "children").read_text().split()]

    def stop(self):
        """End the worker as an operator would; returns its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_SECONDS)

    def close(self):
        self._queue.close()
        if self.process:
            self.process.kill()
            self.process.wait()


class BrokerContract(QueueContract):
    """Inherited with unittest.TestCase for each broker. A slow machine may make it deliver an id twice."""

    def broker(self):
        """A running broker."""
        raise NotImplementedError

    def setUp(self):
        self.server = self.broker()
        self.parameters = f"?queue={self.id()}"
        super().setUp()
        self.jobs = self.notes

    def create(self, run):
        self.notes = Notes(Path(self.enterContext(tempfile.TemporaryDirectory())))
        return self.queue_with()

    def queue_with(self, longest_seconds=60, /, **parameters):
        more = "".join(f"&{name}={value}" for name, value in parameters.items())
        queue = QueueWithWorker(self.notes.folder, f"celery+{self.server.url}/{self.parameters}{more}", longest_seconds)
        self.addCleanup(queue.close)
        return queue

    def messages(self):
        """How many messages wait, whoever has them."""
        with kombu.Connection(f"{self.server.url}/") as connection, connection.channel() as channel:
            return kombu.Queue(self.id(), channel=channel).queue_declare().message_count

    def publish(self, body, **properties):
        """Put a message of any kind on the queue."""
        with kombu.Connection(f"{self.server.url}/") as connection:
            kombu.Producer(connection).publish(body, routing_key=self.id(), **properties)

    def assertWorks(self, job_id):
        self.queue.submit(job_id)
        self.assertTrue(until(lambda: job_id in self.jobs.ended, PATIENCE_SECONDS), self.log())

    def log(self, size=300000):
        file = self.notes.folder / "worker.log"
        return file.read_text()[-size:] if file.exists() else ""

    def test_ids_wait_for_a_worker(self):
        self.queue.submit("job")
        self.queue.check()
        self.assertGreaterEqual(self.messages(), 1)
        self.assertEqual(self.jobs.started, [])
        self.queue.work()
        self.assertTrue(self.jobs.wait_for(1), self.log())

    def test_a_message_holds_the_id_as_json_and_nothing_else_of_ours(self):
        self.queue.submit("0123456789abcdef")
        with kombu.Connection(f"{self.server.url}/") as connection, connection.channel() as channel:
            message = kombu.Queue(self.id(), channel=channel).get(no_ack=True)
        arguments, keywords, _ = json.loads(message.body)
        self.assertEqual((message.content_type, arguments, keywords), ("application/json", ["0123456789abcdef"], {}))

    def test_messages_that_are_none_of_ours_are_dropped_and_cost_nothing(self):
        ours = {"task": "imgdetect.run_job", "id": "1"}
        self.publish(b"\x80\x04.", content_type="application/x-python-serialize", content_encoding="binary")
        self.publish(b"{", content_type="application/json", content_encoding="utf-8", headers=ours)
        self.publish(b"text", content_type="text/plain", content_encoding="utf-8")
        for arguments in ([], ["a", "b"]):
            self.publish([arguments, {}, {}], serializer="json", headers=ours)
        self.publish([["a"], {"b": 1}, {}], serializer="json", headers=ours)
        self.publish([["a"], {}, {}], serializer="json", headers={"task": "os.system", "id": "2"})
        self.publish({"no": "list"}, serializer="json", headers=ours)
        self.queue.work()
        self.assertWorks("job")
        self.assertEqual(self.queue.stop(), 0)
        self.assertEqual((self.messages(), set(self.jobs.started)), (0, {"job"}))

    def test_a_job_that_raises_does_not_come_again_and_the_next_one_runs(self):
        self.queue.work()
        self.queue.submit("bad")
        self.assertWorks("job")
        self.assertEqual(self.queue.stop(), 0)
        self.assertEqual((self.messages(), set(self.jobs.started)), (0, {"bad", "job"}))

    def test_a_job_that_takes_too_long_is_told_so_and_one_that_does_not_listen_is_killed(self):
        queue = self.queue_with(1)
        queue.work()
        queue.submit("slow")
        queue.submit("deaf")
        queue.submit("job")
        self.assertTrue(self.jobs.wait_for(1), self.log())
        self.assertEqual(set(self.jobs.interrupted), {"slow wait-too-long"})
        self.assertEqual(set(self.jobs.started), {"slow", "deaf", "job"})

    def test_the_url_may_set_the_longest_time_of_a_job(self):
        queue = self.queue_with(3600, limit_seconds="1")
        queue.work()
        queue.submit("slow")
        self.assertTrue(self.jobs.wait_for(1, "interrupted"), self.log())

    def test_the_id_of_a_job_whose_process_was_killed_comes_again(self):
        self.queue.work()
        self.queue.submit("slow")
        self.assertTrue(self.jobs.wait_for(1, "started"), self.log())
        os.kill(self.queue.children()[0], signal.SIGKILL)
        self.assertTrue(self.jobs.wait_for(2, "started"), self.log())
        self.jobs.set()
        self.assertTrue(self.jobs.wait_for(1))

    def test_a_worker_that_is_stopped_finishes_its_job_and_leaves_the_others(self):
        self.queue.work()
        self.queue.submit("slow")
        self.assertTrue(self.jobs.wait_for(1, "started"), self.log())
        self.queue.submit("next")
        threading.Timer(0.5, self.jobs.set).start()
        self.assertEqual(self.queue.stop(), 0)
        self.assertEqual((self.jobs.ended, self.jobs.interrupted), (["slow"], []))
        self.assertGreaterEqual(self.messages(), 1)

    def test_a_worker_that_is_stopped_gives_back_a_job_that_takes_too_long_for_that(self):
        queue = self.queue_with(close_seconds="0.2")
        queue.work()
        queue.submit("slow")
        self.assertTrue(self.jobs.wait_for(1, "started"), self.log())
        self.assertEqual(queue.stop(), 0)
        self.assertEqual(self.jobs.interrupted, ["slow busy"])

    def test_a_broker_that_lost_everything_is_used_again_when_it_is_back(self):
        self.queue.work()
        self.assertWorks("before")
        self.server.kill()
        with capture_logs(), self.assertRaises(errors.BackendUnavailable):
            self.queue.submit("lost")
        self.assertRaises(errors.BackendUnavailable, self.queue.check)
        self.server.lose()
        self.server.start()
        self.assertWorks("after")

    def test_a_broker_that_keeps_silent_is_not_waited_for(self):
        self.queue.submit("job")
        self.server.freeze()
        self.addCleanup(self.server.thaw)
        with capture_logs():
            for call in (lambda: self.queue.submit("job"), self.queue.check):
                self.assertRaises(errors.BackendUnavailable, call)
        self.server.thaw()
        self.assertTrue(until(lambda: self.answers("job"), PATIENCE_SECONDS))

    def answers(self, job_id):
        try:
            self.queue.submit(job_id)
        except errors.BackendUnavailable:
            return False
        return True


class RedisQueueTest(BrokerContract, unittest.TestCase):
    def broker(self):
        server = self.enterContext(RedisServer())
        server.lose = lambda: None  # it keeps nothing
        return server

    def test_a_worker_whose_connection_is_cut_again_and_again_goes_on(self):
        self.queue.work()
        self.assertWorks("before")
        with kombu.Connection(f"{self.server.url}/") as connection:
            client = connection.default_channel.client
            for _ in range(20):
                others = [one["id"] for one in client.client_list() if one["id"] != str(client.client_id())]
                self.assertTrue(others or until(lambda: len(client.client_list()) > 1))
                client.client_kill_filter(_type="normal", skipme=True)
        self.assertWorks("after")


class RabbitQueueTest(BrokerContract, unittest.TestCase):
    def broker(self):
        return rabbitmq_server.shared()


class SettingsTest(unittest.TestCase):
    def test_the_url_names_the_transport_and_the_file(self):
        url = parse("celery+redis://:key@host:1/2?queue=q")
        self.assertEqual((url.scheme, url.target, url.parameters), ("celery", "redis://:key@host:1/2", {"queue": "q"}))

    def test_it_refuses_wrong_settings_and_does_not_repeat_the_password(self):
        for url in (
            *("celery:", "celery+redis:", "celery+redis://", "celery+redis:host", "celery+sqs://host"),
            *("celery+redis://:s3cret@host/name", "celery+redis://:s3cret@host:port", "celery+amqp://:s3cret@host:0x1"),
            *("celery+redis://h?x=1", "celery+redis://h?queue=", "celery+redis://h?limit_seconds=0"),
            *("celery+redis://h?limit_seconds=nan", "celery+redis://h?limit_seconds=soon"),
            *("celery+redis://h?close_seconds=0", "celery+redis://h?close_seconds=inf"),
        ):
            with self.subTest(url), self.assertRaises(ValueError) as caught:
                parsed = parse(url)
                celery.create(parsed.target, parsed.parameters, None)
            self.assertNotIn("s3cret", str(caught.exception))

    def test_nothing_is_asked_of_a_broker_before_the_first_id(self):
        queue = celery.create(f"redis://127.0.0.1:{free_port()}", {}, None)
        queue.work()
        queue.close()
        queue.close()


if __name__ == "__main__":
    unittest.main()
