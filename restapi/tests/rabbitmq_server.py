"""A real RabbitMQ for tests: Debian's, in a folder, on ports and with a cookie of its own. It starts slowly."""

from __future__ import annotations

import atexit
import functools
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

START_SECONDS = 120
# The program itself; the one in the path changes the user and the folders.
_PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class RabbitServer:
    """A server; use it as a context manager."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="imgdetect-rabbit-")
        self.folder = Path(self._folder.name)
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}"
        names_port = str(free_port())
        (self.folder / "plugins").write_text("[].")
        (self.folder / "rabbitmq.conf").write_text("loopback_users = none\n")
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        self._environment = kept | {
            "HOME": str(self.folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": names_port,
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            # Its threads would spin for work on cores that the tests need.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> RabbitServer:
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """Start it and wait until it speaks.

        Raises:
            AssertionError: it is not installed, or did not start.
        """
        if not _PROGRAM.exists():
            raise AssertionError("RabbitMQ is not installed; 'make tools' installs it")
        with (self.folder / "server.log").open("ab") as log:
            # What gives names to nodes would stay behind as a daemon where the server started it.
            for command in (["epmd", "-port", self._environment["ERL_EPMD_PORT"]], [str(_PROGRAM)]):
                process = subprocess.Popen(
                    command, env=self._environment, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
                )
                self._processes.append(process)
        until = time.monotonic() + START_SECONDS
        while self._processes[-1].poll() is None and time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                if probe.recv(1) == b"\x01":
                    return
            time.sleep(0.1)
        self.kill()
        raise AssertionError(f"RabbitMQ did not start:\n{(self.folder / 'server.log').read_text('utf-8', 'replace')}")

    def kill(self) -> None:
        """End it at once, as a power failure would."""
        self._signal(signal.SIGKILL)
        for process in self._processes:
            process.wait()
        self._processes = []

    def lose(self) -> None:
        """Forget everything; to be called between `kill` and `start`."""
        shutil.rmtree(self.folder / "mnesia")

    def freeze(self) -> None:
        """Let the kernel take connections and bytes in its place, and answer none."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)


@functools.cache
def shared() -> RabbitServer:
    """The one server of all tests of this process; it ends with the process."""
    server = RabbitServer()
    server.start()
    atexit.register(server.__exit__)
    return server
