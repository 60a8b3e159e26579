"""API keys, private records, and what keeps strangers' pages away."""

import unittest

from structlog.testing import capture_logs

from imgdetect import config
from imgdetect.web import dialects
from tests.app import API, AppTest, jpeg

ALICE, ALICE_ENTRY = config.make_api_key("alice")
BOB, BOB_ENTRY = config.make_api_key("bob")
DIALECTS = {dialect.blueprint.name for dialect in dialects.DIALECTS}  # they have tests of their own


class KeysTest(AppTest):
    settings = {"api_keys": f"{ALICE_ENTRY} {BOB_ENTRY}", "allowed_hosts": "localhost"}

    def routes(self):
        """A method and path for every route of the API."""
        for rule in self.app.url_map.iter_rules():
            if rule.rule.startswith("/api/") and rule.endpoint.partition(".")[0] not in DIALECTS:
                values = {name: 0 if name == "n" else "a" * 32 for name in rule.arguments}
                path = self.app.url_map.bind("localhost").build(rule.endpoint, values)
                for method in sorted(rule.methods - {"OPTIONS"}):
                    yield method, path

    def test_every_route_of_the_api_needs_a_key(self):
        routes = list(self.routes())
        self.assertGreater(len(routes), 14)
        for headers in ({}, {"x-api-key": "wrong"}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}):
            for method, path in routes:
                with self.subTest(method=method, path=path, headers=headers):
                    answer = self.client.open(path, method=method, headers=headers)
                    self.assertEqual(answer.status_code, 401)
                    self.assertEqual(answer.headers["WWW-Authenticate"], 'Bearer realm="imgdetect"')
                    if method != "HEAD":
                        self.assertProblem(answer, 401, "unauthorized")

    def test_both_headers_carry_a_key(self):
        for name, value in (
            ("x-api-key", ALICE),
            ("Authorization", f"Bearer {ALICE}"),
            ("Authorization", f"bearer {ALICE}"),
        ):
            headers = {name: value}
            self.assertEqual(self.client.get(f"{API}/image", headers=headers).status_code, 200)

    def test_open_addresses_stay_open(self):
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/openapi.yaml", "/", "/apidocs/", "/redoc"):
            with self.subTest(path=path):
                answer = self.client.get(path)
                self.assertEqual(answer.status_code, 200)
                answer.close()

    def test_records_and_jobs_are_private_to_their_key(self):
        alice, bob = {"x-api-key": ALICE}, {"x-api-key": BOB}
        body = self.uploaded(jpeg(seed=1), "private.jpg", headers=alice)
        job = self.upload(jpeg(seed=2), headers=alice | {"Prefer": "respond-async"}).get_json()
        path = body["image"]["links"]["self"]
        for method, target in (
            ("GET", path),
            ("GET", f"{path}/detections"),
            ("GET", f"{path}/processed"),
            ("POST", f"{path}/processed"),
            ("DELETE", f"{path}/processed"),
            ("DELETE", path),
            ("GET", f"{API}/image/private.jpg"),
            ("DELETE", f"{API}/image/private.jpg"),
            ("GET", job["links"]["self"]),
            ("DELETE", job["links"]["self"]),
        ):
            with self.subTest(method=method, target=target):
                self.assertProblem(self.client.open(target, method=method, headers=bob), 404, "not-found")
        self.assertEqual(self.client.get(f"{API}/image", headers=bob).get_json()["images"], [])
        self.assertEqual(self.client.get(path, headers=alice).status_code, 200)
        self.assertFalse(self.uploaded(jpeg(seed=1), headers=bob)["cached"])

    def test_keys_are_never_logged(self):
        with capture_logs() as lines:
            self.client.get(f"{API}/image", headers={"x-api-key": "secret-that-is-wrong"})
            self.client.get(f"{API}/image", headers={"Authorization": f"Bearer {ALICE}"})
        self.assertEqual([line["status"] for line in lines], [401, 200])
        self.assertNotIn("secret-that-is-wrong", str(lines))
        self.assertNotIn(ALICE, str(lines))

    def test_a_host_name_does_not_matter_with_keys(self):
        headers = {"x-api-key": ALICE, "Host": "elsewhere.example", "Origin": "https://else.example"}
        self.assertEqual(self.upload(headers=headers).status_code, 200)


class OpenServerTest(AppTest):
    settings = {"cors_origins": "https://app.example", "allowed_hosts": "localhost 127.0.0.1 [::1]"}

    def test_it_answers_to_its_own_names_only(self):
        for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000"):
            self.assertEqual(self.client.get(f"{API}/image", headers={"Host": host}).status_code, 200, host)
        for host in ("evil.example", "localhost.evil.example", "169.254.169.254"):
            for path in (f"{API}/image", "/openapi.json"):
                self.assertProblem(self.client.get(path, headers={"Host": host}), 403, "forbidden")
            self.assertEqual(self.client.get("/", headers={"Host": host}).status_code, 403)
            self.assertEqual(self.client.get("/healthz", headers={"Host": host}).status_code, 200)

    def test_pages_of_other_sites_may_not_write(self):
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost:9999"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            with self.subTest(headers=headers):
                self.assertProblem(self.upload(headers=headers), 403, "forbidden")
                self.assertProblem(self.client.delete(f"{API}/image/x", headers=headers), 403, "forbidden")
                self.assertEqual(self.client.get(f"{API}/image", headers=headers).status_code, 200)

    def test_its_own_pages_and_programs_may_write(self):
        for headers in (
            {},
            {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "none"},
            {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"},
        ):
            with self.subTest(headers=headers):
                self.assertEqual(self.upload(headers=headers).status_code, 200)

    def test_preflight_is_answered_to_the_listed_origin_only(self):
        ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-api-key"}
        answer = self.client.options(f"{API}/image", headers=ask | {"Origin": "https://app.example"})
        self.assertEqual(answer.status_code, 204)
        self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "https://app.example")
        self.assertIn("POST", answer.headers["Access-Control-Allow-Methods"])
        self.assertNotIn("Access-Control-Allow-Credentials", answer.headers)
        answer = self.client.options(f"{API}/image", headers=ask | {"Origin": "https://evil.example"})
        self.assertNotIn("Access-Control-Allow-Origin", answer.headers)

    def test_answers_may_be_read_by_the_listed_origin_only(self):
        answer = self.client.get(f"{API}/image", headers={"Origin": "https://app.example"})
        self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "https://app.example")
        self.assertIn("Origin", answer.headers["Vary"])
        answer = self.client.get(f"{API}/image", headers={"Origin": "https://evil.example"})
        self.assertNotIn("Access-Control-Allow-Origin", answer.headers)


class ClosedToPagesTest(AppTest):
    def test_without_origins_no_page_gets_anything(self):
        answer = self.client.get(f"{API}/image", headers={"Origin": "https://app.example"})
        self.assertFalse([name for name in answer.headers.keys() if name.startswith("Access-Control")])


if __name__ == "__main__":
    unittest.main()
