"""A real PostgreSQL for tests: Debian's, in a folder and on a port of its own, with a fresh database for each test.

It sorts text as people do (ICU, en-US), which is not how SQLite and Python sort it, and keeps nothing through a power
cut; a stop at once, which it survives as it would a crash, is another matter.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.live_server import free_port

PASSWORD = "s3cret/@:%"  # one that has to be escaped in a URL
_IN_A_URL = "s3cret%2F%40%3A%25"
_START_SECONDS = 60
_SETTINGS = {"fsync": "off", "max_connections": "100", "shared_buffers": "16MB", "log_min_messages": "fatal"}


def programs() -> Path:
    """The folder of the server's programs, the newest there is.

    Raises:
        AssertionError: PostgreSQL is not installed.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parents[1].name))
    if found:
        return found[-1].parent
    if elsewhere := shutil.which("initdb"):
        return Path(elsewhere).resolve().parent
    raise AssertionError("PostgreSQL is not installed; 'make tools' installs it")


class PostgresServer:
    """A server; use it as a context manager."""

    def __init__(self, **settings: str) -> None:
        self.port = free_port()
        self._root = Path(tempfile.mkdtemp(prefix="imgdetect-pg-"))
        self.data = self._root / "data"
        self._settings = _SETTINGS | settings
        self._numbers = itertools.count(1)
        # It refuses to be root.
        self.user: str | None = None
        if os.geteuid() == 0:
            users = {entry.pw_name for entry in pwd.getpwall()}
            self.user = "postgres" if "postgres" in users else "nobody"
            shutil.chown(self._root, self.user)
        password = self._root / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            *("initdb", "--no-sync", "--username=imgdetect", f"--pwfile={password}", "--auth=scram-sha-256"),
            *("--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"),
            *("--pgdata", self.data),
        )

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        settings = " ".join(f"-c {name}={value}" for name, value in self._settings.items())
        options = f"-p {self.port} -h 127.0.0.1 -k {self._root} {settings}"
        log = self._root / "server.log"
        self._run("pg_ctl", "start", "-w", "-t", str(_START_SECONDS), "-D", self.data, "-l", log, "-o", options)

    def stop(self, mode: str = "fast") -> None:
        """End it: `fast` cuts its clients off in good order, `immediate` is a crash."""
        self._run("pg_ctl", "stop", "-w", "-t", str(_START_SECONDS), "-m", mode, "-D", self.data)

    def restart(self, mode: str = "fast") -> None:
        """Stop and start it."""
        self.stop(mode)
        self.start()

    def suspend(self) -> None:
        """Let it and all its processes stand still: the kernel goes on taking connections and bytes in its place."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its folder."""
        if (self.data / "postmaster.pid").exists():
            self.resume()
            self.stop("immediate")
        shutil.rmtree(self._root)

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """An empty database for as long as the block runs: its URL, which holds the password."""
        name = f"test{next(self._numbers)}"
        self.sql("postgres", f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.sql("postgres", f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, name: str) -> str:
        """The URL of a database."""
        return f"postgresql+psycopg://imgdetect:{_IN_A_URL}@127.0.0.1:{self.port}/{name}"

    def connect(self, url_or_name: str) -> psycopg.Connection[tuple[object, ...]]:
        """A connection of somebody else; every statement is a transaction."""
        name = url_or_name.rpartition("/")[2]
        return psycopg.connect(
            host="127.0.0.1", port=self.port, dbname=name, user="imgdetect", password=PASSWORD, autocommit=True
        )

    def sql(self, url_or_name: str, statement: str) -> list[tuple[object, ...]]:
        """What a statement of somebody else gives."""
        with self.connect(url_or_name) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def log(self) -> str:
        """All it has written."""
        return (self._root / "server.log").read_text("utf-8", "replace")

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [str(programs() / program), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            user=self.user,
            cwd=self._root,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{program} failed:\n{done.stdout.decode(errors='replace')}")

    def _signal(self, number: signal.Signals) -> None:
        postmaster = int((self.data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for pid in (postmaster, *map(int, children)):
            try:
                os.kill(pid, number)
            except ProcessLookupError:  # a process of one connection, which has ended
                continue


@functools.cache
def shared() -> PostgresServer:
    """The one server of this process, for tests that do nothing to it but use it."""
    server = PostgresServer()
    atexit.register(server.close)
    server.start()
    return server
