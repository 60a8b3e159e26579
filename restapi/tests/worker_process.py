"""A real `imgdetect worker` for tests, beside a live server whose settings it has."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import requests

from tests.live_server import LiveServer, free_port
from tests.processes import PROC, Process, status_of

START_SECONDS = 60
STOP_SECONDS = 60


class WorkerProcess:
    """A worker and all its processes.

    Args:
        server: whose settings it has.
        concurrency: jobs at once.
        settings: for example `IMGDETECT_QUEUE_URL="celery+redis://127.0.0.1:6379"`.
    """

    def __init__(self, server: LiveServer, concurrency: int = 1, **settings: str) -> None:
        self._environment = server.environment | settings
        self._concurrency = str(concurrency)
        self._log = server.log_path.with_name(f"worker-{id(self)}.log")
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> WorkerProcess:
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        if self.process:
            self.kill()

    def start(self) -> None:
        """Start it and wait until it is ready for jobs."""
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}"
        command = ["worker", "--concurrency", self._concurrency, "--bind", address]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "imgdetect", *command], env=self._environment, stdout=log, stderr=log
            )
        until = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < until:
            with suppress(requests.RequestException):
                if requests.get(f"{self.url}/readyz", timeout=5).status_code == 200 and self.children():
                    return
            time.sleep(0.05)
        self.kill()
        raise AssertionError(f"the worker did not start:\n{self.log()}")

    def stop(self) -> int:
        """End it as an operator would; returns the exit code."""
        assert self.process
        self.process.terminate()
        code = self.process.wait(STOP_SECONDS)
        self.process = None
        return code

    def kill(self) -> None:
        """End all its processes at once, as a power failure would, and clear the machine's temporary folder."""
        assert self.process
        doomed = self.everybody()
        for process in doomed:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        folder = f"imgdetect-{self.process.pid}-*"
        self.process.wait()
        self.process = None
        for left in Path(self._environment["TMPDIR"]).glob(folder):
            shutil.rmtree(left, ignore_errors=True)

    def consumer(self) -> int | None:
        """The process that takes ids from the broker."""
        assert self.process
        mine = [pid for pid in _children(self.process.pid) if b"consume" in (PROC / str(pid) / "cmdline").read_bytes()]
        return mine[0] if mine else None

    def children(self) -> list[int]:
        """The processes that do the jobs."""
        consumer = self.consumer()
        return _children(consumer) if consumer else []

    def everybody(self) -> list[int]:
        """All but the nursery, which ends with its last member."""
        assert self.process
        consumer = self.consumer()
        return [self.process.pid, *([consumer] if consumer else []), *self.children()]

    def log(self) -> str:
        """All it has written."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in (PROC / str(pid) / "task" / str(pid) / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def identity(pid: int) -> Process | None:
    """The process of an id, for good."""
    found = status_of(pid)
    return found[0] if found else None
