"""What happens to uploads through nginx while it is reloaded, and while thousands of clients only sit there."""

import resource
import select
import socket
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import cv2
import numpy as np
import requests

from tests.app import API, jpeg
from tests.fault_case import FaultTest
from tests.nginx_cases import request
from tests.nginx_server import NginxServer
from tests.processes import until

IDLE = 10_000
OTHER_FILES = 2_000  # that this process may want to open beside its idle connections
SLOW = 60  # of each kind: more than the service has threads


def large_picture():
    """A picture that no buffer of the kernel holds, and in which little is to be looked at; bytes."""
    return cv2.imencode(".bmp", np.zeros((1_000, 4_000, 3), np.uint8))[1].tobytes()


def is_reset(connection):
    """Whether the other side has given a connection up; nothing is read."""
    poll = select.poll()
    poll.register(connection, 0)  # errors are told unasked
    return bool(poll.poll(0))


class NginxFaultTest(FaultTest):
    @contextmanager
    def behind_nginx(self, **settings):
        with (
            self.serving(TRUSTED_PROXIES="1", WAITING_LINE="8", **settings) as server,
            NginxServer(f"127.0.0.1:{server.port}", CLIENT_SECONDS="10") as nginx,
        ):
            self.api = f"{nginx.url}{API}"
            yield server, nginx

    def upload(self, acknowledged, number):
        data = jpeg(seed=number)
        answer = requests.post(f"{self.api}/image", files={"image": ("a.jpg", data)}, timeout=120)
        self.assertEqual(answer.status_code, 200, answer.text)
        acknowledged[answer.json()["image"]["id"]] = data

    def assertAllThere(self, server, acknowledged):
        self.assertEqual({row[0] for row in self.query(server, "SELECT id FROM records")}, set(acknowledged))
        for record, data in acknowledged.items():
            if data:
                self.assertEqual(requests.get(f"{self.api}/image/{record}", timeout=60).content, data)
        self.assertRowsAndFilesAgree(server)


class ReloadTest(NginxFaultTest):
    def test_no_upload_fails_or_is_lost_while_nginx_is_reloaded(self):
        acknowledged, done = {}, threading.Event()

        def uploads(number):
            while not done.is_set():
                number += 100
                self.upload(acknowledged, number)

        with self.behind_nginx() as (server, nginx), ThreadPoolExecutor(4) as threads:
            uploading = [threads.submit(uploads, number) for number in range(4)]
            try:
                for _ in range(3):
                    enough = len(acknowledged) + 10
                    nginx.reload()
                    self.assertTrue(until(lambda e=enough: len(acknowledged) >= e, 60), nginx.errors())
            finally:
                done.set()
            for future in uploading:
                future.result()
            self.assertAllThere(server, acknowledged)


class SlowTest(NginxFaultTest):
    def test_ten_thousand_idle_connections_and_slow_clients_of_every_kind_keep_nobody_out(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        acknowledged = {}
        with self.behind_nginx() as (server, nginx), ExitStack() as stack:
            picture = large_picture()
            answer = requests.post(f"{self.api}/image", files={"image": ("large.bmp", picture)}, timeout=120)
            self.assertEqual(answer.status_code, 200, answer.text)
            large = answer.json()["image"]["id"]
            acknowledged[large] = b""

            def connect(sent=b"", buffer=0):
                connection = stack.enter_context(socket.socket())
                if buffer:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
                connection.settimeout(60)
                connection.connect(("127.0.0.1", nginx.local_port))
                connection.sendall(sent)
                return connection

            body = request(
                f"POST {API}/image HTTP/1.1", "Content-Type: image/jpeg", "Content-Length: 9000", body=b"\xff"
            )
            readers = [connect(request(f"GET {API}/image/{large} HTTP/1.1"), 4_096) for _ in range(SLOW)]
            senders = [connect(body) for _ in range(SLOW)]
            headers = [connect(b"GET / HTTP/1.1\r\nHost: local") for _ in range(SLOW)]
            idle = [connect() for _ in range(min(IDLE, hard - OTHER_FILES))]
            with ThreadPoolExecutor(4) as threads:
                list(threads.map(lambda number: self.upload(acknowledged, number), range(1, 17)))
            self.assertEqual(requests.get(f"{server.url}/healthz", timeout=30).status_code, 200)
            # All of them are closed in the end: those who take no more of their picture, and those who send no more.
            self.assertTrue(until(lambda: all(map(is_reset, readers)), 60))
            for connection in senders + headers + idle:
                with suppress(ConnectionResetError):
                    self.assertEqual(connection.recv(65_536), b"")
            self.assertAllThere(server, acknowledged)


if __name__ == "__main__":
    unittest.main()
