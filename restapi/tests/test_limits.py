"""Requests that are more than a client may send."""

import subprocess
import sys
import unittest

import requests
from structlog.testing import capture_logs

from imgdetect import config, metrics
from tests.app import API, IN_MEMORY, AppTest
from tests.contract import check
from tests.fault_case import FaultTest
from tests.live_server import RESTAPI
from tests.processes import until
from tests.redis_server import RedisServer

PATIENT = "timeout_seconds=20"  # on a busy machine
ANNA, BEN = (config.make_api_key(name) for name in ("anna", "ben"))


def counted(outcome):
    return metrics.rate_limit_total.labels(outcome)._value.get()


class LimitCase(AppTest):
    settings = {"rate_limit": "5/day"}
    addresses = iter(f"10.1.{n // 250}.{n % 250 + 1}" for n in range(1000))

    def get(self, path=f"{API}/detectors", address="", key="", method="get", **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()} | ({"x-api-key": key} if key else {})
        return getattr(self.client, method)(path, headers=named, environ_base={"REMOTE_ADDR": address})

    def allowed(self, **how):
        """How many requests pass before the first is refused, at most 12."""
        for number in range(12):
            if self.get(**how).status_code == 429:
                return number
        return 12


class AddressTest(LimitCase):
    def test_an_address_has_its_number_of_requests_and_the_next_is_429_with_the_time_to_wait(self):
        here, there = next(self.addresses), next(self.addresses)
        before = counted("refused")
        self.assertEqual(self.allowed(address=here), 5)
        answer = self.get(address=here)
        body = self.assertProblem(answer, 429, "too-many-requests")
        self.assertEqual(body["instance"], f"{API}/detectors")
        self.assertTrue(1 <= int(answer.headers["Retry-After"]) <= 2 * 86_400)
        self.assertEqual(answer.headers["Cache-Control"], "no-store")
        self.assertEqual(counted("refused"), before + 2)
        self.assertEqual(self.get(address=there).status_code, 200)

    def test_every_address_counts_together_and_none_is_passed_over(self):
        here = next(self.addresses)
        paths = ("/", "/static/site.css", "/nothing/here", f"{API}/image", "/openapi.json")
        with capture_logs():
            statuses = [self.get(path, here).status_code for path in paths]
            self.assertNotIn(429, statuses)
            for path in (*paths, "/static/nothing", "/apidocs/"):
                with self.subTest(path):
                    self.assertEqual(self.get(path, here).status_code, 429)

    def test_probes_are_free(self):
        here = next(self.addresses)
        for path in ("/healthz", "/readyz", "/metrics"):
            for _ in range(7):
                self.assertEqual(self.get(path, here).status_code, 200)
        self.assertEqual(self.allowed(address=here), 5)
        self.assertEqual(self.get("/healthz", here).status_code, 200)

    def test_strangers_and_preflights_are_counted_as_well(self):
        here = next(self.addresses)
        self.assertEqual(self.allowed(address=here, Host="foreign.example"), 5)
        here = next(self.addresses)
        asked = {"Origin": "https://app.example", "Access_Control_Request_Method": "POST"}
        self.assertEqual(self.allowed(address=here, method="options", **asked), 5)

    def test_addresses_of_one_ipv6_customer_count_together(self):
        self.assertEqual(self.allowed(address="2001:db8:1:2::1"), 5)
        self.assertEqual(self.get(address="2001:db8:1:2:ffff::9").status_code, 429)
        self.assertEqual(self.get(address="2001:db8:1:3::1").status_code, 200)
        here = next(self.addresses)
        self.assertEqual(self.allowed(address=f"::ffff:{here}"), 5)
        self.assertEqual(self.get(address=here).status_code, 429)

    def test_an_address_that_is_none_is_one_client(self):
        self.assertEqual(self.allowed(address="unix:"), 5)

    def test_a_forged_header_does_not_make_another_client(self):
        here = next(self.addresses)
        self.assertEqual(self.allowed(address=here), 5)
        self.assertEqual(self.get(address=here, X_Forwarded_For="10.9.9.9").status_code, 429)


class ProxyTest(LimitCase):
    settings = LimitCase.settings | {"trusted_proxies": 1}

    def test_behind_a_proxy_it_is_the_client_that_counts(self):
        self.assertEqual(self.allowed(address="10.0.0.1", X_Forwarded_For="10.7.0.1"), 5)
        self.assertEqual(self.get(address="10.0.0.1", X_Forwarded_For="10.7.0.2").status_code, 200)
        self.assertEqual(self.get(address="10.0.0.1", X_Forwarded_For="10.7.0.2, 10.7.0.1").status_code, 429)


