"""Clients whose times are taken, each in a process of its own; it tells them at the end."""

from __future__ import annotations

import multiprocessing
import secrets
import time

import requests

from benchmarks.http.servers import API
from benchmarks.pictures import commented


def refusals(url: str, jpeg: bytes, seconds: float, measured: multiprocessing.Queue) -> None:
    """Ten times a second somebody else with a picture; only refusals are timed."""
    session = requests.Session()
    times: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        data = commented(jpeg, secrets.randbits(60))
        started = time.perf_counter()
        answer = session.post(f"{url}{API}/detect", data, headers={"Content-Type": "image/jpeg"}, timeout=60)
        if answer.status_code == 503:
            times.append((time.perf_counter() - started) * 1000)
        time.sleep(0.1)
    measured.put(("refused", times))


def health(url: str, _jpeg: bytes, seconds: float, measured: multiprocessing.Queue) -> None:
    """Somebody who asks for /healthz."""
    session = requests.Session()
    times: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        started = time.perf_counter()
        session.get(f"{url}/healthz", timeout=60)
        times.append((time.perf_counter() - started) * 1000)
        time.sleep(0.02)
    measured.put(("health", times))
