"""A real Redis for tests, in a folder of its own."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.live_server import free_port

START_SECONDS = 30


class RedisServer:
    """A redis-server on the loopback interface; use it as a context manager.

    Args:
        options: of redis-server, for example `"--requirepass", "secret"`; what it has survives a restart with
            `"--appendonly", "yes"` only.
    """

    def __init__(self, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="imgdetect-redis-")
        self.folder = Path(self._folder.name)
        # A server that speaks TLS is given its port by its caller.
        self.port = int(options[options.index("--tls-port") + 1]) if "--tls-port" in options else free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            AssertionError: it is not installed, or did not start.
        """
        if not shutil.which("redis-server"):
            raise AssertionError("redis-server is not installed; 'make tools' installs it")
        port = [] if "--tls-port" in self._options else ["--port", str(self.port)]
        where = ["--bind", "127.0.0.1", *port, "--dir", str(self.folder)]
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["redis-server", *where, "--save", "", *self._options], stdout=log, stderr=log
            )
        until = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                if "--tls-port" in self._options:
                    return
                probe.sendall(b"PING\r\n")
                if not probe.recv(100).startswith(b"-LOADING"):  # asking for a password is an answer too
                    return
            time.sleep(0.02)
        self.kill()
        raise AssertionError(
            f"redis-server did not start:\n{(self.folder / 'redis.log').read_text('utf-8', 'replace')}"
        )

    def kill(self) -> None:
        """End it at once, as a power failure would."""
        self._signal(signal.SIGKILL)
        if self._process:
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it take connections and answer none."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
