"""Object stores on the loopback interface for tests, and a proxy that makes the way to one bad."""

import os
import re
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from contextlib import suppress
from pathlib import Path
from unittest import mock

import requests
from moto.moto_api._internal import moto_api_backend
from moto.server import ThreadedMotoServer

from tests.live_server import free_port

# Neither server knows anybody; s3rver takes just this pair.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "S3RVER",
    "AWS_SECRET_ACCESS_KEY": "S3RVER",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
START_SECONDS = 120  # npx may have to fetch s3rver first
S3RVER = "s3rver@3.7.1"


class MotoTest(unittest.TestCase):
    """A test class with moto's server, which knows all of S3's operations, and the credentials in the environment."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.enterClassContext(mock.patch.dict(os.environ, CREDENTIALS))
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        cls.addClassCleanup(server.stop)
        host, port = server.get_host_and_port()
        cls.endpoint = f"http://{host}:{port}"
        cls.served()
        super().setUpClass()

    @classmethod
    def served(cls) -> None:
        """Called when the server has its address, before the classes behind this one are set up."""

    def setUp(self) -> None:
        moto_api_backend.reset()
        requests.put(f"{self.endpoint}/pictures", timeout=30).raise_for_status()
        super().setUp()


class S3rver:
    """A store in a process of its own that keeps what it has in a folder, so that it can be killed and started again.

    Use it as a context manager; it has the bucket `pictures`.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="imgdetect-s3-")
        self.folder = Path(self._folder.name)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "S3rver":
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """Start it and wait until it answers."""
        where = ["--address", "127.0.0.1", "--port", str(self.port), "--directory", str(self.folder / "data")]
        (self.folder / "data").mkdir(exist_ok=True)
        with (self.folder / "s3rver.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["npx", "--yes", S3RVER, *where, "--configure-bucket", "pictures"],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < until:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            time.sleep(0.05)
        self.kill()
        raise AssertionError(f"s3rver did not start:\n{(self.folder / 's3rver.log').read_text('utf-8', 'replace')}")

    def kill(self) -> None:
        """End it and npx at once, as a power failure would."""
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None

    def keys(self) -> list[str]:
        """The keys below the prefix `p`."""
        end = "._S3rver_object"
        return sorted(p.name.removesuffix(end) for p in (self.folder / "data" / "pictures" / "p").glob(f"*{end}"))


class Proxy:
    """A way to a server that can be made bad. Use it as a context manager.

    Attributes:
        mode: `pass`; `delay`: nothing comes back for `delay_seconds`; `silent`: nothing ever comes back; `cut`: the
            connection is reset after `cut_after` bytes of an answer; `refuse`: a connection is reset at once; or an
            answer of its own, such as `503`.
        bad_left: how many requests still meet the mode before the next one; None: all.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.mode, self.then, self.delay_seconds, self.cut_after = "pass", "pass", 1.0, 0
        self.bad_left: int | None = None
        self.requests = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *unused: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()

    def become(self, mode: str, bad_left: int | None = None, then: str = "pass") -> None:
        """Change the way for what comes from now on."""
        with self._lock:
            self.mode, self.bad_left, self.then, self.requests = mode, bad_left, then, 0

    def cut_all(self) -> None:
        """Cut every connection there is."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One request of each connection, so that every request meets the mode of its time."""
        with self._lock:
            self._open.add(client)
        try:
            with client, suppress(OSError):
                self._pass_on(client)
        finally:
            with self._lock:
                self._open.discard(client)

    def _pass_on(self, client: socket.socket) -> None:
        head = client.recv(1 << 16)
        if not head:
            return
        with self._lock:
            self.requests += 1
            mode = self.then if self.bad_left == 0 else self.mode
            if self.bad_left:
                self.bad_left -= 1
        if mode == "refuse":
            return
        if mode == "silent":
            while client.recv(1 << 16):
                pass
            return
        if mode.isdigit():
            self._answer(client, int(mode), head)
            return
        head = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        with socket.create_connection(("127.0.0.1", self._to)) as server:
            with self._lock:
                self._open.add(server)
            server.sendall(head)
            threading.Thread(target=_pump, args=(client, server), daemon=True).start()
            if mode == "delay":
                time.sleep(self.delay_seconds)
            _pump(server, client, self.cut_after if mode == "cut" else None)
            with self._lock:
                self._open.discard(server)

    def _answer(self, client: socket.socket, status: int, head: bytes) -> None:
        """An answer of its own; the body of the request is read first, or the client would meet a reset."""
        headers, _, body = head.partition(b"\r\n\r\n")
        given = re.search(rb"(?i)\r\ncontent-length: (\d+)", headers)
        missing = int(given[1]) - len(body) if given and b"100-continue" not in headers.lower() else 0
        while missing > 0 and (more := client.recv(1 << 16)):
            missing -= len(more)
        code = {503: "SlowDown", 500: "InternalError", 403: "AccessDenied", 507: "InsufficientStorage"}[status]
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        start = f"HTTP/1.1 {status} No\r\nContent-Type: application/xml\r\nContent-Length: {len(text)}"
        client.sendall(f"{start}\r\nConnection: close\r\n\r\n".encode() + text)


def _pump(source: socket.socket, target: socket.socket, limit: int | None = None) -> None:
    """Pass bytes on until the source ends, or until the limit; then the target is told."""
    with suppress(OSError):
        passed = 0
        while data := source.recv(1 << 16):
            if limit is not None and passed + len(data) >= limit:
                target.sendall(data[: limit - passed])
                break
            target.sendall(data)
            passed += len(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
