"""The cache in a Redis: the contract, TLS and passwords, and a Redis that is slow, full, gone and back."""

import subprocess
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import redis
import requests
from structlog.testing import capture_logs

from imgdetect import cache, errors, metrics
from imgdetect.breaker import Breaker
from tests.app import astronaut, jpeg
from tests.contract import check
from tests.fault_case import FaultTest
from tests.live_server import free_port
from tests.processes import until
from tests.redis_server import RedisServer
from tests.test_cache import CacheContract

PATIENT = "timeout_seconds=20"  # on a busy machine


def errors_counted():
    return metrics.cache_total.labels("error")._value.get()


class RedisTest(unittest.TestCase):
    options = ()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = cls.enterClassContext(RedisServer(*cls.options))

    def emptied(self):
        self.client = redis.Redis(port=self.server.port)
        self.addCleanup(self.client.close)
        self.client.flushall()
        return cache.create(f"{self.server.url}/3?{PATIENT}")


class RedisCacheTest(CacheContract, RedisTest):
    def create(self):
        return self.emptied()

    def test_entries_are_named_bounded_in_time_and_in_their_database(self):
        self.cache.set("a", b"x")
        self.assertEqual(self.client.dbsize(), 0)
        own = redis.Redis(port=self.server.port, db=3)
        self.addCleanup(own.close)
        self.assertEqual(own.keys(), [b"imgdetect:result:a"])
        self.assertTrue(3_590_000 < own.pttl("imgdetect:result:a") <= 3_600_000)

    def test_an_entry_is_forgotten_when_it_is_too_old(self):
        aging = cache.create(f"{self.server.url}/3?{PATIENT}&ttl_seconds=0.05")
        aging.set("a", b"x")
        self.assertTrue(until(lambda: aging.get("a") is None))

    def test_a_value_above_the_limit_is_not_kept(self):
        small = cache.create(f"{self.server.url}/3?{PATIENT}&max_value_bytes=1000")
        small.set("a", bytes(1000))
        small.set("b", bytes(1001))
        self.assertEqual((small.get("a"), small.get("b")), (bytes(1000), None))

    def test_others_share_it(self):
        self.cache.set("a", b"x")
        self.assertEqual(cache.create(f"{self.server.url}/3?{PATIENT}").get("a"), b"x")

    def test_the_check_passes(self):
        self.cache.check()


class FullTest(RedisTest):
    options = ("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")

    def test_a_redis_that_is_full_is_read_from_and_refusals_are_counted(self):
        small = self.emptied()
        small.set("a", b"x")
        before = errors_counted()
        with capture_logs():
            for number in range(20):
                small.set(str(number), bytes(500_000))
        self.assertGreater(errors_counted(), before)
        self.assertEqual(small.get("a"), b"x")


class SecretTest(unittest.TestCase):
    def test_a_password_is_used_and_a_wrong_one_is_an_error_that_fails_nothing(self):
        with RedisServer("--requirepass", "s e:c/r@t") as server, capture_logs() as logged:
            good = cache.create(f"redis://:s%20e%3Ac%2Fr%40t@127.0.0.1:{server.port}?{PATIENT}")
            good.set("a", b"x")
            self.assertEqual(good.get("a"), b"x")
            before = errors_counted()
            wrong = cache.create(f"redis://:hunter2@127.0.0.1:{server.port}?{PATIENT}")
            wrong.set("a", b"y")
            self.assertIsNone(wrong.get("a"))
            self.assertEqual(errors_counted(), before + 2)
            with self.assertRaises(errors.BackendUnavailable) as caught:
                wrong.check()
        self.assertNotIn("hunter2", f"{logged} {caught.exception}")

    def test_tls_is_spoken_and_a_stranger_is_not_believed(self):
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
            files = ["-keyout", str(here / "tls.key"), "-out", str(here / "tls.crt")]
            command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files]
            subprocess.run(command, check=True, capture_output=True)
            tls = {"port": "0", "tls-port": str(free_port()), "tls-auth-clients": "no"}
            tls |= {"tls-cert-file": str(here / "tls.crt"), "tls-key-file": str(here / "tls.key")}
            port = tls["tls-port"]
            with RedisServer(*(word for name, value in tls.items() for word in (f"--{name}", value))):
                good = cache.create(f"rediss://127.0.0.1:{port}/0?{PATIENT}&ca_file={here / 'tls.crt'}")
                good.check()
                good.set("a", b"x")
                self.assertEqual(good.get("a"), b"x")
                with capture_logs():
                    self.assertIsNone(cache.create(f"rediss://127.0.0.1:{port}/0?{PATIENT}").get("a"))

    def test_it_refuses_wrong_settings_and_repeats_no_password(self):
        for url, said in (
            ("redis:", "needs a host"),
            ("redis:host", "needs a host"),
            ("redis://", "needs a host"),
            ("redis://:hunter2@", "needs a host"),
            ("redis://:hunter2@host:99999", "needs a host"),
            ("redis://:hunter2@host:port", "needs a host"),
            ("redis://:hunter2@host/results", "a database"),
            ("redis://:hunter2@host?size=1", "unknown parameter size"),
            ("redis://:hunter2@host?ttl_seconds=0", "ttl_seconds"),
            ("redis://:hunter2@host?timeout_seconds=inf", "timeout_seconds"),
            ("redis://:hunter2@host?max_value_bytes=0", "max_value_bytes"),
            ("redis://:hunter2@host?ttl_seconds=1&ttl_seconds=2", "given twice"),
            ("redis://host?ca_file=/etc/ca.pem", "unknown parameter ca_file"),
            ("rediss://host?ca_file=/nowhere/ca.pem", "no file /nowhere/ca.pem"),
        ):
            with self.subTest(url=url), self.assertRaisesRegex(ValueError, said) as caught:
                cache.create(url)
            self.assertNotIn("hunter2", str(caught.exception))


