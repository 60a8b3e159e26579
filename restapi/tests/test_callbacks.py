"""Callbacks: signed, delivered at least once, retried, and sent nowhere but where they may go."""

import hashlib
import hmac
import http.server
import io
import json
import re
import socket
import threading
import time
import unittest
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest import mock

from sqlalchemy import text
from werkzeug.datastructures import FileStorage, MultiDict

from imgdetect import addresses, callbacks, job_rows
from imgdetect.callbacks import MAX_ATTEMPTS, pause_seconds
from tests.app import API, AppTest, jpeg
from tests.live_server import ROOT
from tests.test_batches import BatchCase

SECRET = "a secret of the tests, long enough"
WAIT_SECONDS = 60


class Receiver:
    """Takes callbacks on loopback, and answers with the statuses it was given, the last one again and again."""

    def __init__(self, *statuses, location=""):
        self.seen = seen = []
        answers = list(statuses)
        came = self.came = threading.Condition()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with came:
                    status = answers.pop(0) if len(answers) > 1 else answers[0]
                    seen.append((self.path, dict(self.headers), body))
                    came.notify_all()
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                self.end_headers()

            def log_message(self, *unused):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?token=1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.server.shutdown()
        self.server.server_close()

    def wait_for(self, count):
        with self.came:
            if not self.came.wait_for(lambda: len(self.seen) >= count, WAIT_SECONDS):
                raise AssertionError(f"{len(self.seen)} of {count} callbacks came")


class CallbackCase(BatchCase):
    """Callbacks are delivered when the test says so."""

    settings: ClassVar = {"callback_secret": SECRET, "allowed_callback_nets": "127.0.0.0/8"}

    @classmethod
    def setUpClass(cls):
        with mock.patch.object(callbacks.Callbacks, "_run"):
            super().setUpClass()
        cls.callbacks = cls.app.extensions["imgdetect"].housekeeping.callbacks

    def submitted(self, url, **parameters):
        answer = self.upload(
            jpeg(seed=time.time_ns() % 10**6), headers={"Prefer": "respond-async"}, callback_url=url, **parameters
        )
        self.assertEqual(answer.status_code, 202, answer.text)
        return answer.get_json()

    @contextmanager
    def later(self, seconds):
        """Let the clock go ahead."""
        ahead = int((time.time() + seconds) * 1e6)
        with (
            mock.patch.object(callbacks, "now_us", lambda: ahead),
            mock.patch.object(job_rows, "now_us", lambda: ahead),
        ):
            yield