class KeyTest(LimitCase):
    settings = LimitCase.settings | {"api_keys": f"{ANNA[1]} {BEN[1]}"}

    def test_the_owner_of_a_key_counts_wherever_the_requests_come_from(self):
        self.assertEqual([self.get(address=next(self.addresses), key=ANNA[0]).status_code for _ in range(5)], [200] * 5)
        answer = self.get(address=next(self.addresses), Authorization=f"Bearer {ANNA[0]}")
        self.assertProblem(answer, 429, "too-many-requests")
        self.assertEqual(self.allowed(key=BEN[0], address=next(self.addresses)), 5)

    def test_keys_cannot_be_guessed_faster_than_that(self):
        here = next(self.addresses)
        self.assertEqual(
            [self.get(address=here, key=f"guess {n}").status_code for n in range(7)], [401] * 5 + [429] * 2
        )


class ShortTest(LimitCase):
    settings = {"rate_limit": "100/day 3/second"}

    def test_the_strictest_of_several_rates_counts_and_is_over_after_its_time(self):
        here = next(self.addresses)
        self.assertTrue(until(lambda: self.allowed(address=here) < 12))
        answer = self.get(address=here)
        while answer.status_code != 429:  # the second has passed already
            answer = self.get(address=here)
        self.assertLessEqual(int(answer.headers["Retry-After"]), 2)
        self.assertTrue(until(lambda: self.get(address=here).status_code == 200))


class SettingTest(unittest.TestCase):
    def test_a_rate_that_is_none_is_refused(self):
        for rate in ("many", "0/minute", "-1/minute", "5", "5/", "5/week", "5 per minute", "1.5/second", "5/minute;"):
            with self.subTest(rate), self.assertRaisesRegex(config.SettingsError, "RATE_LIMIT.*600/minute"):
                config.load({"rate_limit": rate})
        self.assertEqual(config.load({"rate_limit": "20/second 600/minute"}).rate_limit, "20/second 600/minute")

    def test_who_does_not_limit_does_not_even_load_what_it_takes(self):
        code = (
            "import sys; from imgdetect import config; from imgdetect.web import create_app\n"
            "for rate in ('', '5/minute'):\n"
            f"    app = create_app(config.load({IN_MEMORY!r} | {{'rate_limit': rate}}))\n"
            "    print(len(app.before_request_funcs[None]), 'flask_limiter' in sys.modules)\n"
            "    app.extensions['imgdetect'].close()\n"
        )
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=RESTAPI, capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        off, on = (line.split() for line in done.stdout.splitlines())
        self.assertEqual((off[1], on[1], int(on[0]) - int(off[0])), ("False", "True", 1))


class SharedTest(FaultTest):
    def allowed(self, *servers, most=60):
        """How many requests to these servers in turn pass before all refuse, at most so many."""
        passed, refused = 0, set()
        for number in range(most):
            server = servers[number % len(servers)]
            answer = check(requests.get(f"{server.api}/detectors", headers={"Connection": "close"}, timeout=60))
            self.assertIn(answer.status_code, (200, 429))
            if answer.status_code == 200:
                passed += 1
            else:
                refused.add(server)
                if len(refused) == len(servers):
                    break
        return passed

    def counted(self, server, outcome):
        text = requests.get(f"{server.url}/metrics", timeout=60).text
        name = f'imgdetect_rate_limit_total{{outcome="{outcome}"}} '
        return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))

    def test_servers_count_together_in_redis_and_each_for_itself_while_it_is_gone(self):
        limit = {"RATE_LIMIT": "20/day", "SLOTS": "1"}
        with RedisServer() as store:
            limit["CACHE_URL"] = f"{store.url}/1?{PATIENT}"
            with self.serving(**limit) as one, self.serving(**limit) as two:
                self.assertEqual(self.allowed(one, two), 20)
                self.assertEqual([self.counted(server, "fallback") for server in (one, two)], [0, 0])
                store.kill()
                # Open again, but not without a limit.
                self.assertEqual(self.allowed(one, two), 40)
                for server in (one, two):
                    self.assertGreaterEqual(self.counted(server, "fallback"), 20)
                    self.assertEqual(requests.get(f"{server.url}/healthz", timeout=60).status_code, 200)
                store.start()

                def together():
                    """Whether both count in Redis again, which began anew."""
                    before = [self.counted(server, "fallback") for server in (one, two)]
                    self.allowed(one, two, most=2)
                    return before == [self.counted(server, "fallback") for server in (one, two)]

                self.assertTrue(until(together))
                self.assertLess(self.allowed(one, two), 20)
                self.assertEqual(self.allowed(one, two), 0)

    def test_requests_go_on_while_redis_is_frozen(self):
        with RedisServer() as store:
            url = f"{store.url}/1?timeout_seconds=0.5"
            with self.serving(RATE_LIMIT="1000/day", CACHE_URL=url) as server:
                self.assertEqual(self.allowed(server, most=5), 5)
                store.freeze()
                self.assertEqual(self.allowed(server, most=50), 50)
                store.thaw()
                self.assertGreaterEqual(self.counted(server, "fallback"), 40)


if __name__ == "__main__":
    unittest.main()
