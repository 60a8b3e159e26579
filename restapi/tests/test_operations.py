"""/healthz, /readyz, /metrics."""

import unittest
from unittest import mock

import requests
from structlog.testing import capture_logs

from imgdetect.errors import BackendUnavailable
from tests.app import AppTest, astronaut
from tests.live_server import LiveServerTest


class HealthTest(AppTest):
    def test_a_healthy_server(self):
        self.assertEqual(self.client.get("/healthz").get_json(), {"status": "OK"})
        answer = self.client.get("/readyz")
        self.assertEqual(
            answer.get_json(),
            {"status": "OK", "checks": {"database": "OK", "storage": "OK", "cache": "OK", "queue": "OK"}},
        )

    def test_methods_and_addresses_that_are_not_there(self):
        answer = self.client.post("/healthz")
        self.assertProblem(answer, 405, "method-not-allowed")
        self.assertIn("GET", answer.headers["Allow"])
        self.assertProblem(self.client.get("/nothing/here"), 404, "not-found")
        self.assertEqual(self.client.options("/healthz").status_code, 200)

    def test_the_request_id_of_a_client_is_kept_when_it_is_well_formed(self):
        self.assertEqual(
            self.client.get("/healthz", headers={"X-Request-ID": "abc-123_XYZ.4"}).headers["X-Request-ID"],
            "abc-123_XYZ.4",
        )
        for bad in ("short", "x" * 65, "with blank here", 'quote"quote"'):
            self.assertRegex(
                self.client.get("/healthz", headers={"X-Request-ID": bad}).headers["X-Request-ID"], "^[0-9a-f]{32}$"
            )


class NotReadyTest(AppTest):
    def test_a_backend_that_does_not_answer_makes_the_server_unready_but_alive(self):
        broken = mock.patch.object(self.service.storage, "check", side_effect=BackendUnavailable())
        with broken, capture_logs():
            body = self.assertProblem(self.client.get("/readyz"), 503, "backend-unavailable")
        self.assertEqual(body["checks"], {"database": "OK", "storage": "failed", "cache": "OK", "queue": "OK"})
        self.assertEqual(self.client.get("/healthz").status_code, 200)


class MetricsTest(LiveServerTest):
    settings = {"IMGDETECT_WORKERS": "2"}

    def value(self, name):
        text = requests.get(f"{self.server.url}/metrics", timeout=10).text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    def test_counts_of_all_workers_are_added_up(self):
        uploaded = {"image": ("a.jpg", astronaut())}
        for _ in range(8):  # a connection each, so that both workers get some
            answer = requests.post(f"{self.server.api}/image", files=uploaded, timeout=30)
            self.assertEqual(answer.status_code, 200, answer.text)
        name = 'http_requests_total{endpoint="/api/v1/objectdetection/image",method="POST",status_code="200"}'
        self.assertEqual([self.value(name) for _ in range(4)], [8] * 4)
        self.assertEqual(self.value("image_size_bytes_count"), 8)
        self.assertEqual(self.value("imgdetect_cache_total"), 8)
        self.assertGreaterEqual(self.value('imgdetect_step_seconds_count{step="decode"}'), 1)


if __name__ == "__main__":
    unittest.main()