class CallbacksTest(CallbackCase):
    def setUp(self):
        super().setUp()
        with self.service.database._transaction(writes=True) as connection:  # of the tests before this one
            connection.execute(text("UPDATE jobs SET callback_at = NULL"))

    def deliver(self, seconds=0.0):
        with self.later(seconds):
            return self.callbacks.deliver()

    def test_whoever_wants_to_know_is_told_when_a_job_has_ended(self):
        with Receiver(204) as receiver:
            job = self.submitted(receiver.url)
            self.assertEqual(self.job(job)["callback"], {"state": "pending", "attempts": 0})
            self.assertEqual(self.deliver(1), 1)
            self.assertEqual(self.deliver(1), 0)
            ((path, headers, body),) = receiver.seen
            told = json.loads(body)
            self.assertEqual((path, headers["Content-Type"]), ("/hook?token=1", "application/json"))
            self.assertEqual((told["event"], told["delivery"]), ("job.ended", job["id"]))
            self.assertEqual((told["job"]["id"], told["job"]["state"]), (job["id"], "done"))
            self.assertEqual((headers["X-Imgdetect-Delivery"], headers["X-Imgdetect-Attempt"]), (job["id"], "1"))
            self.assertEqual(self.job(job)["callback"], {"state": "delivered", "attempts": 1})

    def test_the_signature_holds_time_and_body(self):
        with Receiver(200) as receiver:
            self.submitted(receiver.url)
            self.deliver(1)
            _, headers, body = receiver.seen[0]
            told = dict(part.split("=") for part in headers["X-Imgdetect-Signature"].split(","))
            self.assertLess(abs(int(told["t"]) - time.time()), 3600)
            expected = hmac.new(SECRET.encode(), f"{told['t']}.".encode() + body, hashlib.sha256).hexdigest()
            self.assertEqual(told["v1"], expected)

    def test_the_example_of_the_readme_tells_genuine_ones_from_others(self):
        text = (ROOT / "README.md").read_text("utf-8")
        (source,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        example: dict[str, Any] = {}
        exec(source, example)
        is_genuine = example["is_genuine"]
        with Receiver(200) as receiver:
            self.submitted(receiver.url)
            self.deliver(1)
        _, headers, body = receiver.seen[0]
        signature = headers["X-Imgdetect-Signature"]
        self.assertTrue(is_genuine(signature, body, SECRET))
        self.assertFalse(is_genuine(signature, body + b" ", SECRET))
        self.assertFalse(is_genuine(signature, body, SECRET + "x"))
        seconds, _, digest = signature.removeprefix("t=").partition(",")
        self.assertFalse(is_genuine(f"t={int(seconds) + 1},{digest}", body, SECRET))
        old = callbacks.signature(SECRET.encode(), int(time.time()) - 1000, body)
        self.assertFalse(is_genuine(old, body, SECRET))
        self.assertTrue(is_genuine(old, body, SECRET, 2000))
        for forged in ("", "t=,v1=", "v1=x", "t=x,v1=y", "t=1", ","):
            self.assertFalse(is_genuine(forged, body, SECRET))

    def test_a_batch_tells_once_when_all_have_ended_and_when_it_is_cancelled(self):
        with Receiver(200) as receiver:
            self.accepted(self.send(jpeg(), jpeg(seed=1), callback_url=receiver.url))
            broken = self.accepted(self.send(jpeg()[:99], callback_url=receiver.url))
            cancelled = self.lost(jpeg(), callback_url=receiver.url)
            self.assertEqual(cancelled["callback"], {"state": "waiting", "attempts": 0})
            self.client.delete(cancelled["links"]["self"])
            while self.deliver(1):
                pass
            told = [json.loads(body)["job"] for _, _, body in receiver.seen]
            self.assertEqual([(job["kind"], job["state"]) for job in told].count(("batch", "done")), 2)
            self.assertEqual(len(told), 3)
            self.assertIn((broken["id"], "done"), [(job["id"], job["state"]) for job in told])
            self.assertIn((cancelled["id"], "cancelled"), [(job["id"], job["state"]) for job in told])

    def test_a_failed_attempt_is_repeated_later_and_later_and_given_up_in_the_end(self):
        with Receiver(500) as receiver:
            job = self.submitted(receiver.url)
            seconds = 1.0
            for attempt in range(1, MAX_ATTEMPTS + 1):
                self.assertEqual(self.deliver(seconds), 1)
                state = "failed" if attempt == MAX_ATTEMPTS else "pending"
                self.assertEqual(self.job(job)["callback"], {"state": state, "attempts": attempt})
                self.assertEqual(self.deliver(seconds), 0)
                seconds += 1.3 * callbacks.FIRST_PAUSE_SECONDS * callbacks.PAUSE_FACTOR ** (attempt - 1)
            self.assertEqual(self.deliver(seconds * 2), 0)
            deliveries = {headers["X-Imgdetect-Delivery"] for _, headers, _ in receiver.seen}
            attempts = [headers["X-Imgdetect-Attempt"] for _, headers, _ in receiver.seen]
            self.assertEqual((deliveries, attempts), ({job["id"]}, [str(n + 1) for n in range(MAX_ATTEMPTS)]))

    def test_a_receiver_that_recovers_gets_it(self):
        with Receiver(503, 200) as receiver:
            job = self.submitted(receiver.url)
            self.deliver(1)
            self.deliver(20)
            self.assertEqual(self.job(job)["callback"], {"state": "delivered", "attempts": 2})

    def test_who_is_gone_is_not_asked_again(self):
        with Receiver(410) as receiver:
            job = self.submitted(receiver.url)
            self.deliver(1)
            self.assertEqual(self.job(job)["callback"], {"state": "failed", "attempts": 1})

    def test_a_redirect_is_a_failed_attempt_and_is_not_followed(self):
        with Receiver(200) as elsewhere, Receiver(307, location=elsewhere.url) as receiver:
            job = self.submitted(receiver.url)
            self.deliver(1)
            self.assertEqual(self.job(job)["callback"], {"state": "pending", "attempts": 1})
            self.assertEqual((len(receiver.seen), elsewhere.seen), (1, []))

    def test_a_sender_that_died_is_followed_by_another(self):
        with Receiver(200) as receiver:
            job = self.submitted(receiver.url)
            with self.later(1):
                self.assertEqual(len(self.service.database.jobs.claim_callbacks(9, 60)), 1)
            self.assertEqual(self.deliver(2), 0)
            self.assertEqual(self.deliver(62), 1)
            self.assertEqual(self.job(job)["callback"], {"state": "delivered", "attempts": 2})

    def test_a_name_that_leads_astray_is_found_out_when_it_is_sent(self):
        for found in ("10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"):
            job = self.submitted("http://hook.example/")
            entries = [(socket.AF_INET, 1, 6, "", (a, 80)) for a in ("8.8.8.8", found)]
            with mock.patch.object(addresses.socket, "getaddrinfo", return_value=entries):
                self.deliver(1)
            self.assertEqual(self.job(job)["callback"], {"state": "failed", "attempts": 1}, found)

    def test_a_name_that_is_unknown_is_tried_again(self):
        job = self.submitted("http://hook.example/")
        with mock.patch.object(addresses.socket, "getaddrinfo", side_effect=socket.gaierror):
            self.deliver(1)
        self.assertEqual(self.job(job)["callback"], {"state": "pending", "attempts": 1})

    def test_urls_that_lead_nowhere_good_are_refused_at_once(self):
        for url in (
            "",
            "ftp://a.example/",
            "http://10.0.0.1/",
            "http://[::1]/",
            "http://169.254.169.254/latest/meta-data/",
            "http://user:secret@a.example/",
            "http://a.example:25/",
            "https://a.example/" + "x" * 2100,
        ):
            for answer in (
                self.upload(headers={"Prefer": "respond-async"}, callback_url=url),
                self.send(jpeg(), callback_url=url),
            ):
                body = self.assertProblem(answer, 400, "invalid-request")
                self.assertEqual(body["errors"][0]["field"], "callback_url")

    def test_a_callback_goes_with_what_is_done_later(self):
        body = self.assertProblem(self.upload(callback_url="https://a.example/"), 400, "invalid-request")
        self.assertIn("respond-async", body["detail"])

    def test_pauses_grow_threefold_up_to_an_hour_and_differ(self):
        self.assertEqual(len({pause_seconds(1) for _ in range(20)}), 20)
        for attempts, middle in ((1, 10), (2, 30), (4, 270), (7, 3600)):
            self.assertTrue(all(0.75 * middle <= pause_seconds(attempts) <= 1.25 * middle for _ in range(50)))


class DeliveredTest(BatchCase):
    settings: ClassVar = {
        "callback_secret": SECRET,
        "allowed_callback_nets": "127.0.0.0/8",
        "queue_url": "threads:?workers=2",
    }

    def test_callbacks_are_delivered_by_themselves(self):
        with Receiver(200) as receiver:
            job = self.accepted(self.send(jpeg(), jpeg(seed=1), callback_url=receiver.url))
            receiver.wait_for(1)
            self.assertEqual(json.loads(receiver.seen[0][2])["job"]["progress"], {"total": 2, "done": 2, "failed": 0})
            until = time.monotonic() + WAIT_SECONDS
            while self.job(job)["callback"]["state"] != "delivered" and time.monotonic() < until:
                time.sleep(0.02)
            self.assertEqual(self.job(job)["callback"], {"state": "delivered", "attempts": 1})
            metrics = self.client.get("/metrics").text
            self.assertRegex(metrics, r'imgdetect_callbacks_total\{outcome="delivered"\} [1-9]')


class NoSecretTest(AppTest):
    def test_without_a_secret_there_are_no_callbacks(self):
        form = MultiDict({"callback_url": "https://a.example/"})
        form.add("images", FileStorage(io.BytesIO(jpeg()), "a.jpg", "images"))
        for answer in (
            self.post_form(f"{API}/batch", form),
            self.upload(headers={"Prefer": "respond-async"}, callback_url="https://a.example/"),
        ):
            body = self.assertProblem(answer, 400, "invalid-request")
            self.assertIn("IMGDETECT_CALLBACK_SECRET", body["detail"])


if __name__ == "__main__":
    unittest.main()
