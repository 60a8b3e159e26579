"""A real nginx for tests: started from the project's own script and template, in a folder of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

from tests.live_server import ROOT, free_port

START_SECONDS = 20
SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


class NginxServer:
    """An nginx in front of an upstream; use it as a context manager.

    Args:
        upstream: HOST:PORT of the service.
        files: the folder that `/_files/` stands for.
        settings: variables of nginx/start.sh, for example `RATE_LIMIT="5"`; without them the limits are off.
    """

    def __init__(self, upstream: str, files: Path | str = "/nonexistent", **settings: str) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="imgdetect-nginx-")
        self.root = Path(self.folder.name)
        self.tls_port, self.redirect_port, self.local_port = free_port(), free_port(), free_port()
        self.https_url = f"https://127.0.0.1:{self.tls_port}"
        self.redirect_url = f"http://127.0.0.1:{self.redirect_port}"
        self.url = f"http://127.0.0.1:{self.local_port}"
        self.certificate = self.root / "certs" / "tls.crt"
        self.log_path = self.root / "access.log"
        self.error_path = self.root / "error.log"
        self.environment = {
            "PATH": SEARCH_PATH,
            "UPSTREAM": upstream,
            "RESOLVER": "127.0.0.1",
            "LISTEN": "127.0.0.1",
            "TLS_PORT": str(self.tls_port),
            "HTTP_PORT": str(self.redirect_port),
            "LOCAL_PORT": str(self.local_port),
            "HTTPS_PORT": str(self.tls_port),
            "RATE_LIMIT": "off",
            "FILES_DIR": str(files),
            "CERT_DIR": str(self.root / "certs"),
            "RUN_DIR": str(self.root / "run"),
            "SPOOL_DIR": str(self.root / "spool"),
            "ACCESS_LOG": str(self.log_path),
            "ERROR_LOG": str(self.error_path),
        } | settings
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "NginxServer":
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop()
        self.folder.cleanup()

    def start(self) -> None:
        """Start nginx and wait until it listens.

        Raises:
            AssertionError: nginx is not installed, or did not start.
        """
        if not shutil.which("nginx", path=SEARCH_PATH):
            raise AssertionError("nginx is not installed; 'make tools' installs it")
        (self.root / "certs").mkdir(exist_ok=True)
        with (self.root / "start.log").open("ab") as log:
            self.process = subprocess.Popen(self._command(), env=self.environment, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.local_port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        self.stop()
        raise AssertionError(f"nginx did not start:\n{(self.root / 'start.log').read_text()}\n{self.errors()}")

    def stop(self) -> None:
        """End it at once."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def reload(self) -> None:
        """Start new workers from the same configuration; the old ones finish what they have."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def log_lines(self, request_id: str, wait_seconds: float = 5) -> list[dict[str, Any]]:
        """The lines of the access log that carry an id; a line is written a moment after its answer."""
        until = time.monotonic() + wait_seconds
        while True:
            lines = [json.loads(line) for line in self.log_path.read_bytes().decode("utf-8").splitlines()]
            found = [line for line in lines if line["request_id"] == request_id]
            if found or time.monotonic() > until:
                return found
            time.sleep(0.02)

    def errors(self) -> str:
        """The error log."""
        return self.error_path.read_text("utf-8", "replace") if self.error_path.exists() else ""

    @staticmethod
    def _command() -> list[str]:
        command = ["sh", str(ROOT / "nginx" / "start.sh")]
        if os.geteuid() == 0:
            # Its workers would become another user, who may not read the tests' temporary folders.
            command += ["-g", "user root;"]
        return command


class NginxTest(unittest.TestCase):
    """A test class whose tests share one nginx."""

    settings: dict[str, str] = {}
    nginx: NginxServer

    @classmethod
    def start_nginx(cls, upstream: str, files: Path | str = "/nonexistent") -> None:
        """Call it in setUpClass, once there is an upstream."""
        cls.nginx = cls.enterClassContext(NginxServer(upstream, files, **cls.settings))