class BreakerTest(unittest.TestCase):
    def test_a_redis_that_is_frozen_costs_one_caller_its_timeout_and_comes_back(self):
        now = [0.0]
        with RedisServer() as server, capture_logs() as logged:
            shared = cache.create(f"{server.url}?timeout_seconds=1")
            shared._breaker = Breaker(2, timer=lambda: now[0])
            shared.set("a", b"x")
            server.freeze()
            before = errors_counted()
            for _ in range(500):
                self.assertIsNone(shared.get("a"))
            self.assertEqual(errors_counted(), before + 500)
            self.assertEqual(len(logged), 1)  # whoever was told at once waited for nothing
            server.thaw()
            self.assertIsNone(shared.get("a"))
            now[0] = 2.0
            self.assertEqual(shared.get("a"), b"x")
            self.assertEqual(shared.get("a"), b"x")

    def test_only_one_caller_at_a_time_tries_a_server_that_was_down(self):
        now = [0.0]
        breaker = Breaker(2, timer=lambda: now[0])
        self.assertEqual([breaker.permits() for _ in range(3)], [True] * 3)
        breaker.failed()
        self.assertEqual([breaker.permits() for _ in range(3)], [False] * 3)
        now[0] = 2.0
        self.assertEqual([breaker.permits() for _ in range(3)], [True, False, False])
        breaker.failed()
        now[0] = 3.9
        self.assertFalse(breaker.permits())
        now[0] = 4.0
        self.assertTrue(breaker.permits())
        breaker.worked()
        self.assertEqual([breaker.permits() for _ in range(3)], [True] * 3)


class LiveTest(FaultTest):
    def ready(self, server):
        answer = check(requests.get(f"{server.url}/readyz", timeout=60))
        return answer.status_code, answer.json()["status"], answer.json()["checks"]["cache"]

    def counted(self, server, outcome):
        text = requests.get(f"{server.url}/metrics", timeout=60).text
        name = f'imgdetect_cache_total{{outcome="{outcome}"}} '
        return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))

    def is_cached(self, server, data):
        answer = check(self.post(server, data, endpoint="detect"))
        self.assertEqual(answer.status_code, 200, answer.text)
        return answer.json()["cached"]

    def works_again(self, server):
        """Whether both processes find what is there, and ask for nothing in vain."""
        counted = self.counted(server, "error")
        return all(self.is_cached(server, astronaut()) for _ in range(8)) and self.counted(server, "error") == counted

    def test_requests_go_on_while_redis_is_gone_and_the_cache_works_again_afterwards(self):
        with RedisServer() as store, self.serving(CACHE_URL=f"{store.url}/0?{PATIENT}", WORKERS="2") as server:
            self.assertEqual([self.is_cached(server, astronaut()) for _ in range(4)], [False, True, True, True])
            self.assertEqual(self.ready(server), (200, "OK", "OK"))
            self.assertEqual(self.counted(server, "error"), 0)
            for end, start in ((store.kill, store.start), (store.kill, store.start)):
                end()
                with ThreadPoolExecutor(4) as threads:
                    done = list(threads.map(lambda n: self.post(server, jpeg(seed=n)), range(12)))
                self.assertEqual([answer.status_code for answer in done], [200] * 12)
                self.assertTrue(until(lambda: self.ready(server) == (200, "degraded", "failed")))
                self.assertGreater(self.counted(server, "error"), 0)
                start()
                self.assertTrue(until(lambda: self.ready(server) == (200, "OK", "OK")))
                self.assertTrue(until(lambda: self.works_again(server)))
            self.assertRowsAndFilesAgree(server)

    def test_the_service_starts_without_its_redis_and_takes_nothing_from_it_that_others_wrote(self):
        with RedisServer() as store:
            store.kill()
            with self.serving(CACHE_URL=f"{store.url}?{PATIENT}") as server:
                self.assertServes(server)
                self.assertEqual(self.ready(server), (200, "degraded", "failed"))
                store.start()
                self.assertTrue(until(lambda: self.ready(server) == (200, "OK", "OK")))
                self.is_cached(server, astronaut())
                before = self.counted(server, "error")
                client = redis.Redis(port=store.port)
                self.addCleanup(client.close)
                (key,) = client.keys()
                whole = client.get(key)
                page = whole.replace(b'"image/jpeg"', b'"text/html"', 1)
                for bad in (
                    b"",
                    b"rubbish",
                    b"{}\n",
                    b"[1]\nx",
                    b'{"result": null}\n',
                    page,
                    whole[: len(whole) // 400],
                ):
                    client.set(key, bad)
                    with self.subTest(bad[:20]):
                        self.assertFalse(self.is_cached(server, astronaut()))
                        self.assertTrue(self.is_cached(server, astronaut()))
                self.assertEqual(self.counted(server, "error"), before + 7)


if __name__ == "__main__":
    unittest.main()
