"""What nginx does to requests and answers that pass: TLS, redirects, ids, addresses, headers, limits, the log."""

import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import unittest
from collections import Counter
from pathlib import Path

import requests

from tests.live_server import ROOT
from tests.nginx_cases import OWN_HEADERS, WAIT_SECONDS, NginxCase, exchange, parse, request
from tests.nginx_server import SEARCH_PATH, NginxServer
from tests.upstream import Upstream

AEAD = re.compile(r"(TLS_(AES|CHACHA20)_\w+)|(ECDHE-ECDSA-(AES\d+-GCM-SHA\d+|CHACHA20-POLY1305))")


def handshake(nginx: NginxServer, *options: str) -> str:
    """What `openssl s_client` says of a handshake."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{nginx.tls_port}", *options]
    return subprocess.run(
        command, input="", capture_output=True, text=True, check=False, timeout=WAIT_SECONDS, env={"PATH": SEARCH_PATH}
    ).stdout


class TlsTest(NginxCase):
    def test_it_speaks_two_versions_with_modern_ciphers_only(self) -> None:
        for option, version in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
            shown = re.search(r"New, (\S+), Cipher is (\S+)", handshake(self.nginx, option))
            assert shown is not None
            self.assertEqual(shown[1], version)
            self.assertRegex(shown[2], AEAD)

    def test_it_refuses_old_versions_and_ciphers(self) -> None:
        for options in (
            ("-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"),
            ("-tls1", "-cipher", "DEFAULT:@SECLEVEL=0"),
            ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA:AES128-GCM-SHA256:@SECLEVEL=0"),
        ):
            with self.subTest(options):
                self.assertIn("Cipher is (NONE)", handshake(self.nginx, *options))

    def test_it_keeps_sessions_by_id_and_hands_out_no_tickets(self) -> None:
        self.assertNotIn("TLS session ticket:", handshake(self.nginx, "-tls1_2"))
        context = self._context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        session = None
        for reused in (False, True):
            with (
                socket.create_connection(("127.0.0.1", self.nginx.tls_port), WAIT_SECONDS) as plain,
                context.wrap_socket(plain, server_hostname="localhost", session=session) as secure,
            ):
                self.assertEqual(secure.session_reused, reused)
                session = secure.session

    def test_it_speaks_http_2(self) -> None:
        context = self._context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", self.nginx.tls_port), WAIT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            self.assertEqual(secure.selected_alpn_protocol(), "h2")
        command = ["curl", "--silent", "--cacert", str(self.nginx.certificate), "--http2", "--data", "x"]
        command += ["--write-out", "%{http_version} %{http_code}", f"{self.nginx.https_url}/a?b=c"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=WAIT_SECONDS)
        self.assertEqual(done.stdout, "{}2 200")
        seen = self.upstream.seen[0]
        self.assertEqual((seen.method, seen.target, seen.body), ("POST", "/a?b=c", b"x"))
        self.assertEqual(seen.all("Host"), [f"127.0.0.1:{self.nginx.tls_port}"])

    def test_its_certificate_names_this_machine(self) -> None:
        for host in ("localhost", "127.0.0.1"):
            url = f"https://{host}:{self.nginx.tls_port}/"
            self.assertEqual(
                requests.get(url, verify=str(self.nginx.certificate), timeout=WAIT_SECONDS).status_code, 200
            )

    def test_its_key_is_for_its_own_user_only_and_stays(self) -> None:
        with NginxServer(self.upstream.address, TLS_NAMES="a.example *.b.example") as nginx:
            key = nginx.certificate.with_name("tls.key")
            self.assertEqual(key.stat().st_mode & 0o777, 0o600)
            before = key.read_bytes(), nginx.certificate.read_bytes()
            nginx.stop()
            nginx.start()
            self.assertEqual((key.read_bytes(), nginx.certificate.read_bytes()), before)
            self.assertEqual({path.name for path in key.parent.iterdir()}, {"tls.crt", "tls.key"})
            shown = handshake(nginx)
            command = ["openssl", "x509", "-noout", "-ext", "subjectAltName"]
            done = subprocess.run(
                command, input=shown, capture_output=True, text=True, check=True, timeout=WAIT_SECONDS
            )
        self.assertIn("DNS:a.example, DNS:*.b.example, IP Address:127.0.0.1", done.stdout)

    def test_only_tls_answers_ask_for_tls_from_now_on(self) -> None:
        secure = requests.get(self.nginx.https_url, verify=str(self.nginx.certificate), timeout=WAIT_SECONDS)
        self.assertEqual(secure.headers["Strict-Transport-Security"], "max-age=31536000")
        self.assertNotIn("Strict-Transport-Security", requests.get(self.nginx.url, timeout=WAIT_SECONDS).headers)
        with NginxServer(self.upstream.address, HSTS_SECONDS="off") as nginx:
            secure = requests.get(nginx.https_url, verify=str(nginx.certificate), timeout=WAIT_SECONDS)
            self.assertNotIn("Strict-Transport-Security", secure.headers)

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.nginx.certificate))


class RedirectTest(NginxCase):
    def test_it_sends_plain_http_to_tls_and_keeps_method_and_query(self) -> None:
        answer = requests.post(f"{self.nginx.redirect_url}/a?b=c", timeout=WAIT_SECONDS, allow_redirects=False)
        self.assertEqual(answer.status_code, 308)
        self.assertEqual(answer.headers["Location"], f"{self.nginx.https_url}/a?b=c")
        self.assertEqual(self.upstream.seen, [])

    def test_it_leaves_the_usual_port_out(self) -> None:
        with NginxServer(self.upstream.address, HTTPS_PORT="443") as nginx:
            received = exchange(nginx.redirect_port, request("GET /a HTTP/1.1", "Connection: close"))
        self.assertEqual(parse(received)[0].getheader("Location"), "https://localhost/a")

    def test_it_serves_plain_http_when_told_to(self) -> None:
        with NginxServer(self.upstream.address, HTTP_REDIRECT="off") as nginx:
            self.assertEqual(requests.get(nginx.redirect_url, timeout=WAIT_SECONDS).status_code, 200)
        self.assertEqual(self.upstream.seen[0].all("X-Forwarded-Proto"), ["http"])

    def test_it_says_that_it_is_alive_on_every_port(self) -> None:
        for url in (self.nginx.url, self.nginx.redirect_url, self.nginx.https_url):
            answer = requests.get(f"{url}/nginx-health", verify=str(self.nginx.certificate), timeout=WAIT_SECONDS)
            self.assertEqual((answer.status_code, answer.json()), (200, {"status": "OK"}))
        self.assertEqual(self.upstream.seen, [])


class PassingTest(NginxCase):
    def test_it_keeps_a_good_request_id_and_replaces_others(self) -> None:
        for given in ("abcdefgh", "A-b_c.4567" * 6, "short", "x" * 65, "with blank", 'quote"quote', "two, ids8", ""):
            self.upstream.seen.clear()
            headers = {"X-Request-ID": given}
            answer = requests.get(self.nginx.url, headers=headers, timeout=WAIT_SECONDS)
            sent_back = answer.headers["X-Request-ID"]
            self.assertEqual(self.upstream.seen[0].all("X-Request-ID"), [sent_back])
            if given in ("abcdefgh", "A-b_c.4567" * 6):
                self.assertEqual(sent_back, given)
            else:
                self.assertRegex(sent_back, r"^[0-9a-f]{32}$")

    def test_it_overwrites_what_a_client_says_of_its_address(self) -> None:
        forged = ("For", "Proto", "Host", "Port", "Prefix", "Server")
        headers = {f"X-Forwarded-{name}": "6.6.6.6" for name in forged}
        headers |= {
            "Forwarded": "for=6.6.6.6",
            "X-Real-IP": "6.6.6.6",
            "X_Forwarded_For": "6.6.6.6",
            "Proxy": "6.6.6.6",
        }
        requests.get(self.nginx.https_url, headers=headers, verify=str(self.nginx.certificate), timeout=WAIT_SECONDS)
        seen = self.upstream.seen[0]
        self.assertNotIn("6.6.6.6", str(seen.headers))
        self.assertEqual(seen.all("X-Forwarded-For"), ["127.0.0.1"])
        self.assertEqual(seen.all("X-Forwarded-Proto"), ["https"])
        self.assertEqual(seen.all("X-Forwarded-Host"), seen.all("Host"))

    def test_it_passes_the_host_and_the_path_as_they_are(self) -> None:
        for host in ("a.example:8443", "a.example", "[::1]:80", "[::1]"):
            self.upstream.seen.clear()
            sent = f"GET /a//./b/%2e%2e/c%2Fd?e=%20f HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            self.assertEqual(parse(self.send(sent.encode()))[0].status, 200)
            self.assertEqual(self.upstream.seen[0].all("Host"), [host])
            self.assertEqual(self.upstream.seen[0].target, "/a//./b/%2e%2e/c%2Fd?e=%20f")

    def test_no_header_is_sent_twice(self) -> None:
        for path, policy in (("/a", "default-src 'self'"), ("/bare", OWN_HEADERS["Content-Security-Policy"])):
            received = self.send(request(f"GET {path} HTTP/1.1", "Connection: close"))
            headers = parse(received)[0].headers
            self.assertEqual({name: n for name, n in Counter(map(str.lower, headers)).items() if n > 1}, {})
            self.assertEqual(headers["Content-Security-Policy"], policy)
            self.assertEqual(headers["X-Content-Type-Options"], "nosniff")

    def test_it_hides_what_is_for_the_inside(self) -> None:
        for path in (
            *("/metrics", "/metrics/", "/metrics?a", "//metrics", "/./metrics", "/a/../metrics", "/%6detrics"),
            *("/a/..%2fmetrics", "/_files/ab/x.jpg", "/%5ffiles/x.jpg", "/_problem", "/_no_answer"),
        ):
            with self.subTest(path):
                received = self.send(request(f"GET {path} HTTP/1.1", "Connection: close"))
                self.assert_problem(received, 404, path.partition("?")[0])
        self.assertEqual(self.upstream.seen, [])

    def test_a_file_that_is_gone_is_a_problem_that_nobody_keeps(self) -> None:
        answer = requests.get(f"{self.nginx.url}/accel/ab/gone.jpg", timeout=WAIT_SECONDS)
        self.assertEqual((answer.status_code, answer.json()["code"]), (404, "not-found"))
        self.assertEqual(answer.headers["Content-Type"], "application/problem+json")
        self.assertIn("no-store", answer.headers["Cache-Control"])
        self.assertNotIn("ETag", answer.headers)

    def test_it_compresses_scripts_and_not_answers(self) -> None:
        wanted = {"Accept-Encoding": "gzip"}
        script = requests.get(f"{self.nginx.url}/script.js", headers=wanted, timeout=WAIT_SECONDS)
        self.assertEqual(script.headers["Content-Encoding"], "gzip")
        self.assertEqual(script.headers["Vary"], "Accept-Encoding")
        answer = requests.get(f"{self.nginx.url}/a", headers=wanted, timeout=WAIT_SECONDS)
        self.assertNotIn("Content-Encoding", answer.headers)

    def test_no_request_fails_while_it_reloads(self) -> None:
        failed: list[str] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                try:
                    requests.get(self.nginx.url, timeout=WAIT_SECONDS).raise_for_status()
                except requests.RequestException as error:
                    failed.append(repr(error))

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        for _ in range(3):
            before = len(self.upstream.seen)
            self.nginx.reload()
            while len(self.upstream.seen) < before + 40 and not failed:
                done.wait(0.01)
        done.set()
        for asker in askers:
            asker.join()
        self.assertEqual(failed, [])


class LimitTest(unittest.TestCase):
    def setUp(self) -> None:
        self.upstream = self.enterContext(Upstream())

    def test_it_turns_away_an_address_that_asks_too_often(self) -> None:
        with NginxServer(self.upstream.address, RATE_LIMIT="1", RATE_BURST="2") as nginx:
            answers = [requests.get(f"{nginx.url}/a", timeout=WAIT_SECONDS) for _ in range(12)]
            alive = requests.get(f"{nginx.url}/nginx-health", timeout=WAIT_SECONDS)
        statuses = [answer.status_code for answer in answers]
        self.assertEqual(statuses[:3], [200] * 3)
        self.assertIn(429, statuses)
        refused = answers[statuses.index(429)]
        self.assertEqual(refused.headers["Retry-After"], "1")
        self.assertEqual(refused.json()["code"], "too-many-requests")
        self.assertEqual(len(self.upstream.seen), statuses.count(200))
        self.assertEqual(alive.status_code, 200)

    def test_it_turns_away_an_address_that_has_too_many_requests_under_way(self) -> None:
        with NginxServer(self.upstream.address, RATE_LIMIT="1000", CONNECTIONS="1") as nginx:
            slow = threading.Thread(target=requests.get, args=(f"{nginx.url}/slow",), kwargs={"timeout": WAIT_SECONDS})
            slow.start()
            while not self.upstream.seen:
                slow.join(0.01)
            self.assertEqual(requests.get(f"{nginx.url}/a", timeout=WAIT_SECONDS).status_code, 429)
            slow.join()
            until = time.monotonic() + WAIT_SECONDS  # nginx counts a request until shortly after its answer
            while requests.get(f"{nginx.url}/a", timeout=WAIT_SECONDS).status_code == 429 and time.monotonic() < until:
                time.sleep(0.01)
            self.assertEqual(requests.get(f"{nginx.url}/a", timeout=WAIT_SECONDS).status_code, 200)

    def test_off_means_no_limit_of_either_kind(self) -> None:
        with NginxServer(self.upstream.address, RATE_LIMIT="off", RATE_BURST="1", CONNECTIONS="1") as nginx:
            statuses = {requests.get(f"{nginx.url}/a", timeout=WAIT_SECONDS).status_code for _ in range(30)}
        self.assertEqual(statuses, {200})


class LogTest(NginxCase):
    def test_each_request_leaves_a_line_with_its_id_and_timings(self) -> None:
        answer = requests.post(f"{self.nginx.url}/a?b=c", data=b"x" * 1000, timeout=WAIT_SECONDS)
        (line,) = self.nginx.log_lines(answer.headers["X-Request-ID"])
        self.assertEqual((line["method"], line["uri"], line["status"]), ("POST", "/a?b=c", 200))
        self.assertEqual((line["remote"], line["upstream"]), ("127.0.0.1", self.upstream.address))
        self.assertGreater(line["bytes_in"], 1000)
        for name in ("seconds", "upstream_connect_seconds", "upstream_header_seconds", "upstream_seconds"):
            self.assertGreaterEqual(float(line[name]), 0)

    def test_every_line_is_json_whatever_was_sent(self) -> None:
        for number, sent in enumerate(
            (
                request('GET /a"\\\xff\u00e9 HTTP/1.1', 'User-Agent: "\xff\\\x7f\t', "X-Request-ID: {}"),
                request("GET /metrics HTTP/1.1", 'Referer: "', "X-Request-ID: {}"),
                request("TRACE / HTTP/1.1", "X-Request-ID: {}"),
            )
        ):
            identity = f"the-request-{number}"
            self.send(sent.replace(b"{}\r\n", identity.encode() + b"\r\nConnection: close\r\n"))
            self.assertEqual(len(self.nginx.log_lines(identity)), 1)
        self.assertEqual(self.nginx.log_lines("the-request-2")[0]["method"], "TRACE")
        for sent in (b"\x16\x03\x01\x00\r\n\r\n", b"GARBAGE\r\n\r\n", b"GET /\r\n", b"\xff\xfe / HTTP/1.1\r\n\r\n"):
            self.send(sent)
        lines = [json.loads(line) for line in self.nginx.log_path.read_bytes().decode("utf-8").splitlines()]
        self.assertGreaterEqual(len(lines), 3)

    def test_no_secret_reaches_the_log(self) -> None:
        headers = {"x-api-key": "the-secret-key", "Authorization": "Bearer the-secret-key"}
        answer = requests.get(f"{self.nginx.url}/a", headers=headers, timeout=WAIT_SECONDS)
        self.nginx.log_lines(answer.headers["X-Request-ID"])
        self.assertNotIn("the-secret-key", self.nginx.log_path.read_text() + self.nginx.errors())


class StartTest(unittest.TestCase):
    """`nginx/start.sh` itself."""

    def test_nginx_and_a_second_opinion_have_nothing_to_say(self) -> None:
        nginx = NginxServer("127.0.0.1:1")
        with nginx.folder:
            nginx.certificate.parent.mkdir()
            tested = self._check(nginx)
            command = [str(Path(sys.executable).with_name("gixy")), str(nginx.root / "run" / "nginx.conf")]
            judged = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS)
        self.assertEqual(tested.returncode, 0, tested.stderr)
        self.assertNotIn("[warn]", tested.stderr)
        self.assertEqual(judged.returncode, 0, judged.stdout)

    def test_it_refuses_a_wrong_setting_with_one_line(self) -> None:
        for name, value in (
            ("RATE_LIMIT", "0"),
            ("RATE_LIMIT", "5r/s"),
            ("HTTP_REDIRECT", "yes"),
            ("UPSTREAM", "http://restapi:8000/"),
            ("UPSTREAM", "restapi:8000; return 200"),
            ("HSTS_SECONDS", "1\noff"),
            ("IMGDETECT_MAX_UPLOAD_BYTES", "25m"),
            ("CERT_DIR", "relative"),
        ):
            with self.subTest(name=name, value=value):
                nginx = NginxServer("127.0.0.1:1", **{name: value})
                with nginx.folder:
                    done = self._check(nginx)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertRegex(done.stderr, rf"\Anginx: {name} must be [^\n]+\n\Z")

    def test_it_says_what_is_missing_of_a_mounted_certificate(self) -> None:
        nginx = NginxServer("127.0.0.1:1")
        with nginx.folder:
            nginx.certificate.parent.mkdir()
            nginx.certificate.write_text("")
            done = self._check(nginx)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"\Anginx: cannot read \S+/tls.key as user \d+\n\Z")

    def test_it_replaces_its_own_certificate_before_it_ends_and_no_other(self) -> None:
        for name, replaced in (("self-signed.imgdetect", True), ("localhost", False)):
            with self.subTest(name):
                nginx = NginxServer("127.0.0.1:1")
                with nginx.folder:
                    folder = nginx.certificate.parent
                    folder.mkdir()
                    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
                    command += ["-nodes", "-days", "20", "-subj", f"/CN={name}", "-out", str(nginx.certificate)]
                    command += ["-keyout", str(folder / "tls.key")]
                    subprocess.run(command, capture_output=True, check=True, timeout=WAIT_SECONDS)
                    before = nginx.certificate.read_bytes()
                    done = self._check(nginx)
                    self.assertEqual(nginx.certificate.read_bytes() != before, replaced)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("made a self-signed" if replaced else "ends within 30 days", done.stderr)

    def _check(self, nginx: NginxServer) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(ROOT / "nginx" / "start.sh"), "-t"],
            env=nginx.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_SECONDS,
        )
