"""A real gunicorn for tests: started from the project's own configuration, in a folder of its own."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import ClassVar

import requests

RESTAPI = Path(__file__).parents[1]
ROOT = RESTAPI.parent
CONF = RESTAPI / "gunicorn.conf.py"
START_SECONDS = 30


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LiveServer:
    """A gunicorn with the given IMGDETECT_* settings; use it as a context manager.

    Args:
        settings: for example `IMGDETECT_WORKERS="2"`; the data folder is a temporary one unless given.
    """

    def __init__(self, **settings: str) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="imgdetect-test-")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = f"{self.url}/api/v1/objectdetection"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("IMGDETECT_", "PROMETHEUS_", "PYTHONWARN"))}
        self.environment = kept | {
            "IMGDETECT_BIND": f"127.0.0.1:{self.port}",
            "IMGDETECT_DATA_DIR": self.folder.name,
            "IMGDETECT_DETECTORS": "slow=haar:face?engine=opencv",  # see tests/slow.py
            "PYTHONPATH": str(RESTAPI),
        }
        self.environment |= settings
        self.data = Path(self.environment["IMGDETECT_DATA_DIR"])
        self.log_path = Path(self.folder.name) / "server.log"
        self.options: list[str] = []  # more of gunicorn's
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "LiveServer":
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop()
        self.folder.cleanup()

    def start(self) -> None:
        """Start gunicorn and wait until it is ready."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", str(CONF), *self.options, "imgdetect.wsgi:app"],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder.name,
            )
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                if requests.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except (requests.ConnectionError, requests.Timeout):  # not yet, or not soon on a busy machine
                pass
            time.sleep(0.05)
        self.stop()
        raise AssertionError(f"the server did not start:\n{self.log()}")

    def stop(self) -> int:
        """End it as an operator would; returns the exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(45)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not stop:\n{self.log()}") from None
        self.process = None
        return code

    def log(self) -> str:
        """All it has written."""
        return self.log_path.read_text("utf-8", "replace")


class LiveServerTest(unittest.TestCase):
    """A test class whose tests share one live server."""

    settings: ClassVar[dict[str, str]] = {}
    server: LiveServer

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = cls.enterClassContext(LiveServer(**cls.settings))
