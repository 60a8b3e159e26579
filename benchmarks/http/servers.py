"""What is measured: the service behind nginx, two plain peers, and views that do the least."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import requests

from tests.live_server import RESTAPI, ROOT, LiveServer, free_port
from tests.nginx_server import NginxServer
from tests.postgres_server import PostgresServer

API = "/api/v1/objectdetection"
QUIET = {"IMGDETECT_LOG_LEVEL": "warning", "IMGDETECT_MAX_STORED_BYTES": "0"}


class Served(NamedTuple):
    """A server under measurement."""

    url: str  # where clients go
    direct_url: str  # without what stands in front
    folder: str


@contextmanager
def service(workers: int = 2, *, cache: bool = False, **settings: str) -> Iterator[Served]:
    """gunicorn behind nginx, as docker-compose.yml starts them."""
    chosen = QUIET | {"IMGDETECT_WORKERS": str(workers), "IMGDETECT_TRUSTED_PROXIES": "1"}
    chosen |= {} if cache else {"IMGDETECT_CACHE_URL": "none:"}
    with ExitStack() as stack:
        server = stack.enter_context(LiveServer(IMGDETECT_ACCEL_PREFIX="/_files/", **chosen, **settings))
        nginx = stack.enter_context(NginxServer(f"127.0.0.1:{server.port}", server.data / "images"))
        yield Served(nginx.url, server.url, server.folder.name)


@contextmanager
def replicas(count: int, workers: int) -> Iterator[str]:
    """Several servers with one PostgreSQL and one folder of pictures, at one port, behind one nginx."""
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgresServer())
        data = stack.enter_context(tempfile.TemporaryDirectory())
        settings = QUIET | {
            "IMGDETECT_CACHE_URL": "none:",
            "IMGDETECT_WORKERS": str(workers),
            "IMGDETECT_TRUSTED_PROXIES": "1",
            "IMGDETECT_ACCEL_PREFIX": "/_files/",
            "IMGDETECT_DATABASE_URL": stack.enter_context(postgres.fresh()),
            "IMGDETECT_STORAGE_URL": f"file:{data}",
        }
        port = free_port()
        for _ in range(count):
            server = LiveServer(**settings, IMGDETECT_BIND=f"127.0.0.1:{port}")
            server.options = ["--reuse-port"]  # the kernel hands each connection to one of them
            server.url = f"http://127.0.0.1:{port}"
            stack.enter_context(server)
        yield stack.enter_context(NginxServer(f"127.0.0.1:{port}", data)).url


@contextmanager
def _started(command: list[str], path: str, environment: dict[str, str], port: int) -> Iterator[str]:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 30
        while True:
            try:
                requests.get(url + path, timeout=5)
                break
            except requests.ConnectionError:
                if time.monotonic() > until or process.poll() is not None:
                    raise RuntimeError(f"{command[2]} did not start") from None
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:  # what hangs in native code hears no signal
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def flask_peer() -> Iterator[str]:
    """The plain Flask application on two workers of gunicorn."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", "--log-level", "error"]
        command.append("benchmarks.http.flask_peer:app")
        with _started(command, "/", {"PEER_FOLDER": folder}, port) as url:
            yield url


@contextmanager
def fastapi_peer() -> Iterator[str]:
    """The plain FastAPI application on two workers of uvicorn."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "uvicorn", "--workers", "2", "--port", str(port), "--log-level", "error"]
        command.append("benchmarks.http.fastapi_peer:app")
        with _started(command, "/", {"PEER_FOLDER": folder}, port) as url:
            yield url


@contextmanager
def in_process(*arguments: str) -> Iterator[str]:
    """The plain application that looks in its web process.

    Args:
        arguments: of gunicorn, which workers and how many.
    """
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", *arguments, "-b", f"127.0.0.1:{port}", "--log-level", "critical"]
    with _started([*command, "benchmarks.http.in_process:app"], "/healthz", {}, port) as url:
        yield url


@contextmanager
def bare_views(threads: int) -> Iterator[Served]:
    """The least views behind the same nginx, on as many threads as the service has."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        command = [sys.executable, "-m", "gunicorn", "-w", "2", "-k", "gthread", "--threads", str(threads)]
        command += ["-b", f"127.0.0.1:{port}", "--keep-alive", "75", "benchmarks.http.bare_views:app"]
        environment = {"BARE_FOLDER": folder}
        url = stack.enter_context(_started(command, "/", environment, port))
        nginx = stack.enter_context(NginxServer(f"127.0.0.1:{port}", Path(folder)))
        yield Served(nginx.url, url, folder)


__all__ = ["API", "RESTAPI", "Served", "bare_views", "fastapi_peer", "flask_peer", "in_process", "replicas", "service"]
